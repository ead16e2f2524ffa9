use super::*;
use crate::{DefaultTimeout, Direction, MaxInstances, PipeType};

const ALL: Access = Access::FILE_GENERIC_READ.union(Access::FILE_GENERIC_WRITE);

pub(super) const START: Duration = Duration::from_secs(1000);

pub(super) fn options(max: u32) -> InstanceOptions {
    InstanceOptions {
        direction: Direction::Duplex,
        pipe_type: PipeType::Byte,
        max_instances: MaxInstances::new(max).unwrap(),
        quotas: Quotas {
            inbound: 512,
            outbound: 1024,
        },
        default_timeout: DefaultTimeout::from_millis(70),
        first: FirstInstance::NotRequired,
    }
}

/// A server with one instance.
fn server(max: u32) -> (Server, InstanceId) {
    let mut server = Server::new();
    let id = server.create(&options(max)).unwrap();
    (server, id)
}

/// A server whose only instance has a client.
fn busy(max: u32) -> (Server, InstanceId, Connection) {
    let (mut server, id) = server(max);
    let connection = server.open(ALL).unwrap();
    (server, id, connection)
}

fn wait(server: &mut Server, waiter: u64, millis: u32) {
    server.wait(WaiterId(waiter), WaitTimeout::from_millis(millis), START);
}

/// The answers there are, as Win32 codes, 0 for success.
pub(super) fn woken(server: &mut Server) -> Vec<(u64, u32)> {
    core::iter::from_fn(|| server.poll_woken())
        .map(|(waiter, answer)| (waiter.0, answer.map_or_else(Error::code, |()| 0)))
        .collect()
}

fn after(millis: u64) -> Duration {
    START + Duration::from_millis(millis)
}

/// Observed 1.26.
#[test]
fn a_new_instance_listens_at_once() {
    let (server, id) = server(1);
    assert_eq!(server.state(id), Some(EndState::Listening));
    assert_eq!(server.info().unwrap().listening, 1);
}

/// Observed 1.10; a maximum of 255 is none (reference 2.2).
#[test]
fn there_are_at_most_as_many_instances_as_the_first_said() {
    let (mut limited, _) = server(2);
    limited.create(&options(1)).unwrap();
    let error = limited.create(&options(4)).unwrap_err();
    assert_eq!(error, Error::PIPE_BUSY);
    assert_eq!(error.status(), Some(Status::INSTANCE_NOT_AVAILABLE));

    let (mut unlimited, _) = server(255);
    for _ in 0..300 {
        unlimited.create(&options(1)).unwrap();
    }
    assert_eq!(unlimited.info().unwrap().instances, 301);
}

/// Reference 2.2.
#[test]
fn a_disconnected_and_a_closing_instance_still_count() {
    let (mut server, id, connection) = busy(1);
    server.client_closed(connection);
    assert_eq!(server.create(&options(1)), Err(Error::PIPE_BUSY));
    server.disconnect(id).unwrap();
    assert_eq!(server.create(&options(1)), Err(Error::PIPE_BUSY));
    assert_eq!(server.info().unwrap().instances, 1);
}

/// Observed 1.11.
#[test]
fn a_further_instance_has_the_direction_of_the_first() {
    let (mut server, _) = server(3);
    for direction in [Direction::Inbound, Direction::Outbound] {
        let other = InstanceOptions {
            direction,
            ..options(3)
        };
        assert_eq!(server.create(&other), Err(Error::ACCESS_DENIED));
    }
    assert!(server.create(&options(3)).is_ok());
}

/// Observed 1.12, reference 1.2.
#[test]
fn the_first_instance_decides_for_the_name_and_each_for_its_quotas() {
    let (mut server, first) = server(4);
    let before = server.info().unwrap();
    let quotas = Quotas {
        inbound: 24,
        outbound: 0,
    };
    let other = InstanceOptions {
        pipe_type: PipeType::Message,
        max_instances: MaxInstances::new(3).unwrap(),
        quotas,
        default_timeout: DefaultTimeout::from_millis(1234),
        ..options(4)
    };
    let second = server.create(&other).unwrap();
    let expected = NameInfo {
        instances: 2,
        listening: 2,
        ..before
    };
    assert_eq!(server.info(), Some(expected));
    assert_eq!(server.quotas(first), Some(options(4).quotas));
    assert_eq!(server.quotas(second), Some(quotas));
}

/// Observed 1.13 to 1.15: the number of instances is looked at first.
#[test]
fn a_full_pipe_is_busy_to_whatever_does_not_fit_it() {
    let first = InstanceOptions {
        first: FirstInstance::Required,
        ..options(2)
    };
    let inbound = InstanceOptions {
        direction: Direction::Inbound,
        ..options(2)
    };
    let (mut server, _) = server(2);
    assert_eq!(server.create(&first), Err(Error::ACCESS_DENIED));
    assert_eq!(server.create(&inbound), Err(Error::ACCESS_DENIED));
    server.create(&options(2)).unwrap();
    assert_eq!(server.create(&first), Err(Error::PIPE_BUSY));
    assert_eq!(server.create(&inbound), Err(Error::PIPE_BUSY));
    assert_eq!(server.info().unwrap().instances, 2);
}

/// Observed 1.27.
#[test]
fn a_first_instance_can_be_asked_for() {
    let first = InstanceOptions {
        first: FirstInstance::Required,
        ..options(1)
    };
    assert!(Server::new().create(&first).is_ok());
}

/// Observed 1.25.
#[test]
fn the_name_goes_with_its_last_server_end_though_a_client_stays() {
    let (mut server, id, connection) = busy(1);
    server.close(id);
    assert!(server.is_gone());
    assert_eq!((server.info(), server.state(id)), (None, None));
    assert_eq!(server.open(ALL), Err(Error::FILE_NOT_FOUND));
    let other = InstanceOptions {
        direction: Direction::Inbound,
        pipe_type: PipeType::Message,
        ..options(2)
    };
    let again = server.create(&other).unwrap();
    server.client_closed(connection);
    assert_ne!(again, id);
    assert_eq!(server.state(again), Some(EndState::Listening));
    assert_eq!(server.info().unwrap().pipe_type, PipeType::Message);
}

/// Observed 3.1.
#[test]
fn a_name_without_instances_cannot_be_opened() {
    assert_eq!(Server::new().open(ALL), Err(Error::FILE_NOT_FOUND));
    assert!(Server::default().is_gone());
}

/// Observed 3.2 to 3.5, 9.21.
#[test]
fn only_a_listening_instance_is_opened() {
    let (mut server, id, connection) = busy(1);
    assert_eq!(connection.instance(), id);
    let error = server.open(ALL).unwrap_err();
    assert_eq!(error, Error::PIPE_BUSY);
    assert_eq!(error.status(), Some(Status::PIPE_NOT_AVAILABLE));
    server.client_closed(connection);
    assert_eq!(server.state(id), Some(EndState::Closing));
    assert_eq!(server.open(ALL), Err(Error::PIPE_BUSY));
    server.disconnect(id).unwrap();
    assert_eq!(server.open(ALL), Err(Error::PIPE_BUSY));
    server.listen(id).unwrap();
    assert_eq!(server.open(ALL).map(Connection::instance), Ok(id));
}

/// Observed 3.6 to 3.8.
#[test]
fn a_client_cannot_go_against_the_direction() {
    let read = Access::requested_by_client(Access::GENERIC_READ);
    let write = Access::requested_by_client(Access::GENERIC_WRITE);
    let none = Access::requested_by_client(Access::NONE);
    let rows = [
        (Direction::Inbound, [false, true, false, true]),
        (Direction::Outbound, [true, false, false, true]),
        (Direction::Duplex, [true; 4]),
    ];
    for (direction, allowed) in rows {
        for (access, allowed) in [read, write, read | write, none].into_iter().zip(allowed) {
            let mut server = Server::new();
            let options = InstanceOptions {
                direction,
                ..options(1)
            };
            let id = server.create(&options).unwrap();
            let opened = server.open(access).map(Connection::instance);
            let expected = if allowed {
                Ok(id)
            } else {
                Err(Error::ACCESS_DENIED)
            };
            assert_eq!(opened, expected, "{direction:?} {access:?}");
            assert_eq!(server.client_access(id), allowed.then_some(access));
        }
    }
}

/// Reference 1.6; observed 3.9 saw the other order in Wine alone.
#[test]
fn the_direction_is_checked_before_there_is_a_listener() {
    let mut server = Server::new();
    let inbound = InstanceOptions {
        direction: Direction::Inbound,
        ..options(1)
    };
    server.create(&inbound).unwrap();
    server.open(Access::WRITE_DATA).unwrap();
    assert_eq!(server.open(Access::READ_DATA), Err(Error::ACCESS_DENIED));
    assert_eq!(server.open(Access::WRITE_DATA), Err(Error::PIPE_BUSY));
}

/// Observed 3.10.
#[test]
fn clients_get_the_instance_that_listens_for_longest() {
    let (mut server, first) = server(3);
    let second = server.create(&options(3)).unwrap();
    let third = server.create(&options(3)).unwrap();
    // Neither a pending connect nor a second one gives another place.
    assert_eq!(server.listen(second), Ok(Listen::Waiting));
    assert_eq!(server.open(ALL).map(Connection::instance), Ok(first));
    // The first comes back at the end of the line.
    server.disconnect(first).unwrap();
    assert_eq!(server.listen(first), Ok(Listen::Waiting));
    let order = [(); 3].map(|()| server.open(ALL).map(Connection::instance));
    assert_eq!(order, [Ok(second), Ok(third), Ok(first)]);
}

/// Observed 4.4 to 4.7.
#[test]
fn listen_answers_by_the_state() {
    let (mut server, id) = server(1);
    assert_eq!(server.listen(id), Ok(Listen::Waiting));
    let connection = server.open(ALL).unwrap();
    assert_eq!(server.listen(id), Ok(Listen::AlreadyConnected));
    server.client_closed(connection);
    assert_eq!(server.listen(id), Err(Error::NO_DATA));
    server.disconnect(id).unwrap();
    assert_eq!(server.listen(id), Ok(Listen::Waiting));
    assert_eq!(server.state(id), Some(EndState::Listening));
}

/// Observed 9.1, 9.3, 9.6; reference 1.4 for the one that listens.
#[test]
fn an_instance_is_disconnected_once() {
    let (mut server, id) = server(1);
    server.disconnect(id).unwrap();
    assert_eq!(server.disconnect(id), Err(Error::PIPE_NOT_CONNECTED));
    assert_eq!(server.open(ALL), Err(Error::PIPE_BUSY));
    assert_eq!(server.info().unwrap().listening, 0);
    server.listen(id).unwrap();
    let connection = server.open(ALL).unwrap();
    server.disconnect(id).unwrap();
    assert_eq!(server.client_access(id), None);
    server.client_closed(connection);
    assert_eq!(server.state(id), Some(EndState::Disconnected));
}

#[test]
fn a_late_farewell_does_not_touch_the_next_client() {
    let (mut server, id, old) = busy(1);
    server.disconnect(id).unwrap();
    server.listen(id).unwrap();
    let new = server.open(ALL).unwrap();
    server.client_closed(old);
    assert_eq!(server.state(id), Some(EndState::Connected));
    server.client_closed(new);
    assert_eq!(server.state(id), Some(EndState::Closing));
}

#[test]
fn a_closed_instance_is_no_handle_any_more() {
    let (mut server, id) = server(2);
    let other = server.create(&options(2)).unwrap();
    server.close(id);
    assert_eq!(server.listen(id), Err(Error::INVALID_HANDLE));
    assert_eq!(server.disconnect(id), Err(Error::INVALID_HANDLE));
    assert_eq!(server.replace(id), Err(Error::INVALID_HANDLE));
    assert_eq!((server.quotas(id), server.client_access(id)), (None, None));
    server.close(id);
    assert_eq!(server.open(ALL).map(Connection::instance), Ok(other));
}

#[test]
fn a_successor_takes_the_place_without_the_name_going() {
    let (mut server, id, connection) = busy(1);
    wait(&mut server, 1, u32::MAX);
    let successor = server.replace(id).unwrap();
    assert_ne!(successor, id);
    assert_eq!(woken(&mut server), [(1, 0)]);
    let info = server.info().unwrap();
    assert_eq!((info.instances, info.listening), (1, 1));
    assert_eq!(server.quotas(successor), Some(options(1).quotas));
    server.client_closed(connection);
    assert_eq!(server.open(ALL).map(Connection::instance), Ok(successor));
}

#[test]
fn a_successor_lines_up_behind_the_others() {
    let (mut server, first) = server(2);
    let second = server.create(&options(2)).unwrap();
    let successor = server.replace(first).unwrap();
    let order = [(); 2].map(|()| server.open(ALL).map(Connection::instance));
    assert_eq!(order, [Ok(second), Ok(successor)]);
}

/// Observed 12.1, 12.2.
#[test]
fn some_waits_are_answered_at_once() {
    let mut server = Server::new();
    for millis in [0, 1, 2000, u32::MAX] {
        wait(&mut server, 1, millis);
        assert_eq!(woken(&mut server), [(1, 2)]);
    }
    server.create(&options(1)).unwrap();
    for millis in [0, 1, 2000, u32::MAX] {
        wait(&mut server, 1, millis);
        assert_eq!(woken(&mut server), [(1, 0)]);
    }
    assert_eq!(server.poll_timeout(), None);
    assert!(server.open(ALL).is_ok());
}

/// Observed 12.3, 12.6.
#[test]
fn a_wait_ends_when_its_time_is_up() {
    let (mut server, ..) = busy(1);
    wait(&mut server, 1, 100);
    wait(&mut server, 2, 0);
    wait(&mut server, 3, u32::MAX);
    wait(&mut server, 4, 1);
    assert_eq!(server.poll_timeout(), Some(after(1)));
    server.handle_timeout(after(1));
    assert_eq!(woken(&mut server), [(4, 121)]);
    assert_eq!(server.poll_timeout(), Some(after(70)));
    server.handle_timeout(after(69));
    assert_eq!(woken(&mut server), []);
    server.handle_timeout(after(2000));
    assert_eq!(woken(&mut server), [(2, 121), (1, 121)]);
    assert_eq!(server.poll_timeout(), None);
    server.handle_timeout(Duration::MAX);
    assert_eq!(woken(&mut server), []);
}

#[test]
fn a_deadline_beyond_all_time_is_none() {
    let (mut server, ..) = busy(1);
    let timeout = WaitTimeout::After(Duration::MAX);
    server.wait(WaiterId(1), timeout, START);
    assert_eq!(server.poll_timeout(), None);
}

/// Observed 12.4, 12.5, 12.9.
#[test]
fn all_waiters_wake_when_an_instance_listens() {
    let (mut server, id, _) = busy(2);
    wait(&mut server, 1, 100);
    wait(&mut server, 2, u32::MAX);
    let other = server.create(&options(2)).unwrap();
    assert_eq!(woken(&mut server), [(1, 0), (2, 0)]);
    assert_eq!(server.poll_timeout(), None);

    server.disconnect(other).unwrap();
    wait(&mut server, 1, 100);
    wait(&mut server, 2, 0);
    server.disconnect(id).unwrap();
    assert_eq!(woken(&mut server), []);
    server.listen(id).unwrap();
    assert_eq!(woken(&mut server), [(1, 0), (2, 0)]);
}

/// Observed 12.7.
#[test]
fn waiters_are_told_when_the_name_goes() {
    let (mut server, id, _) = busy(2);
    let other = server.create(&options(2)).unwrap();
    server.open(ALL).unwrap();
    wait(&mut server, 1, 100);
    wait(&mut server, 2, u32::MAX);
    server.close(id);
    assert_eq!(woken(&mut server), []);
    server.close(other);
    assert_eq!(woken(&mut server), [(1, 2), (2, 2)]);
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn a_cancelled_wait_has_no_answer() {
    let (mut server, ..) = busy(2);
    wait(&mut server, 1, 100);
    wait(&mut server, 2, 200);
    wait(&mut server, 3, u32::MAX);
    server.cancel_wait(WaiterId(1));
    server.cancel_wait(WaiterId(3));
    assert_eq!(server.poll_timeout(), Some(after(200)));
    server.create(&options(2)).unwrap();
    server.cancel_wait(WaiterId(2));
    server.handle_timeout(Duration::MAX);
    assert_eq!(woken(&mut server), []);
}

#[test]
fn a_waiter_that_waits_again_has_one_answer() {
    let (mut server, ..) = busy(1);
    wait(&mut server, 1, 100);
    wait(&mut server, 1, 200);
    assert_eq!(server.poll_timeout(), Some(after(200)));
    server.handle_timeout(Duration::MAX);
    assert_eq!(woken(&mut server), [(1, 121)]);
}

#[test]
fn there_is_a_limit_to_those_that_wait() {
    let (mut server, ..) = busy(1);
    let max = u64::try_from(Server::MAX_WAITERS).unwrap();
    for waiter in 0..max {
        wait(&mut server, waiter, u32::MAX);
    }
    assert_eq!(woken(&mut server), []);
    wait(&mut server, max, u32::MAX);
    assert_eq!(woken(&mut server), [(max, 1450)]);
    server.cancel_wait(WaiterId(0));
    wait(&mut server, max, u32::MAX);
    assert_eq!(woken(&mut server), []);
}

#[test]
fn an_instance_given_back_is_the_next_again_and_wakes_those_that_wait() {
    let (mut server, first, connection) = busy(2);
    wait(&mut server, 7, 100);
    server.give_back(connection);
    assert_eq!(woken(&mut server), [(7, 0)]);
    server.create(&options(2)).unwrap();
    let connection = server.open(ALL).unwrap();
    assert_eq!(connection.instance(), first);
    server.disconnect(first).unwrap();
    server.give_back(connection);
    assert_eq!(server.state(first), Some(EndState::Disconnected));
}
