//! The handles of this process: which number stands for which end.
//!
//! The table keeps no end open but those that were put into it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ntpipe_proto::Error;

use crate::client::{NamedPipeClient, WeakClient};
use crate::locked::{MutexGuard, lock};
use crate::server::{NamedPipeServer, WeakServer};
use crate::sys::fork::PerProcess;

/// An end of a named pipe.
#[derive(Clone)]
pub(crate) enum Held {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

/// An end that may be gone.
enum Shown {
    Server(WeakServer),
    Client(WeakClient),
}

#[derive(Default)]
struct Table {
    entries: HashMap<usize, Entry>,
    /// By the address of what an end's clones share; the entry keeps it from being used again.
    numbers: HashMap<usize, usize>,
    /// At this size it is worth looking for ends that are gone.
    full: usize,
}

#[derive(Default)]
struct Entry {
    /// The ends that have shown the number, the current one last.
    shown: Vec<Shown>,
    /// What the number itself holds open.
    owned: Vec<Held>,
}

/// Windows counts its handles so.
const STEP: usize = 4;
/// No number is larger: programs store them in 32 bits.
const LAST: usize = 0x7fff_fffc;
const FEW: usize = 64;
/// The last number that was given; changed under the table's lock.
static NUMBERED: AtomicUsize = AtomicUsize::new(0);

fn table() -> MutexGuard<'static, Table> {
    static TABLE: PerProcess<Mutex<Table>> = PerProcess::new();
    lock(TABLE.get())
}

/// The number of an end, the same for all its clones; it holds nothing open.
pub(crate) fn show(end: &Held) -> usize {
    table().show(end)
}

/// Has the end's number hold it open.
pub(crate) fn give(end: Held) -> usize {
    let mut table = table();
    let number = table.show(&end);
    if let Some(entry) = table.entries.get_mut(&number) {
        entry.owned.push(end);
    }
    number
}

/// Another number that holds the same end open.
///
/// # Errors
/// `ERROR_INVALID_HANDLE` (6).
pub(crate) fn duplicate(number: usize) -> Result<usize, Error> {
    let mut table = table();
    let end = table.find(number).ok_or(Error::INVALID_HANDLE)?;
    Ok(table.insert(Entry {
        shown: Vec::new(),
        owned: vec![end],
    }))
}

/// The end that a number holds open, or a new owner of the one that has shown it.
///
/// # Errors
/// `ERROR_INVALID_HANDLE` (6): it is no server end. Nothing has changed then.
pub(crate) fn take_server(number: usize) -> Result<NamedPipeServer, Error> {
    match take(number, |end| matches!(end, Held::Server(_))) {
        Some(Held::Server(server)) => Ok(server),
        Some(Held::Client(_)) | None => Err(Error::INVALID_HANDLE),
    }
}

/// As [`take_server`], for a client end.
pub(crate) fn take_client(number: usize) -> Result<NamedPipeClient, Error> {
    match take(number, |end| matches!(end, Held::Client(_))) {
        Some(Held::Client(client)) => Ok(client),
        Some(Held::Server(_)) | None => Err(Error::INVALID_HANDLE),
    }
}

/// `CloseHandle`; a number that is none is no matter.
pub(crate) fn close(number: usize) {
    drop(take(number, |_| true));
}

fn take(number: usize, fits: impl FnOnce(&Held) -> bool) -> Option<Held> {
    let mut table = table();
    let found = table.find(number)?;
    let taken = fits(&found).then(|| table.take(number, &found));
    // Who drops the last owner of an end closes it, and may wait for its locks.
    drop(table);
    taken.flatten()
}

impl Table {
    fn show(&mut self, end: &Held) -> usize {
        let known = self.numbers.get(&end.address()).copied();
        if let Some(number) = known.filter(|number| self.entries.contains_key(number)) {
            return number;
        }
        let number = self.insert(Entry {
            shown: vec![end.downgrade()],
            owned: Vec::new(),
        });
        self.numbers.insert(end.address(), number);
        number
    }

    fn find(&self, number: usize) -> Option<Held> {
        let entry = self.entries.get(&number)?;
        let owned = entry.owned.last().cloned();
        owned.or_else(|| entry.shown.last().and_then(Shown::upgrade))
    }

    fn take(&mut self, number: usize, found: &Held) -> Option<Held> {
        let entry = self.entries.get_mut(&number)?;
        let Some(owned) = entry.owned.pop() else {
            // The number is its end's, which somebody has forgotten, or is going to: from here on
            // it has two owners, as any handle that was made into a file twice.
            let adopted = found.adopt();
            entry.shown.push(adopted.downgrade());
            self.numbers.insert(adopted.address(), number);
            return Some(adopted);
        };
        if entry.is_gone() {
            self.entries.remove(&number);
        }
        Some(owned)
    }

    fn insert(&mut self, entry: Entry) -> usize {
        if self.entries.len() >= self.full.max(FEW) {
            self.entries.retain(|_, entry| !entry.is_gone());
            let entries = &self.entries;
            self.numbers
                .retain(|_, number| entries.contains_key(number));
            self.full = self.entries.len() * 2;
        }
        // The next one after a fork, too: what a child inherits is no number of its own.
        let mut number = NUMBERED.load(Ordering::Relaxed);
        loop {
            number = if number >= LAST { STEP } else { number + STEP };
            if !self.entries.contains_key(&number) {
                break;
            }
        }
        NUMBERED.store(number, Ordering::Relaxed);
        self.entries.insert(number, entry);
        number
    }
}

impl Entry {
    /// Whether nothing is left that shows the number or is held by it.
    fn is_gone(&self) -> bool {
        self.owned.is_empty() && self.shown.iter().all(|shown| !shown.is_there())
    }
}

impl Held {
    /// Where what this end's clones share lies.
    fn address(&self) -> usize {
        match self {
            Self::Server(server) => server.address(),
            Self::Client(client) => client.address(),
        }
    }

    fn downgrade(&self) -> Shown {
        match self {
            Self::Server(server) => Shown::Server(server.downgrade()),
            Self::Client(client) => Shown::Client(client.downgrade()),
        }
    }

    fn adopt(&self) -> Self {
        match self {
            Self::Server(server) => Self::Server(server.adopt()),
            Self::Client(client) => Self::Client(client.adopt()),
        }
    }
}

impl Shown {
    fn upgrade(&self) -> Option<Held> {
        match self {
            Self::Server(server) => server.upgrade().map(Held::Server),
            Self::Client(client) => client.upgrade().map(Held::Client),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Server(server) => server.is_there(),
            Self::Client(client) => client.is_there(),
        }
    }
}
