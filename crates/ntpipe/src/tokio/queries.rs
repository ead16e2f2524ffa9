//! What both ends tell of themselves, further handles, and ending the calls that wait.

/// Gives an end what has nothing to wait for: it has a field `end`, an `Arc<End<_>>`.
macro_rules! queries {
    ($name:ident) => {
        impl $name {
            /// How many instances the name has now; 0 for a client whose server has closed its end
            /// (observed 8.20).
            ///
            /// A client end asks the owner of the name and waits for the answer, which mostly takes
            /// some microseconds; that is no point at which other tasks can run. If the owner is
            /// stopped it takes up to 5 seconds.
            ///
            /// # Errors
            /// - `ERROR_ACCESS_DENIED` (5): a server end that only writes (observed 1.42).
            /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
            /// - `ERROR_SEM_TIMEOUT` (121): the owner, perhaps a stopped process, does not answer.
            /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
            #[doc(alias = "GetNamedPipeHandleState")]
            pub fn instances(&self) -> io::Result<u32> {
                self.end.pipe.instances()
            }

            /// The modes of this end and the number of instances, at once; it takes as long as
            /// [`instances`](Self::instances).
            ///
            /// # Errors
            /// As [`instances`](Self::instances).
            #[doc(alias = "GetNamedPipeHandleState")]
            pub fn handle_state(&self) -> io::Result<HandleState> {
                self.end.pipe.handle_state()
            }

            /// What `FilePipeLocalInformation` tells of this end; it takes as long as
            /// [`instances`](Self::instances).
            ///
            /// # Errors
            /// As [`instances`](Self::instances); `ERROR_INVALID_DATA` (13): the peer's shared memory
            /// contradicts itself.
            #[doc(alias = "NtQueryInformationFile")]
            pub fn local_info(&self) -> io::Result<LocalInfo> {
                self.end.pipe.local_info()
            }

            /// The process that opened the client end; a server end knows it until the client is
            /// disconnected.
            ///
            /// # Errors
            /// - `ERROR_NOT_FOUND` (1168): a server end without a client.
            /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
            /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
            #[doc(alias = "GetNamedPipeClientProcessId")]
            pub fn client_process_id(&self) -> io::Result<u32> {
                self.end.pipe.client_process_id()
            }

            /// The process that created the instance; it is remembered after that has closed its end.
            ///
            /// # Errors
            /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
            /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
            #[doc(alias = "GetNamedPipeServerProcessId")]
            pub fn server_process_id(&self) -> io::Result<u32> {
                self.end.pipe.server_process_id()
            }

            /// The session of the process that opened the client end, at that time; a server end knows
            /// it until the client is disconnected.
            ///
            /// Sessions are those of the kernel's audit: 0 for a process that was not started by a
            /// login.
            ///
            /// # Errors
            /// As [`client_process_id`](Self::client_process_id).
            #[doc(alias = "GetNamedPipeClientSessionId")]
            pub fn client_session_id(&self) -> io::Result<u32> {
                self.end.pipe.client_session_id()
            }

            /// The session of the process that created the instance: see
            /// [`client_session_id`](Self::client_session_id).
            ///
            /// # Errors
            /// As [`server_process_id`](Self::server_process_id).
            #[doc(alias = "GetNamedPipeServerSessionId")]
            pub fn server_session_id(&self) -> io::Result<u32> {
                self.end.pipe.server_session_id()
            }

            /// The rights that this end was granted, as an access mask: see the blocking
            /// [`granted_access`](crate::PipeStream::granted_access).
            #[doc(alias = "FileAccessInformation")]
            #[must_use]
            pub fn granted_access(&self) -> u32 {
                self.end.pipe.granted_access()
            }

            /// Whether calls of threads at this end wait for what they need. Those of tasks always do,
            /// but `try_read` and `try_write`, which never do.
            #[doc(alias = "GetNamedPipeHandleState")]
            #[must_use]
            pub fn wait_mode(&self) -> WaitMode {
                self.end.pipe.wait_mode()
            }

            /// Another handle for the same end, for the tasks of the runtime that this is called in:
            /// modes and data are shared. The end is closed with the last handle; a
            /// [`close_write`](Self::close_write) is for the handle that does it.
            ///
            /// # Errors
            /// Outside of a runtime. `ERROR_INVALID_HANDLE` (6) in a forked child.
            #[doc(alias = "DuplicateHandle")]
            pub fn try_clone(&self) -> io::Result<Self> {
                Self::from_blocking(self.end.pipe.try_clone()?)
            }

            /// Cancels the calls that wait at this end, of all tasks and threads of this process and
            /// whatever handle they have: they return `ERROR_OPERATION_ABORTED` (995).
            ///
            /// A call whose task has not run since there was something for it counts as waiting. None
            /// has taken or written anything, but for the request of a transaction, which stays
            /// (observed 11.11); of calls of threads see the blocking
            /// [`cancel_io`](crate::PipeStream::cancel_io). An instance goes on listening (observed
            /// 4.11), and a message that was accepted before all of it had room goes on.
            ///
            /// A task that polls (`AsyncRead`, `AsyncWrite`, [`poll_read_ready`](Self::poll_read_ready))
            /// gets the error from its next poll, as with tokio on Windows also if the one that had to
            /// wait was given up meanwhile.
            ///
            /// # Errors
            /// - `ERROR_NOT_FOUND` (1168): no call waits that has not been cancelled already.
            /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
            #[doc(alias = "CancelIoEx")]
            pub fn cancel_io(&self) -> io::Result<()> {
                self.end.pipe.cancel_io()
            }
        }
    };
}
pub(super) use queries;
