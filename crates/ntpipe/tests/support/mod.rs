//! Scenarios of several processes.
//!
//! A test is one function for all its processes: it names its roles and says what each does, and
//! then what the test itself does. A child is this test binary run again for that one test, with
//! its role in the environment: there it plays the role, and exits before it reaches the rest.
//!
//! Children have a directory of names of their own. They and the test talk by lines over standard
//! input and output, which is all the synchronisation that there is. A watchdog kills the children
//! of a test that takes too long.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ntpipe::IoErrorExt;
use rustix::process::{Pid, Signal, kill_process_group};

pub(crate) mod counting;
pub(crate) mod forked;
pub(crate) mod raw;
pub(crate) mod seccomp;

/// A pipe's name: directories of names are fresh, so that one name does for all.
pub(crate) const PIPE: &str = r"\\.\pipe\test";
/// The file names that belong to it.
pub(crate) const SOCKET: &str = "test.pipe";
pub(crate) const LOCK: &str = "test.lock";
pub(crate) const HEIRS: &str = "test.heirs";

/// How long a test may take.
const PATIENCE: Duration = Duration::from_secs(20);
const ROLE: &str = "NTPIPE_TEST_ROLE";
/// The user that the child becomes, if another.
pub(crate) const USER: &str = "NTPIPE_TEST_USER";
/// What a line to the test begins with: the test harness prints others.
const MARK: char = '\u{1}';

/// The path of the test function that it is called in.
macro_rules! this_test {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        let path = path.strip_suffix("::here").unwrap();
        path.split_once("::").unwrap().1
    }};
}
pub(crate) use this_test;

/// A test and its roles.
pub(crate) struct Scenario {
    test: &'static str,
    role: Option<String>,
}

impl Scenario {
    pub(crate) fn new(test: &'static str) -> Self {
        let role = std::env::var(ROLE).ok();
        Self { test, role }
    }

    /// What a child with this role does.
    pub(crate) fn role(self, name: &str, play: impl FnOnce()) -> Self {
        if self.role.as_deref() == Some(name) {
            if let Ok(uid) = std::env::var(USER) {
                become_user(uid.parse().unwrap());
            }
            play();
            std::process::exit(0);
        }
        self
    }

    /// What the test does with its children.
    pub(crate) fn run(self, play: impl FnOnce(&Stage)) {
        assert_eq!(self.role, None, "no such role");
        let stage = Stage::new(self.test);
        play(&stage);
    }

    /// A test of a single process: it runs in a child, for the sake of the directory of names.
    pub(crate) fn alone(test: &'static str, play: impl FnOnce()) {
        Self::new(test).role("alone", play).run(|stage| {
            stage.start("alone").finish();
        });
    }
}

/// A running test: its directory, and the watchdog over its children.
pub(crate) struct Stage {
    test: &'static str,
    dir: PathBuf,
    watched: Arc<Watched>,
    watchdog: Option<JoinHandle<()>>,
}

/// Gives this process, which root has started, to another user. Not before it was started: the user
/// may have no way to the program.
fn become_user(uid: u32) {
    // SAFETY: no groups are passed, so that no memory is read.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    // SAFETY: setgid has no preconditions.
    assert_eq!(unsafe { libc::setgid(uid) }, 0);
    // SAFETY: setuid has no preconditions.
    assert_eq!(unsafe { libc::setuid(uid) }, 0);
}

#[derive(Default)]
struct Watched {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    has_bitten: bool,
    groups: Vec<Pid>,
}

impl Stage {
    fn new(test: &'static str) -> Self {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        // One that was killed may have left its directory, and its number to this process.
        let dir = loop {
            let number = STAGES.fetch_add(1, Ordering::Relaxed);
            // Short: a socket's address has 108 bytes.
            let dir = std::env::temp_dir().join(format!("ntp-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => break dir,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}"),
            }
        };
        let watched = Arc::new(Watched::default());
        let dog = Arc::clone(&watched);
        let watchdog = Some(thread::spawn(move || dog.watch()));
        Self {
            test,
            dir,
            watched,
            watchdog,
        }
    }

    /// The directory of names.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is in the directory of names.
    pub(crate) fn files(&self) -> Vec<String> {
        files(&self.dir)
    }

    /// A child that plays a role.
    pub(crate) fn start(&self, role: &'static str) -> Child {
        self.start_with(role, |_| {})
    }

    /// As [`start`](Self::start), with something different about the process.
    pub(crate) fn start_with(&self, role: &'static str, adapt: impl FnOnce(&mut Command)) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", self.test, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env("NTPIPE_DIR", &self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        adapt(&mut command);
        let mut process = command.spawn().unwrap();
        let group = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
        let mut state = self.watched.state.lock().unwrap();
        state.groups.push(group);
        if state.has_bitten {
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(state);
        Child {
            role,
            input: process.stdin.take(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
            group,
            watched: Arc::clone(&self.watched),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.watched.state.lock().unwrap().is_over = true;
        self.watched.over.notify_all();
        let _ = self.watchdog.take().unwrap().join();
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_file(notes(&self.dir));
        let bitten = self.watched.state.lock().unwrap().has_bitten;
        assert!(!bitten || thread::panicking(), "the watchdog has bitten");
    }
}

impl Watched {
    fn watch(&self) {
        let guard = self.state.lock().unwrap();
        let (mut state, _) = self
            .over
            .wait_timeout_while(guard, PATIENCE, |state| !state.is_over)
            .unwrap();
        if !state.is_over {
            state.has_bitten = true;
            for group in &state.groups {
                let _ = kill_process_group(*group, Signal::KILL);
            }
        }
    }
}

/// A child, as the test sees it. It is killed when this is dropped.
pub(crate) struct Child {
    role: &'static str,
    process: std::process::Child,
    group: Pid,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    watched: Arc<Watched>,
}

impl Child {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line of the child.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                let bitten = self.watched.state.lock().unwrap().has_bitten;
                let why = if bitten {
                    "the watchdog has bitten"
                } else {
                    ""
                };
                let status = self.process.wait();
                panic!("{} said no more: {status:?} {why}", self.role);
            }
            if let Some((_, text)) = line.trim_end().split_once(MARK) {
                return text.to_owned();
            }
        }
    }

    /// Waits for the child to say `line`, and nothing else.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line, "from {}", self.role);
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// `kill -9`; returns when the process is gone.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// `kill -9`; returns all numbers that it had said.
    pub(crate) fn kill_and_hear_all(mut self) -> Vec<u32> {
        self.process.kill().unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut self.output, &mut text).unwrap();
        self.process.wait().unwrap();
        // The last line may be torn.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().filter_map(|line| line.split_once(MARK));
        lines.map(|(_, number)| number.parse().unwrap()).collect()
    }

    /// As [`kill_and_hear_all`](Self::kill_and_hear_all): the last one.
    pub(crate) fn kill_and_hear(self) -> Option<u32> {
        self.kill_and_hear_all().pop()
    }

    /// Waits until the child is done; it must have succeeded.
    #[track_caller]
    pub(crate) fn finish(self) {
        let role = self.role;
        let status = self.status();
        assert!(status.success(), "{role}: {status}");
    }

    /// Waits until the child is done, or dead.
    pub(crate) fn status(mut self) -> ExitStatus {
        drop(self.input.take());
        // It might block in a line that nobody reads.
        io::copy(&mut self.output, &mut io::sink()).unwrap();
        self.process.wait().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut state = self.watched.state.lock().unwrap();
        state.groups.retain(|group| *group != self.group);
        drop(state);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says a line to the test.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
}

/// The next line of the test; at their end the process ends too.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).unwrap() == 0 {
        std::process::exit(1);
    }
    line.trim_end().to_owned()
}

/// The Win32 code of an error.
#[track_caller]
pub(crate) fn code<T>(result: io::Result<T>) -> u32 {
    match result {
        Ok(_) => 0,
        Err(error) => error.win32_code().unwrap(),
    }
}

/// Looks until it is so; the watchdog bounds it.
pub(crate) fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        thread::park_timeout(Duration::from_micros(200));
    }
}

/// One of the first waits of a process measures how long waits should spin, which sleeps too: after
/// this it has.
pub(crate) fn measure() {
    let (reader, _writer) = ntpipe::anonymous::pipe(0).unwrap();
    reader
        .set_read_timeout(Some(Duration::from_micros(1)))
        .unwrap();
    (0..50).for_each(|_| assert_eq!(code(reader.read_message(&mut [0])), 121));
}

/// Blocks in `block`, and does `then` in another thread once this one sleeps.
pub(crate) fn asleep<T>(block: impl FnOnce() -> T, then: impl FnOnce() + Send) -> T {
    measure();
    let me = rustix::thread::gettid().as_raw_nonzero();
    thread::scope(|scope| {
        scope.spawn(move || {
            until(|| is_asleep(me.get()));
            then();
        });
        block()
    })
}

/// Whether a thread of this process sleeps.
pub(crate) fn is_asleep(thread: i32) -> bool {
    state_of(thread).unwrap() == 'S'
}

/// What a thread of this process does, as the kernel puts it; none if it has ended.
fn state_of(thread: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until all other threads of this process sleep.
pub(crate) fn others_sleep() {
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    let others = fs::read_dir("/proc/self/task").unwrap().map(|entry| {
        let thread = entry.unwrap().file_name().into_string().unwrap();
        thread.parse().unwrap()
    });
    for other in others.filter(|thread| *thread != me) {
        // One that has ended meanwhile does nothing either.
        until(|| state_of(other).is_none_or(|state| state == 'S'));
    }
}

/// Whether all threads of a process are stopped.
pub(crate) fn is_stopped(process: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.all(|thread| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    })
}

/// The descriptors of this process.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A file beside a directory of names, for what has to survive a process.
pub(crate) fn notes(dir: &Path) -> PathBuf {
    dir.with_extension("notes")
}

/// The memory of this process that is in RAM, in KiB.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Prints how long something took; no test depends on it.
pub(crate) fn report(what: &str, since: Instant) {
    println!("{what}: {:?}", since.elapsed());
}

/// A byte of a stream whose every part looks different.
pub(crate) fn byte(at: usize) -> u8 {
    ((at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// `len` bytes of that stream.
pub(crate) fn bytes(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

/// Small numbers without order, the same in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}
