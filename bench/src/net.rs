//! What tasks connect by.

use std::io;
use std::path::PathBuf;
use std::{env, fs};

use ntpipe::tokio::{ClientOptions, Listener, NamedPipeClient, NamedPipeServer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};

/// A kind of connections.
pub(crate) trait Net: 'static {
    /// Where they come in.
    type Door: Sized;
    /// The end of who came in.
    type Client: AsyncRead + AsyncWrite + Unpin + 'static;
    /// The end of who let it in.
    type Server: AsyncRead + AsyncWrite + Unpin + 'static;

    fn open(name: &str) -> io::Result<Self::Door>;
    async fn accept(door: &mut Self::Door) -> io::Result<Self::Server>;
    async fn enter(name: &str) -> io::Result<Self::Client>;
}

/// Named pipes of byte type.
pub(crate) struct Pipes;

impl Net for Pipes {
    type Door = Listener;
    type Client = NamedPipeClient;
    type Server = NamedPipeServer;

    fn open(name: &str) -> io::Result<Listener> {
        Listener::bind(pipe_name(name), &ntpipe::tokio::ServerOptions::new())
    }

    async fn accept(door: &mut Listener) -> io::Result<NamedPipeServer> {
        door.accept().await
    }

    async fn enter(name: &str) -> io::Result<NamedPipeClient> {
        loop {
            match ClientOptions::new().open(pipe_name(name)) {
                // The next instance comes in a moment.
                Err(error) if ntpipe::IoErrorExt::win32_code(&error) == Some(231) => {
                    tokio::task::yield_now().await;
                }
                done => return done,
            }
        }
    }
}

fn pipe_name(name: &str) -> String {
    format!(r"\\.\pipe\{name}")
}

/// Unix stream sockets.
pub(crate) struct Sockets;

/// A listening socket; its file goes with it.
pub(crate) struct SocketDoor(UnixListener, PathBuf);

impl Drop for SocketDoor {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.1);
    }
}

impl Net for Sockets {
    type Door = SocketDoor;
    type Client = UnixStream;
    type Server = UnixStream;

    fn open(name: &str) -> io::Result<SocketDoor> {
        let path = socket_path(name);
        Ok(SocketDoor(UnixListener::bind(&path)?, path))
    }

    async fn accept(door: &mut SocketDoor) -> io::Result<UnixStream> {
        Ok(door.0.accept().await?.0)
    }

    async fn enter(name: &str) -> io::Result<UnixStream> {
        UnixStream::connect(socket_path(name)).await
    }
}

fn socket_path(name: &str) -> PathBuf {
    env::temp_dir().join(format!("{name}.sock"))
}
