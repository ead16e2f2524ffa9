//! Whether any thread of this process but the one that asks can move on its own.

use std::fs;
use std::io::{self, ErrorKind};

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
        let path = entry.path();
        let read = |file| fs::read_to_string(path.join(file));
        let (call, status) = match read("syscall").and_then(|call| Ok((call, read("status")?))) {
            Ok(texts) => texts,
            // It ended meanwhile.
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The kernel says `running`, and -1 for a thread that is stopped elsewhere, as by a page
        // that must be read.
        if !call.starts_with(|first: char| first.is_ascii_digit()) {
            return Ok(None);
        }
        threads.push_str(&id);
        for (_, count) in (status.lines()).filter_map(|line| line.split_once("ctxt_switches:")) {
            threads.push(':');
            threads.push_str(count.trim());
        }
        threads.push(' ');
    }
    Ok(Some(threads))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// `No such process`; it has no kind of its own.
const ESRCH: i32 = 3;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The answer's part about one thread; the test's own threads beside it may run.
    fn line(id: &str) -> Option<String> {
        let path = format!("/proc/self/task/{id}/syscall");
        let call = fs::read_to_string(path).unwrap();
        call.starts_with(|first: char| first.is_ascii_digit())
            .then_some(call)
    }

    #[test]
    fn a_thread_that_waits_is_seen_to_be_blocked() {
        let (tell, told) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let waiter = thread::spawn(move || {
            let own = fs::read_link("/proc/thread-self").unwrap();
            let id = own.file_name().unwrap().to_string_lossy().into_owned();
            tell.send(id).unwrap();
            wait.recv()
        });
        let id = told.recv().unwrap();
        while line(&id).is_none() {
            thread::yield_now();
        }
        go.send(()).unwrap();
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn a_thread_that_runs_is_seen() {
        // The test itself is not the main thread, and runs.
        assert_eq!(look().unwrap(), None);
    }
}
