//! Waiting for a client without a thread.

use std::task::Poll;

use ntpipe_proto::{EndState, Error, Listen};

use super::server_end::ServerEnd;

/// A task's wait for a client. Giving it up changes nothing: the instance goes on listening.
#[derive(Debug, Default)]
pub(crate) struct Connecting {
    /// How often the end had disconnected when the wait began.
    disconnects: Option<Option<u64>>,
    listens: bool,
}

impl ServerEnd {
    /// As [`connect`](Self::connect). When it is pending, the tasks of the stream are woken when it
    /// is worth another look.
    pub(crate) fn poll_connect(&self, wait: &mut Connecting) -> Poll<Result<(), Error>> {
        match self.look_for_client(wait) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn look_for_client(&self, wait: &mut Connecting) -> Result<bool, Error> {
        self.stream.check_process()?;
        let mut machine = self.owner.machine();
        let before = *(wait.disconnects).get_or_insert_with(|| self.disconnects(&machine));
        self.check_still(&machine, before)?;
        if !wait.listens {
            // Whether a client that is on its way is still there, only its memory tells.
            if self.is_arriving(&machine) {
                return Ok(false);
            }
            self.notice_client(&mut machine);
            let listen = machine.server.listen(self.id)?;
            if listen == Listen::Waiting
                && machine.server.state(self.id) == Some(EndState::Listening)
            {
                self.stream.detach(EndState::Listening);
            }
            wait.listens = true;
            self.owner.settle(&mut machine);
        }
        match machine.server.state(self.id) {
            None => Err(Error::BROKEN_PIPE),
            Some(EndState::Disconnected) => Err(Error::PIPE_NOT_CONNECTED),
            // A client that came and went while we waited did connect.
            Some(EndState::Closing) => Ok(true),
            Some(EndState::Connected) => Ok(!self.is_arriving(&machine)),
            Some(EndState::Listening) => Ok(false),
        }
    }
}
