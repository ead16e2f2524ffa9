//! What is wrong with the table of rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Rule, files};
use crate::{Case, Source};

/// What is wrong: one sentence for each mistake.
///
/// - An id occurs once, and a row has a rule and its evidence.
/// - Each rule has something that shows it, or says why not.
/// - A rule names exactly the case files of which a case cites it, and each case cites rules that
///   there are.
/// - The tests that a rule names exist below `root`.
/// - What is not built is one of the parts that the project plans.
pub fn check(rules: &[Rule], cases: &[Case], root: &Path) -> Vec<String> {
    let mut wrong = unknown(rules, cases);
    let (files, mut seen) = (files(cases), BTreeSet::new());
    let mut tests = Tests {
        root,
        texts: BTreeMap::new(),
    };
    let none = BTreeSet::new();
    for rule in rules {
        let mut say = |message: String| wrong.push(format!("{}: {message}", rule.id));
        if !seen.insert(&rule.id) {
            say("there is another rule of this id".to_owned());
        }
        if rule.text.is_empty() || rule.evidence.is_empty() {
            say("it lacks a rule or its evidence".to_owned());
        }
        if rule.shown.is_empty() {
            say("nothing shows it, and no reason is given".to_owned());
        }
        let citing = files.get(&rule.id).unwrap_or(&none);
        for file in citing.difference(&rule.shown.files) {
            say(format!(
                "a case of `{file}` cites it; it does not name the file"
            ));
        }
        for file in rule.shown.files.difference(citing) {
            say(format!("it names `{file}`, where no case cites it"));
        }
        for (file, function) in &rule.shown.tests {
            if !tests.has(file, function) {
                say(format!("there is no test `{function}` in {file}"));
            }
        }
        if let Some(part) = &rule.shown.not_built
            && !PARTS.contains(&part.as_str())
        {
            say(format!("no part of the project is called {part}"));
        }
    }
    wrong
}

/// The rules that cases cite and that do not exist.
fn unknown(rules: &[Rule], cases: &[Case]) -> Vec<String> {
    let ids: BTreeSet<&Source> = rules.iter().map(|rule| &rule.id).collect();
    let mut wrong = Vec::new();
    for case in cases {
        for source in case.sources.iter().filter(|source| !ids.contains(source)) {
            wrong.push(format!("{}: there is no rule {source}", case.id()));
        }
    }
    wrong
}

/// The files of the repository that rules name, each read once.
struct Tests<'a> {
    root: &'a Path,
    texts: BTreeMap<String, String>,
}

impl Tests<'_> {
    /// Whether there is such a function behind a `#[test]` in the file.
    fn has(&mut self, file: &str, function: &str) -> bool {
        let text = (self.texts.entry(file.to_owned()))
            .or_insert_with(|| fs::read_to_string(self.root.join(file)).unwrap_or_default());
        let head = format!("fn {function}(");
        let mut test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with(&head) {
                return test;
            }
            test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            // Other attributes and comments may stand between the two.
            test &= line.starts_with("#[") || line.starts_with("//");
        }
        false
    }
}

/// The parts of the project that do not exist yet.
const PARTS: [&str; 6] = [
    "C interface",
    "overlapped I/O",
    "security descriptors",
    "impersonation",
    "SMB",
    "NT-level calls",
];
