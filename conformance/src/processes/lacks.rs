//! What the blocking interface has no words for.

use super::Layout;
use crate::{Action, Label, Operation, Role, Step};

/// Why a step cannot be done by the blocking interface, if it cannot.
pub(super) fn lacks(layout: Layout, step: &Step) -> Option<&'static str> {
    if step.at_once && layout == Layout::Apart {
        return Some("what a step sets free takes its time");
    }
    match &step.action {
        Action::Begin {
            actor, operation, ..
        } => of_role(layout, actor, operation),
        Action::Check(_) | Action::Cancel(_) => None,
    }
}

/// What some ends have and others lack.
fn of_role(layout: Layout, actor: &Label, operation: &Operation) -> Option<&'static str> {
    match (actor.role(), operation) {
        (Role::Client, Operation::Connect { .. } | Operation::Disconnect) => {
            Some("a client end has no such method")
        }
        (
            Role::Reader | Role::Writer,
            Operation::Connect { .. }
            | Operation::Disconnect
            | Operation::Name
            | Operation::ClientProcess
            | Operation::ServerProcess
            | Operation::ClientSession
            | Operation::ServerSession,
        ) => Some("the end of an anonymous pipe has no such method"),
        (_, Operation::Kill) if layout == Layout::Together => Some("nobody dies alone"),
        (_, Operation::Clone { of }) if layout == Layout::Apart => {
            (actor.process() != of.process()).then_some("an end stays in its process")
        }
        _ => None,
    }
}
