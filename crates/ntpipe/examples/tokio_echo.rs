//! The echo server in tasks; but for the first line it is a program for tokio on Windows.

use ntpipe::tokio::ServerOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut server = ServerOptions::new().create(r"\\.\pipe\echo")?;
    loop {
        server.connect().await?;
        let mut client = server;
        // The next instance listens before this client is served.
        server = ServerOptions::new().create(r"\\.\pipe\echo")?;
        tokio::spawn(async move {
            let mut buf = Vec::with_capacity(4096);
            while let Ok(1..) = client.read_buf(&mut buf).await {
                if client.write_all(&buf).await.is_err() {
                    break;
                }
                buf.clear();
            }
        });
    }
}
