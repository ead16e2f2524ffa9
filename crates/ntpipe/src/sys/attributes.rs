//! Options with a `SECURITY_ATTRIBUTES`, which tokio takes as a pointer.
#![allow(unsafe_code)]

use std::ffi::{OsStr, c_void};
use std::io;

use ntpipe_proto::Error;

use crate::tokio::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};

impl ServerOptions {
    /// As [`create`](Self::create), with a `SECURITY_ATTRIBUTES` or null.
    ///
    /// # Safety
    /// `attrs` is null, or points to a `SECURITY_ATTRIBUTES` that is valid until this returns. It is
    /// not looked at yet.
    ///
    /// # Errors
    /// Those of [`create`](Self::create); `ERROR_NOT_SUPPORTED` (50) unless `attrs` is null: there
    /// are no security descriptors yet.
    pub unsafe fn create_with_security_attributes_raw(
        &self,
        addr: impl AsRef<OsStr>,
        attrs: *mut c_void,
    ) -> io::Result<NamedPipeServer> {
        check(attrs)?;
        self.create(addr)
    }
}

impl ClientOptions {
    /// As [`open`](Self::open), with a `SECURITY_ATTRIBUTES` or null.
    ///
    /// # Safety
    /// `attrs` is null, or points to a `SECURITY_ATTRIBUTES` that is valid until this returns. It is
    /// not looked at yet.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); `ERROR_NOT_SUPPORTED` (50) unless `attrs` is null.
    pub unsafe fn open_with_security_attributes_raw(
        &self,
        addr: impl AsRef<OsStr>,
        attrs: *mut c_void,
    ) -> io::Result<NamedPipeClient> {
        check(attrs)?;
        self.open(addr)
    }
}

fn check(attrs: *mut c_void) -> Result<(), Error> {
    match attrs.is_null() {
        true => Ok(()),
        false => Err(Error::NOT_SUPPORTED),
    }
}
