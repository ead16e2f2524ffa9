//! The examples that check their own result.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

mod support;
use support::{Scenario, this_test};

#[path = "../examples/tokio_call.rs"]
mod call;
#[path = "../examples/tokio_http.rs"]
mod http;
#[path = "../examples/tokio_json_lines.rs"]
mod json_lines;

#[test]
fn a_message_is_answered() {
    Scenario::alone(this_test!(), || call::main().unwrap());
}

#[test]
fn a_hyper_client_is_served_over_a_pipe() {
    Scenario::alone(this_test!(), || http::main().unwrap());
}

#[test]
fn json_goes_in_messages() {
    Scenario::alone(this_test!(), || json_lines::main().unwrap());
}
