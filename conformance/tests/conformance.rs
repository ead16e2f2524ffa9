//! Every case through every driver that can run here.

use std::fs;
use std::path::Path;

use conformance::{Case, Source, check, drivers, load, rules, run, with_files};

fn cases() -> Result<Vec<Case>, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    load(&directory).map_err(|mistake| mistake.to_string())
}

#[test]
fn every_driver_answers_as_the_cases_say() {
    let cases = cases().unwrap();
    let mut differences = Vec::new();
    for driver in &mut drivers(Path::new(env!("CARGO_BIN_EXE_conformance"))) {
        let summary = run(driver.as_mut(), &cases);
        println!("{summary}");
        // The blocking interface has words for most of them, the model for all; tokio's means
        // something else by a write that waits, and has no NOWAIT.
        let all = summary.cases + summary.not_applicable.len();
        assert_eq!(all, cases.len(), "{}", summary.driver);
        let few = match summary.driver.starts_with("tokio") {
            true => all * 3 / 5,
            false => all * 2 / 3,
        };
        assert!(summary.cases > few, "too few for {}", summary.driver);
        differences.extend(
            summary
                .differences
                .iter()
                .map(|d| format!("{}: {d}", summary.driver)),
        );
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn every_case_names_its_rules_in_their_form() {
    let cases = cases().unwrap();
    assert!(cases.len() >= 300, "only {} cases", cases.len());
    for case in cases {
        let place = format!("{}:{}", case.file.display(), case.line);
        assert!(!case.sources.is_empty(), "{place}: no source");
        for source in &case.sources {
            let again = Source::parse(&source.to_string());
            assert_eq!(again.as_ref(), Ok(source), "{place}");
        }
    }
}

#[test]
fn the_model_can_run_every_case() {
    let drivers = drivers(Path::new(env!("CARGO_BIN_EXE_conformance")));
    let model = drivers.iter().find(|driver| driver.name() == "model");
    let model = model.unwrap();
    for case in cases().unwrap() {
        assert!(case.applies_to("model"), "{}", case.id());
        for step in &case.steps {
            assert_eq!(model.lacks(step), None, "{}", case.id());
        }
    }
}

#[test]
fn the_table_of_rules_and_the_cases_agree() {
    let (cases, root) = (
        cases().unwrap(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
    );
    let text = fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    let wrong = check(&rules(&text).unwrap(), &cases, &root);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What `rules --write` writes is what stands there.
    assert!(with_files(&text, &cases).unwrap() == text);
}
