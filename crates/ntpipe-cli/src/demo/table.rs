//! What arrived, compared with what was sent.

use std::fmt;

use super::transfer::{Arrived, Mode, Way};

/// The file that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// One line of the table: the same transfer with every client.
#[derive(Debug)]
pub(super) struct Row {
    mode: Mode,
    way: Way,
    transfers: u32,
    intact: u32,
    bytes: u64,
    messages: u64,
    /// Of the slowest.
    seconds: f64,
}

/// All results.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Arrived {
    /// Whether what arrived is what was sent, to the byte and to the message.
    pub(super) fn is_intact(&self, sent: &Sent) -> bool {
        self.bytes == sent.bytes && self.sha256 == sent.sha256 && self.whole
    }
}

impl Table {
    pub(super) fn add(&mut self, mode: Mode, arrived: &Arrived, sent: &Sent) {
        let intact = u32::from(arrived.is_intact(sent));
        let same = |row: &&mut Row| row.mode == mode && row.way == arrived.way;
        match self.rows.iter_mut().find(same) {
            Some(row) => {
                row.transfers += 1;
                row.intact += intact;
                row.bytes += arrived.bytes;
                row.messages += arrived.messages;
                row.seconds = row.seconds.max(arrived.seconds);
            }
            None => self.rows.push(Row {
                mode,
                way: arrived.way,
                transfers: 1,
                intact,
                bytes: arrived.bytes,
                messages: arrived.messages,
                seconds: arrived.seconds,
            }),
        }
    }

    /// How many transfers there were, and how many of them arrived intact.
    pub(super) fn totals(&self) -> (u32, u32) {
        self.rows.iter().fold((0, 0), |(all, intact), row| {
            (all + row.transfers, intact + row.intact)
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:17} {:>7} {:>12} {:>9} {:>8}  DIGEST",
            "MODE", "DIRECTION", "CLIENTS", "BYTES", "MESSAGES", "MB/s"
        )?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, messages) = match self.mode {
            Mode::Byte => ("byte", "-".to_owned()),
            Mode::Message => ("message", self.messages.to_string()),
        };
        let way = match self.way {
            Way::Inbound => "client to server",
            Way::Outbound => "server to client",
        };
        let rate = self.bytes as f64 / 1e6 / self.seconds.max(1e-6);
        write!(
            f,
            "{mode:8} {way:17} {:>7} {:>12} {messages:>9} {rate:>8.1}  ",
            self.transfers, self.bytes
        )?;
        if self.intact == self.transfers {
            f.write_str("ok")
        } else {
            let damaged = self.transfers - self.intact;
            write!(f, "MISMATCH ({damaged} of {})", self.transfers)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        Sent {
            bytes: 4,
            sha256: "aa".to_owned(),
        }
    }

    fn arrived() -> Arrived {
        Arrived {
            way: Way::Inbound,
            bytes: 4,
            messages: 2,
            whole: true,
            seconds: 0.5,
            sha256: "aa".to_owned(),
        }
    }

    #[test]
    fn another_digest_length_or_boundary_is_a_mismatch() {
        assert!(arrived().is_intact(&sent()));
        let other_digest = Arrived {
            sha256: "ab".to_owned(),
            ..arrived()
        };
        let other_length = Arrived {
            bytes: 5,
            ..arrived()
        };
        let merged = Arrived {
            whole: false,
            ..arrived()
        };
        for damaged in [other_digest, other_length, merged] {
            assert!(!damaged.is_intact(&sent()), "{damaged:?}");
        }
    }

    #[test]
    fn one_damaged_transfer_shows_in_its_row_and_in_the_totals() {
        let mut table = Table::default();
        table.add(Mode::Byte, &arrived(), &sent());
        let damaged = Arrived {
            sha256: "ab".to_owned(),
            ..arrived()
        };
        table.add(Mode::Message, &arrived(), &sent());
        table.add(Mode::Message, &damaged, &sent());
        assert_eq!(table.totals(), (3, 2));
        let text = table.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].ends_with("  ok"), "{text}");
        assert!(lines[2].ends_with("MISMATCH (1 of 2)"), "{text}");
    }
}
