//! Running the command, with a watchdog.
// Not every test file uses all of it, and clippy does not see that it is all tests.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of names of one test's own.
pub(crate) struct Names {
    dir: TempDir,
}

/// A command that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Drain,
    errors: Drain,
    what: String,
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) raw: Vec<u8>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts `ntpipe` with these arguments.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        start(args, Some(self.path()))
    }

    /// Runs `ntpipe` with nothing on standard input, to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.start(args).finish()
    }

    /// Waits until the pipe is as wanted, by its JSON.
    pub(crate) fn wait_for(&self, name: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done = self.run(&["info", "--json", name]);
            if done.code == Some(0) && wanted(&serde_json::from_str(&done.out).unwrap()) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} never came: {done:?}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits until the pipe exists.
    pub(crate) fn wait_until_exists(&self, name: &str) {
        self.wait_for(name, |_| true);
    }
}

/// Starts `ntpipe`, with its own directory of names or that of this process.
pub(crate) fn start(args: &[&str], names: Option<&Path>) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntpipe"));
    command.args(args);
    spawn(command, names)
}

/// Starts any command.
pub(crate) fn spawn(mut command: Command, names: Option<&Path>) -> Running {
    if let Some(dir) = names {
        command.env("NTPIPE_DIR", dir);
    }
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Running {
        input: child.stdin.take(),
        output: Drain::new(child.stdout.take().unwrap()),
        errors: Drain::new(child.stderr.take().unwrap()),
        child,
        what,
    }
}

impl Running {
    /// Writes to the command's standard input.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        // A command that has ended tells why by itself.
        let _ = input.write_all(bytes);
    }

    /// Ends the command's standard input.
    pub(crate) fn end_input(&mut self) {
        drop(self.input.take());
    }

    /// Waits until the command has printed something.
    pub(crate) fn wait_for_output(&self, wanted: impl Fn(&str) -> bool) {
        let (lock, changed) = &*self.output.so_far;
        let is_not = |bytes: &mut Vec<u8>| !wanted(&String::from_utf8_lossy(bytes));
        let bytes = lock.lock().unwrap();
        let (bytes, waited) = changed.wait_timeout_while(bytes, PATIENCE, is_not).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!waited.timed_out(), "{} said only {text}", self.what);
    }

    /// Whether the command runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends standard input and waits for the command to end.
    pub(crate) fn finish(mut self) -> Done {
        self.end_input();
        self.wait()
    }

    /// Waits for the command to end, its standard input open.
    pub(crate) fn wait(mut self) -> Done {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= deadline {
                self.child.kill().unwrap();
                panic!("{} hangs", self.what);
            }
            thread::park_timeout(Duration::from_millis(2));
        };
        let raw = self.output.take();
        let err = self.errors.take();
        Done {
            code: status.code(),
            out: String::from_utf8_lossy(&raw).into_owned(),
            err: String::from_utf8(err).unwrap(),
            raw,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    /// Asserts that it went well; its output.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.err, "", "{:?}", self.out);
        self.out
    }
}

/// What a command prints, read all the time so that it is never kept waiting.
struct Drain {
    so_far: Arc<(Mutex<Vec<u8>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Drain {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let so_far = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = Arc::clone(&so_far);
        let reader = thread::spawn(move || {
            let mut block = vec![0; 65536];
            loop {
                let len = from.read(&mut block).unwrap();
                let Some(new) = block.get(..len).filter(|new| !new.is_empty()) else {
                    return;
                };
                shared.0.lock().unwrap().extend_from_slice(new);
                shared.1.notify_all();
            }
        });
        Self {
            so_far,
            reader: Some(reader),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut self.so_far.0.lock().unwrap())
    }
}
