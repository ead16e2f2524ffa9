//! Several descriptors and a text in one descriptor: a socket in whose queue they lie.
//!
//! Whoever takes them out has them; as long as nobody does, the socket keeps them open.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use ntpipe_proto::Error;
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::win32_from_errno;

/// The most descriptors that a bag has.
pub(crate) const MOST: usize = 8;
/// The longest text.
const LONGEST: usize = 2048;

/// Two connected sockets that hang up when the other one's last copy is closed.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    net::socketpair(AddressFamily::UNIX, kind, flags, None)
        .map_err(|errno| win32_from_errno(errno, "socketpair"))
}

/// Puts a text and descriptors, at most [`MOST`], into a bag.
pub(crate) fn pack(text: &[u8], fds: &[BorrowedFd<'_>]) -> Result<OwnedFd, Error> {
    let (inside, bag) = pair()?;
    send(inside.as_fd(), text, fds).map_err(|errno| win32_from_errno(errno, "packing"))?;
    // The other socket keeps what is in its queue.
    Ok(bag)
}

/// The text in a bag, which stays as it is.
///
/// # Errors
/// `ERROR_INVALID_HANDLE` (6): it is empty, or no bag.
pub(crate) fn look_into(bag: BorrowedFd<'_>) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; LONGEST];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (len, _) = net::recv(bag, &mut *buffer, flags).map_err(|_| Error::INVALID_HANDLE)?;
    buffer.truncate(len);
    match buffer.is_empty() {
        true => Err(Error::INVALID_HANDLE),
        false => Ok(buffer),
    }
}

/// Takes everything out of a bag.
///
/// # Errors
/// `ERROR_INVALID_HANDLE` (6): somebody else has, or it is no bag. `ERROR_TOO_MANY_OPEN_FILES` (4).
pub(crate) fn empty(bag: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
    receive(bag, RecvFlags::DONTWAIT).map_err(|errno| match errno {
        Errno::MFILE => Error::TOO_MANY_OPEN_FILES,
        _ => Error::INVALID_HANDLE,
    })
}

/// Sends a text with descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    text: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MOST || !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match net::sendmsg(
            socket,
            &[IoSlice::new(text)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            Ok(sent) if sent == text.len() => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(errno) => return Err(errno),
        }
    }
}

/// Receives a text and the descriptors that came with it; both are empty at the end.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut buffer = vec![0; LONGEST];
    receive_into(socket, &mut buffer, flags).map(|(len, fds)| {
        buffer.truncate(len);
        (buffer, fds)
    })
}

/// As [`receive`], into a buffer: no more is taken off a stream than fits it.
pub(crate) fn receive_into(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(buffer)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        match net::recvmsg(socket, slices, &mut control, flags) {
            Err(Errno::INTR) => {}
            done => break done?,
        }
    };
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    let fds = messages.flatten().collect();
    if message.flags.contains(ReturnFlags::CTRUNC) {
        // Mostly for want of room in the table of descriptors.
        return Err(Errno::MFILE);
    }
    Ok((message.bytes, fds))
}

/// A copy of a descriptor that this process has inherited under a number, if it is a bag; further
/// children don't inherit it.
pub(crate) fn inherited(number: i32) -> Result<OwnedFd, Error> {
    if number < 0 {
        return Err(Error::INVALID_HANDLE);
    }
    // SAFETY: borrowed for this function only. Whatever it is, if it is open at all: all that
    // happens to it is what each owner has to expect, a look at what it is; and if it is a bag, it
    // is not passed on to children.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    look_into(fd)?;
    let copy = fcntl_dupfd_cloexec(fd, 3).map_err(|errno| win32_from_errno(errno, "F_DUPFD"))?;
    fcntl_setfd(fd, FdFlags::CLOEXEC).map_err(|errno| win32_from_errno(errno, "F_SETFD"))?;
    Ok(copy)
}

/// Has a child inherit a descriptor, under the number that it has here; no other child does.
pub(crate) fn pass_on(command: &mut Command, fd: OwnedFd) {
    let pass_on = move || -> io::Result<()> {
        fcntl_setfd(&fd, FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, which is allowed there; it takes no
    // lock and no memory.
    unsafe { command.pre_exec(pass_on) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bag_gives_up_its_content_once() {
        let (one, other) = pair().unwrap();
        let bag = pack(b"text", &[one.as_fd(), other.as_fd()]).unwrap();
        drop((one, other));
        assert_eq!(look_into(bag.as_fd()).unwrap(), b"text");
        let (text, fds) = empty(bag.as_fd()).unwrap();
        assert_eq!((text, fds.len()), (b"text".to_vec(), 2));
        assert_eq!(look_into(bag.as_fd()), Err(Error::INVALID_HANDLE));
        assert_eq!(
            empty(bag.as_fd()).unwrap().0,
            b"",
            "the end, for the other socket is gone"
        );
    }

    #[test]
    fn other_descriptors_are_no_bags() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(look_into(null.as_fd()), Err(Error::INVALID_HANDLE));
        assert!(inherited(-1).is_err() && inherited(i32::MAX).is_err());
    }

    #[test]
    fn a_bag_that_is_dropped_lets_its_content_go() {
        let (one, other) = pair().unwrap();
        let bag = pack(b"text", &[one.as_fd()]).unwrap();
        drop(one);
        let mut byte = [0];
        let flags = RecvFlags::DONTWAIT;
        assert_eq!(
            net::recv(&other, &mut byte, flags).err(),
            Some(Errno::AGAIN)
        );
        drop(bag);
        assert_eq!(net::recv(&other, &mut byte, flags).unwrap().0, 0);
    }
}
