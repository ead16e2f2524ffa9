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
            let mut buf = vec![0; 4096];
            while let Ok(len @ 1..) = client.read(&mut buf).await {
                if client.write_all(&buf[..len]).await.is_err() {
                    break;
                }
            }
        });
    }
}
