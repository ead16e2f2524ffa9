//! A chat: what one client writes, all others read. Talk with `ntpipe connect chat`.

use ntpipe::tokio::{Listener, NamedPipeServer, ServerOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, ReadHalf, WriteHalf, split};
use tokio::sync::broadcast;

type Line = (usize, String);

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = Listener::bind(r"\\.\pipe\chat", &ServerOptions::new())?;
    let (room, _) = broadcast::channel::<Line>(100);
    for number in 1.. {
        let (from, to) = split(listener.accept().await?);
        let lines = BufReader::new(from).lines();
        tokio::spawn(hear(number, lines, room.clone()));
        tokio::spawn(tell(number, to, room.subscribe()));
    }
    Ok(())
}

/// What this client says goes to the room.
async fn hear(
    number: usize,
    mut lines: Lines<BufReader<ReadHalf<NamedPipeServer>>>,
    room: broadcast::Sender<Line>,
) {
    let _ = room.send((number, "is here".into()));
    while let Ok(Some(line)) = lines.next_line().await {
        let _ = room.send((number, format!("says: {line}")));
    }
    let _ = room.send((number, "has left".into()));
}

/// What the others say goes to this client.
async fn tell(
    number: usize,
    mut to: WriteHalf<NamedPipeServer>,
    mut room: broadcast::Receiver<Line>,
) -> std::io::Result<()> {
    loop {
        match room.recv().await {
            Ok((other, line)) if other != number => {
                to.write_all(format!("{other} {line}\n").as_bytes()).await?;
            }
            // A client that has left ends this when its connection is to be written.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}
