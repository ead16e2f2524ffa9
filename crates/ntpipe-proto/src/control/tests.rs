use core::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::{DefaultTimeout, Status};

fn requests() -> [Request; 4] {
    [
        Request::Open {
            access: Access::from_bits(0x0012_019F),
            qos: 0x0011_0000,
            name: "AB".to_owned(),
        },
        Request::Attach,
        Request::Wait {
            timeout: WaitTimeout::from_millis(0x0102),
            name: "AÄ".to_owned(),
        },
        Request::Query {
            name: String::new(),
        },
    ]
}

fn replies() -> [Reply; 6] {
    [
        Reply::Opened(Opened {
            pipe_type: PipeType::Message,
            direction: Direction::Duplex,
            instance: 0x0102_0304_0506_0708,
            max_instances: MaxInstances::UNLIMITED,
            quotas: QUOTAS,
            inbound_ring: 0x1_0000,
            outbound_ring: 0x1_0000_0000,
            server_pid: 4711,
            spelling: "aB".to_owned(),
        }),
        Reply::Refused {
            error: Status::PIPE_NOT_AVAILABLE.error(),
        },
        Reply::Ready,
        Reply::Info(Info {
            pipe: NameInfo {
                pipe_type: PipeType::Byte,
                direction: Direction::Outbound,
                max_instances: MaxInstances::new(7).unwrap(),
                instances: 3,
                listening: 2,
                default_timeout: DefaultTimeout::from_millis(0),
            },
            quotas: QUOTAS,
            server_pid: 4711,
            spelling: "aB".to_owned(),
        }),
        Reply::HandedOver(Opened {
            pipe_type: PipeType::Byte,
            direction: Direction::Inbound,
            instance: 1,
            max_instances: MaxInstances::new(7).unwrap(),
            quotas: QUOTAS,
            inbound_ring: 0x1_0000,
            outbound_ring: 0x1_0000,
            server_pid: 4711,
            spelling: "aB".to_owned(),
        }),
        Reply::Connected(Opened {
            pipe_type: PipeType::Byte,
            direction: Direction::Inbound,
            instance: 1,
            max_instances: MaxInstances::new(7).unwrap(),
            quotas: QUOTAS,
            inbound_ring: 0x1_0000,
            outbound_ring: 0x1_0000,
            server_pid: 4711,
            spelling: "aB".to_owned(),
        }),
    ]
}

const QUOTAS: Quotas = Quotas {
    inbound: 0x0A0B,
    outbound: 0x0C0D,
};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect()
}

/// The wire format: whoever changes a line here has to change `VERSION`.
#[test]
fn the_bytes_of_the_requests_are_these() {
    let golden = [
        "4e545031 0100 0100  9f011200 00001100 0200 4142",
        "4e545031 0100 0200",
        "4e545031 0100 0300  02010000 0300 41c384",
        "4e545031 0100 0400  0000",
    ];
    for (request, hex) in requests().into_iter().zip(golden) {
        assert_eq!(request.encode().unwrap(), bytes(hex), "{request:?}");
        assert_eq!(Request::decode(&bytes(hex)), Ok(request));
    }
}

/// The wire format: whoever changes a line here has to change `VERSION`.
#[test]
fn the_bytes_of_the_replies_are_these() {
    let golden = [
        "4e545031 0100 1000  01 02 0807060504030201 ff000000 0b0a0000 0d0c0000 \
         0000010000000000 0000000001000000 67120000 0200 6142",
        "4e545031 0100 1100  e7000000 ac0000c0",
        "4e545031 0100 1200",
        "4e545031 0100 1300  00 01 07000000 03000000 02000000 32000000 0b0a0000 0d0c0000 \
         67120000 0200 6142",
        "4e545031 0100 1400  00 00 0100000000000000 07000000 0b0a0000 0d0c0000 \
         0000010000000000 0000010000000000 67120000 0200 6142",
        "4e545031 0100 1500  00 00 0100000000000000 07000000 0b0a0000 0d0c0000 \
         0000010000000000 0000010000000000 67120000 0200 6142",
    ];
    for (reply, hex) in replies().into_iter().zip(golden) {
        assert_eq!(reply.encode().unwrap(), bytes(hex), "{reply:?}");
        assert_eq!(Reply::decode(&bytes(hex)), Ok(reply));
    }
}

#[test]
fn every_cut_and_every_byte_too_many_is_refused() {
    for whole in requests().map(|request| request.encode().unwrap()) {
        for cut in 0..whole.len() {
            assert!(Request::decode(&whole[..cut]).is_err(), "{whole:?} {cut}");
        }
        let longer = [&whole[..], &[0]].concat();
        let error = DecodeError {
            what: "end",
            offset: whole.len(),
        };
        assert_eq!(Request::decode(&longer), Err(error));
    }
    for whole in replies().map(|reply| reply.encode().unwrap()) {
        for cut in 0..whole.len() {
            assert!(Reply::decode(&whole[..cut]).is_err(), "{whole:?} {cut}");
        }
        assert!(Reply::decode(&[&whole[..], &[0]].concat()).is_err());
    }
}

#[test]
fn a_request_is_no_reply() {
    for request in requests() {
        let reply = Reply::decode(&request.encode().unwrap());
        assert_eq!(reply, Err(UNKNOWN_KIND));
    }
    for reply in replies() {
        let request = Request::decode(&reply.encode().unwrap());
        assert_eq!(request, Err(UNKNOWN_KIND));
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let opened = replies()[0].encode().unwrap();
    let refused = replies()[1].encode().unwrap();
    let info = replies()[3].encode().unwrap();
    let rows = [
        (&refused, 0, 0, ("magic", 0)),
        (&refused, 4, 2, ("version", 4)),
        (&refused, 6, 32, ("kind", 6)),
        (&refused, 8, 0, ("error", 8)),
        (&refused, 12, 1, ("status", 12)),
        (&opened, 8, 2, ("pipe_type", 8)),
        (&opened, 9, 3, ("direction", 9)),
        (&opened, 18, 0, ("max_instances", 18)),
        (&opened, 19, 1, ("max_instances", 18)),
        (&opened, 51, 1, ("spelling", 52)),
        (&opened, 51, 3, ("spelling", 50)),
        (&opened, 53, 0x80, ("spelling", 52)),
        (&info, 22, 0, ("default_timeout", 22)),
    ];
    for (good, at, byte, (what, offset)) in rows {
        let mut bad = good.clone();
        bad[at] = byte;
        let expected = DecodeError { what, offset };
        assert_eq!(Reply::decode(&bad), Err(expected), "{at}");
    }
    let error = DecodeError {
        what: "status",
        offset: 12,
    };
    assert_eq!(
        error.to_string(),
        "bad status at byte 12 of a control message"
    );
    assert_eq!(Error::from(error), Error::INVALID_DATA);
}

#[test]
fn a_bare_error_and_an_unknown_one_pass() {
    for code in [1, 231, 4711, u32::MAX] {
        let error = Error::from_code(NonZeroU32::new(code).unwrap());
        let message = Reply::Refused { error }.encode().unwrap();
        let Ok(Reply::Refused { error }) = Reply::decode(&message) else {
            panic!("{code} does not come back");
        };
        assert_eq!((error.code(), error.status()), (code, None));
    }
}

#[test]
fn the_status_behind_an_error_passes() {
    let error = Status::PIPE_EMPTY.error();
    let message = Reply::Refused { error }.encode().unwrap();
    let Ok(Reply::Refused { error }) = Reply::decode(&message) else {
        panic!("the error does not come back");
    };
    assert_eq!(error.status(), Some(Status::PIPE_EMPTY));
}

#[test]
fn the_longest_name_fits_into_every_message() {
    let name = "€".repeat(256);
    assert_eq!(name.len(), MAX_NAME);
    let too_long = format!("{name}x");
    let endless = "x".repeat(70_000);
    let query = |name: &str| Request::Query {
        name: name.to_owned(),
    };
    for refused in [&too_long, &endless] {
        let refused = query(refused).encode();
        assert_eq!(refused, Err(Error::INVALID_NAME));
    }
    for reply in replies() {
        let reply = match reply {
            Reply::Opened(opened) => Reply::Opened(Opened {
                spelling: name.clone(),
                ..opened
            }),
            Reply::Connected(opened) => Reply::Connected(Opened {
                spelling: name.clone(),
                ..opened
            }),
            Reply::HandedOver(opened) => Reply::HandedOver(Opened {
                spelling: name.clone(),
                ..opened
            }),
            Reply::Info(info) => Reply::Info(Info {
                spelling: name.clone(),
                ..info
            }),
            Reply::Refused { .. } | Reply::Ready => reply,
        };
        let message = reply.encode().unwrap();
        assert!(message.len() <= MAX_MESSAGE);
        assert_eq!(Reply::decode(&message), Ok(reply));
    }
    let message = query(&name).encode().unwrap();
    assert_eq!(Request::decode(&message), Ok(query(&name)));
    let mut longer = bytes("4e545031 0100 0400 0103");
    longer.resize(10 + MAX_NAME + 1, b'x');
    let what = "name";
    let expected = DecodeError { what, offset: 8 };
    assert_eq!(Request::decode(&longer), Err(expected));
}

#[test]
fn a_datagram_beyond_the_limit_is_not_looked_at() {
    let expected = DecodeError {
        what: "length",
        offset: MAX_MESSAGE,
    };
    let datagram = vec![0; MAX_MESSAGE + 1];
    assert_eq!(Request::decode(&datagram), Err(expected));
    assert_eq!(Reply::decode(&datagram), Err(expected));
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..=MAX_NAME / 4).prop_map(String::from_iter)
}

fn request() -> impl Strategy<Value = Request> {
    let open = (any::<u32>(), any::<u32>(), name()).prop_map(|(access, qos, name)| Request::Open {
        access: Access::from_bits(access),
        qos,
        name,
    });
    let wait = (any::<u32>(), name()).prop_map(|(millis, name)| Request::Wait {
        timeout: WaitTimeout::from_millis(millis),
        name,
    });
    let query = name().prop_map(|name| Request::Query { name });
    prop_oneof![open, Just(Request::Attach), wait, query]
}

fn pipe_type() -> impl Strategy<Value = PipeType> {
    prop_oneof![Just(PipeType::Byte), Just(PipeType::Message)]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::Inbound),
        Just(Direction::Outbound),
        Just(Direction::Duplex)
    ]
}

fn max_instances() -> impl Strategy<Value = MaxInstances> {
    (1..=255_u32).prop_map(|count| MaxInstances::new(count).unwrap())
}

fn quotas() -> impl Strategy<Value = Quotas> {
    any::<(u32, u32)>().prop_map(|(inbound, outbound)| Quotas { inbound, outbound })
}

fn opened() -> impl Strategy<Value = Opened> {
    let fixed = (pipe_type(), direction(), max_instances(), quotas());
    let numbers = any::<(u64, u64, u64, u32)>();
    (fixed, numbers, name()).prop_map(|(fixed, numbers, spelling)| Opened {
        pipe_type: fixed.0,
        direction: fixed.1,
        instance: numbers.0,
        max_instances: fixed.2,
        quotas: fixed.3,
        inbound_ring: numbers.1,
        outbound_ring: numbers.2,
        server_pid: numbers.3,
        spelling,
    })
}

fn info() -> impl Strategy<Value = Info> {
    let fixed = (pipe_type(), direction(), max_instances(), quotas());
    let numbers = any::<(u32, u32, u32, u32)>();
    (fixed, numbers, name()).prop_map(|(fixed, numbers, spelling)| Info {
        pipe: NameInfo {
            pipe_type: fixed.0,
            direction: fixed.1,
            max_instances: fixed.2,
            instances: numbers.0,
            listening: numbers.1,
            default_timeout: DefaultTimeout::from_millis(numbers.2),
        },
        quotas: fixed.3,
        server_pid: numbers.3,
        spelling,
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let refused = (1..=u32::MAX).prop_map(|code| Reply::Refused {
        error: Error::from_code(NonZeroU32::new(code).unwrap()),
    });
    prop_oneof![
        opened().prop_map(Reply::Opened),
        opened().prop_map(Reply::Connected),
        opened().prop_map(Reply::HandedOver),
        refused,
        Just(Reply::Ready),
        info().prop_map(Reply::Info)
    ]
}

/// Bytes of any kind, or a good message with some bytes changed.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..=MAX_MESSAGE + 8);
    let good = prop_oneof![
        request().prop_map(|request| request.encode().unwrap()),
        reply().prop_map(|reply| reply.encode().unwrap())
    ];
    let flips = prop::collection::vec((any::<usize>(), any::<u8>()), 0..4);
    let broken = (good, flips).prop_map(|(mut message, flips)| {
        for (at, byte) in flips {
            let at = at % message.len();
            message[at] = byte;
        }
        message
    });
    prop_oneof![any_bytes, broken]
}

/// How much of the heap a request takes.
fn request_size(request: &Request) -> usize {
    match request {
        Request::Open { name, .. } | Request::Wait { name, .. } | Request::Query { name } => {
            name.capacity()
        }
        Request::Attach => 0,
    }
}

/// How much of the heap a reply takes.
fn reply_size(reply: &Reply) -> usize {
    match reply {
        Reply::Opened(Opened { spelling, .. })
        | Reply::Connected(Opened { spelling, .. })
        | Reply::HandedOver(Opened { spelling, .. })
        | Reply::Info(Info { spelling, .. }) => spelling.capacity(),
        Reply::Refused { .. } | Reply::Ready => 0,
    }
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were(request in request()) {
        let message = request.encode().unwrap();
        prop_assert!(message.len() <= MAX_MESSAGE);
        prop_assert_eq!(Request::decode(&message), Ok(request));
    }

    #[test]
    fn replies_come_back_as_they_were(reply in reply()) {
        let message = reply.encode().unwrap();
        prop_assert!(message.len() <= MAX_MESSAGE);
        prop_assert_eq!(Reply::decode(&message), Ok(reply));
    }

    /// There is one way to write a message, so that what is understood can be written again.
    #[test]
    fn garbage_is_refused_or_means_what_it_says(datagram in garbage()) {
        if let Ok(request) = Request::decode(&datagram) {
            prop_assert!(request_size(&request) <= datagram.len());
            prop_assert_eq!(request.encode().unwrap(), &datagram[..]);
        }
        match Reply::decode(&datagram) {
            Ok(reply) => {
                prop_assert!(reply_size(&reply) <= datagram.len());
                prop_assert_eq!(reply.encode().unwrap(), &datagram[..]);
            }
            Err(error) => prop_assert!(error.offset <= datagram.len()),
        }
    }
}
