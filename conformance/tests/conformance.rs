//! Every case through every driver that can run here.

use std::path::Path;

use conformance::{Case, Source, drivers, load, run};

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
        assert!(summary.cases > 0, "no case applies to {}", summary.driver);
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
    assert!(cases.len() >= 90, "only {} cases", cases.len());
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
fn every_case_applies_to_some_driver() {
    let names: Vec<&str> = drivers(Path::new(env!("CARGO_BIN_EXE_conformance")))
        .iter()
        .map(|driver| driver.name())
        .collect();
    for case in cases().unwrap() {
        let applies = names.iter().any(|name| case.applies_to(name));
        assert!(applies, "{} applies to no driver", case.id());
    }
}
