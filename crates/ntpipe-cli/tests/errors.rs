//! What the command says and how it exits when something fails.

mod support;

use support::Names;

#[test]
fn a_pipe_that_does_not_exist_is_exit_code_3() {
    let names = Names::new();
    for args in [
        &["connect", "nowhere"][..],
        &["connect", "--wait", "0.05", "nowhere"],
        &["call", "nowhere", "x"],
        &["info", "nowhere"],
    ] {
        let done = names.run(args);
        assert_eq!(done.code, Some(3), "{done:?}");
        let said = r"\\.\pipe\nowhere: ERROR_FILE_NOT_FOUND (2): ";
        assert!(done.err.contains(said), "{done:?}");
        assert!(done.err.contains("\nhint: `ntpipe list`"), "{done:?}");
    }
}

#[test]
fn a_busy_pipe_is_told_with_its_numbers() {
    let names = Names::new();
    let args = ["listen", "--fork", "--max-instances", "2", "busy"];
    let _server = names.start(&args);
    names.wait_until_exists("busy");
    let _clients = [(); 2].map(|()| names.start(&["connect", "--wait", "20", "busy"]));
    names.wait_for("busy", |info| {
        info["instances"] == 2 && info["listening"] == 0
    });
    let done = names.run(&["connect", "busy"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    let said = r"ntpipe: cannot open \\.\pipe\busy: ERROR_PIPE_BUSY (231): all instances are in use: 2 of 2 instances in use";
    assert!(done.err.starts_with(&format!("{said}\nhint: ")), "{done:?}");

    let done = names.run(&["connect", "--wait", "0.05", "busy"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.err.contains("ERROR_SEM_TIMEOUT (121)"), "{done:?}");

    let done = names.run(&["listen", "busy"]);
    assert!(
        done.err.contains("hint: the name exists already"),
        "{done:?}"
    );
}

#[test]
fn a_name_is_created_once() {
    let names = Names::new();
    let _server = names.start(&["listen", "--fork", "mine"]);
    names.wait_until_exists("mine");
    let done = names.run(&["listen", "mine"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.err.contains("ERROR_ACCESS_DENIED (5)"), "{done:?}");
    assert!(done.err.contains("(ntpipe) serves this name"), "{done:?}");
}

#[test]
fn messages_need_a_message_pipe() {
    let names = Names::new();
    let _server = names.start(&["listen", "--fork", "bytes"]);
    names.wait_until_exists("bytes");
    for args in [
        &["connect", "--message", "bytes"][..],
        &["call", "bytes", "x"],
    ] {
        let done = names.run(args);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(
            done.err.contains("ERROR_INVALID_PARAMETER (87)"),
            "{done:?}"
        );
        assert!(done.err.contains("hint: messages"), "{done:?}");
    }
}

#[test]
fn a_missing_directory_of_names_is_named() {
    let names = Names::new();
    let missing = names.path().join("missing");
    for args in [&["list"][..], &["listen", "x"], &["connect", "x"]] {
        let done = support::start(args, Some(&missing)).finish();
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err.contains("ERROR_PATH_NOT_FOUND (3)"), "{done:?}");
        assert!(done.err.contains(missing.to_str().unwrap()), "{done:?}");
        assert!(done.err.contains("NTPIPE_DIR"), "{done:?}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let names = Names::new();
    for args in [
        &["connect"][..],
        &["connect", r"\.pipex"],
        &["listen", "--binary", "x"],
    ] {
        assert_eq!(names.run(args).code, Some(2), "{args:?}");
    }
}

#[test]
fn the_exit_codes_are_in_the_help() {
    let help = Names::new().run(&["--help"]).success();
    for line in ["3  there is no such pipe", "6  data arrived damaged"] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn every_subcommand_has_examples() {
    let names = Names::new();
    for command in ["demo", "listen", "connect", "call", "list", "info"] {
        let help = names.run(&[command, "--help"]).success();
        assert!(
            help.contains(&format!("Examples:\n  ntpipe {command}")),
            "{help}"
        );
    }
}
