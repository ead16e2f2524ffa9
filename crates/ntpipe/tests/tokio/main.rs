//! Pipes for tasks, in both kinds of runtime.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod basics;
mod behaviours;
mod behind;
mod buffers;
mod cancel;
mod cancelling;
mod clones;
mod closing;
mod given_up;
mod halfway;
mod handles;
mod lifetime;
mod listening;
mod load;
mod moving;
mod queries;
mod readiness;
mod support;
mod threads;
mod wakers;
mod withdrawn;
