//! Sequences of steps, and what the model says of them.

use std::path::PathBuf;

use ntpipe_proto::Error;

use super::text;
use crate::{Action, Case, Expected, Label, Model, Operation, Outcome, Source, Step, Tag};

/// Steps that have been done with the model, as a case grows of them.
#[derive(Debug, Default)]
pub(super) struct Script {
    model: Model,
    actions: Vec<Action>,
    steps: Vec<Step>,
    pending: Vec<(Tag, Label)>,
}

impl Script {
    /// Does all these steps that make sense where they stand.
    pub(super) fn of(actions: &[Action]) -> Self {
        let mut script = Self::default();
        for action in actions {
            script.add(action);
        }
        script
    }

    /// Does one step; `None` if it makes no sense here, and then it is left out, as is a close of an
    /// end with operations under way, and to cancel what is over.
    ///
    /// What it sets free is looked at before the next one.
    pub(super) fn add(&mut self, action: &Action) -> Option<Outcome> {
        if let Action::Begin {
            actor,
            operation: Operation::Close,
            ..
        } = action
            && self.pending.iter().any(|(_, busy)| busy == actor)
        {
            return None;
        }
        if let Action::Cancel(tag) = action
            && !self.pending.iter().any(|(pending, _)| pending == tag)
        {
            return None;
        }
        let outcome = self.model.attempt(action, true).ok()?;
        self.actions.push(action.clone());
        match action {
            Action::Begin {
                tag: Some(tag),
                actor,
                ..
            } if outcome == Outcome::Pending => {
                self.say(action, &outcome);
                self.pending.push((tag.clone(), actor.clone()));
            }
            // Nobody will ask for it again, so that it needs no name.
            Action::Begin {
                actor, operation, ..
            } => {
                if *operation == Operation::Kill {
                    let process = actor.process();
                    self.pending.retain(|(_, actor)| actor.process() != process);
                }
                let mut operation = operation.clone();
                // Whether it would have been quick enough is no question to ask a busy machine.
                if outcome != Outcome::Failed(Error::SEM_TIMEOUT) {
                    without_time(&mut operation);
                }
                let nameless = Action::Begin {
                    tag: None,
                    actor: actor.clone(),
                    operation,
                };
                self.say(&nameless, &outcome);
            }
            Action::Check(_) | Action::Cancel(_) => {
                self.say(action, &outcome);
            }
        }
        for (tag, actor) in core::mem::take(&mut self.pending) {
            let check = Action::Check(tag.clone());
            match self.model.attempt(&check, false) {
                Ok(Outcome::Pending) => self.pending.push((tag, actor)),
                Ok(finished) => self.say(&check, &finished),
                Err(_) => {}
            }
        }
        Some(outcome)
    }

    fn say(&mut self, action: &Action, outcome: &Outcome) {
        // A short line for the processes; what is expected is compared by the driver alone.
        let expected = if *outcome == Outcome::Pending {
            "pending"
        } else {
            "1"
        };
        let mut outcome = outcome.clone();
        leave_open(&mut outcome);
        self.steps.push(Step {
            line: self.steps.len() + 1,
            text: format!("{} -> {expected}", text::action(action)),
            at_once: false,
            action: action.clone(),
            expected: Expected(outcome),
        });
    }

    /// Operations that have not finished, and who does them.
    pub(super) fn pending(&self) -> &[(Tag, Label)] {
        &self.pending
    }

    /// The steps that made sense.
    pub(super) fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The case: the steps, and that what pends still does so.
    pub(super) fn case(mut self, title: String) -> Case {
        for (tag, _) in core::mem::take(&mut self.pending) {
            self.say(&Action::Check(tag), &Outcome::Pending);
        }
        Case {
            file: PathBuf::from("random.case"),
            line: 0,
            title,
            sources: vec![Source {
                document: "reference".to_owned(),
                section: "2".to_owned(),
                item: 5,
                part: None,
            }],
            applies: Vec::new(),
            steps: self.steps,
        }
    }
}

/// Leaves open how many messages there are if not all fit into a ring: how much of them is there
/// follows from how a reader and a writer that ran at once took turns. Win32 tells no such number.
fn leave_open(outcome: &mut Outcome) {
    if let Outcome::Told { facts, .. } = outcome {
        let mut numbers = facts.0.iter().filter(|(name, _)| name == "avail");
        let many = numbers.any(|(_, avail)| avail.parse().is_ok_and(|avail: usize| avail > MANY));
        facts.0.retain(|(name, _)| !(many && name == "messages"));
    }
}

/// What fits into any ring.
const MANY: usize = 32_768;

fn without_time(operation: &mut Operation) {
    if let Operation::Connect { within }
    | Operation::Write { within, .. }
    | Operation::Read { within, .. }
    | Operation::Flush { within }
    | Operation::Transact { within, .. } = operation
    {
        *within = None;
    }
}

/// The case as a file says it, with a comment below its title.
pub(super) fn file(case: &Case, comment: &str) -> String {
    let mut text = format!("# {}\n", case.title);
    for source in &case.sources {
        text.push_str(&format!("source: {source}\n"));
    }
    for line in comment.lines() {
        text.push_str(&format!("// {line}\n"));
    }
    for step in &case.steps {
        let (action, outcome) = (text::action(&step.action), text::outcome(&step.expected.0));
        text.push_str(&format!("{action} -> {outcome}\n"));
    }
    text
}
