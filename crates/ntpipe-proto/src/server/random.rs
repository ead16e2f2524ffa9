//! Random commands against the rules that hold in every state of a name.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{START, options, woken};
use super::*;
use crate::Direction;

/// A command; the numbers choose among the instances and connections there have been.
#[derive(Debug, Clone)]
enum Command {
    Create(u32, Direction, FirstInstance),
    Listen(usize),
    Open(u32),
    /// An open that goes wrong after it has taken its instance.
    OpenInVain(u32),
    ClientClosed(usize),
    Disconnect(usize),
    Close(usize),
    Replace(usize),
    Wait(u64, u32),
    CancelWait(u64),
    Pass(u64),
}

fn command() -> impl Strategy<Value = Command> {
    let direction = prop_oneof![Just(Direction::Duplex), Just(Direction::Inbound)];
    let first = prop_oneof![
        4 => Just(FirstInstance::NotRequired),
        1 => Just(FirstInstance::Required)
    ];
    let millis = prop_oneof![0..50_u32, Just(u32::MAX)];
    prop_oneof![
        (1..5_u32, direction, first).prop_map(|(max, way, first)| Command::Create(max, way, first)),
        any::<usize>().prop_map(Command::Listen),
        (0..4_u32).prop_map(Command::Open),
        (0..4_u32).prop_map(Command::OpenInVain),
        any::<usize>().prop_map(Command::ClientClosed),
        any::<usize>().prop_map(Command::Disconnect),
        any::<usize>().prop_map(Command::Close),
        any::<usize>().prop_map(Command::Replace),
        (0..8_u64, millis).prop_map(|(waiter, millis)| Command::Wait(waiter, millis)),
        (0..8_u64).prop_map(Command::CancelWait),
        (0..40_u64).prop_map(Command::Pass),
    ]
}

/// A server, and what its driver would remember of it.
struct Driver {
    server: Server,
    now: Duration,
    instances: Vec<InstanceId>,
    connections: Vec<Connection>,
    waiting: BTreeSet<u64>,
    /// The instances that listen, in the order in which a client is to get them.
    line: Vec<InstanceId>,
}

impl Driver {
    fn new() -> Self {
        Self {
            server: Server::new(),
            now: START,
            instances: Vec::new(),
            connections: Vec::new(),
            waiting: BTreeSet::new(),
            line: Vec::new(),
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Create(max, direction, first) => {
                let options = InstanceOptions {
                    direction,
                    first,
                    ..options(max)
                };
                if let Ok(id) = self.server.create(&options) {
                    self.enter(id);
                }
            }
            Command::Listen(nth) => {
                let Some(id) = pick(&self.instances, nth) else {
                    return;
                };
                let before = self.server.state(id);
                let listened = self.server.listen(id);
                if before == Some(EndState::Disconnected) {
                    assert_eq!(listened, Ok(Listen::Waiting));
                    self.line.push(id);
                }
            }
            Command::Open(bits) => match self.server.open(Access::from_bits(bits)) {
                Ok(connection) => {
                    assert_eq!(connection.instance(), self.line.remove(0));
                    self.connections.push(connection);
                }
                Err(error) => assert_eq!(error == NOT_FOUND, self.server.is_gone()),
            },
            Command::OpenInVain(bits) => {
                if let Ok(connection) = self.server.open(Access::from_bits(bits)) {
                    self.server.give_back(connection);
                }
            }
            Command::ClientClosed(nth) => {
                if let Some(connection) = pick(&self.connections, nth) {
                    self.server.client_closed(connection);
                }
            }
            Command::Disconnect(nth) => {
                if let Some(id) = pick(&self.instances, nth)
                    && self.server.disconnect(id).is_ok()
                {
                    self.line.retain(|listening| *listening != id);
                }
            }
            Command::Close(nth) => {
                if let Some(id) = pick(&self.instances, nth) {
                    self.server.close(id);
                    self.line.retain(|listening| *listening != id);
                }
            }
            Command::Replace(nth) => {
                if let Some(id) = pick(&self.instances, nth)
                    && let Ok(successor) = self.server.replace(id)
                {
                    self.line.retain(|listening| *listening != id);
                    self.enter(successor);
                }
            }
            Command::Wait(waiter, millis) => {
                let timeout = WaitTimeout::from_millis(millis);
                self.server.wait(WaiterId(waiter), timeout, self.now);
                self.waiting.insert(waiter);
            }
            Command::CancelWait(waiter) => {
                self.server.cancel_wait(WaiterId(waiter));
                self.waiting.remove(&waiter);
            }
            Command::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                self.server.handle_timeout(self.now);
            }
        }
    }

    fn enter(&mut self, id: InstanceId) {
        assert!(!self.instances.contains(&id), "an id came twice");
        self.instances.push(id);
        self.line.push(id);
    }

    fn check(&mut self) {
        for (waiter, answer) in woken(&mut self.server) {
            assert!(self.waiting.remove(&waiter), "an answer nobody asked for");
            match answer {
                0 => assert!(!self.line.is_empty()),
                2 => assert!(self.server.is_gone()),
                _ => assert_eq!(answer, 121),
            }
        }
        let states = self
            .instances
            .iter()
            .map(|id| (*id, self.server.state(*id)));
        let states: Vec<_> = states
            .filter_map(|(id, state)| Some((id, state?)))
            .collect();
        let info = self.server.info();
        assert_eq!(info.is_none(), states.is_empty());
        assert_eq!(info.is_none(), self.server.is_gone());

        let listening = states
            .iter()
            .filter(|(_, state)| *state == EndState::Listening);
        let listening: BTreeSet<_> = listening.map(|(id, _)| *id).collect();
        assert_eq!(listening, self.line.iter().copied().collect());
        if let Some(info) = info {
            assert_eq!(info.instances, count(states.len()));
            assert_eq!(info.listening, count(self.line.len()));
            assert!(info.instances <= info.max_instances.get());
        }

        assert!(self.waiting.is_empty() || (self.line.is_empty() && info.is_some()));
        assert!(
            self.server
                .poll_timeout()
                .is_none_or(|_| !self.waiting.is_empty())
        );
        assert!(self.server.poll_timeout().is_none_or(|at| at >= self.now));
    }
}

fn pick<T: Copy>(from: &[T], nth: usize) -> Option<T> {
    from.get(nth.checked_rem(from.len())?).copied()
}

proptest! {
    #[test]
    fn no_order_of_commands_breaks_the_rules(
        commands in prop::collection::vec(command(), 0..80)
    ) {
        let mut driver = Driver::new();
        for command in commands {
            driver.apply(command);
            driver.check();
        }
        // Those still waiting wait for ever or have a deadline; the end of the name ends all.
        for id in driver.instances.clone() {
            driver.server.close(id);
        }
        driver.line.clear();
        driver.check();
        prop_assert!(driver.waiting.is_empty());
    }
}
