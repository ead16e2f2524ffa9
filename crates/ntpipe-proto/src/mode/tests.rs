use super::*;

const DIRECTIONS: [Direction; 3] = [Direction::Inbound, Direction::Outbound, Direction::Duplex];

const PLAIN: ServerMode = ServerMode {
    direction: Direction::Duplex,
    first_instance: false,
    overlapped: false,
    write_through: false,
    extra_access: Access::NONE,
    pipe_type: PipeType::Byte,
    read_mode: ReadMode::Byte,
    wait_mode: WaitMode::Wait,
    reject_remote: false,
};

#[test]
fn directions_say_who_reads_and_who_writes() {
    let rows = DIRECTIONS.map(|d| {
        (
            d.server_reads(),
            d.server_writes(),
            d.client_reads(),
            d.client_writes(),
            d.bits(),
        )
    });
    let expected = [
        (true, false, false, true, 1),
        (false, true, true, false, 2),
        (true, true, true, true, 3),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn ends_are_each_others_peer() {
    assert_eq!(
        (End::Server.peer(), End::Client.peer()),
        (End::Client, End::Server)
    );
    assert_eq!((End::Server.bits(), End::Client.bits()), (1, 0));
}

#[test]
fn only_a_byte_pipe_forbids_a_read_mode() {
    assert!(PipeType::Byte.allows(ReadMode::Byte));
    assert!(!PipeType::Byte.allows(ReadMode::Message));
    assert!(PipeType::Message.allows(ReadMode::Byte));
    assert!(PipeType::Message.allows(ReadMode::Message));
}

#[test]
fn the_number_of_instances_is_1_to_254_or_unlimited() {
    for refused in [0, 256, 257, u32::MAX] {
        assert_eq!(
            MaxInstances::new(refused),
            Err(Error::INVALID_PARAMETER),
            "{refused}"
        );
    }
    for count in [1, 2, 254] {
        let max = MaxInstances::new(count).unwrap();
        assert_eq!(max.get(), count);
        assert!(max.allows(0) && max.allows(count - 1));
        assert!(!max.allows(count) && !max.allows(u32::MAX));
    }
    let unlimited = MaxInstances::new(255).unwrap();
    assert_eq!((unlimited, unlimited.get()), (MaxInstances::UNLIMITED, 255));
    assert!(unlimited.allows(255) && unlimited.allows(u32::MAX));
}

#[test]
fn the_default_timeout_has_two_special_numbers() {
    let ms = |millis| DefaultTimeout::After(Duration::from_millis(millis));
    assert_eq!(DefaultTimeout::from_millis(0), ms(50));
    assert_eq!(DefaultTimeout::default(), ms(50));
    assert_eq!(DefaultTimeout::from_millis(1), ms(1));
    assert_eq!(DefaultTimeout::from_millis(0xFFFF_FFFE), ms(0xFFFF_FFFE));
    assert_eq!(
        DefaultTimeout::from_millis(0xFFFF_FFFF),
        DefaultTimeout::Forever
    );
    assert_eq!(ms(7).duration(), Some(Duration::from_millis(7)));
    assert_eq!(DefaultTimeout::Forever.duration(), None);
}

#[test]
fn a_wait_can_leave_the_time_to_the_pipe() {
    let seven = DefaultTimeout::from_millis(7);
    let wait = |millis| WaitTimeout::from_millis(millis).duration(seven);
    assert_eq!(WaitTimeout::from_millis(0), WaitTimeout::Default);
    assert_eq!(wait(0), Some(Duration::from_millis(7)));
    assert_eq!(wait(1), Some(Duration::from_millis(1)));
    assert_eq!(wait(20_000), Some(Duration::from_secs(20)));
    assert_eq!(wait(0xFFFF_FFFF), None);
    assert_eq!(WaitTimeout::Default.duration(DefaultTimeout::Forever), None);
}

#[test]
fn timeouts_are_written_as_they_were_read() {
    for millis in [1, 2, 50, 0xFFFF_FFFE, 0xFFFF_FFFF] {
        assert_eq!(WaitTimeout::from_millis(millis).millis(), millis);
        assert_eq!(DefaultTimeout::from_millis(millis).millis(), millis);
    }
    assert_eq!(WaitTimeout::from_millis(0).millis(), 0);
    assert_eq!(DefaultTimeout::from_millis(0).millis(), 50);
}

#[test]
fn a_time_is_rounded_up_and_never_becomes_a_special_number() {
    for (time, millis) in [
        (Duration::ZERO, 1),
        (Duration::from_nanos(1), 1),
        (Duration::from_micros(1001), 2),
        (Duration::from_millis(0xFFFF_FFFF), 0xFFFF_FFFE),
        (Duration::MAX, 0xFFFF_FFFE),
    ] {
        assert_eq!(WaitTimeout::After(time).millis(), millis);
        assert_eq!(DefaultTimeout::After(time).millis(), millis);
    }
}

#[test]
fn the_composed_rights_are_the_sum_of_their_parts() {
    let both = Access::READ_CONTROL | Access::SYNCHRONIZE;
    let read = Access::READ_DATA | Access::READ_EA | Access::READ_ATTRIBUTES;
    let write =
        Access::WRITE_DATA | Access::APPEND_DATA | Access::WRITE_EA | Access::WRITE_ATTRIBUTES;
    let standard = Access::DELETE | both | Access::WRITE_DAC | Access::WRITE_OWNER;
    let execute = Access::EXECUTE | Access::READ_ATTRIBUTES;
    assert_eq!(Access::FILE_GENERIC_READ, read | both);
    assert_eq!(Access::FILE_GENERIC_WRITE, write | both);
    assert_eq!(Access::FILE_GENERIC_EXECUTE, execute | both);
    assert_eq!(
        Access::ALL_ACCESS,
        read | write | execute | Access::DELETE_CHILD | standard
    );
}

#[test]
fn generic_rights_are_mapped_and_others_kept() {
    let rows = [
        (Access::NONE, 0),
        (Access::GENERIC_READ, 0x0012_0089),
        (Access::GENERIC_WRITE, 0x0012_0116),
        (Access::GENERIC_EXECUTE, 0x0012_00A0),
        (Access::GENERIC_ALL, 0x001F_01FF),
        (Access::GENERIC_READ | Access::GENERIC_WRITE, 0x0012_019F),
        (Access::GENERIC_READ | Access::MAXIMUM_ALLOWED, 0x0212_0089),
        (Access::READ_DATA | Access::WRITE_DAC, 0x0004_0001),
    ];
    for (access, mapped) in rows {
        assert_eq!(access.map_generic().bits(), mapped, "{access:?}");
    }
}

#[test]
fn the_granted_masks_are_those_seen_on_windows() {
    let server = DIRECTIONS.map(|direction| Access::granted_to_server(direction).bits());
    assert_eq!(server, [0x0012_0089, 0x0012_0116, 0x0012_019F]);
    assert_eq!(Access::ANONYMOUS_READ_END.bits(), 0x0012_0189);
    assert_eq!(Access::ANONYMOUS_WRITE_END.bits(), 0x0012_0196);
    assert_eq!(
        Access::requested_by_client(Access::NONE).bits(),
        0x0010_0080
    );
    assert_eq!(
        Access::requested_by_client(Access::ALL_ACCESS).bits(),
        0x001F_01FF
    );
    assert_eq!(
        Access::requested_by_client(Access::GENERIC_WRITE).bits(),
        0x0012_0196
    );
}

#[test]
fn a_client_can_only_ask_for_the_directions_there_are() {
    let fits = |access: Access| DIRECTIONS.map(|direction| access.fits_client(direction));
    assert_eq!(fits(Access::NONE), [true; 3]);
    assert_eq!(fits(Access::FILE_GENERIC_READ), [false, true, true]);
    assert_eq!(fits(Access::FILE_GENERIC_WRITE), [true, false, true]);
    assert_eq!(fits(Access::ALL_ACCESS), [false, false, true]);
}

#[test]
fn access_is_a_set() {
    let set = Access::READ_DATA | Access::WRITE_DATA;
    assert!(set.contains(Access::NONE) && set.contains(Access::READ_DATA) && set.contains(set));
    assert!(!Access::READ_DATA.contains(set) && Access::READ_DATA.intersects(set));
    assert!(!set.intersects(Access::CREATE_PIPE_INSTANCE));
    assert_eq!(set.without(Access::READ_DATA), Access::WRITE_DATA);
    assert_eq!(set & Access::WRITE_DATA, Access::WRITE_DATA);
    assert!(Access::NONE.is_empty() && !set.is_empty());
    assert_eq!(Access::from_bits(set.bits()), set);
    assert_eq!(format!("{set:?}"), "Access(0x00000003)");
}

#[test]
fn each_flag_sets_its_field() {
    let message = ServerMode {
        pipe_type: PipeType::Message,
        ..PLAIN
    };
    let rows = [
        (
            0x1,
            0,
            ServerMode {
                direction: Direction::Inbound,
                ..PLAIN
            },
        ),
        (
            0x2,
            0,
            ServerMode {
                direction: Direction::Outbound,
                ..PLAIN
            },
        ),
        (0x3, 0, PLAIN),
        (
            0x4000_0003,
            0,
            ServerMode {
                overlapped: true,
                ..PLAIN
            },
        ),
        (
            0x8000_0003,
            0,
            ServerMode {
                write_through: true,
                ..PLAIN
            },
        ),
        (
            0x0004_0003,
            0,
            ServerMode {
                extra_access: Access::WRITE_DAC,
                ..PLAIN
            },
        ),
        (
            0x0100_0003,
            0,
            ServerMode {
                extra_access: Access::ACCESS_SYSTEM_SECURITY,
                ..PLAIN
            },
        ),
        (
            0x0008_0003,
            0,
            ServerMode {
                first_instance: true,
                extra_access: Access::WRITE_OWNER,
                ..PLAIN
            },
        ),
        (
            0x3,
            0x1,
            ServerMode {
                wait_mode: WaitMode::NoWait,
                ..PLAIN
            },
        ),
        (0x3, 0x4, message),
        (
            0x3,
            0x6,
            ServerMode {
                read_mode: ReadMode::Message,
                ..message
            },
        ),
        (
            0x3,
            0x8,
            ServerMode {
                reject_remote: true,
                ..PLAIN
            },
        ),
    ];
    for (open, pipe, mode) in rows {
        assert_eq!(
            ServerMode::from_flags(open, pipe),
            Ok(mode),
            "{open:#x} {pipe:#x}"
        );
        assert_eq!((mode.open_mode(), mode.pipe_mode()), (open, pipe));
    }
}

#[test]
fn first_instance_and_write_owner_are_one_bit() {
    let first = ServerMode {
        first_instance: true,
        ..PLAIN
    };
    let owner = ServerMode {
        extra_access: Access::WRITE_OWNER,
        ..PLAIN
    };
    let both = ServerMode {
        first_instance: true,
        ..owner
    };
    for mode in [first, owner, both] {
        assert_eq!(
            ServerMode::from_flags(mode.open_mode(), mode.pipe_mode()),
            Ok(both)
        );
    }
}

#[test]
fn every_bit_of_the_open_mode_is_known_or_refused() {
    let known = [0, 1, 18, 19, 24, 30, 31];
    for bit in 0..32 {
        let result = ServerMode::from_flags(1 << bit | 0x1, 0);
        assert_eq!(result.is_ok(), known.contains(&bit), "bit {bit}");
        assert_eq!(result.is_err(), result == Err(Error::INVALID_PARAMETER));
    }
}

#[test]
fn every_bit_of_the_pipe_mode_is_known_or_refused() {
    for bit in 0..32 {
        let result = ServerMode::from_flags(0x3, 1 << bit | 0x4);
        assert_eq!(result.is_ok(), bit < 4, "bit {bit}");
        assert_eq!(result.is_err(), result == Err(Error::INVALID_PARAMETER));
    }
}

#[test]
fn a_pipe_without_direction_is_refused() {
    for open in [0, 0x4000_0000, 0x0008_0000, 0x4] {
        assert_eq!(
            ServerMode::from_flags(open, 0),
            Err(Error::INVALID_PARAMETER),
            "{open:#x}"
        );
    }
}

#[test]
fn a_byte_pipe_read_by_messages_is_refused() {
    for pipe in [0x2, 0x3, 0xA, 0xB] {
        assert_eq!(
            ServerMode::from_flags(0x3, pipe),
            Err(Error::INVALID_PARAMETER),
            "{pipe:#x}"
        );
    }
    let by_hand = ServerMode {
        read_mode: ReadMode::Message,
        ..PLAIN
    };
    assert_eq!(by_hand.check(), Err(Error::INVALID_PARAMETER));
    assert_eq!(PLAIN.check(), Ok(()));
}

#[test]
fn rights_beyond_those_of_the_open_mode_are_refused() {
    let by_hand = ServerMode {
        extra_access: Access::DELETE,
        ..PLAIN
    };
    assert_eq!(by_hand.check(), Err(Error::INVALID_PARAMETER));
}

#[test]
fn the_rights_asked_for_come_on_top_of_the_direction() {
    let mode = ServerMode::from_flags(0x0004_0001, 0).unwrap();
    assert_eq!(mode.granted_access().bits(), 0x0016_0089);
    assert_eq!(PLAIN.granted_access().bits(), 0x0012_019F);
}

#[test]
fn the_handle_state_has_two_bits() {
    let state = |read_mode, wait_mode| {
        Ok(PipeState {
            read_mode,
            wait_mode,
        })
    };
    let rows = [
        (0, Ok(PipeState::CLIENT)),
        (1, state(ReadMode::Byte, WaitMode::NoWait)),
        (2, state(ReadMode::Message, WaitMode::Wait)),
        (3, state(ReadMode::Message, WaitMode::NoWait)),
        (4, Err(Error::INVALID_PARAMETER)),
        (0x8000_0000, Err(Error::INVALID_PARAMETER)),
    ];
    for (bits, expected) in rows {
        assert_eq!(PipeState::from_bits(bits), expected, "{bits:#x}");
        if let Ok(state) = expected {
            assert_eq!(state.bits(), bits);
        }
    }
    assert_eq!(
        PipeState::CLIENT,
        PipeState {
            read_mode: ReadMode::Byte,
            wait_mode: WaitMode::Wait
        }
    );
}
