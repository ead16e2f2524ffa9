//! The two processes' ends of each transport.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ntpipe::{ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::plan::Transport;
use super::work::Channel;

/// One end of a connection.
pub(super) enum Ends {
    /// One descriptor for each direction.
    Pair(File, File),
    Socket(UnixStream),
    Datagrams(OwnedFd),
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

/// The buffers of `pipe-1m`.
const MEBIBYTE: usize = 1 << 20;

impl Channel for Ends {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Pair(_, writer) => writer.write_all(message),
            Self::Socket(socket) => socket.write_all(message),
            Self::Datagrams(socket) => {
                rustix::net::send(socket, message, SendFlags::NOSIGNAL)?;
                Ok(())
            }
            Self::Server(pipe) => pipe.write_all(message),
            Self::Client(pipe) => pipe.write_all(message),
        }
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<bool> {
        match self {
            Self::Pair(reader, _) => exact(reader, message),
            Self::Socket(socket) => exact(socket, message),
            Self::Datagrams(socket) => {
                let (len, _) =
                    rustix::net::recv(socket.as_fd(), &mut *message, RecvFlags::empty())?;
                match len {
                    0 => Ok(false),
                    len if len == message.len() => Ok(true),
                    _ => Err(io::ErrorKind::InvalidData.into()),
                }
            }
            Self::Server(pipe) => exact(pipe, message),
            Self::Client(pipe) => exact(pipe, message),
        }
    }

    fn transact(&mut self, request: &[u8], reply: &mut [u8]) -> io::Result<bool> {
        if let Self::Client(pipe) = self {
            let read = pipe.transact(request, reply)?;
            return Ok(read.len == reply.len() && !read.more);
        }
        self.send(request)?;
        self.receive(reply)
    }
}

fn exact(reader: &mut impl Read, message: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(message) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A connection between this process and `other`, which this starts: the end of this side.
///
/// Sockets and kernel pipes are the other process' standard input and output; a named pipe it opens
/// by `name`.
pub(super) fn begin(
    transport: Transport,
    name: &str,
    other: &mut Command,
) -> io::Result<(Ends, Child)> {
    match transport {
        Transport::Pipe | Transport::Pipe1m => {
            let (their_input, to_them) = io::pipe()?;
            let (from_them, their_output) = io::pipe()?;
            if transport == Transport::Pipe1m {
                rustix::pipe::fcntl_setpipe_size(&to_them, MEBIBYTE)?;
                rustix::pipe::fcntl_setpipe_size(&their_output, MEBIBYTE)?;
            }
            let child = other.stdin(their_input).stdout(their_output).spawn()?;
            // The command keeps what it was given: without this nobody would see an end.
            other.stdin(Stdio::null()).stdout(Stdio::null());
            let (reader, writer) = (OwnedFd::from(from_them), OwnedFd::from(to_them));
            Ok((Ends::Pair(reader.into(), writer.into()), child))
        }
        Transport::Unix => {
            let (ours, theirs) = UnixStream::pair()?;
            let child = other.stdin(OwnedFd::from(theirs)).spawn()?;
            other.stdin(Stdio::null());
            Ok((Ends::Socket(ours), child))
        }
        Transport::Seqpacket => {
            let (ours, theirs) = rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            let child = other.stdin(theirs).spawn()?;
            other.stdin(Stdio::null());
            Ok((Ends::Datagrams(ours), child))
        }
        Transport::Ntpipe | Transport::NtpipeMessage => {
            // The other side is the server, so that this one can transact.
            let mut child = other.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            await_ready(&mut child)?;
            let client = ClientOptions::new()
                .pipe_mode(mode(transport))
                .open(pipe_name(name))?;
            Ok((Ends::Client(client), child))
        }
    }
}

/// What a process says when others can come in.
const READY: &str = "ready";

/// Waits until a process that this one has started can be talked to.
pub(super) fn await_ready(child: &mut Child) -> io::Result<()> {
    let mut line = String::new();
    if let Some(output) = &mut child.stdout {
        io::BufReader::new(output).read_line(&mut line)?;
    }
    match line.trim_end() == READY {
        true => Ok(()),
        false => Err(io::Error::other("the other process ended before it began")),
    }
}

/// The other process' end of what [`begin`] made.
pub(super) fn join(transport: Transport, name: &str) -> io::Result<Ends> {
    let input = || rustix::io::dup(io::stdin());
    Ok(match transport {
        Transport::Pipe | Transport::Pipe1m => {
            let output = rustix::io::dup(io::stdout())?;
            Ends::Pair(input()?.into(), output.into())
        }
        Transport::Unix => Ends::Socket(input()?.into()),
        Transport::Seqpacket => Ends::Datagrams(input()?),
        Transport::Ntpipe | Transport::NtpipeMessage => {
            let server = options(transport)
                .first_pipe_instance(true)
                .create(pipe_name(name))?;
            println!("{READY}");
            server.connect()?;
            Ends::Server(server)
        }
    })
}

fn mode(transport: Transport) -> PipeMode {
    match transport {
        Transport::NtpipeMessage => PipeMode::Message,
        Transport::Ntpipe
        | Transport::Pipe
        | Transport::Pipe1m
        | Transport::Unix
        | Transport::Seqpacket => PipeMode::Byte,
    }
}

fn options(transport: Transport) -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(mode(transport));
    options
}

/// Where connections come in, one after another.
pub(super) enum Door {
    Socket(UnixListener, PathBuf),
    Pipe(Box<Listener>),
}

impl Door {
    /// Opens the door under `name`.
    pub(super) fn new(transport: Transport, name: &str) -> io::Result<Self> {
        let door = if transport == Transport::Unix {
            let path = socket_path(name);
            Self::Socket(UnixListener::bind(&path)?, path)
        } else {
            let listener = Listener::bind(pipe_name(name), &options(transport))?;
            Self::Pipe(Box::new(listener))
        };
        println!("{READY}");
        Ok(door)
    }

    /// The next connection.
    pub(super) fn accept(&self) -> io::Result<Ends> {
        match self {
            Self::Socket(listener, _) => Ok(Ends::Socket(listener.accept()?.0)),
            Self::Pipe(listener) => Ok(Ends::Server(listener.accept()?)),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Self::Socket(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

/// Comes in by the door of the other process.
pub(super) fn enter(transport: Transport, name: &str) -> io::Result<Ends> {
    if transport == Transport::Unix {
        return Ok(Ends::Socket(UnixStream::connect(socket_path(name))?));
    }
    let client = ClientOptions::new()
        .pipe_mode(mode(transport))
        .open_timeout(pipe_name(name), super::PATIENCE)?;
    Ok(Ends::Client(client))
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{name}.sock"))
}

fn pipe_name(name: &str) -> String {
    format!(r"\\.\pipe\{name}")
}
