use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::fold::upcase;
use super::*;

fn name(path: &str) -> PipeName {
    PipeName::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_spelling_names_the_same_pipe() {
    for path in [
        r"\\.\pipe\x",
        "//./pipe/x",
        r"\\./pipe/x",
        r"\\.\PiPe\X",
        r"\\?\pipe\x",
        r"\\?\PIPE\X",
        "//?/pipe/x",
        "npipe:////./pipe/x",
        r"npipe:\\.\pipe\x",
        r"npipe://\\.\pipe\x",
        "npipe://./pipe/x",
        "NPIPE:////./PIPE/X",
    ] {
        assert_eq!(name(path), name(r"\\.\pipe\x"), "{path}");
        assert!(name(path).is_local(), "{path}");
        assert_eq!(
            PipeName::parse_lenient(path),
            PipeName::parse(path),
            "{path}"
        );
    }
}

#[test]
fn what_names_no_pipe_is_an_invalid_name() {
    for path in [
        "",
        "x",
        r"pipe\x",
        r"\x",
        r"\\",
        r"\\.",
        r"\\.\pipe",
        r"\\.\pipe\",
        "//./pipe/",
        r"\\?\pipe",
        r"\\?\pipe\",
        r"\\?\pipe/x",
        r"\\.\pipes\x",
        r"\\.\mailslot\x",
        r"\.\pipe\x",
        r"\\\pipe\x",
        r"\\server\x",
        r"\\server\share\x",
        "npipe:",
        "npipe:x",
        "npipe://x",
        "npipe:////./pipe/",
        "http:////./pipe/x",
        "\\\\.\\pipe\\a\0b",
        "\\\\a\0b\\pipe\\x",
    ] {
        assert_eq!(PipeName::parse(path), Err(Error::INVALID_NAME), "{path:?}");
    }
}

#[test]
fn the_spelling_is_kept_and_the_case_ignored() {
    let mixed = name(r"\\.\Pipe\MiXed");
    assert_eq!(mixed.as_str(), "MiXed");
    assert_eq!(mixed.folded(), "MIXED");
    assert_eq!(mixed.to_string(), r"\\.\pipe\MiXed");
    assert_eq!(mixed.win32_path(), r"\\.\pipe\MiXed");
    assert_eq!(format!("{mixed:?}"), r"PipeName(\\.\pipe\MiXed)");
    assert_eq!(
        mixed.cmp(&name(r"\\.\pipe\mixed")),
        core::cmp::Ordering::Equal
    );
    assert!(HashSet::from([mixed]).contains(&name(r"\\.\pipe\mIxED")));
}

#[test]
fn punctuation_and_control_characters_are_ordinary() {
    for inner in [
        "a<>*?|\"b",
        "!#$%&'()+,-.;=@[]^_`{}~ ",
        ":",
        "\u{1}\n\u{7f}",
        ".",
        r"..\..",
        " ",
    ] {
        assert_eq!(name(&format!(r"\\.\pipe\{inner}")).as_str(), inner);
    }
}

#[test]
fn backslashes_and_dots_are_part_of_the_name() {
    for (a, b) in [
        ("x", r"x\"),
        (r"a\.\b", r"a\b"),
        (r"a\\b", r"a\b"),
        ("x", r"\x"),
        ("x", "x."),
    ] {
        assert_ne!(
            name(&format!(r"\\.\pipe\{a}")),
            name(&format!(r"\\.\pipe\{b}"))
        );
    }
    assert_eq!(name(r"\\.\pipe\\").as_str(), r"\");
}

#[test]
fn a_slash_becomes_a_backslash_unless_the_path_is_literal() {
    assert_eq!(name("//./pipe/a/b").as_str(), r"a\b");
    assert_eq!(name(r"\\.\pipe\a/b").as_str(), r"a\b");
    assert_eq!(name(r"\\?\pipe\a/b").as_str(), "a/b");
    assert_eq!(name(r"\\?\pipe\a/b").to_string(), r"\\?\pipe\a/b");
    assert_ne!(name(r"\\?\pipe\a/b"), name(r"\\?\pipe\a\b"));
}

#[test]
fn a_host_is_kept_and_told_apart() {
    let remote = name(r"\\Server\pipe\x");
    assert_eq!((remote.host(), remote.as_str()), (Some("Server"), "x"));
    assert!(!remote.is_local());
    assert_eq!(remote.to_string(), r"\\Server\pipe\x");
    assert_eq!(remote, name("//SERVER/PIPE/X"));
    assert_ne!(remote, name(r"\\other\pipe\x"));
    assert_ne!(remote, name(r"\\.\pipe\x"));
    assert_eq!(name(r"\\.\pipe\x").host(), None);
}

#[test]
fn the_whole_path_has_at_most_256_utf16_units() {
    assert!(PipeName::parse(&format!(r"\\.\pipe\{}", "x".repeat(247))).is_ok());
    assert!(PipeName::parse(&format!(r"npipe:////./pipe/{}", "x".repeat(247))).is_ok());
    assert!(PipeName::parse_lenient(&"ä".repeat(247)).is_ok());
    assert!(PipeName::parse(&format!(r"\\host\pipe\{}", "x".repeat(244))).is_ok());
    let too_long = [
        PipeName::parse(&format!(r"\\.\pipe\{}", "x".repeat(248))),
        PipeName::parse(&format!(r"\\?\pipe\{}", "x".repeat(248))),
        PipeName::parse(&format!(r"\\.\pipe\{}", "😀".repeat(124))),
        PipeName::parse(&format!(r"\\host\pipe\{}", "x".repeat(245))),
        PipeName::parse_lenient(&"x".repeat(248)),
    ];
    assert!(
        too_long
            .iter()
            .all(|result| *result == Err(Error::INVALID_NAME))
    );
}

#[test]
fn a_bare_name_is_taken_from_a_command_line_only() {
    assert_eq!(PipeName::parse_lenient("x"), PipeName::parse(r"\\.\pipe\x"));
    assert_eq!(
        PipeName::parse_lenient(r"a\b\"),
        PipeName::parse(r"\\.\pipe\a\b\")
    );
    assert_eq!(
        PipeName::parse_lenient("a/b"),
        PipeName::parse(r"\\.\pipe\a\b")
    );
    assert_eq!(
        PipeName::parse_lenient("host:1"),
        PipeName::parse(r"\\.\pipe\host:1")
    );
    for text in ["", r"\x", "/x", r"\.\pipe\x", r"\\x", "npipe:x", "a\0b"] {
        assert_eq!(
            PipeName::parse_lenient(text),
            Err(Error::INVALID_NAME),
            "{text:?}"
        );
    }
}

#[test]
fn a_path_that_is_not_utf_8_is_an_invalid_name() {
    let path = OsStr::from_bytes(b"\\\\.\\pipe\\\xFF");
    assert_eq!(PipeName::from_os_str(path), Err(Error::INVALID_NAME));
    assert_eq!(
        PipeName::from_os_str(OsStr::new(r"\\.\pipe\x")),
        r"\\.\pipe\x".parse()
    );
}

#[test]
fn folding_maps_single_units_only() {
    for (from, to) in [
        ('a', 'A'),
        ('ä', 'Ä'),
        ('ÿ', 'Ÿ'),
        ('я', 'Я'),
        ('ω', 'Ω'),
        ('ａ', 'Ａ'),
    ] {
        assert_eq!(upcase(from), to, "{from}");
    }
    for same in [
        'ß', 'ı', 'ſ', 'µ', 'ŉ', 'ﬁ', 'İ', '𐐨', '1', '\\', '\u{FFFF}',
    ] {
        assert_eq!(upcase(same), same, "{same}");
    }
}

#[test]
fn folding_is_idempotent_and_keeps_the_utf16_length_of_every_character() {
    for c in '\0'..=char::MAX {
        let up = upcase(c);
        assert_eq!(upcase(up), up, "{c:?}");
        assert_eq!(up.len_utf16(), c.len_utf16(), "{c:?}");
        assert_eq!(up.is_ascii(), c.is_ascii(), "{c:?}");
    }
}

proptest! {
    #[test]
    fn no_string_panics(text in ".*", tail in any::<String>()) {
        let remote = format!(r"\\{text}\pipe\{tail}");
        for path in [text.clone(), remote, format!("npipe:{text}/{tail}")] {
            if let Ok(parsed) = PipeName::parse(&path) {
                prop_assert_eq!(PipeName::parse_lenient(&path), Ok(parsed));
            }
        }
        let _ = PipeName::parse_lenient(&text);
    }

    #[test]
    fn display_parses_to_the_same_name(
        root in r"\\\\[.?]\\pipe\\|//[a-z.]{1,4}/pipe/",
        tail in r"[^\x00]{1,40}",
    ) {
        let first = PipeName::parse(&(root + &tail))?;
        let second = PipeName::parse(&first.to_string())?;
        prop_assert_eq!(first.as_str(), second.as_str());
        prop_assert_eq!(first, second);
    }

    #[test]
    fn equality_is_that_of_the_folded_form(a in "[aAbBäÄßµμ]{1,2}", b in "[aAbBäÄßµμ]{1,2}") {
        let (a, b) = (PipeName::parse_lenient(&a)?, PipeName::parse_lenient(&b)?);
        prop_assert_eq!(a == b, a.folded() == b.folded());
        prop_assert_eq!(PipeName::parse_lenient(a.folded())?, a);
    }
}
