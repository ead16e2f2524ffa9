//! What the interface for tasks has no words for, and where its words mean something else.

use ntpipe_proto::{Error, WaitMode};

use crate::{Action, Create, Label, Layout, Operation, Outcome, Role, SetMode, Step};

/// Why a step cannot be done by tasks, if it cannot.
pub(crate) fn lacks(layout: Layout, step: &Step) -> Option<&'static str> {
    if step.at_once {
        return Some("a task that waits takes its turn");
    }
    let Action::Begin {
        actor, operation, ..
    } = &step.action
    else {
        return None;
    };
    of_role(layout, actor, operation)
        .or_else(|| of_operation(operation))
        .or_else(|| otherwise(operation, &step.expected.0))
}

/// What some ends have and others lack.
fn of_role(layout: Layout, actor: &Label, operation: &Operation) -> Option<&'static str> {
    match (actor.role(), operation) {
        (Role::Pipe | Role::Reader | Role::Writer, _) => {
            Some("there are no anonymous pipes for tasks")
        }
        (Role::Client, Operation::Connect { .. } | Operation::Disconnect) => {
            Some("a client end has no such method")
        }
        (_, Operation::Kill) if layout == Layout::Together => Some("nobody dies alone"),
        (_, Operation::Clone { of }) if actor.process() != of.process() => {
            (layout == Layout::Apart).then_some("an end stays in its process")
        }
        _ => None,
    }
}

/// What cannot be said.
fn of_operation(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::Create(Create {
            wait_mode: WaitMode::NoWait,
            ..
        })
        | Operation::SetMode(SetMode {
            wait_mode: WaitMode::NoWait,
            ..
        }) => Some("tasks have `try_read` and `try_write` instead of NOWAIT"),
        Operation::Create(Create { max, .. }) if max.0 > 255 => {
            Some("tokio's options panic at so many instances")
        }
        Operation::Create(_)
        | Operation::CreatePipe { .. }
        | Operation::Open(_)
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
        | Operation::SetMode(_)
        | Operation::Info
        | Operation::LocalInfo
        | Operation::Granted
        | Operation::Name
        | Operation::ClientSession
        | Operation::ServerSession
        | Operation::ClientProcess
        | Operation::ServerProcess
        | Operation::CancelIo
        | Operation::Kill => None,
    }
}

/// Where tokio's interface does something else than Windows.
fn otherwise(operation: &Operation, expected: &Outcome) -> Option<&'static str> {
    match (operation, expected) {
        (Operation::Read { .. } | Operation::Write { .. }, Outcome::Failed(error))
            if *error == Error::PIPE_LISTENING =>
        {
            Some("tasks wait for a client when they read or write")
        }
        (Operation::Connect { .. }, Outcome::Failed(error)) if *error == Error::NO_DATA => {
            Some("tokio takes a client that came and went for one that came")
        }
        (Operation::Write { .. }, Outcome::Pending) => Some(WAITS),
        (Operation::Write { .. }, Outcome::Failed(error))
            if *error == Error::SEM_TIMEOUT || *error == Error::BROKEN_PIPE =>
        {
            Some(WAITS)
        }
        _ => None,
    }
}

const WAITS: &str = "what a task writes is not there before it has room";

#[cfg(test)]
mod tests {
    use super::*;

    fn can(layout: Layout, step: &str) -> bool {
        lacks(layout, &Step::parse(step, 1).unwrap()).is_none()
    }

    #[test]
    fn what_is_expected_decides_where_tasks_do_otherwise() {
        for (step, expected) in [
            ("client write \"a\" -> ok 1", true),
            ("w = client write \"a\" -> pending", false),
            ("client write \"a\" within 20ms -> 121", false),
            ("client write \"a\" -> 232", true),
            ("server connect -> 232", false),
            ("client write \"a\" -> 109", false),
            ("server read 1 -> 233", true),
            ("server read 1 -> 536", false),
            ("server info -> ok end=server max=3", true),
            ("server create type=message direction=inbound", true),
            ("server create wait=no", false),
            ("server create max=255", true),
            ("server create max=256 -> 87", false),
            ("client set-mode message", true),
            ("client set-mode message nowait", false),
        ] {
            assert_eq!(can(Layout::Together, step), expected, "{step}");
        }
    }

    #[test]
    fn who_lives_in_another_process_can_die_but_shares_no_end() {
        assert!(!can(Layout::Together, "client kill"));
        assert!(can(Layout::Apart, "client kill"));
        assert!(can(Layout::Together, "client2 clone client"));
        assert!(!can(Layout::Apart, "client2 clone client"));
        assert!(can(Layout::Apart, "server2 clone server"));
    }
}
