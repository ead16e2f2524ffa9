//! Sealed memory that one process writes and another reads.
//!
//! # Safety
//! A [`Mapping`] is raw memory that a peer may change at any moment (its own pages it reads, ours
//! it can't write). No reference into it leaves this module but to atomics; bytes are copied.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use ntpipe_proto::Error;
use rustix::fs::{self, MemfdFlags, Mode, OFlags, SealFlags, Stat};
use rustix::mm::{self, MapFlags, ProtFlags};

use super::win32_from_errno;

/// A range of shared memory, mapped into this process.
///
/// Invariants:
/// - M1: `base` is the beginning of `len` mapped bytes until this is dropped.
/// - M2: the file behind it is sealed against shrinking, so that touching it never goes beyond its end.
/// - M3: it is mapped writable exactly if `writable`.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
    id: MemoryId,
}

/// What tells memory from all other memory that exists: the same in each mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemoryId {
    device: u64,
    inode: u64,
}

// SAFETY: the mapping belongs to the process, not to a thread; all access is through atomics or
// copies of bytes whose order the lane engine sees to.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// The seals that a peer must find: the size can never change again.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

impl Mapping {
    /// New zeroed memory of this process, and its file.
    pub(crate) fn create(len: usize) -> Result<(Self, OwnedFd), Error> {
        let refused = |attempt| move |errno| win32_from_errno(errno, attempt);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = fs::memfd_create(c"ntpipe", flags).map_err(refused("memfd_create"))?;
        let size = u64::try_from(len).map_err(|_| Error::INVALID_PARAMETER)?;
        fs::ftruncate(&file, size).map_err(refused("ftruncate"))?;
        fs::fcntl_add_seals(&file, SEALS).map_err(refused("F_ADD_SEALS"))?;
        // Another user who gets a descriptor for reading can't open the file anew for writing.
        fs::fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(refused("fchmod"))?;
        let stat = fs::fstat(&file).map_err(refused("fstat"))?;
        Ok((Self::map(&file, len, true, &stat)?, file))
    }

    /// Maps a peer's memory to read it; refuses what could change its size under our hands.
    pub(crate) fn attach(file: impl AsFd, len: usize) -> Result<Self, Error> {
        Self::checked(file, len, false)
    }

    /// Maps memory that other processes hold together with this one; they all write it.
    pub(crate) fn join(file: impl AsFd, len: usize) -> Result<Self, Error> {
        Self::checked(file, len, true)
    }

    fn checked(file: impl AsFd, len: usize, writable: bool) -> Result<Self, Error> {
        let seals = fs::fcntl_get_seals(&file).map_err(|_| Error::INVALID_DATA)?;
        let stat = fs::fstat(&file).map_err(|_| Error::INVALID_DATA)?;
        if !seals.contains(SEALS) || usize::try_from(stat.st_size) != Ok(len) {
            return Err(Error::INVALID_DATA);
        }
        Self::map(file, len, writable, &stat)
    }

    fn map(file: impl AsFd, len: usize, writable: bool, stat: &Stat) -> Result<Self, Error> {
        let prot = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        // SAFETY: a new mapping at an address that the kernel chooses; no memory of ours is there.
        let base = unsafe { mm::mmap(ptr::null_mut(), len, prot, MapFlags::SHARED, file, 0) }
            .map_err(|errno| win32_from_errno(errno, "mmap"))?;
        let base = NonNull::new(base.cast()).ok_or(Error::NO_SYSTEM_RESOURCES)?;
        Ok(Self {
            base,
            len,
            writable,
            id: MemoryId {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
        })
    }

    /// Which memory it is.
    pub(crate) fn id(&self) -> MemoryId {
        self.id
    }

    /// The beginning, as a `T`.
    ///
    /// # Safety
    /// `T` must consist of atomics only, and be valid for all bit patterns.
    pub(crate) unsafe fn head<T>(&self) -> &T {
        assert!(
            size_of::<T>() <= self.len && align_of::<T>() <= 4096,
            "no room for the header"
        );
        // SAFETY: M1, M2: mapped memory of that size, aligned to a page; the caller promises that
        // `T` can be shared with a process that changes it.
        unsafe { self.base.cast::<T>().as_ref() }
    }

    /// Copies `src` into the memory at `at`.
    ///
    /// The copy is a plain `memcpy` through raw pointers: the peer reads these bytes only after it
    /// has seen the cursor that is published behind them. A peer that doesn't care reads garbage,
    /// which is what it would get from a copy by atomic words too.
    pub(crate) fn copy_in(&self, at: usize, src: &[u8]) {
        let fits = at.checked_add(src.len()).is_some_and(|end| end <= self.len);
        assert!(fits && self.writable, "a copy beyond the memory");
        // SAFETY: M1: `at` is within the memory by the check above.
        let to = unsafe { self.base.add(at) };
        // SAFETY: M1, M3: the range is mapped and writable by the check above; `src` is memory of
        // this process, which never overlaps a mapping of ours.
        unsafe { ptr::copy_nonoverlapping(src.as_ptr(), to.as_ptr(), src.len()) }
    }

    /// Copies bytes out of the memory at `at`; what the peer writes meanwhile may be torn.
    pub(crate) fn copy_out(&self, at: usize, dst: &mut [u8]) {
        let fits = at.checked_add(dst.len()).is_some_and(|end| end <= self.len);
        assert!(fits, "a copy beyond the memory");
        // SAFETY: M1: `at` is within the memory by the check above.
        let from = unsafe { self.base.add(at) };
        // SAFETY: M1, M2: the range is mapped by the check above; `dst` is memory of this process.
        // Any bytes are valid in a `[u8]`; they are checked after the copy.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), dst.as_mut_ptr(), dst.len()) }
    }

    /// The aligned word at `at`. A word of a peer's memory can only be loaded: it is not writable.
    pub(crate) fn word(&self, at: usize) -> &AtomicU32 {
        let fits = at.checked_add(4).is_some_and(|end| end <= self.len) && at.is_multiple_of(4);
        assert!(fits, "a word beyond the memory");
        // SAFETY: M1: `at` is within the memory by the check above.
        let word = unsafe { self.base.add(at) };
        // SAFETY: M1, M2: a mapped, aligned word, which all sides access atomically.
        unsafe { word.cast::<AtomicU32>().as_ref() }
    }

    /// The aligned word of eight bytes at `at`, of which the same holds.
    pub(crate) fn long_word(&self, at: usize) -> &AtomicU64 {
        let fits = at.checked_add(8).is_some_and(|end| end <= self.len) && at.is_multiple_of(8);
        assert!(fits, "a word beyond the memory");
        // SAFETY: M1: `at` is within the memory by the check above.
        let word = unsafe { self.base.add(at) };
        // SAFETY: M1, M2: a mapped, aligned word, which all sides access atomically.
        unsafe { word.cast::<AtomicU64>().as_ref() }
    }
}

/// Another descriptor of the same kind.
pub(crate) fn duplicate(file: impl AsFd) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(file, 0)
        .map_err(|errno| win32_from_errno(errno, "duplicating a memory file"))
}

/// A descriptor with which a peer can only read a memory.
pub(crate) fn read_only(file: impl AsFd) -> Result<OwnedFd, Error> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| win32_from_errno(errno, "opening a memory file anew, through /proc"))
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: M1: this is the mapping; nobody borrows from it any more.
        if let Err(errno) = unsafe { mm::munmap(self.base.as_ptr().cast::<c_void>(), self.len) } {
            tracing::warn!(%errno, "memory could not be unmapped");
        }
    }
}
