//! Runs the cases from the command line and prints where a driver answers otherwise.
#![allow(clippy::print_stdout, reason = "the output is what the program is for")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conformance::{
    Driver, Rule, Selection, Source, Wine, check, drivers, load, rules, run, with_files, work,
};

mod search;
use search::Search;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    // Not for users: the driver of several processes starts its own this way.
    if args.next_if_eq("worker").is_some() {
        let mut arg = || args.next().unwrap_or_default();
        return match work(&arg(), &arg()) {
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
    cases: Option<PathBuf>,
    /// The program that does the steps in Wine.
    wine: Option<PathBuf>,
    random: bool,
    search: Search,
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
                "--cases" => options.cases = Some(value()?.into()),
                "--wine" => options.wine = Some(value()?.into()),
                "--random" => options.random = true,
                "--seed" => options.search.seed = Some(number(&value()?)?),
                "--rounds" => options.search.rounds = Some(number(&value()?)?),
                "--minutes" => options.search.minutes = Some(number(&value()?)?),
                "--steps" => options.search.steps = Some(number(&value()?)?),
                "--rule" => options.rule = Some(Source::parse(&value()?)?),
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        Ok(options)
    }

    fn run(self) -> Result<ExitCode, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        if self.random {
            let driver = self.driver;
            return Search {
                driver,
                ..self.search
            }
            .run(&program);
        }
        let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
        let mut cases =
            load(self.cases.as_deref().unwrap_or(&usual)).map_err(|mistake| mistake.to_string())?;
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
        let wine = self.wine.is_some();
        let mut drivers = match self.wine {
            Some(program) => vec![Box::new(Wine::new(&program)) as Box<dyn Driver>],
            None => drivers(&program),
        };
        if let Some(name) = self.driver {
            drivers.retain(|driver| driver.name() == name);
        }
        if cases.is_empty() || drivers.is_empty() {
            return Err("nothing to run".to_owned());
        }
        let mut failed = false;
        for driver in &mut drivers {
            let summary = run(driver.as_mut(), &cases);
            // What Wine does is worth knowing, and no measure.
            failed |= !wine && !summary.differences.is_empty();
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

fn number<T: core::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("expected a number, got {text}"))
}

const USAGE: &str = "\
usage: conformance [--driver NAME] [--cases PATH] [--case GLOB] [--rule ID] [--summary | --list]
       conformance --random [--driver NAME] [--seed N] [--rounds N | --minutes M] [--steps N]
       conformance rules [--write]
  --driver NAME  only this driver: model, same-process or processes (blocking calls), tokio,
                 tokio-threads or tokio-processes (tasks on one thread, on several, in processes)
  --cases PATH   the cases of this file or directory
  --case GLOB    only cases whose id (see --list) matches; * and ? stand for anything
  --rule ID      only cases that cite this rule, such as 'observed 5.19'
  --summary      one line for each driver, without the differences
  --list         the ids of the cases
  --wine EXE     only Wine, by conformance/wine/driver.c; differences are no failure
  --random       random sequences of steps: the model and real processes must agree, and tasks as
                 far as they can do a sequence
  --seed N       the seed of the first sequence; each has one more than the one before
  --rounds N     so many sequences (1000)
  --minutes M    sequences for so long
  --steps N      about so many steps in each (20)
  rules          compare docs/semantics.md with the cases
  rules --write  put right which case files it names";
