//! `ntpipe bench`: that it measures, not what.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use support::Names;

#[test]
fn every_transport_of_a_workload_has_a_figure() {
    let names = Names::new();
    let out = names
        .run(&["bench", "--quick", "--runs", "1", "--only", "64 B, one CPU"])
        .success();
    for title in ["round trip 64 B, one CPU", "stream 64 B, one CPU"] {
        let at = out.lines().position(|line| line == title);
        let rows: Vec<_> = (out.lines().skip(at.unwrap() + 1))
            .take_while(|line| !line.is_empty())
            .collect();
        for transport in ["ntpipe ", "ntpipe-message ", "pipe ", "unix ", "seqpacket "] {
            let row = rows.iter().find(|row| row.trim().starts_with(transport));
            let figure: f64 = row
                .unwrap()
                .split_whitespace()
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            assert!(figure > 0.0, "{out}");
        }
    }
    let left: Vec<_> = fs::read_dir(names.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn connections_that_rest_are_counted_and_still_work() {
    let names = Names::new();
    let out = names
        .run(&[
            "bench",
            "--quick",
            "--runs",
            "1",
            "--only",
            "1000 idle",
            "--peers",
            "unix",
        ])
        .success();
    assert!(
        out.contains("KiB each") && out.contains("wake-ups/s"),
        "{out}"
    );
}

#[test]
fn figures_go_to_files_too() {
    let names = Names::new();
    let (json, plot) = (names.path().join("f.json"), names.path().join("f.svg"));
    let (json_path, plot_path) = (json.to_str().unwrap(), plot.to_str().unwrap());
    names
        .run(&[
            "bench",
            "--quick",
            "--runs",
            "1",
            "--only",
            "64 B, two CPUs",
            "--peers",
            "pipe",
            "--json",
            json_path,
            "--plot",
            plot_path,
        ])
        .success();
    let report: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let cells = report["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 3, "{report}");
    assert!(
        cells
            .iter()
            .all(|cell| cell["median"].as_f64().unwrap() > 0.0)
    );
    assert!(report["limits"]["syscall"].as_f64().unwrap() > 0.0);
    let picture = fs::read_to_string(plot).unwrap();
    assert!(picture.contains("<svg") && picture.contains("ntpipe-message"));
}

#[test]
fn what_another_program_measures_stands_beside_the_rest() {
    let names = Names::new();
    let program = names.path().join("peers");
    // It says what it was asked to do, by the file, and what came of it.
    let script = r#"#!/bin/sh
case $1 in
list) echo '[{"name":"ours-elsewhere","ours":true,"can":["paused"]},
             {"name":"slow","beside":"ours-elsewhere","can":["paused"]},
             {"name":"other","can":["stream"]}]' ;;
drive) echo "$@" >>"$0.asked"
    case $* in
    *slow*) echo '{"figure":300,"cpu":7}' ;;
    *) echo '{"figure":100,"cpu":1}' ;;
    esac ;;
esac
"#;
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
    let markdown = names.path().join("tables.md");
    let out = names
        .run(&[
            "bench",
            "--quick",
            "--runs",
            "1",
            "--only",
            "after a pause",
            "--with",
            program.to_str().unwrap(),
            "--peers",
            "slow,pipe",
            "--markdown",
            markdown.to_str().unwrap(),
        ])
        .success();
    let slow = out.lines().find(|line| line.trim().starts_with("slow "));
    assert!(slow.unwrap().contains("ntpipe 3.00x"), "{out}");
    assert!(!out.contains("other"), "{out}");
    let asked = fs::read_to_string(names.path().join("peers.asked")).unwrap();
    let workload = r#"--workload {"kind":"paused","size":64} --millis 100"#;
    assert!(asked.contains(workload), "{asked}");
    let tables = fs::read_to_string(markdown).unwrap();
    let head = "| us | ntpipe | ntpipe-message | pipe | ours-elsewhere | slow |";
    assert!(tables.contains(head), "{tables}");
    let verdict = "| message mode, at worst: round trip 64 B after a pause, two CPUs | >= 0.9x";
    assert!(tables.contains(verdict), "{tables}");
    assert!(
        tables.contains("**300** (300-300); 3.00x; CPU 7.00 us |"),
        "{tables}"
    );
}

#[test]
fn connections_in_turn_and_from_new_processes_are_measured_too() {
    let names = Names::new();
    for only in ["1000 active", "new process"] {
        let out = names
            .run(&["bench", "--quick", "--runs", "1", "--only", only])
            .success();
        assert!(
            out.contains("  unix ") && out.contains("  ntpipe "),
            "{out}"
        );
    }
}

#[test]
fn a_transport_that_is_not_there_is_refused() {
    let done = Names::new().run(&["bench", "--peers", "pipe,pigeon"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("no transport is called pigeon"),
        "{done:?}"
    );
}

#[test]
fn a_workload_that_is_not_there_is_refused() {
    let done = Names::new().run(&["bench", "--only", "no such thing"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("no workload has that in its title"),
        "{done:?}"
    );
}
