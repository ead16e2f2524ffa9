//! One message there and one back, by what ntpipe has beyond the module of tokio.

use std::time::Duration;

use ntpipe::tokio::{ClientOptions, Listener, PipeMode, ServerOptions};

#[tokio::main]
pub(crate) async fn main() -> std::io::Result<()> {
    let name = r"\\.\pipe\greetings";
    let messages = ServerOptions::new().pipe_mode(PipeMode::Message).clone();
    let listener = Listener::bind(name, &messages)?;
    let server = tokio::spawn(async move {
        let client = listener.accept().await?;
        let mut buf = [0; 64];
        let read = client.read_message(&mut buf).await?;
        client.write_message(buf.split_at(read.len).0).await?;
        client.flush_until_read().await
    });
    let client = ClientOptions::new()
        .pipe_mode(PipeMode::Message)
        .open_wait(name, Duration::from_secs(5))
        .await?;
    let mut buf = [0; 64];
    let reply = client.transact(b"hello", &mut buf).await?;
    assert_eq!(buf.split_at(reply.len).0, b"hello");
    server.await?
}
