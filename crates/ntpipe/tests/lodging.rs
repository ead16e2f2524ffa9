//! Instances of a member of a name whose last holders leave.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use ntpipe::{ClientOptions, NamedPipeServer, ServerOptions};

mod support;
use support::{PIPE, Scenario, hear, say, this_test};

/// The owner is told of each instance that goes, by the thread that hears its answers.
#[test]
fn the_service_thread_waits_for_no_answer_that_it_is_to_hear() {
    Scenario::new(this_test!())
        .role("owner", || {
            let _server = ServerOptions::new().create(PIPE).unwrap();
            say("up");
            hear();
        })
        .role("member", || {
            let _taken = ClientOptions::new().open(PIPE).unwrap();
            let lodge = |_| {
                let server = ServerOptions::new().create(PIPE).unwrap();
                let client = ClientOptions::new().open(PIPE).unwrap();
                server.connect().unwrap();
                let worker = NamedPipeServer::from_parts(server.share().unwrap()).unwrap();
                (worker, client)
            };
            let lodgers: Vec<_> = (0..5).map(lodge).collect();
            drop(lodgers);
            // The owner's answer is heard in time.
            ServerOptions::new().create(PIPE).unwrap();
        })
        .run(|stage| {
            let mut owner = stage.start("owner");
            owner.expect("up");
            stage.start("member").finish();
            owner.say("enough");
            owner.finish();
        });
}
