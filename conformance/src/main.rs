//! Runs the cases from the command line and prints where a driver answers otherwise.
#![allow(clippy::print_stdout, reason = "the output is what the program is for")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use conformance::{Rule, Selection, Source, check, drivers, load, rules, run, with_files, work};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    // Not for users: the driver of several processes starts its own this way.
    if args.next_if_eq("worker").is_some() {
        return match work(&args.next().unwrap_or_default()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let done = match args.next_if_eq("rules") {
        Some(_) => compare(args),
        None => Options::parse(args).and_then(|options| options.run()),
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            println!("conformance: {message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Compares the table of rules with the cases, or puts its case files right.
fn compare(mut args: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let write = match args.next().as_deref() {
        None => false,
        Some("--write") => true,
        Some(other) => return Err(format!("unknown option {other}")),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = root.join("docs/semantics.md");
    let cases = load(&root.join("conformance/cases")).map_err(|mistake| mistake.to_string())?;
    let read =
        || fs::read_to_string(&table).map_err(|error| format!("{}: {error}", table.display()));
    if write {
        let text = with_files(&read()?, &cases)?;
        fs::write(&table, text).map_err(|error| error.to_string())?;
    }
    let rules = rules(&read()?)?;
    let wrong = check(&rules, &cases, &root);
    for message in &wrong {
        println!("{message}");
    }
    let count = |shown: fn(&Rule) -> bool| rules.iter().filter(|rule| shown(rule)).count();
    println!(
        "{} rules: {} shown by {} cases, {} by tests elsewhere, {} not built, {} wrong",
        rules.len(),
        count(|rule| !rule.shown.files.is_empty()),
        cases.len(),
        count(|rule| rule.shown.files.is_empty() && !rule.shown.tests.is_empty()),
        count(|rule| rule.shown.not_built.is_some()),
        wrong.len()
    );
    Ok(ExitCode::from(u8::from(!wrong.is_empty())))
}

#[derive(Default)]
struct Options {
    summary: bool,
    list: bool,
    driver: Option<String>,
    case: Option<Selection>,
    rule: Option<Source>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--summary" => options.summary = true,
                "--list" => options.list = true,
                "--driver" => options.driver = Some(value()?),
                "--case" => options.case = Some(Selection(value()?)),
                "--rule" => options.rule = Some(Source::parse(&value()?)?),
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        Ok(options)
    }

    fn run(self) -> Result<ExitCode, String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
        let mut cases = load(&directory).map_err(|mistake| mistake.to_string())?;
        if let Some(selection) = self.case {
            cases.retain(|case| selection.contains(&case.id()));
        }
        if let Some(rule) = self.rule {
            cases.retain(|case| case.sources.contains(&rule));
        }
        if self.list {
            for case in &cases {
                println!("{}", case.id());
            }
            return Ok(ExitCode::SUCCESS);
        }
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut drivers = drivers(&program);
        if let Some(name) = self.driver {
            drivers.retain(|driver| driver.name() == name);
        }
        if cases.is_empty() || drivers.is_empty() {
            return Err("nothing to run".to_owned());
        }
        let mut failed = false;
        for driver in &mut drivers {
            let summary = run(driver.as_mut(), &cases);
            failed |= !summary.differences.is_empty();
            if !self.summary {
                for (case, reason) in &summary.not_applicable {
                    println!("{}: {case} is not applicable: {reason}", summary.driver);
                }
                for difference in &summary.differences {
                    println!("{difference}");
                }
            }
            println!("{summary}");
        }
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

const USAGE: &str = "\
usage: conformance [--driver NAME] [--case GLOB] [--rule ID] [--summary | --list]
       conformance rules [--write]
  --driver NAME  only this driver
  --case GLOB    only cases whose id (see --list) matches; * and ? stand for anything
  --rule ID      only cases that cite this rule, such as 'observed 5.19'
  --summary      one line for each driver, without the differences
  --list         the ids of the cases
  rules          compare docs/semantics.md with the cases
  rules --write  put right which case files it names";
