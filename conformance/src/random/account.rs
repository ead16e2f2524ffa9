//! Who holds what, and what has been done with it, while a sequence is made up.

use std::collections::{BTreeMap, BTreeSet};

use ntpipe_proto::{Error, WaitMode};

use crate::{Action, Label, Operation, Outcome, Rights, Role, Tag, Where};

/// What is known of the ends of a sequence so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The handles that exist, and the ends that they are for.
    handles: BTreeMap<Label, Label>,
    /// What there is to know of each end.
    ends: BTreeMap<Label, End>,
    /// Calls, and whom they are for.
    calls: BTreeMap<Tag, Where>,
    /// Operations that write.
    writes: BTreeSet<Tag>,
}

/// What there is to know of an end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct End {
    /// What it was opened for, if it is a client's.
    pub(super) access: Option<Rights>,
    /// How much was written through it, or through one of its name before.
    pub(super) written: usize,
    /// It may not wait.
    pub(super) is_hasty: bool,
    /// It may have taken a write back.
    pub(super) is_regretful: bool,
}

impl Account {
    /// Takes note of a step, its outcome, and the operations that were under way before it.
    pub(super) fn note(&mut self, action: &Action, outcome: &Outcome, before: &[(Tag, Label)]) {
        match action {
            Action::Begin {
                tag,
                actor,
                operation,
            } => {
                if let Operation::Call { place, .. } = operation {
                    let call = tag.clone().map(|tag| (tag, place.clone()));
                    self.calls.extend(call);
                }
                if let Operation::Write { .. } | Operation::Transact { .. } = operation {
                    self.writes.extend(tag.clone());
                }
                self.note_operation(actor, operation, outcome);
            }
            Action::Cancel(tag) => {
                let cancelled = before.iter().find(|(pending, _)| pending == tag);
                if let Some((_, handle)) = cancelled {
                    self.end_mut(handle).is_regretful = true;
                }
            }
            Action::Check(_) => {}
        }
    }

    fn note_operation(&mut self, actor: &Label, operation: &Operation, outcome: &Outcome) {
        match (operation, outcome) {
            (Operation::Create(create), Outcome::Done) => {
                self.add(actor, None, create.wait_mode);
            }
            (Operation::Open(open), Outcome::Done) => {
                self.add(actor, Some(open.access), WaitMode::Wait);
            }
            (Operation::CreatePipe { .. }, Outcome::Done) => {
                let (reader, writer) = actor.ends();
                self.add(&reader, None, WaitMode::Wait);
                self.add(&writer, None, WaitMode::Wait);
            }
            (Operation::Clone { of }, Outcome::Done) => {
                let end = self.end_of(of);
                self.handles.insert(actor.clone(), end);
            }
            (Operation::SetMode(mode), Outcome::Done) => {
                self.end_mut(actor).is_hasty = mode.wait_mode == WaitMode::NoWait;
            }
            (Operation::Close, _) => {
                self.handles.remove(actor);
            }
            (Operation::Kill, _) => {
                let process = actor.process();
                self.handles.retain(|handle, _| handle.process() != process);
            }
            (Operation::CancelIo, _) => self.end_mut(actor).is_regretful = true,
            (Operation::Write { data, .. } | Operation::Transact { data, .. }, outcome) => {
                let end = self.end_mut(actor);
                end.written += data.len();
                end.is_regretful |= *outcome == Outcome::Failed(Error::SEM_TIMEOUT);
            }
            _ => {}
        }
    }

    fn add(&mut self, label: &Label, access: Option<Rights>, wait_mode: WaitMode) {
        self.handles.insert(label.clone(), label.clone());
        let end = self.ends.entry(label.clone()).or_default();
        end.access = access;
        end.is_hasty = wait_mode == WaitMode::NoWait;
    }

    /// The handles that exist.
    pub(super) fn handles(&self) -> Vec<Label> {
        self.handles.keys().cloned().collect()
    }

    /// Those of servers, or of clients.
    pub(super) fn handles_of(&self, role: Role) -> Vec<Label> {
        let mut handles = self.handles();
        handles.retain(|handle| handle.role() == role);
        handles
    }

    /// Whether there is such a handle.
    pub(super) fn has(&self, handle: &Label) -> bool {
        self.handles.contains_key(handle)
    }

    /// What is known of the end that a handle is for, or will be for.
    pub(super) fn end(&self, handle: &Label) -> End {
        let end = self.ends.get(&self.end_of(handle));
        end.copied().unwrap_or_default()
    }

    /// The most that was written through any end.
    pub(super) fn most_written(&self) -> usize {
        let written = self.ends.values().map(|end| end.written);
        written.max().unwrap_or_default()
    }

    /// Whether two handles are for one end.
    pub(super) fn share(&self, one: &Label, other: &Label) -> bool {
        self.end_of(one) == self.end_of(other)
    }

    /// Whether an operation writes.
    pub(super) fn writes(&self, tag: &Tag) -> bool {
        self.writes.contains(tag)
    }

    /// Whether an operation is a call, for this name.
    pub(super) fn calls(&self, tag: &Tag, place: &Where) -> bool {
        self.calls.get(tag) == Some(place)
    }

    fn end_of(&self, handle: &Label) -> Label {
        self.handles.get(handle).unwrap_or(handle).clone()
    }

    fn end_mut(&mut self, handle: &Label) -> &mut End {
        self.ends.entry(self.end_of(handle)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;

    #[test]
    fn what_is_done_through_one_handle_counts_for_all_of_its_end() {
        let mut account = Account::default();
        for line in [
            "server create wait=no -> ok",
            "server2 clone server -> ok",
            "server2 write \"abc\" -> ok 3",
            "server close -> ok",
        ] {
            let step = Step::parse(line, 1).unwrap();
            account.note(&step.action, &step.expected.0, &[]);
        }
        let [server, server2] = ["server", "server2"].map(|name| Label::new(name).unwrap());
        assert!(!account.has(&server));
        assert!(account.share(&server2, &server));
        assert!(account.end(&server2).is_hasty);
        assert_eq!(account.end(&server2).written, 3);
    }
}
