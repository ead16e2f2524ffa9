//! Values as bytes, and back with every length and number checked.

use core::num::NonZeroU32;

use super::{DecodeError, Info, MAX_MESSAGE, MAX_NAME, Opened};
use crate::server::{FirstInstance, InstanceOptions, NameInfo, Quotas};
use crate::{
    Access, DefaultTimeout, Direction, Error, MaxInstances, PipeType, Status, WaitTimeout,
};

/// A value that a message can hold.
pub(super) trait Codec: Sized {
    /// Appends it; only a text can be refused, by `ERROR_INVALID_NAME` (123).
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Takes it off the front; `what` names it if it itself is wrong, not one of its parts.
    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError>;
}

/// What is left of a message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        if datagram.len() > MAX_MESSAGE {
            return Err(DecodeError {
                what: "length",
                offset: MAX_MESSAGE,
            });
        }
        Ok(Self {
            rest: datagram,
            offset: 0,
        })
    }

    pub(super) fn read<T: Codec>(&mut self, what: &'static str) -> Result<T, DecodeError> {
        T::decode(self, what)
    }

    /// Reads a value that is refused unless `valid`.
    pub(super) fn read_if<T: Codec>(
        &mut self,
        what: &'static str,
        valid: impl FnOnce(&T) -> bool,
    ) -> Result<T, DecodeError> {
        self.read_map(what, |value| valid(&value).then_some(value))
    }

    /// Reads a value that stands for another one, if it stands for any.
    fn read_map<T: Codec, U>(
        &mut self,
        what: &'static str,
        meaning: impl FnOnce(T) -> Option<U>,
    ) -> Result<U, DecodeError> {
        let offset = self.offset;
        meaning(self.read(what)?).ok_or(DecodeError { what, offset })
    }

    /// Refuses what is left over.
    pub(super) const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError {
            what: "end",
            offset: self.offset,
        })
    }

    /// The one place that takes bytes off, and so the one that checks that they are there.
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let offset = self.offset;
        let short = DecodeError { what, offset };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        self.offset += len;
        Ok(taken)
    }
}

macro_rules! codec_for_integers {
    ($($integer:ty),*) => {
        $(impl Codec for $integer {
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
                out.extend_from_slice(&self.to_le_bytes());
                Ok(())
            }

            fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
                let mut bytes = [0; size_of::<Self>()];
                bytes.copy_from_slice(reader.take(size_of::<Self>(), what)?);
                Ok(Self::from_le_bytes(bytes))
            }
        })*
    };
}

codec_for_integers!(u8, u16, u32, u64);

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let len = u16::try_from(self.len()).map_err(|_| Error::INVALID_NAME)?;
        if self.len() > MAX_NAME {
            return Err(Error::INVALID_NAME);
        }
        len.encode(out)?;
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        let len = reader.read_if(what, |len: &u16| usize::from(*len) <= MAX_NAME)?;
        let offset = reader.offset;
        let text = str::from_utf8(reader.take(usize::from(len), what)?);
        Ok(text.map_err(|_| DecodeError { what, offset })?.to_owned())
    }
}

impl Codec for Access {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.bits().encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        Ok(Self::from_bits(reader.read(what)?))
    }
}

impl Codec for WaitTimeout {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.millis().encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        Ok(Self::from_millis(reader.read(what)?))
    }
}

impl Codec for DefaultTimeout {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.millis().encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        // A name's timeout is never the 0 that stands for another number.
        let millis = reader.read_if(what, |millis| *millis != 0)?;
        Ok(Self::from_millis(millis))
    }
}

impl Codec for PipeType {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let number: u8 = match self {
            Self::Byte => 0,
            Self::Message => 1,
        };
        number.encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        reader.read_map(what, |number: u8| match number {
            0 => Some(Self::Byte),
            1 => Some(Self::Message),
            _ => None,
        })
    }
}

impl Codec for Direction {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let number: u8 = match self {
            Self::Inbound => 0,
            Self::Outbound => 1,
            Self::Duplex => 2,
        };
        number.encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        reader.read_map(what, |number: u8| match number {
            0 => Some(Self::Inbound),
            1 => Some(Self::Outbound),
            2 => Some(Self::Duplex),
            _ => None,
        })
    }
}

impl Codec for MaxInstances {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.get().encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        reader.read_map(what, |count| Self::new(count).ok())
    }
}

impl Codec for FirstInstance {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let number: u8 = match self {
            Self::NotRequired => 0,
            Self::Required => 1,
        };
        number.encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        reader.read_map(what, |number: u8| match number {
            0 => Some(Self::NotRequired),
            1 => Some(Self::Required),
            _ => None,
        })
    }
}

/// 0, or 1 and the number.
impl Codec for Option<u64> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            None => 0_u8.encode(out),
            Some(number) => {
                1_u8.encode(out)?;
                number.encode(out)
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        match reader.read_if(what, |number: &u8| *number <= 1)? {
            0 => Ok(None),
            _ => reader.read(what).map(Some),
        }
    }
}

/// The code, and the status behind it or 0.
impl Codec for Error {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Self> {
        self.code().encode(out)?;
        self.status().map_or(0, Status::code).encode(out)
    }

    fn decode(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        let bare = reader.read_map(what, NonZeroU32::new)?;
        let bare = Self::from_code(bare);
        reader.read_map("status", |status| match Status::from_code(status) {
            None => Some(bare),
            Some(status) => Some(status.error()).filter(|error| *error == bare),
        })
    }
}

/// Makes the codec of a struct from its fields in the order of the wire.
macro_rules! codec_for_structs {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl Codec for $name {
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
                $(self.$field.encode(out)?;)*
                Ok(())
            }

            fn decode(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
                Ok(Self { $($field: reader.read(stringify!($field))?),* })
            }
        })*
    };
}

codec_for_structs! {
    Quotas { inbound, outbound }
    InstanceOptions { direction, pipe_type, max_instances, quotas, default_timeout, first }
    NameInfo { pipe_type, direction, max_instances, instances, listening, default_timeout }
    Opened {
        pipe_type, direction, instance, max_instances, quotas, inbound_ring, outbound_ring,
        server_pid, spelling
    }
    Info { pipe, quotas, server_pid, spelling }
}
