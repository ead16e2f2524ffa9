//! What parts of an end say about it.

use ntpipe_proto::control::{Opened, Reply};
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{Access, End, Error};

use crate::ring::Capacities;
use crate::ring::roster::HolderId;
use crate::stream::Terms;

/// "NTPP", little endian.
const MAGIC: u32 = u32::from_le_bytes(*b"NTPP");
const VERSION: u16 = 1;
const HEADER: usize = 36;

/// Which type of the library an end has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Client,
    Server,
    Reader,
    Writer,
}

/// One of the two processes that a named pipe connected, as the kernel knew it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Party {
    pub(crate) pid: u32,
    pub(crate) session: u32,
}

/// All that a new holder has to know of an end, beside its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) kind: Kind,
    /// What the end was granted.
    pub(crate) access: Access,
    /// The process that opened the client end.
    pub(crate) client: Party,
    /// The process that created the instance.
    pub(crate) server: Party,
    /// The new holder.
    pub(crate) holder: HolderId,
    /// The holder that entered it.
    pub(crate) from: HolderId,
    /// The pipe, as the client of a named one learns of it.
    pub(crate) pipe: Opened,
}

impl Description {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let kind: u16 = match self.kind {
            Kind::Client => 0,
            Kind::Server => 1,
            Kind::Reader => 2,
            Kind::Writer => 3,
        };
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        let words = [
            self.access.bits(),
            self.client.pid,
            self.server.pid,
            self.client.session,
            self.server.session,
            self.holder.to_u32(),
            self.from.to_u32(),
        ];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        let pipe = Reply::Opened(self.pipe.clone());
        bytes.extend(pipe.encode().map_err(|_| Error::INTERNAL_ERROR)?);
        Ok(bytes)
    }

    /// # Errors
    /// `ERROR_INVALID_DATA` (13).
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse(bytes).ok_or(Error::INVALID_DATA)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, pipe) = bytes.split_first_chunk::<HEADER>()?;
        let (words, _) = header.as_chunks();
        let words = <[[u8; 4]; 9]>::try_from(words).ok()?;
        let [magic, kinds, access, pids @ .., holder, from] = words.map(u32::from_le_bytes);
        let [client_pid, server_pid, client_session, server_session] = pids;
        if magic != MAGIC || kinds & 0xFFFF != u32::from(VERSION) {
            return None;
        }
        let kind = match kinds >> 16 {
            0 => Kind::Client,
            1 => Kind::Server,
            2 => Kind::Reader,
            3 => Kind::Writer,
            _ => return None,
        };
        let Ok(Reply::Opened(pipe)) = Reply::decode(pipe) else {
            return None;
        };
        let quotas = pipe.quotas;
        let rings = (
            ring_capacity(quotas.inbound),
            ring_capacity(quotas.outbound),
        );
        let this = Self {
            kind,
            access: Access::from_bits(access),
            client: Party {
                pid: client_pid,
                session: client_session,
            },
            server: Party {
                pid: server_pid,
                session: server_session,
            },
            holder: HolderId::from_u32(holder)?,
            from: HolderId::from_u32(from)?,
            pipe,
        };
        ((this.pipe.inbound_ring, this.pipe.outbound_ring) == rings).then_some(this)
    }

    /// What the end may do.
    pub(crate) fn terms(&self) -> Terms {
        let (direction, quotas) = (self.pipe.direction, self.pipe.quotas);
        let (end, reads, writes) = match self.kind {
            Kind::Client => (
                End::Client,
                direction.client_reads() && self.access.contains(Access::READ_DATA),
                direction.client_writes() && self.access.contains(Access::WRITE_DATA),
            ),
            Kind::Server => (
                End::Server,
                direction.server_reads(),
                direction.server_writes(),
            ),
            Kind::Reader => (End::Server, true, false),
            Kind::Writer => (End::Client, false, true),
        };
        let (read, write) = match end {
            End::Server => (quotas.inbound, quotas.outbound),
            End::Client => (quotas.outbound, quotas.inbound),
        };
        Terms {
            end,
            pipe_type: self.pipe.pipe_type,
            direction,
            access: self.access,
            reads: reads.then_some(read),
            writes: writes.then_some(write),
        }
    }

    /// The rings of the end's memory and of its peer's.
    pub(crate) fn capacities(&self) -> Capacities {
        let (inbound, outbound) = (self.pipe.inbound_ring, self.pipe.outbound_ring);
        match self.terms().end {
            End::Server => Capacities {
                own: outbound,
                peer: inbound,
            },
            End::Client => Capacities {
                own: inbound,
                peer: outbound,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use ntpipe_proto::{Direction, MaxInstances, PipeType, Quotas};

    use super::*;

    fn description(kind: Kind) -> Description {
        let holder = |n| HolderId::from_u32(n).unwrap();
        let quotas = Quotas {
            inbound: 100,
            outbound: 70_000,
        };
        Description {
            kind,
            access: Access::GENERIC_READ,
            client: Party {
                pid: 12,
                session: 1,
            },
            server: Party {
                pid: 13,
                session: 2,
            },
            holder: holder(0x102),
            from: holder(1),
            pipe: Opened {
                pipe_type: PipeType::Message,
                direction: Direction::Duplex,
                instance: 4,
                max_instances: MaxInstances::UNLIMITED,
                quotas,
                inbound_ring: ring_capacity(quotas.inbound),
                outbound_ring: ring_capacity(quotas.outbound),
                server_pid: 13,
                spelling: "Name".to_owned(),
            },
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for kind in [Kind::Client, Kind::Server, Kind::Reader, Kind::Writer] {
            let description = description(kind);
            let bytes = description.encode().unwrap();
            assert_eq!(Description::decode(&bytes), Ok(description));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = description(Kind::Client).encode().unwrap();
        for len in 0..bytes.len() {
            assert!(Description::decode(&bytes[..len]).is_err());
        }
        for at in [0, 4, 6, 28, 32] {
            let mut bytes = bytes.clone();
            bytes[at..at + 2].fill(0xFF);
            bytes[at + 1] = 0;
            bytes[at] = match at {
                // No holder's place.
                28 | 32 => 0,
                _ => 0xFF,
            };
            assert!(Description::decode(&bytes).is_err(), "at {at}");
        }
        let mut other = description(Kind::Client);
        other.pipe.inbound_ring *= 2;
        assert!(Description::decode(&other.encode().unwrap()).is_err());
    }

    #[test]
    fn the_terms_are_those_of_the_end() {
        let terms = |kind| {
            let terms = description(kind).terms();
            (terms.end, terms.reads, terms.writes)
        };
        assert_eq!(terms(Kind::Server), (End::Server, Some(100), Some(70_000)));
        assert_eq!(terms(Kind::Reader), (End::Server, Some(100), None));
        assert_eq!(terms(Kind::Writer), (End::Client, None, Some(100)));
    }
}
