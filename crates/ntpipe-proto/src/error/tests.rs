use std::collections::HashSet;
use std::io;

use super::status::ROWS as STATUSES;
use super::*;

/// Numbers as the headers of Windows have them, apart from the table on purpose.
const NUMBERS: &[(u32, &str, ErrorKind)] = &[
    (1, "ERROR_INVALID_FUNCTION", ErrorKind::Other),
    (2, "ERROR_FILE_NOT_FOUND", ErrorKind::NotFound),
    (3, "ERROR_PATH_NOT_FOUND", ErrorKind::NotFound),
    (5, "ERROR_ACCESS_DENIED", ErrorKind::PermissionDenied),
    (8, "ERROR_NOT_ENOUGH_MEMORY", ErrorKind::OutOfMemory),
    (87, "ERROR_INVALID_PARAMETER", ErrorKind::InvalidInput),
    (109, "ERROR_BROKEN_PIPE", ErrorKind::BrokenPipe),
    (121, "ERROR_SEM_TIMEOUT", ErrorKind::TimedOut),
    (123, "ERROR_INVALID_NAME", ErrorKind::InvalidFilename),
    (183, "ERROR_ALREADY_EXISTS", ErrorKind::AlreadyExists),
    (231, "ERROR_PIPE_BUSY", ErrorKind::Other),
    (232, "ERROR_NO_DATA", ErrorKind::BrokenPipe),
    (233, "ERROR_PIPE_NOT_CONNECTED", ErrorKind::Other),
    (258, "WAIT_TIMEOUT", ErrorKind::TimedOut),
    (535, "ERROR_PIPE_CONNECTED", ErrorKind::Other),
    (995, "ERROR_OPERATION_ABORTED", ErrorKind::TimedOut),
];

/// Status and error numbers of observed 0.3 and reference 0.1, apart from the table on purpose.
const PAIRS: &[(u32, u32)] = &[
    (0x0000_0103, 997),
    (0x8000_0005, 234),
    (0xC000_0005, 998),
    (0xC000_0004, 24),
    (0xC000_0008, 6),
    (0xC000_000D, 87),
    (0xC000_0010, 1),
    (0xC000_0022, 5),
    (0xC000_0023, 122),
    (0xC000_0024, 6),
    (0xC000_0033, 123),
    (0xC000_0034, 2),
    (0xC000_0039, 161),
    (0xC000_003B, 161),
    (0xC000_0061, 1314),
    (0xC000_009A, 1450),
    (0xC000_00AB, 231),
    (0xC000_00AC, 231),
    (0xC000_00AD, 230),
    (0xC000_00AE, 231),
    (0xC000_00AF, 1),
    (0xC000_00B0, 233),
    (0xC000_00B1, 232),
    (0xC000_00B2, 535),
    (0xC000_00B3, 536),
    (0xC000_00B4, 230),
    (0xC000_00B5, 121),
    (0xC000_00BB, 50),
    (0xC000_00D9, 232),
    (0xC000_00E8, 1784),
    (0xC000_010D, 1368),
    (0xC000_0120, 995),
    (0xC000_014B, 109),
    (0xC000_0225, 1168),
];

fn error(code: u32) -> Error {
    Error::from_code(NonZeroU32::new(code).unwrap())
}

#[test]
fn every_row_is_found_again_by_its_number() {
    for &(name, constant, code) in ROWS {
        assert_eq!(constant.code(), code, "{name}");
        assert_eq!(error(code), constant, "{name}");
        let symbol = constant.name().unwrap();
        assert_eq!(symbol.trim_start_matches("ERROR_"), name);
        assert_eq!(
            constant.to_string(),
            format!("{symbol} ({code}): {}", constant.message())
        );
        assert!(!constant.message().ends_with('.'), "{name}");
    }
}

#[test]
fn numbers_and_symbols_are_unique() {
    let codes: HashSet<u32> = ROWS.iter().map(|row| row.2).collect();
    let symbols: HashSet<_> = ROWS.iter().map(|row| row.1.name()).collect();
    assert_eq!((codes.len(), symbols.len()), (ROWS.len(), ROWS.len()));
}

#[test]
fn symbols_and_kinds_are_those_of_windows() {
    for &(code, symbol, kind) in NUMBERS {
        assert_eq!(error(code).name(), Some(symbol));
        assert_eq!(error(code).kind(), kind, "{symbol}");
    }
}

#[test]
fn an_unknown_code_survives() {
    let unknown = error(4711);
    assert_eq!((unknown.code(), unknown.name()), (4711, None));
    assert_eq!(unknown.to_string(), "Win32 error 4711");
    assert_eq!(unknown.kind(), ErrorKind::Other);
}

#[test]
fn display_and_debug_name_the_error() {
    assert_eq!(
        Error::PIPE_BUSY.to_string(),
        "ERROR_PIPE_BUSY (231): all instances are in use"
    );
    assert_eq!(format!("{:?}", Error::PIPE_BUSY), "ERROR_PIPE_BUSY(231)");
    assert_eq!(
        format!("{:?}", Status::PIPE_EMPTY.error()),
        "ERROR_NO_DATA(232) from STATUS_PIPE_EMPTY"
    );
}

#[test]
fn every_status_becomes_the_error_of_the_specification() {
    assert_eq!(PAIRS.len(), STATUSES.len());
    for &(code, win32) in PAIRS {
        let status = Status::from_code(code).unwrap();
        assert!(status.name().is_some(), "{code:#x}");
        assert_eq!(status.error().code(), win32, "{status}");
        assert_eq!(status.error().status(), Some(status));
        assert_eq!(Error::from(status), status.error());
    }
}

#[test]
fn every_status_row_is_found_again_by_its_number() {
    for &(name, constant, code, error) in STATUSES {
        assert_eq!(constant.code(), code, "{name}");
        assert_eq!(Status::from_code(code), Some(constant), "{name}");
        assert_eq!(constant.to_string(), format!("STATUS_{name}"));
        assert_eq!(constant.error(), error, "{name}");
    }
    let codes: HashSet<u32> = STATUSES.iter().map(|row| row.2).collect();
    assert_eq!(codes.len(), STATUSES.len());
}

#[test]
fn an_unknown_status_has_no_message_of_its_own() {
    let unknown = Status::from_code(0xC000_0001).unwrap();
    assert_eq!(unknown.error(), Error::MR_MID_NOT_FOUND);
    assert_eq!(unknown.error().status(), Some(unknown));
    assert_eq!(unknown.to_string(), "NTSTATUS 0xC0000001");
    assert_eq!(Status::from_code(0), None);
}

#[test]
fn the_status_takes_no_part_in_comparisons() {
    assert_eq!(Status::PIPE_EMPTY.error(), Status::PIPE_CLOSING.error());
    assert_ne!(
        Status::PIPE_EMPTY.error().status(),
        Status::PIPE_CLOSING.error().status()
    );
    let set = HashSet::from([Error::NO_DATA]);
    assert!(set.contains(&Status::PIPE_EMPTY.error()));
}

#[test]
fn every_row_goes_through_io_error_and_back() {
    for &(name, constant, code) in ROWS {
        let io = io::Error::from(constant);
        assert_eq!(io.win32_code(), Some(code), "{name}");
        assert_eq!(io.win32(), Some(constant), "{name}");
        if code == 2 || code > 133 {
            assert_eq!(io.raw_os_error(), i32::try_from(code).ok(), "{name}");
        } else {
            assert_eq!(io.raw_os_error(), None, "{name}");
            assert_eq!(io.kind(), constant.kind(), "{name}");
            assert_eq!(io.to_string(), constant.to_string());
        }
    }
}

#[test]
fn a_code_beyond_the_range_of_errno_goes_through_io_error_and_back() {
    for code in [133, 134, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
        let io = io::Error::from(error(code));
        assert_eq!(io.win32_code(), Some(code));
        assert_eq!(
            io.raw_os_error().is_some(),
            (134..=0x7FFF_FFFF).contains(&code)
        );
    }
}

#[test]
fn code_2_is_not_found_in_both_worlds() {
    let io = io::Error::from(Error::FILE_NOT_FOUND);
    assert_eq!(
        (io.raw_os_error(), io.kind()),
        (Some(2), ErrorKind::NotFound)
    );
}

#[test]
fn errors_that_are_not_ours_have_no_win32_code() {
    for errno in [-5, 0, 1, 5, 11, 87, 109, 133] {
        assert_eq!(
            io::Error::from_raw_os_error(errno).win32_code(),
            None,
            "{errno}"
        );
    }
    assert_eq!(io::Error::from(ErrorKind::TimedOut).win32(), None);
    assert_eq!(io::Error::other("text").win32(), None);
}

#[test]
fn a_code_is_found_behind_an_error_that_says_more() {
    #[derive(Debug)]
    struct InDirectory(Error);
    impl fmt::Display for InDirectory {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}: a directory", self.0)
        }
    }
    impl core::error::Error for InDirectory {
        fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = io::Error::new(ErrorKind::NotFound, InDirectory(Error::PATH_NOT_FOUND));
    assert_eq!(error.win32(), Some(Error::PATH_NOT_FOUND));
    assert_eq!(io::Error::other("else").win32(), None);
}
