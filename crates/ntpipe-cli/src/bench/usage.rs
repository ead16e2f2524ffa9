//! What a process has used, as the kernel counts it.

use std::fs;
use std::io;
use std::time::Duration;

/// The sums over a process' threads.
pub(super) struct Usage {
    cpu: Duration,
    wakeups: u64,
}

impl Usage {
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let mut usage = Self {
            cpu: Duration::ZERO,
            wakeups: 0,
        };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            // A thread may end meanwhile.
            let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
            let nanos = read("schedstat");
            let nanos = nanos.split(' ').next().and_then(|field| field.parse().ok());
            usage.cpu += Duration::from_nanos(nanos.unwrap_or(0));
            usage.wakeups += field(&read("status"), "voluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(usage)
    }

    pub(super) fn cpu_since(&self, before: &Self) -> Duration {
        self.cpu.saturating_sub(before.cpu)
    }

    pub(super) fn wakeups_since(&self, before: &Self) -> u64 {
        self.wakeups.saturating_sub(before.wakeups)
    }
}

/// The memory that a process has in use, in bytes.
pub(super) fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = field(&status, "VmRSS:").ok_or(io::ErrorKind::InvalidData)?;
    Ok(kib * 1024)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status =
            "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\nVmRSS:\t  44 kB\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(status, "VmRSS:"), Some(44));
        assert_eq!(field(status, "VmSize:"), None);
    }

    #[test]
    fn a_process_that_computes_uses_cpu_time() {
        let me = std::process::id();
        let before = Usage::of(me).unwrap();
        let mut n = 0_u64;
        while Usage::of(me).unwrap().cpu_since(&before) < Duration::from_millis(1) {
            n = std::hint::black_box(n + 1);
        }
        assert!(n > 0 && resident(me).unwrap() > 0);
    }
}
