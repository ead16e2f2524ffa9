//! The messages between the owner of a name and the other processes that have instances of it.

use super::codec::Codec;
use super::{DecodeError, UNKNOWN_KIND, header, open_header};
use crate::server::{InstanceOptions, NameInfo, Quotas};
use crate::{Access, Error};

/// What a member tells the owner. Each has a number that the answer repeats, greater than all
/// before it, and names instances by numbers of the member's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// I want an instance, which listens. Answered by [`Answer::Admitted`] or [`Answer::Failed`].
    Create {
        /// The number of this message.
        turn: u64,
        /// The instance.
        instance: u64,
        /// When it began to listen.
        place: u64,
        /// What it is to be.
        options: InstanceOptions,
        /// The name, folded.
        name: String,
    },
    /// I have this instance, from the time of another owner. All but the last three are answered by
    /// [`Answer::Done`] or [`Answer::Failed`].
    Resume {
        /// The number of this message.
        turn: u64,
        /// The instance.
        instance: u64,
        /// Since when it has been listening, if it does.
        place: Option<u64>,
        /// The properties of the name; the numbers of instances mean nothing.
        pipe: NameInfo,
        /// Its quotas.
        quotas: Quotas,
        /// The name, folded.
        name: String,
    },
    /// It listens again.
    Listen {
        /// The number of this message.
        turn: u64,
        /// The instance.
        instance: u64,
        /// Since when.
        place: u64,
    },
    /// It does not listen any more.
    Rest {
        /// The number of this message.
        turn: u64,
        /// The instance.
        instance: u64,
    },
    /// It is closed.
    Close {
        /// The number of this message.
        turn: u64,
        /// The instance.
        instance: u64,
    },
    /// It is closed, and another one listens in its stead.
    Replace {
        /// The number of this message.
        turn: u64,
        /// The instance.
        instance: u64,
        /// The other one.
        successor: u64,
        /// When that began to listen.
        place: u64,
    },
}

impl Notice {
    /// The message.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_NAME` (123) if the name has more than [`MAX_NAME`](super::MAX_NAME) bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let (kind, turn, instance) = match self {
            Self::Create { turn, instance, .. } => (KIND_CREATE, turn, instance),
            Self::Resume { turn, instance, .. } => (KIND_RESUME, turn, instance),
            Self::Listen { turn, instance, .. } => (KIND_LISTEN, turn, instance),
            Self::Rest { turn, instance } => (KIND_REST, turn, instance),
            Self::Close { turn, instance } => (KIND_CLOSE, turn, instance),
            Self::Replace { turn, instance, .. } => (KIND_REPLACE, turn, instance),
        };
        header(kind, &mut out)?;
        turn.encode(&mut out)?;
        instance.encode(&mut out)?;
        match self {
            Self::Create {
                place,
                options,
                name,
                ..
            } => {
                place.encode(&mut out)?;
                options.encode(&mut out)?;
                name.encode(&mut out)?;
            }
            Self::Resume {
                place,
                pipe,
                quotas,
                name,
                ..
            } => {
                place.encode(&mut out)?;
                pipe.encode(&mut out)?;
                quotas.encode(&mut out)?;
                name.encode(&mut out)?;
            }
            Self::Listen { place, .. } => place.encode(&mut out)?,
            Self::Rest { .. } | Self::Close { .. } => {}
            Self::Replace {
                successor, place, ..
            } => {
                successor.encode(&mut out)?;
                place.encode(&mut out)?;
            }
        }
        Ok(out)
    }

    /// The notice in a datagram.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is not exactly one notice of this version.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = open_header(datagram)?;
        if !(KIND_CREATE..=KIND_REPLACE).contains(&kind) {
            return Err(UNKNOWN_KIND);
        }
        let turn = reader.read("turn")?;
        let instance = reader.read("instance")?;
        let notice = match kind {
            KIND_CREATE => Self::Create {
                turn,
                instance,
                place: reader.read("place")?,
                options: reader.read("options")?,
                name: reader.read("name")?,
            },
            KIND_RESUME => Self::Resume {
                turn,
                instance,
                place: reader.read("place")?,
                pipe: reader.read("pipe")?,
                quotas: reader.read("quotas")?,
                name: reader.read("name")?,
            },
            KIND_LISTEN => Self::Listen {
                turn,
                instance,
                place: reader.read("place")?,
            },
            KIND_REST => Self::Rest { turn, instance },
            KIND_CLOSE => Self::Close { turn, instance },
            KIND_REPLACE => Self::Replace {
                turn,
                instance,
                successor: reader.read("successor")?,
                place: reader.read("place")?,
            },
            _ => return Err(UNKNOWN_KIND),
        };
        reader.finish()?;
        Ok(notice)
    }
}

/// What the owner tells a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Done {
        /// The notice that this answers.
        turn: u64,
    },
    /// It can't be.
    Failed {
        /// The notice that this answers.
        turn: u64,
        /// Why.
        error: Error,
    },
    /// The instance is there.
    Admitted {
        /// The notice that this answers.
        turn: u64,
        /// The instance.
        instance: u64,
        /// What the first instance has decided for all.
        pipe: NameInfo,
        /// The name in its first creator's spelling.
        spelling: String,
    },
    /// An instance has a client, whose socket comes beside this. Not answered.
    HandOver {
        /// The last notice that the owner had of the instance.
        turn: u64,
        /// The instance.
        instance: u64,
        /// What the client's handle is granted.
        access: Access,
        /// The security quality of service flags of the client.
        qos: u32,
    },
}

impl Answer {
    /// The message.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_NAME` (123) if the name has more than [`MAX_NAME`](super::MAX_NAME) bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        match self {
            Self::Done { turn } => {
                header(KIND_DONE, &mut out)?;
                turn.encode(&mut out)?;
            }
            Self::Failed { turn, error } => {
                header(KIND_FAILED, &mut out)?;
                turn.encode(&mut out)?;
                error.encode(&mut out)?;
            }
            Self::Admitted {
                turn,
                instance,
                pipe,
                spelling,
            } => {
                header(KIND_ADMITTED, &mut out)?;
                turn.encode(&mut out)?;
                instance.encode(&mut out)?;
                pipe.encode(&mut out)?;
                spelling.encode(&mut out)?;
            }
            Self::HandOver {
                turn,
                instance,
                access,
                qos,
            } => {
                header(KIND_HAND_OVER, &mut out)?;
                turn.encode(&mut out)?;
                instance.encode(&mut out)?;
                access.encode(&mut out)?;
                qos.encode(&mut out)?;
            }
        }
        Ok(out)
    }

    /// The answer in a datagram.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is not exactly one answer of this version.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = open_header(datagram)?;
        let answer = match kind {
            KIND_DONE => Self::Done {
                turn: reader.read("turn")?,
            },
            KIND_FAILED => Self::Failed {
                turn: reader.read("turn")?,
                error: reader.read("error")?,
            },
            KIND_ADMITTED => Self::Admitted {
                turn: reader.read("turn")?,
                instance: reader.read("instance")?,
                pipe: reader.read("pipe")?,
                spelling: reader.read("spelling")?,
            },
            KIND_HAND_OVER => Self::HandOver {
                turn: reader.read("turn")?,
                instance: reader.read("instance")?,
                access: reader.read("access")?,
                qos: reader.read("qos")?,
            },
            _ => return Err(UNKNOWN_KIND),
        };
        reader.finish()?;
        Ok(answer)
    }
}

const KIND_CREATE: u16 = 32;
const KIND_RESUME: u16 = 33;
const KIND_LISTEN: u16 = 34;
const KIND_REST: u16 = 35;
const KIND_CLOSE: u16 = 36;
const KIND_REPLACE: u16 = 37;

const KIND_DONE: u16 = 48;
const KIND_FAILED: u16 = 49;
const KIND_ADMITTED: u16 = 50;
const KIND_HAND_OVER: u16 = 51;

#[cfg(test)]
mod tests {
    use super::super::MAX_MESSAGE;
    use super::*;
    use crate::{DefaultTimeout, Direction, FirstInstance, MaxInstances, PipeType};

    const QUOTAS: Quotas = Quotas {
        inbound: 0x0A0B,
        outbound: 0x0C0D,
    };

    fn pipe() -> NameInfo {
        NameInfo {
            pipe_type: PipeType::Message,
            direction: Direction::Duplex,
            max_instances: MaxInstances::new(7).unwrap(),
            instances: 3,
            listening: 2,
            default_timeout: DefaultTimeout::from_millis(50),
        }
    }

    fn create(name: String) -> Notice {
        Notice::Create {
            turn: 1,
            instance: 2,
            place: 3,
            options: InstanceOptions {
                direction: Direction::Outbound,
                pipe_type: PipeType::Message,
                max_instances: MaxInstances::UNLIMITED,
                quotas: QUOTAS,
                default_timeout: DefaultTimeout::from_millis(50),
                first: FirstInstance::Required,
            },
            name,
        }
    }

    fn resume(place: Option<u64>) -> Notice {
        Notice::Resume {
            turn: 1,
            instance: 2,
            place,
            pipe: pipe(),
            quotas: QUOTAS,
            name: "AB".to_owned(),
        }
    }

    fn notices() -> [Notice; 7] {
        let (turn, instance, place, successor) = (1, 2, 3, 4);
        [
            create("AB".to_owned()),
            resume(Some(3)),
            resume(None),
            Notice::Listen {
                turn,
                instance,
                place,
            },
            Notice::Rest { turn, instance },
            Notice::Close { turn, instance },
            Notice::Replace {
                turn,
                instance,
                successor,
                place,
            },
        ]
    }

    fn answers() -> [Answer; 4] {
        let (turn, instance) = (1, 2);
        [
            Answer::Done { turn },
            Answer::Failed {
                turn,
                error: Error::PIPE_BUSY,
            },
            Answer::Admitted {
                turn,
                instance,
                pipe: pipe(),
                spelling: "aB".to_owned(),
            },
            Answer::HandOver {
                turn,
                instance,
                access: Access::from_bits(0x0012_019F),
                qos: 0x0011_0000,
            },
        ]
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits
            .chunks(2)
            .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
            .collect()
    }

    const ONE: &str = "0100000000000000";
    const TWO: &str = "0200000000000000";
    const THREE: &str = "0300000000000000";
    const FOUR: &str = "0400000000000000";

    /// The wire format: whoever changes a line here has to change `VERSION`.
    #[test]
    fn the_bytes_of_the_notices_are_these() {
        let pipe = "01 02 07000000 03000000 02000000 32000000";
        let quotas = "0b0a0000 0d0c0000";
        let golden = [
            format!("2000 {ONE}{TWO}{THREE} 01 01 ff000000 {quotas} 32000000 01 0200 4142"),
            format!("2100 {ONE}{TWO} 01 {THREE} {pipe} {quotas} 0200 4142"),
            format!("2100 {ONE}{TWO} 00 {pipe} {quotas} 0200 4142"),
            format!("2200 {ONE}{TWO}{THREE}"),
            format!("2300 {ONE}{TWO}"),
            format!("2400 {ONE}{TWO}"),
            format!("2500 {ONE}{TWO}{FOUR}{THREE}"),
        ];
        for (notice, hex) in notices().into_iter().zip(golden) {
            let whole = bytes(&format!("4e545031 0100 {hex}"));
            assert_eq!(notice.encode().unwrap(), whole, "{notice:?}");
            assert_eq!(Notice::decode(&whole), Ok(notice));
        }
    }

    /// The wire format: whoever changes a line here has to change `VERSION`.
    #[test]
    fn the_bytes_of_the_answers_are_these() {
        let pipe = "01 02 07000000 03000000 02000000 32000000";
        let golden = [
            format!("3000 {ONE}"),
            format!("3100 {ONE} e7000000 00000000"),
            format!("3200 {ONE}{TWO} {pipe} 0200 6142"),
            format!("3300 {ONE}{TWO} 9f011200 00001100"),
        ];
        for (answer, hex) in answers().into_iter().zip(golden) {
            let whole = bytes(&format!("4e545031 0100 {hex}"));
            assert_eq!(answer.encode().unwrap(), whole, "{answer:?}");
            assert_eq!(Answer::decode(&whole), Ok(answer));
        }
    }

    #[test]
    fn every_cut_and_every_byte_too_many_is_refused() {
        let notices = notices().map(|notice| notice.encode().unwrap());
        let answers = answers().map(|answer| answer.encode().unwrap());
        for whole in notices.iter().chain(&answers) {
            for cut in 0..whole.len() {
                assert!(Notice::decode(&whole[..cut]).is_err(), "{whole:?} {cut}");
                assert!(Answer::decode(&whole[..cut]).is_err(), "{whole:?} {cut}");
            }
            let longer = [&whole[..], &[0]].concat();
            assert!(Notice::decode(&longer).is_err());
            assert!(Answer::decode(&longer).is_err());
        }
    }

    /// Whatever byte is changed: it is refused, or is what it says.
    #[test]
    fn there_is_one_way_to_write_a_message() {
        let notices = notices().map(|notice| notice.encode().unwrap());
        let answers = answers().map(|answer| answer.encode().unwrap());
        for whole in notices.iter().chain(&answers) {
            for at in 0..whole.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = whole.clone();
                    changed[at] = byte;
                    if let Ok(notice) = Notice::decode(&changed) {
                        assert_eq!(notice.encode().unwrap(), changed);
                    }
                    if let Ok(answer) = Answer::decode(&changed) {
                        assert_eq!(answer.encode().unwrap(), changed);
                    }
                }
            }
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let longest = "x".repeat(super::super::MAX_NAME);
        let whole = create(longest).encode().unwrap();
        assert!(whole.len() <= MAX_MESSAGE);
        assert!(Notice::decode(&whole).is_ok());
        let longer = create("x".repeat(super::super::MAX_NAME + 1));
        assert_eq!(longer.encode(), Err(Error::INVALID_NAME));
    }
}
