//! The table of rules, `docs/semantics.md`: every rule once, with what shows that it is kept.
//!
//! A rule is a row of a Markdown table with four cells: the id, the rule, its evidence, and what
//! shows it. The last has parts, with `; ` between them:
//!
//! - `` `read`, `close` ``: cases of these files cite the rule;
//! - `` test `crates/ntpipe/tests/kill.rs` `name_of_the_function` ``: a test elsewhere;
//! - `not built: C interface`: the part of the project that it belongs to does not exist yet;
//! - `no test: why`: there is nothing to show, or no way to.
//!
//! Rows whose first cell is no rule's id belong to other tables.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use crate::{Case, Source};

mod check;
pub use check::check;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: Source,
    /// What it says.
    pub text: String,
    /// How sure it is.
    pub evidence: String,
    /// What shows that it is kept.
    pub shown: Shown,
}

/// What shows that a rule is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// The case files that cite it, without their extension.
    pub files: BTreeSet<String>,
    /// Tests elsewhere: a file of the repository, and a function in it.
    pub tests: Vec<(String, String)>,
    /// The part of the project that it belongs to and that does not exist yet.
    pub not_built: Option<String>,
    /// Why nothing shows it.
    pub no_test: Option<String>,
}

impl Shown {
    /// Reads the last cell of a row.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(cell: &str) -> Result<Self, String> {
        let mut shown = Self::default();
        for part in cell.split(';').map(str::trim) {
            if part.is_empty() {
                continue;
            } else if let Some(part) = part.strip_prefix("not built: ") {
                shown.not_built = Some(part.to_owned());
            } else if let Some(part) = part.strip_prefix("no test: ") {
                shown.no_test = Some(part.to_owned());
            } else if let Some(test) = part.strip_prefix("test ") {
                let words: Vec<&str> = test.split(' ').map(|word| word.trim_matches('`')).collect();
                let [file, function] = words.as_slice() else {
                    return Err(format!("expected a file and a function, got `{test}`"));
                };
                (shown.tests).push(((*file).to_owned(), (*function).to_owned()));
            } else {
                for file in part.split(',').map(str::trim) {
                    let name = file
                        .strip_prefix('`')
                        .and_then(|file| file.strip_suffix('`'));
                    let name = name.ok_or_else(|| {
                        format!(
                            "expected `` `file` ``, `test`, `not built:` or `no test:`, got {file}"
                        )
                    })?;
                    shown.files.insert(name.to_owned());
                }
            }
        }
        Ok(shown)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<String> = self.files.iter().map(|file| format!("`{file}`")).collect();
        let mut parts = Vec::from_iter((!files.is_empty()).then(|| files.join(", ")));
        let tests = self.tests.iter();
        parts.extend(tests.map(|(file, function)| format!("test `{file}` `{function}`")));
        parts.extend(
            self.not_built
                .iter()
                .map(|part| format!("not built: {part}")),
        );
        parts.extend(self.no_test.iter().map(|why| format!("no test: {why}")));
        f.write_str(&parts.join("; "))
    }
}

/// Reads the rules of the table.
///
/// # Errors
/// The line that is wrong, and what was expected there.
pub fn rules(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let Some((id, cells)) = row(text) else {
            continue;
        };
        let wrong = |message: String| format!("line {line}: {message}");
        let [rule, evidence, shown] = cells.as_slice() else {
            return Err(wrong(format!("expected four cells for {id}")));
        };
        rules.push(Rule {
            line,
            id,
            text: (*rule).to_owned(),
            evidence: (*evidence).to_owned(),
            shown: Shown::parse(shown).map_err(wrong)?,
        });
    }
    match rules.is_empty() {
        true => Err("expected rules, got none".to_owned()),
        false => Ok(rules),
    }
}

/// The text with the case files that each rule names put right.
///
/// # Errors
/// As for [`rules`].
pub fn with_files(text: &str, cases: &[Case]) -> Result<String, String> {
    let files = files(cases);
    let mut rules = rules(text)?.into_iter().peekable();
    let mut result = String::with_capacity(text.len());
    for (line, text) in (1..).zip(text.lines()) {
        match rules.next_if(|rule| rule.line == line) {
            Some(mut rule) => {
                rule.shown.files = files.get(&rule.id).cloned().unwrap_or_default();
                let Rule {
                    id,
                    text,
                    evidence,
                    shown,
                    ..
                } = rule;
                result.push_str(&format!("| {id} | {text} | {evidence} | {shown} |"));
            }
            None => result.push_str(text),
        }
        result.push('\n');
    }
    Ok(result)
}

/// The case files that cite each rule.
fn files(cases: &[Case]) -> BTreeMap<Source, BTreeSet<String>> {
    let mut files = BTreeMap::<Source, BTreeSet<String>>::new();
    for case in cases {
        for source in &case.sources {
            let files = files.entry(source.clone()).or_default();
            files.insert(case.stem());
        }
    }
    files
}

/// The id and the other cells of a row that is a rule.
fn row(line: &str) -> Option<(Source, Vec<&str>)> {
    let row = line.strip_prefix("| ")?.strip_suffix('|')?;
    let mut cells = row.split(" | ").map(str::trim);
    let id = cells.next()?;
    Source::parse(id).ok().map(|id| (id, cells.collect()))
}

#[cfg(test)]
mod tests;
