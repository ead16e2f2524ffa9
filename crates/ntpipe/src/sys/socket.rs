//! Control sockets: datagrams in order (`SOCK_SEQPACKET`), with descriptors and credentials.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ntpipe_proto::Error;
use rustix::event::{self, PollFd, PollFlags};
use rustix::fs::{Mode, Timespec, fchmod};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{geteuid, getpid};

use super::win32_from_errno;
use crate::ring::Trust;

/// Connections that the kernel keeps for a service thread that has not come to them.
const BACKLOG: i32 = 4096;
const ROOT: u32 = 0;
/// What rings a doorbell; its content means nothing.
const RING: &[u8] = b"R";
#[cfg(feature = "tokio")]
const RINGS_AT_ONCE: u32 = 64;

/// Who is at the other end of a socket, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials {
    /// 0 for a process that this one can't see.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// A datagram with the descriptor that came with it.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) len: usize,
    pub(crate) fd: Option<OwnedFd>,
}

/// A socket that listens at `path`.
pub(crate) fn listen(path: &str) -> Result<OwnedFd, Errno> {
    let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // The file gets the socket's mode, as far as the umask lets it. Whoever cleans up old files
    // leaves sticky ones alone.
    if let Err(errno) = fchmod(&socket, Mode::from_raw_mode(0o1777)) {
        tracing::debug!(%errno, "a socket can't be made sticky");
    }
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A blocking socket that is connected to who listens at `path`. If the listener's queue is full,
/// as that of a stopped process may be, or later what was sent to it, it waits for `patience` and
/// then returns `AGAIN`.
pub(crate) fn connect(path: &str, patience: Duration) -> Result<OwnedFd, Errno> {
    let socket = new_socket(SocketFlags::CLOEXEC)?;
    net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    let address = SocketAddrUnix::new(path)?;
    loop {
        match net::connect(&socket, &address) {
            Err(Errno::INTR) => {}
            done => return done.map(|()| socket),
        }
    }
}

/// As [`connect`], but `AGAIN` if there is no room in the listener's queue at the moment.
pub(crate) fn try_connect(path: &str) -> Result<OwnedFd, Errno> {
    let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    net::connect(&socket, &SocketAddrUnix::new(path)?).map(|()| socket)
}

fn new_socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// The next connection, if there is one; it doesn't block.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    match net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Refuses all connections from now on, and ends those that wait in the queue.
pub(crate) fn stop_listening(listener: BorrowedFd<'_>) {
    hang_up(listener);
    // None comes in any more: this ends.
    while let Ok(Some(connection)) = accept(listener) {
        drop(connection);
    }
}

/// The credentials with which the other end was opened.
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Error> {
    // By hand: the number of a process that this one can't see, in another namespace, is 0, for
    // which rustix' type has no room.
    let mut cred = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let size = size_of::<libc::ucred>();
    let mut len = libc::socklen_t::try_from(size).map_err(|_| Error::GEN_FAILURE)?;
    // SAFETY: `cred` is `len` bytes that the kernel may write, any bytes of which are valid, and
    // both live until the call returns.
    let refused = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    if refused != 0 {
        let errno = Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO);
        return Err(win32_from_errno(errno, "SO_PEERCRED"));
    }
    if usize::try_from(len) != Ok(size) {
        return Err(Error::GEN_FAILURE);
    }
    Ok(Credentials {
        pid: u32::try_from(cred.pid).unwrap_or(0),
        uid: cred.uid,
    })
}

impl Credentials {
    /// Whether the process runs as our user, or as root.
    pub(crate) fn is_same_user(self) -> bool {
        self.uid == geteuid().as_raw() || self.uid == ROOT
    }

    /// What to expect of the process as a peer.
    pub(crate) fn trust(self) -> Trust {
        match self.is_same_user() {
            true => Trust::Same,
            false => Trust::Stranger,
        }
    }
}

/// The number of this process.
pub(crate) fn own_pid() -> u32 {
    u32::try_from(getpid().as_raw_nonzero().get()).unwrap_or(0)
}

/// Sends one datagram, with a descriptor or without; it never blocks for long.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    loop {
        match net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            done => return done.map(drop),
        }
    }
}

/// Rings the doorbell of who holds the other end; never blocks. A full queue rings already.
pub(crate) fn ring(socket: BorrowedFd<'_>) {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while net::send(socket, RING, flags) == Err(Errno::INTR) {}
}

/// What [`take_rings`] has found.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rings {
    /// There are none.
    None,
    /// There are none left.
    Taken,
    /// There are more than a peer sends who means well.
    Flood,
    /// The other end has hung up.
    End,
}

/// Takes the rings from the socket, and whatever else a peer may have sent; never blocks.
#[cfg(feature = "tokio")]
pub(crate) fn take_rings(socket: BorrowedFd<'_>) -> Result<Rings, Errno> {
    let mut ring = [0_u8; RING.len()];
    for taken in 0..RINGS_AT_ONCE {
        match net::recv(socket, &mut ring, RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(Rings::End),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if taken == 0 => return Ok(Rings::None),
            Err(Errno::AGAIN) => return Ok(Rings::Taken),
            Err(errno) => return Err(errno),
        }
    }
    Ok(Rings::Flood)
}

/// Receives one datagram; `None` at the end. A datagram longer than `buffer`, or with more than
/// one descriptor, is `MSGSIZE`: nobody who means well sends it. Without room for another descriptor
/// in this process the one that came is lost, and that is `MFILE`.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Option<Datagram>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(buffer)];
    let message = loop {
        match net::recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            done => break done?,
        }
    };
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    let mut fds = messages.flatten();
    let fd = fds.next();
    // Alignment makes room for more than one.
    let is_cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
    if fd.is_none() && message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE);
    }
    if fds.next().is_some() || message.flags.intersects(is_cut) {
        return Err(Errno::MSGSIZE);
    }
    if message.bytes == 0 && fd.is_none() {
        return Ok(None);
    }
    Ok(Some(Datagram {
        len: message.bytes,
        fd,
    }))
}

/// Whether there is something to receive, or the other end is gone.
pub(crate) fn is_readable(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    event::poll(&mut fds, Some(&Timespec::default())) == Ok(1)
}

/// Waits until one of the sockets has something to receive; says for each whether it has. `None`
/// once the deadline has passed.
pub(crate) fn wait_any_readable<'a>(
    sockets: impl Iterator<Item = BorrowedFd<'a>>,
    deadline: Instant,
) -> Result<Option<Vec<bool>>, Errno> {
    let mut fds: Vec<_> = sockets
        .map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match event::poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                return Ok(Some(
                    fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
                ));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether the other end has hung up, whatever there is left to receive.
pub(crate) fn has_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    let polled = event::poll(&mut fds, Some(&Timespec::default()));
    let [fd] = fds;
    polled.is_ok() && fd.revents().contains(PollFlags::RDHUP)
}

/// Hangs up for all holders of this end.
pub(crate) fn hang_up(socket: BorrowedFd<'_>) {
    // It may have been hung up from the other end.
    let _ = net::shutdown(socket, net::Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_kernel_knows_who_made_a_socket() {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (one, _other) = net::socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let found = credentials(one.as_fd()).unwrap();
        assert_eq!(found.pid, std::process::id());
        assert_eq!(found.uid, geteuid().as_raw());
    }
}
