//! What tasks do otherwise because of several steps of a case.

use std::collections::BTreeMap;

use ntpipe_proto::PipeType;

use crate::{Action, Case, Interface, Label, Operation, Outcome, Role, Step, Tag, Where};

/// Why tasks cannot run a case, though they can do each of its steps.
pub(crate) fn lacks_together(interface: Interface, case: &Case) -> Option<&'static str> {
    let mut course = Course::default();
    (case.steps.iter()).find_map(|step| course.lacks(interface, step))
}

/// How a case goes on.
#[derive(Default)]
struct Course {
    /// The type of each pipe, byte if it ever was, and the smallest quotas of its instances.
    pipes: BTreeMap<String, Pipe>,
    /// Which pipe an end is of.
    places: BTreeMap<Label, String>,
    /// The reads that wait, and who waits.
    reads: BTreeMap<Tag, Label>,
    /// As these, for the replies of transactions.
    replies: BTreeMap<Tag, Label>,
}

#[derive(Clone, Copy)]
struct Pipe {
    pipe_type: PipeType,
    in_quota: u32,
    out_quota: u32,
}

impl Course {
    fn lacks(&mut self, interface: Interface, step: &Step) -> Option<&'static str> {
        let (tag, actor, operation) = match &step.action {
            Action::Begin {
                tag,
                actor,
                operation,
            } => (tag, actor, operation),
            Action::Check(_) if step.expected.0 == Outcome::Pending => return None,
            Action::Check(tag) | Action::Cancel(tag) => {
                self.reads.remove(tag);
                self.replies.remove(tag);
                return None;
            }
        };
        if let Some(place) = self.place(operation) {
            self.places.insert(actor.clone(), place);
        }
        let waits = step.expected.0 == Outcome::Pending;
        if let (Operation::Transact { .. } | Operation::Call { .. }, true, Some(tag)) =
            (operation, waits, tag)
        {
            self.replies.insert(tag.clone(), actor.clone());
        }
        if let (Operation::Read { .. }, true, Some(tag)) = (operation, waits, tag) {
            let several = self.reads.values().any(|other| other == actor);
            self.reads.insert(tag.clone(), actor.clone());
            return (several && interface == Interface::TokioThreads)
                .then_some("of tasks on several threads any reads first");
        }
        if let (Operation::LocalInfo, Outcome::Told { facts, .. }) = (operation, &step.expected.0)
            && (self.reads.values().chain(self.replies.values()))
                .any(|other| self.is_peer(actor, other))
            && facts.0.iter().any(|(name, _)| name == "room")
        {
            return Some("what a waiting task would read takes nothing of the quota");
        }
        if let Operation::Write { data, .. } = operation
            && self.quota(actor).is_some_and(|quota| data.len() > quota)
        {
            return Some("what a waiting task would read is no room before it has read it");
        }
        None
    }

    /// Whether one can write what the other reads.
    fn is_peer(&self, one: &Label, other: &Label) -> bool {
        let is_server = |label: &Label| matches!(label.role(), Role::Server | Role::Fellow);
        is_server(one) != is_server(other) && self.places.get(one) == self.places.get(other)
    }

    /// The pipe that an operation gives an end of.
    fn place(&mut self, operation: &Operation) -> Option<String> {
        if let Operation::Clone { of } = operation {
            return self.places.get(of).cloned();
        }
        if let Operation::Open(open) = operation {
            return Some(name(&open.place));
        }
        if let Operation::Call { place, .. } = operation {
            return Some(name(place));
        }
        if let Operation::Create(create) = operation {
            let place = name(&create.place);
            let fresh = Pipe {
                pipe_type: create.pipe_type,
                in_quota: create.in_quota,
                out_quota: create.out_quota,
            };
            let pipe = self.pipes.entry(place.clone()).or_insert(fresh);
            if create.pipe_type == PipeType::Byte {
                pipe.pipe_type = PipeType::Byte;
            }
            pipe.in_quota = pipe.in_quota.min(create.in_quota);
            pipe.out_quota = pipe.out_quota.min(create.out_quota);
            return Some(place);
        }
        None
    }

    /// How many bytes an actor can write to a byte pipe without waiting.
    fn quota(&self, actor: &Label) -> Option<usize> {
        let pipe = self.pipes.get(self.places.get(actor)?)?;
        let quota = match actor.role() {
            Role::Server | Role::Fellow => pipe.out_quota,
            Role::Client | Role::Caller | Role::Pipe | Role::Reader | Role::Writer => pipe.in_quota,
        };
        (pipe.pipe_type == PipeType::Byte).then_some(usize::try_from(quota).ok()?)
    }
}

fn name(place: &Where) -> String {
    let (Where::Name(name) | Where::Path(name)) = place;
    name.clone()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::case;

    fn reason(interface: Interface, steps: &str) -> Option<&'static str> {
        let text = format!("# A\nsource: observed 5.1\n{steps}");
        let cases = case::parse(Path::new("a.case"), &text).unwrap();
        lacks_together(interface, &cases[0])
    }

    #[test]
    fn a_write_of_bytes_must_fit_the_buffer_of_its_own_direction() {
        let with = |step: &str| {
            let steps = format!("server create name=a in=3 out=2\nclient open name=a\n{step}");
            reason(Interface::Tokio, &steps)
        };
        assert_eq!(with("client write \"abc\" -> ok 3"), None);
        assert!(with("client write \"abcd\" -> ok 4").is_some());
        assert!(with("server write \"abc\" -> ok 3").is_some());
        assert!(with("client2 clone client\nclient2 write \"abcd\" -> ok 4").is_some());
        let smaller = "server2 create name=a quota=1\nclient write \"ab\" -> ok 2";
        assert!(with(smaller).is_some());
        let again = "server close\nclient close\nserver2 create name=b type=message\nserver2 close\n\
                     server create name=b in=1\nclient open name=b\nclient write \"ab\" -> ok 2";
        assert!(with(again).is_some());
        let messages = "server2 create name=b type=message quota=1\nclient2 open name=b\n\
                        client2 write \"ab\" -> ok 2";
        assert_eq!(with(messages), None);
    }

    #[test]
    fn the_room_beside_a_waiting_read_is_not_what_windows_tells() {
        let begun = "server create name=a\nclient open name=a\nr1 = client read 4 -> pending\n";
        let with = |step: &str| reason(Interface::Tokio, &format!("{begun}{step}"));
        assert!(with("server local-info -> ok room=6").is_some());
        assert_eq!(with("server local-info -> ok readable=6"), None);
        assert_eq!(with("client local-info -> ok room=6"), None);
        assert_eq!(with("cancel r1\nserver local-info -> ok room=6"), None);
        for asks in [
            "t = client transact \"\" 4 -> pending",
            "t = caller call name=a \"\" 4 forever -> pending",
        ] {
            let room = "server local-info -> ok room=6";
            assert!(with(&format!("cancel r1\n{asks}\n{room}")).is_some());
            assert_eq!(with(&format!("cancel r1\n{asks}\ncancel t\n{room}")), None);
        }
    }

    #[test]
    fn several_reads_that_wait_at_one_end_need_one_thread() {
        let two = "r1 = server read 1 -> pending\nr2 = server read 1 -> pending";
        assert_eq!(reason(Interface::Tokio, two), None);
        assert!(reason(Interface::TokioThreads, two).is_some());
        let first = "r1 = server read 1 -> pending\n";
        for between in ["r1 -> ok \"a\"", "cancel r1", "client read 1 -> ok \"a\""] {
            let steps = format!("{first}{between}\nr2 = server read 1 -> pending");
            let reason = reason(Interface::TokioThreads, &steps);
            assert_eq!(reason.is_some(), between.starts_with("client"), "{between}");
        }
        let still = format!("{first}r1 -> pending\nr2 = server read 1 -> pending");
        assert!(reason(Interface::TokioThreads, &still).is_some());
        let others = format!("{first}r2 = client read 1 -> pending");
        assert_eq!(reason(Interface::TokioThreads, &others), None);
    }
}
