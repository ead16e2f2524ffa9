//! Random sequences of steps: the model and real processes agree.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::time::{Duration, Instant};

use conformance::{Driver, Interface, Layout, Partly, Processes, Random};

fn processes(layout: Layout) -> Processes {
    Processes::lasting(Path::new(env!("CARGO_BIN_EXE_conformance")), layout)
}

/// Runs sequences from this seed on; the first that differs is made small and told.
fn agree(layout: Layout, seed: u64, rounds: usize) -> Result<(), String> {
    agree_with(processes(layout), seed, rounds)
}

fn agree_with(mut driver: impl Driver, seed: u64, rounds: usize) -> Result<(), String> {
    let mut random = Random { seed, steps: 20 };
    for _ in 0..rounds {
        if let Some(mut found) = random.next(&mut driver).found {
            let end = Instant::now() + Duration::from_secs(60);
            found.shrink(&mut driver, 3, end);
            return Err(format!("{}\n{}", found.difference, found.text()));
        }
    }
    Ok(())
}

#[test]
fn the_model_and_real_processes_agree_on_known_sequences() {
    assert_eq!(agree(Layout::Apart, 1, 70), Ok(()));
    assert_eq!(agree(Layout::Together, 1, 70), Ok(()));
}

#[test]
fn the_model_and_real_processes_agree_on_fresh_sequences() {
    let seed = RandomState::new().hash_one(0) % 1_000_000_000;
    println!("70 sequences from seed {seed}");
    assert_eq!(agree(Layout::Apart, seed, 70), Ok(()), "from seed {seed}");
    assert_eq!(
        agree(Layout::Together, seed, 100),
        Ok(()),
        "from seed {seed}"
    );
}

#[test]
fn the_model_and_tasks_agree_as_far_as_tasks_can_go() {
    let seed = RandomState::new().hash_one(0) % 1_000_000_000;
    println!("40 sequences from seed {seed}");
    for (layout, interface) in [
        (Layout::Together, Interface::Tokio),
        (Layout::Together, Interface::TokioThreads),
        (Layout::Apart, Interface::Tokio),
    ] {
        for seed in [1, seed] {
            let driver = Partly::of(processes(layout).through(interface));
            let found = agree_with(driver, seed, 40);
            assert_eq!(found, Ok(()), "from seed {seed}, {interface:?}");
        }
    }
}
