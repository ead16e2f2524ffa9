//! Makes a sequence that fails as small as it gets while it still fails.

use crate::{Action, Create, MaxCount, Open, Operation};

/// The smallest sequence found that fails.
pub(super) fn shrink(
    mut actions: Vec<Action>,
    fails: &mut dyn FnMut(&[Action]) -> bool,
) -> Vec<Action> {
    loop {
        let before = actions.clone();
        leave_out(&mut actions, fails);
        make_simpler(&mut actions, fails);
        if actions == before {
            return actions;
        }
    }
}

/// Leaves out runs of steps, long ones first.
fn leave_out(actions: &mut Vec<Action>, fails: &mut dyn FnMut(&[Action]) -> bool) {
    let mut len = actions.len();
    while len > 0 {
        // From the end: what comes later is needed by less.
        let mut end = actions.len();
        while end > 0 {
            let start = end.saturating_sub(len);
            let mut candidate = actions.clone();
            candidate.drain(start..end);
            if fails(&candidate) {
                *actions = candidate;
            }
            end = start;
        }
        len /= 2;
    }
}

fn make_simpler(actions: &mut [Action], fails: &mut dyn FnMut(&[Action]) -> bool) {
    for at in 0..actions.len() {
        let mut go_on = true;
        while core::mem::take(&mut go_on) {
            let Some(action) = actions.get(at) else {
                return;
            };
            for simpler in simpler(action) {
                let mut candidate = actions.to_vec();
                if let Some(action) = candidate.get_mut(at) {
                    *action = simpler;
                }
                if fails(&candidate) {
                    actions.clone_from_slice(&candidate);
                    go_on = true;
                    break;
                }
            }
        }
    }
}

/// What the step could be instead, the simplest first.
fn simpler(action: &Action) -> Vec<Action> {
    let Action::Begin {
        tag,
        actor,
        operation,
    } = action
    else {
        return Vec::new();
    };
    let operations = simpler_operations(operation);
    let with = |operation| Action::Begin {
        tag: tag.clone(),
        actor: actor.clone(),
        operation,
    };
    operations.into_iter().map(with).collect()
}

fn simpler_operations(operation: &Operation) -> Vec<Operation> {
    let mut all = Vec::new();
    if let Operation::Create(create) = operation {
        return simpler_creations(create);
    }
    if let Operation::Open(open) = operation {
        all.push(Operation::Open(Open {
            place: open.place.clone(),
            ..Open::default()
        }));
        all.retain(|simpler| simpler != operation);
    }
    if let Operation::CreatePipe { size } = operation {
        let lesser = smaller(usize::try_from(*size).unwrap_or(0));
        let lesser = lesser
            .into_iter()
            .filter_map(|size| u32::try_from(size).ok());
        all.extend(lesser.map(|size| Operation::CreatePipe { size }));
    }
    if let Operation::Write { data, .. }
    | Operation::Transact { data, .. }
    | Operation::Call { data, .. } = operation
    {
        for len in smaller(data.len()) {
            let mut operation = operation.clone();
            shorten(&mut operation, len);
            all.push(operation);
        }
    }
    if let Operation::Read { size, .. }
    | Operation::Peek { size }
    | Operation::Transact { size, .. }
    | Operation::Call { size, .. } = operation
    {
        for size in smaller(*size) {
            let mut operation = operation.clone();
            resize(&mut operation, size);
            all.push(operation);
        }
    }
    all
}

fn simpler_creations(create: &Create) -> Vec<Operation> {
    let usual = Create::default();
    let mut all = vec![
        Create {
            direction: usual.direction,
            ..create.clone()
        },
        Create {
            pipe_type: usual.pipe_type,
            read_mode: usual.read_mode,
            ..create.clone()
        },
        Create {
            read_mode: usual.read_mode,
            ..create.clone()
        },
        Create {
            max: MaxCount(255),
            ..create.clone()
        },
        Create {
            timeout: usual.timeout,
            ..create.clone()
        },
        Create {
            first: false,
            ..create.clone()
        },
    ];
    for (quota, which) in [(create.in_quota, true), (create.out_quota, false)] {
        if quota == usual.in_quota {
            continue;
        }
        let lesser = smaller(usize::try_from(quota).unwrap_or(0));
        let lesser = lesser
            .into_iter()
            .filter_map(|less| u32::try_from(less).ok());
        for less in core::iter::once(usual.in_quota).chain(lesser) {
            let mut simpler = create.clone();
            match which {
                true => simpler.in_quota = less,
                false => simpler.out_quota = less,
            }
            all.push(simpler);
        }
    }
    all.retain(|simpler| simpler != create);
    all.into_iter().map(Operation::Create).collect()
}

fn shorten(operation: &mut Operation, len: usize) {
    if let Operation::Write { data, .. }
    | Operation::Transact { data, .. }
    | Operation::Call { data, .. } = operation
    {
        data.truncate(len);
    }
}

fn resize(operation: &mut Operation, to: usize) {
    if let Operation::Read { size, .. }
    | Operation::Peek { size }
    | Operation::Transact { size, .. }
    | Operation::Call { size, .. } = operation
    {
        *size = to;
    }
}

/// Smaller numbers, the smallest first, each once.
fn smaller(number: usize) -> Vec<usize> {
    let mut all: Vec<usize> = [0, 1, number / 16, number / 2, number.saturating_sub(1)]
        .into_iter()
        .filter(|less| *less < number)
        .collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;

    fn actions(lines: &[&str]) -> Vec<Action> {
        let steps = lines
            .iter()
            .map(|line| Step::parse(line, 1).unwrap().action);
        steps.collect()
    }

    /// Fails if some read of at least 5 bytes comes after some write of at least 3.
    fn fails(actions: &[Action]) -> bool {
        let write = actions.iter().position(|action| {
            matches!(action, Action::Begin { operation: Operation::Write { data, .. }, .. } if data.len() >= 3)
        });
        write.is_some_and(|write| {
            actions.iter().skip(write).any(|action| {
                matches!(action, Action::Begin { operation: Operation::Read { size, .. }, .. } if *size >= 5)
            })
        })
    }

    #[test]
    fn what_does_not_matter_is_left_out_and_the_rest_is_made_small() {
        let long = actions(&[
            "server create type=message quota=10 max=2 first",
            "client open access=read",
            "client write bytes 2 -> ok 2",
            "client write bytes 1000 -> ok 1000",
            "server peek 9 -> ok \"\"",
            "server read 4 -> ok \"\"",
            "server read 100000 -> ok \"\"",
            "client close",
        ]);
        let mut count = 0;
        let small = shrink(long, &mut |candidate| {
            count += 1;
            fails(candidate)
        });
        let expected = actions(&["client write bytes 3 -> ok 3", "server read 5 -> ok \"\""]);
        assert_eq!(small, expected);
        assert!(count < 200, "{count} attempts");
    }
}
