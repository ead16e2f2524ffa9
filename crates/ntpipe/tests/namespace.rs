//! The directory of names: which one it is, what may be in it, and who may use it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use ntpipe::{ClientOptions, IoErrorExt, NamedPipeServer, ServerOptions};

mod support;
use support::{LOCK, PIPE, SOCKET, Scenario, Stage, code, hear, raw, say, this_test};

/// Another user, if the tests may become one: they run as root then.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn create() -> io::Result<NamedPipeServer> {
    ServerOptions::new().create(PIPE)
}

/// The error has this code, and says which path it is about.
#[track_caller]
fn expect_error<T>(result: io::Result<T>, code: u32, path: &Path) {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.win32_code(), Some(code), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!(": {}: ", path.display())), "{text}");
}

/// A server and a client find each other; nothing stays behind.
fn expect_pipe(name: &str) {
    let server = ServerOptions::new().create(name).unwrap();
    let client = ClientOptions::new().open(name).unwrap();
    server.connect().unwrap();
    client.write_message(b"hello").unwrap();
    assert_eq!(server.read_message(&mut [0; 10]).unwrap().len, 5);
}

#[test]
fn a_missing_directory_is_named() {
    Scenario::new(this_test!())
        .role("visitor", || {
            let dir = raw::dir();
            expect_error(create(), 3, &dir);
            expect_error(ClientOptions::new().open(PIPE), 3, &dir);
            expect_error(ntpipe::list(), 3, &dir);
            expect_error(ntpipe::wait(PIPE, None), 3, &dir);
        })
        .run(|stage| {
            let elsewhere = stage.dir().join("missing");
            visit(stage, &elsewhere);
            assert!(!elsewhere.exists());
            File::create(&elsewhere).unwrap();
            visit(stage, &elsewhere);
        });
}

/// Runs the role "visitor" with another directory of names.
fn visit(stage: &Stage, dir: &Path) {
    let set = |command: &mut Command| {
        command.env("NTPIPE_DIR", dir);
    };
    stage.start_with("visitor", set).finish();
}

#[test]
fn an_unwritable_directory_is_named() {
    Scenario::new(this_test!())
        .role("visitor", || {
            expect_error(create(), 5, &raw::dir());
            assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
        })
        .run(|stage| {
            let mode = |mode| fs::set_permissions(stage.dir(), Permissions::from_mode(mode));
            mode(0o555).unwrap();
            stage.start_with("visitor", become_nobody).finish();
            mode(0o755).unwrap();
            assert_eq!(stage.files(), [""; 0]);
        });
}

#[test]
fn an_unreadable_directory_is_named() {
    Scenario::new(this_test!())
        .role("visitor", || {
            expect_error(create(), 5, &raw::dir());
            expect_error(ClientOptions::new().open(PIPE), 5, &raw::dir());
            expect_error(ntpipe::list(), 5, &raw::dir());
        })
        .run(|stage| {
            let mode = |mode| fs::set_permissions(stage.dir(), Permissions::from_mode(mode));
            mode(0o000).unwrap();
            stage.start_with("visitor", become_nobody).finish();
            mode(0o700).unwrap();
        });
}

fn become_nobody(command: &mut Command) {
    if is_root() {
        command.env(support::USER, NOBODY.to_string());
    }
}

/// What identifies a file and shows any change to it.
fn look(path: &Path) -> (u64, u32, u64, i64, i64) {
    let found = fs::symlink_metadata(path).unwrap();
    let size = if found.is_dir() { 0 } else { found.size() };
    (
        found.ino(),
        found.mode(),
        size,
        found.mtime(),
        found.mtime_nsec(),
    )
}

#[test]
fn foreign_files_with_the_name_of_a_pipe_are_left_alone() {
    type Make = fn(&Path);
    let kinds: [(&str, Make); 4] = [
        ("file", |path| fs::write(path, "precious").unwrap()),
        ("empty directory", |path| fs::create_dir(path).unwrap()),
        ("symlink to nothing", |path| {
            symlink("nothing", path).unwrap()
        }),
        ("symlink", |path| {
            fs::write(path.with_extension("data"), "precious").unwrap();
            symlink(path.with_extension("data"), path).unwrap();
        }),
    ];
    Scenario::alone(this_test!(), || {
        for file in [LOCK, SOCKET] {
            for (kind, make) in kinds {
                let path = raw::dir().join(file);
                make(&path);
                let before = look(&path);
                for _ in 0..2 {
                    println!("{kind} as {file}");
                    expect_error(create(), 5, &path);
                    if file == SOCKET {
                        assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
                    }
                    assert!(ntpipe::list().unwrap().is_empty());
                }
                assert_eq!(look(&path), before);
                if kind == "file" {
                    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
                }
                for entry in fs::read_dir(raw::dir()).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().unwrap() == "data" {
                        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
                    } else {
                        assert!(path.ends_with(file), "{} was left", path.display());
                    }
                    let _ = fs::remove_file(&path);
                    let _ = fs::remove_dir(&path);
                }
            }
        }
        expect_pipe(PIPE);
    });
}

#[test]
fn files_of_the_dead_are_removed_by_the_next_visitor() {
    Scenario::alone(this_test!(), || {
        let (lock, socket) = (raw::dir().join(LOCK), raw::dir().join(SOCKET));
        let leave = || {
            File::create(&lock).unwrap();
            drop(UnixListener::bind(&socket).unwrap());
        };
        let visits: [fn(); 5] = [
            || assert_eq!(code(ClientOptions::new().open(PIPE)), 2),
            || assert_eq!(code(ntpipe::wait(PIPE, None)), 2),
            || assert_eq!(code(ntpipe::info(PIPE)), 2),
            || assert!(ntpipe::list().unwrap().is_empty()),
            || expect_pipe(PIPE),
        ];
        for (n, visit) in visits.into_iter().enumerate() {
            leave();
            visit();
            assert_eq!(support::files(&raw::dir()), [""; 0], "visit {n}");
            // Only a part of it, in whatever order it was removed.
            drop(UnixListener::bind(&socket).unwrap());
            fs::remove_file(&socket).unwrap();
            File::create(&lock).unwrap();
            expect_pipe(PIPE);
            assert_eq!(support::files(&raw::dir()), [""; 0], "visit {n}");
        }
    });
}

#[test]
fn names_may_hold_any_character_and_case_does_not_matter() {
    Scenario::alone(this_test!(), || {
        let long = "x".repeat(247);
        let odd = "\u{e4}\u{df}\u{130}\u{4e2d}\u{1f600}".repeat(20);
        let names = [
            "a",
            ".",
            "..",
            "...",
            ".hidden",
            "a b",
            "a%2fb",
            "a\\b",
            "\\",
            "a\\",
            "*?\"<>|:",
            "%",
            "-rf",
            "new\nline",
            "tab\t",
            "\u{1}",
            "\u{7f}",
            "x.pipe",
            "x.lock",
            "~",
            "%~",
            &long,
            &long[1..],
            &odd,
        ];
        let servers: Vec<_> = names
            .iter()
            .map(|name| {
                let mut options = ServerOptions::new();
                let name = format!(r"\\.\pipe\{name}");
                options.first_pipe_instance(true).create(name).unwrap()
            })
            .collect();
        // One directory for all, in which each has its two files.
        let files = support::files(&raw::dir());
        assert_eq!(files.len(), 2 * names.len(), "{files:?}");
        assert!(files.iter().all(|file| file.len() <= 85 && file.is_ascii()));
        for (name, server) in names.iter().zip(&servers) {
            let path = format!(r"\\.\pipe\{name}");
            let client = ClientOptions::new().open(&path).unwrap();
            server.connect().unwrap();
            assert_eq!(client.name(), *name);
            client.write_message(name.as_bytes()).unwrap();
            let mut buf = [0; 1000];
            let read = server.read_message(&mut buf).unwrap();
            assert_eq!(&buf[..read.len], name.as_bytes());
        }
        let mut listed: Vec<_> = ntpipe::list()
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        let mut expected = names.map(str::to_owned);
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
        drop(servers);
        let server = ServerOptions::new().create(r"\\.\PIPE\Gr\u{fc}n").unwrap();
        let client = ClientOptions::new().open("//./pipe/gR\\u{FC}N");
        assert_eq!(code(client.map(drop)), 0);
        drop(server);
        let path = format!(r"\\.\pipe\{}", "x".repeat(248));
        assert_eq!(code(ServerOptions::new().create(path)), 123);
        assert_eq!(support::files(&raw::dir()), [""; 0]);
    });
}

/// A child for which `NTPIPE_DIR` is not set, but these are.
fn without_dir(command: &mut Command, runtime: Option<&Path>, temp: &Path) {
    command.env_remove("NTPIPE_DIR").env("TMPDIR", temp);
    match runtime {
        Some(runtime) => command.env("XDG_RUNTIME_DIR", runtime),
        None => command.env_remove("XDG_RUNTIME_DIR"),
    };
}

#[test]
fn without_a_setting_names_are_in_a_private_directory() {
    if Path::new("/run/ntpipe").is_dir() {
        // That one comes before those that this is about.
        return;
    }
    Scenario::new(this_test!())
        .role("visitor", || expect_pipe(PIPE))
        .role("refused", || {
            let path = std::env::var("REFUSED").unwrap();
            expect_error(create(), 5, Path::new(&path));
            expect_error(ClientOptions::new().open(PIPE), 5, Path::new(&path));
        })
        .role("lost", || {
            let path = std::env::var("REFUSED").unwrap();
            expect_error(create(), 3, Path::new(&path));
        })
        .run(|stage| {
            let (run, temp) = (stage.dir().join("run"), stage.dir().join("tmp"));
            fs::create_dir(&run).unwrap();
            fs::create_dir(&temp).unwrap();
            let private = format!("ntpipe-{}", rustix::process::geteuid().as_raw());
            for (runtime, dir) in [
                (Some(&*run), run.join("ntpipe")),
                (None, temp.join(private)),
            ] {
                let start = |role: &'static str| {
                    let adapt = |command: &mut Command| {
                        without_dir(command, runtime, &temp);
                        command.env("REFUSED", &dir);
                    };
                    stage.start_with(role, adapt).finish();
                };
                start("visitor");
                assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
                assert_eq!(support::files(&dir), [""; 0]);
                for mode in [0o777, 0o770, 0o701] {
                    fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
                    start("refused");
                }
                fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
                start("visitor");
                if is_root() {
                    std::os::unix::fs::chown(&dir, Some(NOBODY), None).unwrap();
                    start("refused");
                }
                fs::rename(&dir, dir.with_extension("away")).unwrap();
                symlink(dir.with_extension("away"), &dir).unwrap();
                start("lost");
            }
        });
}

#[test]
fn another_user_can_not_open_a_pipe_nor_take_its_name() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = create().unwrap();
            say("up");
            if hear() == "let in" {
                // Whoever reaches the socket is asked who it is.
                let socket = raw::dir().join(SOCKET);
                fs::set_permissions(socket, Permissions::from_mode(0o777)).unwrap();
                say("open");
                hear();
            } else {
                server.connect().unwrap();
                say("connected");
                hear();
            }
        })
        .role("other", || {
            assert_eq!(code(ClientOptions::new().open(PIPE)), 5);
            let mut options = ServerOptions::new();
            assert_eq!(code(options.create(PIPE)), 5);
            assert_eq!(code(options.first_pipe_instance(true).create(PIPE)), 5);
            say("refused");
            hear();
            assert_eq!(code(ClientOptions::new().open(PIPE)), 5);
            assert_eq!(code(options.create(PIPE)), 5);
        })
        .role("root", || {
            let _client = ClientOptions::new().open(PIPE).unwrap();
            say("in");
            hear();
        })
        .run(|stage| {
            if !is_root() {
                // Nobody but root can become someone else.
                return;
            }
            fs::set_permissions(stage.dir(), Permissions::from_mode(0o1777)).unwrap();
            let mut server = stage.start("server");
            server.expect("up");
            let mut other = stage.start_with("other", become_nobody);
            other.expect("refused");
            server.say("let in");
            server.expect("open");
            other.say("again");
            other.finish();
            server.say("done");
            server.finish();
            assert_eq!(stage.files(), [""; 0]);
            // root may open every pipe.
            let mut server = stage.start_with("server", become_nobody);
            server.expect("up");
            let mut root = stage.start("root");
            root.expect("in");
            server.say("connect");
            server.expect("connected");
            root.say("done");
            root.finish();
            server.say("done");
            server.finish();
        });
}
