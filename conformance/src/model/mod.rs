//! The pure model: the engines of `ntpipe_proto` over plain memory, with a clock that jumps.
//!
//! Nothing runs at the same time. An operation that cannot finish stays in a list, and the whole
//! list is tried again after each step, until nothing moves any more.

use core::task::Poll;
use core::time::Duration;
use std::collections::BTreeMap;

use ntpipe_proto::Error;

use crate::{Action, Driver, Label, Operation, Outcome, Step, Tag, Trouble};

mod begin;
use begin::Begin;

mod memory;

mod pending;
use pending::{Given, Kind, Pending, Then};

mod queries;

mod world;
use world::World;

/// The driver of the pure model.
#[derive(Debug, Default)]
pub struct Model {
    world: World,
    now: Duration,
    pending: Vec<Pending>,
    finished: BTreeMap<u64, Outcome>,
    tags: BTreeMap<Tag, u64>,
    next_id: u64,
}

impl Model {
    /// A model without any pipe.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins an operation and returns its number.
    fn begin(&mut self, tag: Option<&Tag>, actor: &Label, op: &Operation) -> Result<u64, Trouble> {
        let end = self.world.handles.get(actor).cloned();
        if op.needs_end() != end.is_some() {
            let state = if end.is_some() { "already" } else { "not" };
            return Err(Trouble(format!("{actor} is {state} open")));
        }
        let (reader, writer) = actor.ends();
        if let Operation::CreatePipe { .. } = op
            && [reader, writer]
                .iter()
                .any(|end| self.world.ends.contains_key(end))
        {
            return Err(Trouble(format!("the ends of {actor} are still held")));
        }
        if end.is_none() && self.world.ends.contains_key(actor) {
            return Err(Trouble(format!("the end of {actor} is still held")));
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Some(tag) = tag {
            self.tags.insert(tag.clone(), id);
        }
        let mut begin = Begin {
            model: self,
            id,
            actor: end.unwrap_or_else(|| actor.clone()),
            handle: actor.clone(),
        };
        let outcome = begin
            .operation(op)
            .unwrap_or_else(|error| Some(Outcome::Failed(error)));
        if let Some(outcome) = outcome {
            self.finished.insert(id, outcome);
        }
        self.settle();
        Ok(id)
    }

    /// Tries everything that pends, until nothing moves.
    fn settle(&mut self) {
        let mut moved = true;
        while moved {
            moved = self.wake();
            let moves = self.world.moves;
            let mut reading = Vec::new();
            let mut at = 0;
            while let Some(op) = self.pending.get_mut(at) {
                let turn = !op.is_read() || !reading.contains(&op.actor);
                match op.poll(&mut self.world, turn) {
                    Poll::Ready(outcome) => {
                        let op = self.pending.remove(at);
                        self.finish(op, outcome);
                        moved = true;
                    }
                    Poll::Pending => {
                        if op.is_read() {
                            reading.push(op.actor.clone());
                        }
                        at += 1;
                    }
                }
            }
            moved |= self.world.moves != moves;
        }
    }

    fn finish(&mut self, op: Pending, outcome: Outcome) {
        if let Kind::Read {
            then: Then::Close, ..
        } = op.kind
        {
            self.close(&op.actor);
        }
        self.finished.insert(op.id, outcome);
    }

    /// Ends the waits that have their answer; whether there was any.
    fn wake(&mut self) -> bool {
        let servers = self.world.names.values_mut();
        let woken: Vec<_> = servers
            .flat_map(|server| core::iter::from_fn(|| server.poll_woken()))
            .collect();
        for (woken, answer) in &woken {
            let is_it = |op: &Pending| match &op.kind {
                Kind::Wait { waiter, .. } => waiter == woken,
                Kind::Connect | Kind::Read { .. } | Kind::Write { .. } | Kind::Flush(_) => false,
            };
            let Some(at) = self.pending.iter().position(is_it) else {
                continue;
            };
            let op = self.pending.remove(at);
            let (id, actor) = (op.id, op.actor.clone());
            let outcome = match (answer, op.kind) {
                (Err(error), _) => Some(Outcome::Failed(*error)),
                (
                    Ok(()),
                    Kind::Wait {
                        call: Some(call), ..
                    },
                ) => {
                    let mut begin = Begin {
                        model: self,
                        id,
                        handle: actor.clone(),
                        actor,
                    };
                    begin
                        .call(&call)
                        .unwrap_or_else(|error| Some(Outcome::Failed(error)))
                }
                (Ok(()), _) => Some(Outcome::Done),
            };
            self.finished.extend(outcome.map(|outcome| (id, outcome)));
        }
        !woken.is_empty()
    }

    /// Fails all operations under way that are meant.
    fn fail(&mut self, error: Error, meant: impl Fn(&Pending) -> bool) {
        let (failed, kept) = core::mem::take(&mut self.pending)
            .into_iter()
            .partition(meant);
        self.pending = kept;
        for op in Vec::<Pending>::from_iter(failed) {
            self.finish(op, Outcome::Failed(error));
        }
    }

    /// Finishes all operations under way that are meant.
    fn succeed(&mut self, meant: impl Fn(&Pending) -> bool) {
        let (done, kept) = core::mem::take(&mut self.pending)
            .into_iter()
            .partition(meant);
        self.pending = kept;
        for op in Vec::<Pending>::from_iter(done) {
            self.finish(op, Outcome::Done);
        }
    }

    /// Lets an operation go on of which nobody will ask any more.
    fn detached(&mut self, actor: Label, kind: Kind) {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.push(Pending {
            id,
            actor,
            kind,
            deadline: None,
            detached: true,
        });
    }

    /// How many bytes the reads of this end wait for.
    fn waiting_for(&self, reader: Option<&Label>) -> usize {
        let reads = self.pending.iter().filter(|op| Some(&op.actor) == reader);
        reads.map(Pending::wanted).sum()
    }

    fn is_reading(&self, label: &Label) -> bool {
        self.pending
            .iter()
            .any(|op| op.actor == *label && op.is_read())
    }

    /// Closes a handle, and with the last one the end.
    fn release(&mut self, handle: &Label) {
        let Some(end) = self.world.handles.remove(handle) else {
            return;
        };
        if !self.world.handles.values().any(|other| *other == end) {
            self.close(&end);
        }
    }

    /// Closes an end: its operations are gone, and its peer learns of it (reference 2.4).
    fn close(&mut self, label: &Label) {
        self.fail(Error::BROKEN_PIPE, |op| op.actor == *label);
        if let Ok(Some(peer)) = self.world.close(label) {
            self.fail(Error::BROKEN_PIPE, |op| {
                op.actor == peer
                    && match op.kind {
                        Kind::Write { .. } | Kind::Flush(_) => true,
                        Kind::Connect | Kind::Read { .. } | Kind::Wait { .. } => false,
                    }
            });
        }
    }

    /// The process that holds this end dies, with all that it holds.
    fn kill(&mut self, label: &Label) {
        let process = label.process();
        self.pending.retain(|op| op.actor.process() != process);
        let held: Vec<Label> = self.world.ends.keys().cloned().collect();
        for label in held.iter().filter(|label| label.process() == process) {
            self.close(label);
        }
    }

    /// Gives an operation up with this error, unless it has finished.
    fn give_up(&mut self, id: u64, error: Error) -> bool {
        let Some(at) = self.pending.iter().position(|op| op.id == id) else {
            return false;
        };
        let mut op = self.pending.remove(at);
        if let Kind::Wait { waiter, .. } = op.kind {
            self.world
                .names
                .values_mut()
                .for_each(|server| server.cancel_wait(waiter));
        }
        let outcome = match op.withdraw(&mut self.world) {
            Ok(Given::Up) => Outcome::Failed(error),
            Ok(Given::Finished(outcome)) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        self.finish(op, outcome);
        self.settle();
        true
    }

    /// Lets the time pass that an operation is ready to wait.
    fn let_time_pass(&mut self, id: u64) {
        let Some(op) = self.pending.iter().find(|op| op.id == id) else {
            return;
        };
        match (&op.kind, op.deadline) {
            (Kind::Wait { .. }, _) => {
                let next = self
                    .world
                    .names
                    .values()
                    .filter_map(|s| s.poll_timeout())
                    .min();
                let Some(next) = next else {
                    return;
                };
                self.now = next;
                self.world
                    .names
                    .values_mut()
                    .for_each(|server| server.handle_timeout(next));
                self.settle();
                self.let_time_pass(id);
            }
            (_, Some(deadline)) => {
                self.now = deadline;
                self.give_up(id, Error::SEM_TIMEOUT);
            }
            (_, None) => {}
        }
    }

    /// Does a step; one that bears a tag lets its time pass too, if `patient`.
    pub(crate) fn attempt(&mut self, action: &Action, patient: bool) -> Result<Outcome, Trouble> {
        match action {
            Action::Begin {
                tag,
                actor,
                operation,
            } => {
                let id = self.begin(tag.as_ref(), actor, operation)?;
                if tag.is_none() || patient {
                    self.let_time_pass(id);
                }
                Ok(self.outcome(id))
            }
            // Nothing takes time here: all that a step sets free has happened when it ends.
            Action::Check(tag) => self.number(tag).map(|id| self.outcome(id)),
            Action::Cancel(tag) => {
                let id = self.number(tag)?;
                Ok(match self.give_up(id, Error::OPERATION_ABORTED) {
                    true => Outcome::Done,
                    false => Outcome::Failed(Error::NOT_FOUND),
                })
            }
        }
    }

    fn number(&self, tag: &Tag) -> Result<u64, Trouble> {
        self.tags
            .get(tag)
            .copied()
            .ok_or_else(|| Trouble(format!("nothing is called {tag}")))
    }

    fn outcome(&self, id: u64) -> Outcome {
        self.finished.get(&id).cloned().unwrap_or(Outcome::Pending)
    }
}

impl Driver for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn start(&mut self) -> Result<(), Trouble> {
        *self = Self::default();
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Outcome, Trouble> {
        self.attempt(&step.action, false)
    }

    fn finish(&mut self) {
        *self = Self::default();
    }
}
