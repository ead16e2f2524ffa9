//! Handles as the standard library has them on Windows, for pipes only.
//!
//! Nothing here could go wrong but that somebody's end is closed. What the standard library declares
//! `unsafe` is so here too, so that programs compile on both.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use crate::client::NamedPipeClient;
use crate::os::{self, Held};
use crate::server::NamedPipeServer;

/// A number that stands for an end of a pipe, in the shape of a pointer; it points to nothing.
#[doc(alias = "HANDLE")]
pub type RawHandle = *mut c_void;

/// What has a handle, or is one.
pub trait AsRawHandle {
    /// Its handle; it stays the owner.
    fn as_raw_handle(&self) -> RawHandle;
}

/// What can be made from a handle.
pub trait FromRawHandle {
    /// Makes one that owns the handle.
    ///
    /// # Safety
    /// Nobody else owns the handle.
    unsafe fn from_raw_handle(handle: RawHandle) -> Self;
}

/// What can give its handle away.
pub trait IntoRawHandle {
    /// Its handle, whose owner is the caller from now on.
    fn into_raw_handle(self) -> RawHandle;
}

/// What has a handle to lend.
pub trait AsHandle {
    /// Its handle, for no longer than it is borrowed.
    fn as_handle(&self) -> BorrowedHandle<'_>;
}

/// The handle of an end that somebody else owns.
#[derive(Clone, Copy)]
pub struct BorrowedHandle<'h> {
    number: usize,
    owner: PhantomData<&'h OwnedHandle>,
}

/// A handle that holds its end open, and closes it when it is dropped.
///
/// `NamedPipeServer::try_from` and `NamedPipeClient::try_from` make it an end again.
#[derive(PartialEq, Eq)]
pub struct OwnedHandle {
    number: usize,
}

impl BorrowedHandle<'_> {
    /// The handle, as one that is lent.
    ///
    /// # Safety
    /// Its owner outlives what this returns.
    #[must_use]
    pub unsafe fn borrow_raw(handle: RawHandle) -> Self {
        Self::new(handle.addr())
    }

    fn new(number: usize) -> Self {
        Self {
            number,
            owner: PhantomData,
        }
    }

    /// Another handle for the same end, which holds it open too.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6): it is closed, or was none.
    #[doc(alias = "DuplicateHandle")]
    pub fn try_clone_to_owned(&self) -> io::Result<OwnedHandle> {
        let number = os::duplicate(self.number)?;
        Ok(OwnedHandle { number })
    }
}

impl OwnedHandle {
    /// Another handle for the same end, which holds it open too.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6): it was none.
    #[doc(alias = "DuplicateHandle")]
    pub fn try_clone(&self) -> io::Result<Self> {
        self.as_handle().try_clone_to_owned()
    }

    /// The number, which is not closed with this.
    fn release(self) -> usize {
        std::mem::ManuallyDrop::new(self).number
    }
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        os::close(self.number);
    }
}

impl FromRawHandle for OwnedHandle {
    unsafe fn from_raw_handle(handle: RawHandle) -> Self {
        Self {
            number: handle.addr(),
        }
    }
}

impl IntoRawHandle for OwnedHandle {
    fn into_raw_handle(self) -> RawHandle {
        raw(self.release())
    }
}

impl AsRawHandle for OwnedHandle {
    fn as_raw_handle(&self) -> RawHandle {
        raw(self.number)
    }
}

impl AsRawHandle for BorrowedHandle<'_> {
    fn as_raw_handle(&self) -> RawHandle {
        raw(self.number)
    }
}

impl AsHandle for OwnedHandle {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        BorrowedHandle::new(self.number)
    }
}

impl AsHandle for BorrowedHandle<'_> {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        *self
    }
}

impl fmt::Debug for OwnedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = self.as_raw_handle();
        f.debug_struct("OwnedHandle")
            .field("handle", &handle)
            .finish()
    }
}

impl fmt::Debug for BorrowedHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle = self.as_raw_handle();
        f.debug_struct("BorrowedHandle")
            .field("handle", &handle)
            .finish()
    }
}

macro_rules! lends_through {
    ($($pointer:ty)*) => {$(
        impl<T: AsHandle + ?Sized> AsHandle for $pointer {
            fn as_handle(&self) -> BorrowedHandle<'_> {
                (**self).as_handle()
            }
        }
    )*};
}
lends_through! { &T &mut T Box<T> Rc<T> Arc<T> }

macro_rules! ends {
    ($($end:ident $held:ident $take:ident)*) => {$(
        impl AsRawHandle for $end {
            fn as_raw_handle(&self) -> RawHandle {
                raw(os::show(&Held::$held(self.clone())))
            }
        }

        impl AsHandle for $end {
            fn as_handle(&self) -> BorrowedHandle<'_> {
                BorrowedHandle::new(os::show(&Held::$held(self.clone())))
            }
        }

        impl IntoRawHandle for $end {
            fn into_raw_handle(self) -> RawHandle {
                raw(os::give(Held::$held(self)))
            }
        }

        impl From<$end> for OwnedHandle {
            fn from(end: $end) -> Self {
                Self {
                    number: os::give(Held::$held(end)),
                }
            }
        }

        /// Fails with `ERROR_INVALID_HANDLE` (6), and closes the handle, if it is of another kind of
        /// end, or closed already.
        impl TryFrom<OwnedHandle> for $end {
            type Error = io::Error;

            fn try_from(handle: OwnedHandle) -> io::Result<Self> {
                let end = os::$take(handle.number)?;
                handle.release();
                Ok(end)
            }
        }

        #[cfg(feature = "tokio")]
        impl crate::tokio::$end {
            /// The end that a handle stands for, for the tasks of this runtime.
            ///
            /// # Safety
            /// Nobody else owns the handle: it comes from `into_raw_handle`, say. (Of one that still
            /// has an owner, the end closes when either is dropped.)
            ///
            /// # Errors
            /// `ERROR_INVALID_HANDLE` (6): it is of another kind of end, or closed; it stays as it
            /// is. Those of [`from_blocking`](Self::from_blocking); the handle is closed then.
            pub unsafe fn from_raw_handle(handle: RawHandle) -> io::Result<Self> {
                Self::from_blocking(os::$take(handle.addr())?)
            }
        }
    )*};
}
ends! {
    NamedPipeServer Server take_server
    NamedPipeClient Client take_client
}

fn raw(number: usize) -> RawHandle {
    ptr::without_provenance_mut(number)
}
