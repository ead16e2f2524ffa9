//! What the blocking interface has no words for.

use ntpipe_proto::WaitMode;

use super::Layout;
use crate::{Action, Label, Operation, Rights, Role, Step};

/// Why a step cannot be done by the blocking interface, if it cannot.
pub(super) fn lacks(layout: Layout, step: &Step) -> Option<&'static str> {
    match &step.action {
        Action::Begin {
            actor, operation, ..
        } => of_role(layout, actor, operation).or_else(|| of_operation(operation)),
        Action::Check(_) => None,
        Action::CheckAtOnce(_) => Some("a thread that waits takes its data by itself"),
        Action::Cancel(_) => Some("one call cannot be cancelled"),
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
            | Operation::ServerProcess,
        ) => Some("the end of an anonymous pipe has no such method"),
        (Role::Fellow, _) if layout == Layout::Apart => {
            Some("one process creates all instances of a name")
        }
        (_, Operation::Kill) if layout == Layout::Together => Some("nobody dies alone"),
        (_, Operation::Clone { of }) if layout == Layout::Apart => {
            (actor.process() != of.process()).then_some("an end stays in its process")
        }
        _ => None,
    }
}

fn of_operation(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::Create(create) => (create.wait_mode == WaitMode::NoWait).then_some(NO_WAIT),
        Operation::SetMode(mode) => (mode.wait_mode == WaitMode::NoWait).then_some(NO_WAIT),
        Operation::Open(open) => match open.access {
            Rights::Mask(_) => Some("a client asks for generic rights"),
            Rights::Both | Rights::Read | Rights::Write | Rights::None => None,
        },
        Operation::LocalInfo => Some("there is no local information"),
        Operation::Granted => Some("an end does not tell its rights"),
        Operation::CancelIo => Some("nothing can be cancelled"),
        Operation::ClientSession | Operation::ServerSession => Some("there are no session ids"),
        Operation::CreatePipe { .. }
        | Operation::Clone { .. }
        | Operation::Connect { .. }
        | Operation::Disconnect
        | Operation::Close
        | Operation::Write { .. }
        | Operation::Read { .. }
        | Operation::Peek { .. }
        | Operation::Flush { .. }
        | Operation::Transact { .. }
        | Operation::Call { .. }
        | Operation::Wait { .. }
        | Operation::Info
        | Operation::Name
        | Operation::ClientProcess
        | Operation::ServerProcess
        | Operation::Kill => None,
    }
}

const NO_WAIT: &str = "an end always waits";
