use std::path::Path;

use super::*;
use crate::parse;

const TABLE: &str = "\
| rule | text | evidence | shown by |
|---|---|---|---|
| observed 5.1 | A write \\| fits. | K | `x` |
| observed 5.2 | It waits. | K, T | test `src/rules/tests.rs` `every_mistake_is_named`; no test: so |
| choice 1 | ours | - |
| reference 1.3-2 | Connect. | D | not built: SMB |
";

fn cases() -> Vec<Case> {
    let text = "# A\nsource: observed 5.1\nserver close";
    parse(Path::new("x.case"), text).unwrap()
}

fn wrong(table: &str) -> Vec<String> {
    check(
        &rules(table).unwrap(),
        &cases(),
        Path::new(env!("CARGO_MANIFEST_DIR")),
    )
}

#[test]
fn a_table_has_rules_and_other_rows() {
    let rules = rules(TABLE).unwrap();
    assert_eq!(rules.len(), 3);
    assert_eq!(rules[0].text, "A write \\| fits.");
    assert_eq!(rules[1].shown.tests[0].1, "every_mistake_is_named");
    assert_eq!(rules[2].id.part, Some(2));
    assert_eq!(wrong(TABLE), [""; 0]);
}

#[test]
fn a_row_with_other_cells_is_refused() {
    for (row, expected) in [
        ("| observed 5.1 | a | b |", "line 1: expected four cells"),
        (
            "| observed 5.1 | a | b | c |",
            "line 1: expected `` `file` ``",
        ),
        (
            "| observed 5.1 | a | b | test `c` |",
            "line 1: expected a file and",
        ),
        ("nothing", "expected rules"),
    ] {
        let error = rules(row).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn every_mistake_is_named() {
    for (from, to, expected) in [
        (
            "5.2 |",
            "5.1 |",
            "observed 5.1: there is another rule of this id",
        ),
        (
            "It waits.",
            "",
            "observed 5.2: it lacks a rule or its evidence",
        ),
        ("not built: SMB", "", "reference 1.3-2: nothing shows it"),
        (
            "| `x` |",
            "| no test: a |",
            "observed 5.1: a case of `x` cites it",
        ),
        ("no test: so", "`x`", "observed 5.2: it names `x`"),
        (
            "`every_",
            "`not_every_",
            "observed 5.2: there is no test `not_every_",
        ),
        // A function without the attribute is no test.
        (
            "`every_mistake_is_named",
            "`wrong",
            "observed 5.2: there is no test `wrong`",
        ),
        (
            "built: SMB",
            "built: it",
            "reference 1.3-2: no part of the project",
        ),
        (
            "observed 5.1",
            "observed 5.9",
            "x/a: there is no rule observed 5.1",
        ),
    ] {
        let found = wrong(&TABLE.replacen(from, to, 1));
        let named = found.iter().any(|message| message.starts_with(expected));
        assert!(named, "{expected}: {found:?}");
    }
}

#[test]
fn the_files_are_filled_in() {
    let bare = TABLE
        .replace("| `x` |", "|  |")
        .replace("no test: so", "`y`");
    let filled = with_files(&bare, &cases()).unwrap();
    assert!(
        filled.contains("| A write \\| fits. | K | `x` |"),
        "{filled}"
    );
    assert!(filled.contains("named` |\n"), "{filled}");
    assert_eq!(with_files(TABLE, &cases()).unwrap(), TABLE);
}
