//! `ntpipe demo`.

mod support;

use std::fs;

use support::Names;

#[track_caller]
fn assert_all_intact(out: &str) {
    assert_eq!(out.lines().count(), 6, "{out}");
    let intact = out.lines().filter(|row| row.ends_with("  ok"));
    assert_eq!(intact.count(), 4, "{out}");
    assert!(out.contains("\n12 of 12 transfers intact"), "{out}");
}

#[test]
fn a_small_file_arrives_intact_both_ways_in_both_modes() {
    let names = Names::new();
    let file = names.path().join("file");
    let data: Vec<u8> = (0..300_001_u32).map(|i| i.to_le_bytes()[1]).collect();
    fs::write(&file, data).unwrap();
    let out = names.run(&["demo", file.to_str().unwrap()]).success();
    assert_all_intact(&out);
    fs::remove_file(file).unwrap();
    let left: Vec<_> = fs::read_dir(names.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_empty_file_arrives_too() {
    let names = Names::new();
    let file = names.path().join("empty");
    fs::write(&file, b"").unwrap();
    assert_all_intact(&names.run(&["demo", file.to_str().unwrap()]).success());
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let names = Names::new();
    for (file, why) in [
        ("/nonexistent/file", "No such file"),
        ("/dev/zero", "regular"),
    ] {
        let done = names.run(&["demo", file]);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err.contains(why), "{done:?}");
    }
}

#[test]
fn a_demo_out_of_time_says_who_was_still_at_work() {
    let names = Names::new();
    let done = names.run(&["demo", "--timeout", "0"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.err.contains("still at work: server"), "{done:?}");
}

#[test]
fn a_trouble_of_the_server_is_told_once() {
    let names = Names::new();
    let missing = names.path().join("missing");
    let done = support::start(&["demo"], Some(&missing)).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.err.contains("the demo's server: cannot serve"),
        "{done:?}"
    );
    assert_eq!(
        done.err.matches("ERROR_PATH_NOT_FOUND").count(),
        1,
        "{done:?}"
    );
}

#[test]
fn a_peer_ends_with_its_parent() {
    let names = Names::new();
    // The parent's side of standard input is what it lives by: closed, it ends although no client
    // has come.
    let args = [
        "demo-peer",
        "server",
        "--name",
        r"\\.\pipe\orphan",
        "--mode",
        "byte",
    ];
    let rest = ["--file", "/dev/null", "--bytes", "0", "--clients", "3"];
    let peer = names.start(&[&args[..], &rest[..]].concat());
    names.wait_until_exists("orphan");
    assert_eq!(peer.finish().code, Some(1));
}
