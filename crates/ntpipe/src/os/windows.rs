//! What `std::os::windows` has of pipes' handles.

pub mod io {
    //! Handles of pipes, under the names of `std::os::windows::io`.
    //!
    //! A program for Windows that passes on the raw handle of a pipe compiles with these when its
    //! `use` lines change. There are no handles on Linux, so these are numbers of this process that
    //! stand for an end: a multiple of four, never null, and as long as possible never the number of
    //! another end. Nothing but this crate knows them; no system call takes one.
    //!
    //! A raw handle that an end has [shown](AsRawHandle) is the end's, and goes with it. One that was
    //! [taken](IntoRawHandle) out of an end, or duplicated ([`BorrowedHandle::try_clone_to_owned`]),
    //! holds the end open until it is turned into an end again or [closed](OwnedHandle).
    //!
    //! To pass an end to another process see [`PipeParts`](crate::PipeParts): they are a descriptor.
    //!
    //! ```
    //! # fn main() -> std::io::Result<()> {
    //! use ntpipe::os::windows::io::{AsHandle, IntoRawHandle, FromRawHandle, OwnedHandle};
    //! use ntpipe::{ClientOptions, NamedPipeClient, ServerOptions};
    //!
    //! let server = ServerOptions::new().create(r"\\.\pipe\ntpipe-doc-handle")?;
    //! let client = ClientOptions::new().open(r"\\.\pipe\ntpipe-doc-handle")?;
    //! let copy = NamedPipeClient::try_from(client.as_handle().try_clone_to_owned()?)?;
    //! let raw = client.into_raw_handle();
    //! copy.write_message(b"x")?;
    //!
    //! // SAFETY: the number comes from `into_raw_handle`, and is used once.
    //! let handle = unsafe { OwnedHandle::from_raw_handle(raw) };
    //! let client = NamedPipeClient::try_from(handle)?;
    //! client.write_message(b"y")?;
    //! # drop(copy);
    //! # assert_eq!(server.read_message(&mut [0; 4])?.len, 2);
    //! # Ok(())
    //! # }
    //! ```

    pub use crate::sys::raw_handle::{
        AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle,
    };
}
