//! Whether any thread of this process but the one that asks can move on its own.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The threads with the number of times that each has stopped running, if all are blocked in a
/// system call now; `None` if one runs.
///
/// Equal answers say that none has run in between, because to run again and to stop again counts.
/// So when all processes give equal answers in two rounds, at the end of the first no thread of any
/// of them ran: nothing happens any more, unless someone outside or a clock moves it.
///
/// The main thread asks; it is left out.
pub(super) fn look() -> io::Result<Option<String>> {
    let main = std::process::id().to_string();
    let mut threads = String::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().into_owned();
        if id == main {
            continue;
        }
        let Some(runs) = blocked(&entry.path())? else {
            return Ok(None);
        };
        threads.push_str(&id);
        threads.push_str(&runs);
        threads.push(' ');
    }
    Ok(Some(threads))
}

/// How often a thread has stopped running, if it is blocked in a system call now.
fn blocked(thread: &Path) -> io::Result<Option<String>> {
    let read = |file| fs::read_to_string(thread.join(file));
    let (call, status) = match read("syscall").and_then(|call| Ok((call, read("status")?))) {
        Ok(texts) => texts,
        // It ended meanwhile.
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The kernel says `running`, and -1 for a thread that is stopped elsewhere, as by a page that
    // must be read.
    if !call.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(None);
    }
    // In an uninterruptible sleep it waits for the kernel, as for a disk, and goes on by itself.
    let mut lines = status.lines();
    if !lines.any(|line| line.starts_with("State:\tS")) {
        return Ok(None);
    }
    let mut runs = String::new();
    for (_, count) in (status.lines()).filter_map(|line| line.split_once("ctxt_switches:")) {
        runs.push(':');
        runs.push_str(count.trim());
    }
    Ok(Some(runs))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// `No such process`; it has no kind of its own.
const ESRCH: i32 = 3;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_seen_to_be_blocked_and_its_runs_are_counted() {
        let (tell, told) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let waiter = thread::spawn(move || {
            tell.send(fs::canonicalize("/proc/thread-self").unwrap())
                .unwrap();
            while wait.recv().is_ok() {}
        });
        let path = told.recv().unwrap();
        let runs = || loop {
            match blocked(&path).unwrap() {
                Some(runs) => return runs,
                None => thread::yield_now(),
            }
        };
        let before = runs();
        assert_eq!(blocked(&path).unwrap(), Some(before.clone()));
        go.send(()).unwrap();
        while runs() == before {}
        drop(go);
        waiter.join().unwrap();
    }

    #[test]
    fn a_thread_that_runs_is_seen() {
        let stop = AtomicBool::new(false);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                tell.send(fs::canonicalize("/proc/thread-self").unwrap())
                    .unwrap();
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let seen = blocked(&told.recv().unwrap());
            stop.store(true, Ordering::Relaxed);
            assert_eq!(seen.unwrap(), None);
        });
    }
}
