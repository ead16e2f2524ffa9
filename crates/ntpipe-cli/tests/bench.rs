//! `ntpipe bench`: that it measures, not what.

mod support;

use std::fs;

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
fn a_workload_that_is_not_there_is_refused() {
    let done = Names::new().run(&["bench", "--only", "no such thing"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("no workload has that in its title"),
        "{done:?}"
    );
}
