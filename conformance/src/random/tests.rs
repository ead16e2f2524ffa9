use std::path::Path;
use std::time::Duration;

use super::*;
use crate::{Model, Operation, Outcome, Step, Trouble, parse};

/// The model, but for one mistake: it says of every peek that nothing is there.
struct Mistaken(Model);

impl Driver for Mistaken {
    fn name(&self) -> &'static str {
        "mistaken"
    }

    fn start(&mut self) -> Result<(), Trouble> {
        self.0.start()
    }

    fn step(&mut self, step: &Step) -> Result<Outcome, Trouble> {
        let mut outcome = self.0.step(step)?;
        let peeks = matches!(
            &step.action,
            Action::Begin {
                operation: Operation::Peek { size: 1.. },
                ..
            }
        );
        if let Outcome::Told { data, .. } = &mut outcome
            && peeks
        {
            *data = Some(Vec::new());
        }
        Ok(outcome)
    }

    fn finish(&mut self) {
        self.0.finish();
    }
}

#[test]
fn the_model_agrees_with_itself() {
    let mut random = Random { seed: 1, steps: 40 };
    let mut model = Model::new();
    let steps: usize = (0..200)
        .map(|_| {
            let trial = random.next(&mut model);
            assert_eq!(trial.found, None);
            trial.steps
        })
        .sum();
    assert!(steps > 200 * 20, "only {steps} steps");
}

#[test]
fn a_sequence_is_a_case_that_can_be_written_and_read() {
    for seed in 0..50 {
        let able = Able { kill: true };
        let case = sequence(seed, 30, able).case(format!("Number {seed}"));
        let text = script::file(&case, "A comment\nof two lines");
        let read = parse(Path::new("random.case"), &text).unwrap();
        let [read] = read.as_slice() else {
            panic!("{text}");
        };
        assert_eq!(read.title, case.title);
        for (read, made) in read.steps.iter().zip(&case.steps) {
            assert_eq!(read.action, made.action);
            assert_eq!(read.expected, made.expected);
            let sent = Step::parse(&made.text, 1).unwrap();
            assert_eq!(sent.action, made.action);
        }
        assert_eq!(read.steps.len(), case.steps.len());
    }
}

#[test]
fn what_is_to_be_tried_is_tried() {
    let mut missing = vec![
        ("create", "ok"),
        ("create size=", "ok"),
        (" open", "ok"),
        (" clone ", "ok"),
        (" connect", "535"),
        (" connect", "pending"),
        (" disconnect", "ok"),
        (" close", "ok"),
        (" kill", "ok"),
        (" write \"", "ok 1"),
        (" write \"\"", "ok 0"),
        (" write bytes 200000 ", "pending"),
        (" write ", "121"),
        (" write ", "232"),
        (" read ", "pending"),
        (" read ", "232"),
        (" read ", "109"),
        (" read 1", "more"),
        (" read 0", "more \"\""),
        (" read ", "121"),
        (" peek ", "ok"),
        (" flush", "pending"),
        (" transact ", "pending"),
        (" transact ", "231"),
        (" call ", "pending"),
        (" wait ", "121"),
        (" set-mode ", "ok"),
        (" set-mode ", "231"),
        (" info", "ok"),
        (" local-info", "ok"),
        (" client-process", "ok"),
        (" server-process", "ok"),
        (" cancel-io", "ok"),
        ("cancel t", "ok"),
    ];
    for seed in 0..3000 {
        let case = sequence(seed, 30, Able { kill: true }).case(String::new());
        for step in &case.steps {
            let (action, outcome) = (text::action(&step.action), text::outcome(&step.expected.0));
            missing.retain(|(verb, result)| !action.contains(verb) || !outcome.starts_with(result));
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("{missing:?}");
}

#[test]
fn a_mistake_is_found_and_made_small() {
    let mut random = Random { seed: 7, steps: 40 };
    let mut driver = Mistaken(Model::new());
    let mut trials = core::iter::repeat_with(|| random.next(&mut driver)).take(100);
    let mut found = trials.find_map(|trial| trial.found).unwrap();
    assert_eq!(found.again(&mut driver, 3), 3);
    found.shrink(&mut driver, 1, Instant::now() + Duration::from_secs(60));
    let text = found.text();
    let lines: Vec<&str> = text.lines().collect();
    // The title, the source, the comment, and the four steps that it takes.
    assert_eq!(lines.len(), 8, "{text}");
    assert!(lines[4].contains(" create"), "{text}");
    assert!(lines[5].contains(" open"), "{text}");
    assert!(lines[6].contains(" write "), "{text}");
    assert!(lines[7].contains(" peek 1 -> ok \""), "{text}");
    let case = &parse(Path::new("found.case"), &text).unwrap()[0];
    assert!(runner::run_case(&mut driver, case).is_err());
    assert!(runner::run_case(&mut Model::new(), case).is_ok());
}
