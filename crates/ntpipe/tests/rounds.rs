//! `kill -9` at random points, round after round: nobody hangs, what was completed arrives, what
//! was not is gone, and nothing is left behind.
//!
//! A nursery makes the processes that are killed, so that they cost a fork each; the survivor lives
//! on. Everything about a round follows from one number. `NTPIPE_ROUNDS` sets how many rounds there
//! are, `NTPIPE_SEED` which.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::thread;
use std::time::Duration;

#[path = "rounds/plan.rs"]
mod plan;
mod support;
#[path = "rounds/survivor.rs"]
mod survivor;
#[path = "rounds/victim.rs"]
mod victim;

use plan::{Board, Plan};
use support::{Scenario, Stage, notes, raw, this_test};

/// Longer than the watchdog waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many rounds one set of processes plays. The watchdog bounds how long they may take.
const AT_ONCE: u64 = 25;
/// How many rounds there are altogether.
const ROUNDS: u64 = 1000;

/// What the processes of this test share.
fn board() -> &'static Board {
    Board::open(&notes(&raw::dir()))
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tells which round it was that failed.
struct Played(Plan);

impl Drop for Played {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("it was {:?}", self.0);
        }
    }
}

/// Plays this test's part of all rounds: `share` tenths.
fn play(test: &'static str, share: u64, roles: impl Fn(Scenario) -> Scenario) {
    let rounds = setting("NTPIPE_ROUNDS").unwrap_or(ROUNDS) * share / 10;
    let seed = setting("NTPIPE_SEED").unwrap_or_else(|| plan::now() >> 10);
    println!("{rounds} rounds, NTPIPE_SEED={seed}");
    let mut noticed = Vec::new();
    let mut next = seed;
    while next < seed + rounds {
        let last = (next + AT_ONCE).min(seed + rounds);
        roles(Scenario::new(test)).run(|stage| noticed.extend(play_some(stage, next..last)));
        next = last;
    }
    noticed.sort_unstable();
    let at = |part: usize| noticed.get((noticed.len() * part / 1000).min(noticed.len() - 1));
    if !noticed.is_empty() {
        let [median, most, all] = [500, 990, 1000].map(|part| at(part).unwrap());
        let count = noticed.len();
        println!("{count} deaths noticed within {median} (median), {most} (99 %), {all} µs (all)");
        println!("the aim is 100000 µs");
    }
}

/// Plays rounds with one set of processes; returns how long the news took in each, in µs.
fn play_some(stage: &Stage, seeds: std::ops::Range<u64>) -> Vec<u64> {
    let board = Board::open(&notes(stage.dir()));
    let mut nursery = stage.start("nursery");
    let mut survivor = stage.start("survivor");
    let mut noticed = Vec::new();
    for seed in seeds {
        let round = Played(Plan::new(seed));
        board.clear();
        nursery.say(&seed.to_string());
        survivor.say(&seed.to_string());
        nursery.expect("dead");
        noticed.extend(survivor.hear().parse::<u64>());
        drop(round);
    }
    nursery.say("done");
    survivor.say("done");
    nursery.finish();
    survivor.finish();
    assert_eq!(stage.files(), [""; 0]);
    noticed
}

#[test]
fn a_server_outlives_its_clients() {
    play(this_test!(), 4, |scenario| {
        scenario
            .role("nursery", || victim::nursery(&[victim::client]))
            .role("survivor", survivor::server)
    });
}

#[test]
fn a_client_outlives_its_servers() {
    play(this_test!(), 3, |scenario| {
        scenario
            .role("nursery", || victim::nursery(&[victim::server]))
            .role("survivor", survivor::client)
    });
}

#[test]
fn a_name_outlives_its_server_and_its_client() {
    play(this_test!(), 1, |scenario| {
        scenario
            .role("nursery", || {
                victim::nursery(&[victim::server, victim::client]);
            })
            .role("survivor", survivor::heir)
    });
}

#[test]
fn a_server_outlives_its_visitors() {
    play(this_test!(), 1, |scenario| {
        scenario
            .role("nursery", || {
                victim::nursery(&[victim::visitor, victim::visitor]);
            })
            .role("survivor", survivor::host)
    });
}

#[test]
fn a_name_outlives_one_of_its_servers() {
    play(this_test!(), 1, |scenario| {
        scenario
            .role("nursery", || victim::nursery(&[victim::colleague]))
            .role("survivor", survivor::partner)
    });
}
