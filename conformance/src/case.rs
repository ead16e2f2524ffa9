//! Case files: what they look like, and how they are read.

use core::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Step, line};

/// One case: steps, and the rules that say what comes of them.
///
/// ```text
/// # A read shorter than the message leaves its rest
/// source: observed 5.19, reference 3.14
///
/// server create type=message read=message -> ok
/// client open -> ok
/// client write "abcdef" -> ok 6
/// server read 4 -> more "abcd"
/// server read 4 -> ok "ef"
/// w1 = client write bytes 7000 -> pending     // a tag: it goes on
/// cancel w1
/// w1 -> 995
/// ```
///
/// A file holds one case or several that belong together; each begins with its title. `applies:`
/// names the drivers that can run it, if not all can. A step that has nothing to tell may omit
/// `-> ok`.
///
/// Who acts is `server` or `client` (an end of a named pipe), `fellow` (a server end in a process
/// of its own), `caller` (someone without an end), `reader` or `writer` (an end of the anonymous
/// pipe that `pipe create size=10` made); each with a number if there are several.
///
/// Before a step all that earlier steps set free has happened, such as that a read which waited has
/// taken what was written. A step that begins with `at-once` does not wait for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The file, as it was found.
    pub file: PathBuf,
    /// The line of the title.
    pub line: usize,
    /// What it shows.
    pub title: String,
    /// The rules that it comes from.
    pub sources: Vec<Source>,
    /// The drivers that can run it; none is named if all can.
    pub applies: Vec<String>,
    /// What is done.
    pub steps: Vec<Step>,
}

impl Case {
    /// The name by which the command line speaks of it: `file/title-in-small-letters`.
    pub fn id(&self) -> String {
        let stem = self.stem();
        let words: Vec<String> = (self.title.split(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        format!("{stem}/{}", words.join("-"))
    }

    /// The name of its file without the extension.
    pub fn stem(&self) -> String {
        let stem = self.file.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }

    /// Whether this driver can run it.
    pub fn applies_to(&self, driver: &str) -> bool {
        self.applies.is_empty() || self.applies.iter().any(|name| name == driver)
    }
}

/// A rule of one of the two documents, such as `observed 5.19` or `reference 1.3-2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// `observed` or `reference`.
    pub document: String,
    /// The section, such as `5` or `8b`.
    pub section: String,
    /// The item within the section.
    pub item: u32,
    /// The part of the item, if it has several.
    pub part: Option<u32>,
}

impl Source {
    /// Reads `observed 5.19`; the form alone is checked, not that there is such a rule.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a rule such as `observed 5.19`, got `{text}`");
        let (document, rule) = text.split_once(' ').ok_or_else(expected)?;
        let (section, item) = rule.split_once('.').ok_or_else(expected)?;
        let (item, part) = match item.split_once('-') {
            Some((item, part)) => (item, Some(part)),
            None => (item, None),
        };
        let number = |text: &str| text.parse::<u32>().map_err(|_| expected());
        let sections = match document {
            "observed" => 0..=18,
            "reference" => 0..=5,
            _ => return Err(expected()),
        };
        let (item, part) = (number(item)?, part.map(number).transpose()?);
        let known = sections.contains(&number(section.trim_end_matches('b'))?);
        if !known || item == 0 || part == Some(0) {
            return Err(expected());
        }
        Ok(Self {
            document: document.to_owned(),
            section: section.to_owned(),
            item,
            part,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}", self.document, self.section, self.item)?;
        self.part.map_or(Ok(()), |part| write!(f, "-{part}"))
    }
}

/// A case file that could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 is the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

impl core::error::Error for Mistake {}

/// Reads one file, or all `*.case` files of a directory in the order of their names.
///
/// # Errors
/// The first mistake; also when there is no such file, or two cases have one id.
pub fn load(path: &Path) -> Result<Vec<Case>, Mistake> {
    let files = match path.is_dir() {
        true => files(path)?,
        false => vec![path.to_owned()],
    };
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file);
        let text = text.map_err(|error| mistake(&file, 0, &error.to_string()))?;
        for case in parse(&file, &text)? {
            if cases.iter().any(|other| other.id() == case.id()) {
                return Err(mistake(&file, case.line, "expected a title of its own"));
            }
            cases.push(case);
        }
    }
    if cases.is_empty() {
        return Err(mistake(path, 0, "expected cases, got none"));
    }
    Ok(cases)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, Mistake> {
    let failed = |error: std::io::Error| mistake(directory, 0, &error.to_string());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "case")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the cases of one file.
///
/// # Errors
/// The first mistake.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Case>, Mistake> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        let wrong = |message: String| mistake(file, number, &message);
        if text.is_empty() || text.starts_with("//") {
            continue;
        }
        if let Some(title) = text.strip_prefix("# ") {
            cases.last().map_or(Ok(()), complete)?;
            cases.push(Case {
                file: file.to_owned(),
                line: number,
                title: title.trim().to_owned(),
                sources: Vec::new(),
                applies: Vec::new(),
                steps: Vec::new(),
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            return Err(wrong("expected `# ` and the title of a case".to_owned()));
        };
        if let Some(sources) = text.strip_prefix("source:") {
            for source in sources.split(',') {
                case.sources
                    .push(Source::parse(source.trim()).map_err(wrong)?);
            }
        } else if let Some(drivers) = text.strip_prefix("applies:") {
            case.applies
                .extend(drivers.split(',').map(|driver| driver.trim().to_owned()));
        } else {
            case.steps.push(line::step(text, number).map_err(wrong)?);
        }
    }
    cases.last().map_or(Ok(()), complete)?;
    Ok(cases)
}

/// Refuses a case without a source or without steps.
fn complete(case: &Case) -> Result<(), Mistake> {
    if case.sources.is_empty() {
        return Err(mistake(
            &case.file,
            case.line,
            "expected a `source:` line below the title",
        ));
    }
    if case.steps.is_empty() {
        return Err(mistake(
            &case.file,
            case.line,
            "expected steps below the title",
        ));
    }
    Ok(())
}

fn mistake(file: &Path, line: usize, message: &str) -> Mistake {
    Mistake {
        file: file.to_owned(),
        line,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Case>, String> {
        parse(Path::new("a/b.case"), text).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn a_file_can_hold_several_cases() {
        let text = "# One, two\nsource: observed 5.1, reference 3.14\n\nserver close // now\n\
                    # Next\n// why\nsource: observed 8b.1\napplies: model, wine\nclient close -> 6";
        let cases = read(text).unwrap();
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].id(), "b/one-two");
        assert_eq!(cases[0].sources[1].to_string(), "reference 3.14");
        assert!(cases[0].applies_to("local"));
        assert_eq!(cases[1].line, 5);
        assert_eq!(cases[1].steps[0].line, 9);
        assert!(cases[1].applies_to("wine") && !cases[1].applies_to("local"));
    }

    #[test]
    fn mistakes_say_where_they_are() {
        for (text, expected) in [
            (
                "server close",
                "a/b.case:1: expected `# ` and the title of a case",
            ),
            (
                "# A\nserver close",
                "a/b.case:1: expected a `source:` line below the title",
            ),
            (
                "\n# A\nsource: observed 5.1",
                "a/b.case:2: expected steps below the title",
            ),
            (
                "# A\nsource: observed 5.1\nx y",
                "a/b.case:3: expected `server`, `fellow`",
            ),
        ] {
            let mistake = read(text).unwrap_err();
            assert!(mistake.starts_with(expected), "{mistake}");
        }
    }

    #[test]
    fn rules_have_a_document_a_section_and_an_item() {
        for text in [
            "observed 5",
            "observed 99.1",
            "folklore 1.1",
            "reference 9.2",
            "observed x.1",
            "reference 2.5-0",
            "reference 2.5-",
        ] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
        let source = Source::parse("reference 2.5-12").unwrap();
        assert_eq!((source.item, source.part), (5, Some(12)));
        assert_eq!(source.to_string(), "reference 2.5-12");
    }
}
