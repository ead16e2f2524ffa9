//! Clients and servers that speak the protocol by hand, and say what they like.
#![allow(clippy::wildcard_enum_match_arm)]

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ntpipe_proto::Access;
use ntpipe_proto::control::{Opened, Reply, Request};
use ntpipe_proto::lane::ring_capacity;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    connect, listen, recvmsg, sendmsg, socket_with,
};

use super::SOCKET;

/// The directory of names of this child.
pub(crate) fn dir() -> PathBuf {
    std::env::var_os("NTPIPE_DIR").unwrap().into()
}

fn new_socket() -> OwnedFd {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap()
}

fn address(dir: &Path) -> SocketAddrUnix {
    SocketAddrUnix::new(dir.join(SOCKET)).unwrap()
}

/// How many connections wait at a socket that listens; the kernel lets one more in.
pub(crate) const BACKLOG: i32 = 16;

/// A socket that listens where the owner of the name would.
pub(crate) fn listen_at_name() -> OwnedFd {
    let socket = new_socket();
    bind(&socket, &address(&dir())).unwrap();
    listen(&socket, BACKLOG).unwrap();
    socket
}

/// A socket that nobody knows.
pub(crate) fn lonely_socket() -> OwnedFd {
    new_socket()
}

/// One side of a control socket.
pub(crate) struct Raw(pub(crate) OwnedFd);

impl Raw {
    /// A client at the name's socket.
    pub(crate) fn connect() -> Self {
        let socket = new_socket();
        connect(&socket, &address(&dir())).unwrap();
        Self(socket)
    }

    /// A client at another socket of the directory.
    pub(crate) fn try_connect(file: &str) -> Result<Self, Errno> {
        let socket = new_socket();
        let address = SocketAddrUnix::new(dir().join(file)).unwrap();
        connect(&socket, &address).map(|()| Self(socket))
    }

    /// The next client of a socket that listens.
    pub(crate) fn accept(listener: &OwnedFd) -> Self {
        Self(accept(listener).unwrap())
    }

    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let slices = [IoSlice::new(bytes)];
        sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    /// A datagram and its descriptor; `None` when the other side has hung up.
    pub(crate) fn receive(&self) -> Option<(Vec<u8>, Option<OwnedFd>)> {
        let mut bytes = vec![0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        let message = recvmsg(&self.0, slices, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        bytes.truncate(message.bytes);
        (!bytes.is_empty()).then_some((bytes, fd))
    }

    /// Ends the session for both sides.
    pub(crate) fn hang_up(&self) {
        rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both).unwrap();
    }

    /// Waits until the other side has hung up.
    pub(crate) fn expect_end(&self) {
        while self.receive().is_some() {}
    }

    /// Opens the pipe as far as the owner's answer.
    pub(crate) fn open(&self) -> (Opened, OwnedFd) {
        self.send(&open_request(), &[]).unwrap();
        let (bytes, fd) = self.receive().unwrap();
        match Reply::decode(&bytes).unwrap() {
            Reply::Opened(opened) => (opened, fd.unwrap()),
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Opens the pipe whole, with memory in which this side can lie.
    pub(crate) fn attach(&self) -> Memory {
        let (opened, peer) = self.open();
        drop(peer);
        let memory = Memory::new(opened.inbound_ring);
        self.send(&attach_request(), &[memory.file.as_fd()])
            .unwrap();
        memory
    }
}

pub(crate) fn open_request() -> Vec<u8> {
    let access = Access::GENERIC_READ | Access::GENERIC_WRITE;
    let request = Request::Open {
        access: Access::requested_by_client(access),
        qos: 0,
        name: "TEST".into(),
    };
    request.encode().unwrap()
}

pub(crate) fn attach_request() -> Vec<u8> {
    Request::Attach.encode().unwrap()
}

/// A query for whatever name there is.
pub(crate) fn query_request() -> Vec<u8> {
    let name = String::new();
    Request::Query { name }.encode().unwrap()
}

/// Shared memory of an end, in which everything can be written.
pub(crate) struct Memory {
    base: *mut u8,
    len: usize,
    pub(crate) file: OwnedFd,
    pub(crate) capacity: usize,
}

// Offsets in the header page.
pub(crate) const MAGIC: usize = 0;
pub(crate) const VERSION: usize = 8;
pub(crate) const CAPACITY: usize = 16;
pub(crate) const STATE: usize = 128;
pub(crate) const TAIL: usize = 256;
pub(crate) const OFFERED: usize = 264;
pub(crate) const HEAD: usize = 384;
pub(crate) const CONSUMED: usize = 392;
pub(crate) const CLAIM: usize = 512;
pub(crate) const ASKED: usize = 520;
pub(crate) const WAITS_FOR_DATA: usize = 640;
pub(crate) const WAITS_FOR_ROOM: usize = 644;
pub(crate) const BELL: usize = 768;
pub(crate) const RING: usize = 4096;

impl Memory {
    /// Memory as it should be.
    pub(crate) fn new(capacity: u64) -> Self {
        let memory = Self::unsealed(usize::try_from(capacity).unwrap() + RING);
        memory.set64(MAGIC, u64::from_le_bytes(*b"ntpipe\0\0"));
        memory.set32(VERSION, 4);
        memory.set64(CAPACITY, capacity);
        memory.set32(STATE, 1);
        memory.seal();
        memory
    }

    /// Memory for a quota, as it should be.
    pub(crate) fn for_quota(quota: u32) -> Self {
        Self::new(ring_capacity(quota))
    }

    /// Memory that could still be truncated, and says nothing about itself.
    pub(crate) fn unsealed(len: usize) -> Self {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("test", flags).unwrap();
        ftruncate(&file, len as u64).unwrap();
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel has room for it.
        let base = unsafe { mmap(ptr::null_mut(), len, prot, MapFlags::SHARED, &file, 0) };
        Self {
            base: base.unwrap().cast(),
            len,
            file,
            capacity: len - RING,
        }
    }

    pub(crate) fn seal(&self) {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&self.file, seals).unwrap();
    }

    pub(crate) fn set32(&self, at: usize, value: u32) {
        assert!(at + 4 <= self.len && at.is_multiple_of(4));
        // SAFETY: within the mapping by the check above.
        let word = unsafe { self.base.add(at) };
        // SAFETY: mapped as long as `self`, aligned, and only accessed atomically.
        let word = unsafe { AtomicU32::from_ptr(word.cast()) };
        word.store(value, Ordering::SeqCst);
    }

    pub(crate) fn set64(&self, at: usize, value: u64) {
        assert!(at + 8 <= self.len && at.is_multiple_of(8));
        // SAFETY: within the mapping by the check above.
        let word = unsafe { self.base.add(at) };
        // SAFETY: mapped as long as `self`, aligned, and only accessed atomically.
        let word = unsafe { AtomicU64::from_ptr(word.cast()) };
        word.store(value, Ordering::SeqCst);
    }

    /// Writes a record's header.
    pub(crate) fn set_record(&self, at: usize, len: u32, flags: u32) {
        self.set32(RING + at, len);
        self.set32(RING + at + 4, flags);
    }

    /// Rings this end's bell; who sleeps on it wakes.
    pub(crate) fn ring(&self, value: u32) {
        self.set32(BELL, value);
        // SAFETY: BELL is within the header page.
        let bell = unsafe { self.base.add(BELL) };
        // SAFETY: mapped as long as `self`, aligned, and only accessed atomically.
        let bell = unsafe { AtomicU32::from_ptr(bell.cast()) };
        let flags = rustix::thread::futex::Flags::empty();
        rustix::thread::futex::wake(bell, flags, 1000).unwrap();
    }
}

// SAFETY: the mapping belongs to the process, and all access is atomic.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping, and nobody borrows from it any more.
        unsafe { munmap(self.base.cast(), self.len) }.unwrap();
    }
}

/// The file of a descriptor, opened anew so that it can only be read.
pub(crate) fn read_only(file: &OwnedFd) -> OwnedFd {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .unwrap()
        .into()
}
