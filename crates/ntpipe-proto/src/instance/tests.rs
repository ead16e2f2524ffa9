use super::*;
use crate::End;
use EndState::{Closing, Connected, Disconnected, Listening};
use Operation as Op;

const ACCESS: Access = Access::FILE_GENERIC_READ;
const FIRST: Ticket = Ticket::FIRST;
const SECOND: Ticket = FIRST.next();

fn connected(ticket: Ticket) -> Instance {
    Instance::create(ticket).open(ACCESS).unwrap()
}

fn all() -> [Instance; 4] {
    [
        Instance::create(FIRST),
        connected(FIRST),
        connected(FIRST).client_closed(FIRST),
        Instance::Disconnected,
    ]
}

fn states(next: impl Fn(Instance) -> Result<Instance, Error>) -> [Result<EndState, u32>; 4] {
    all().map(|instance| next(instance).map(Instance::state).map_err(Error::code))
}

#[test]
fn the_examples_are_one_of_each_state() {
    let expected = [Listening, Connected, Closing, Disconnected];
    assert_eq!(all().map(Instance::state), expected);
    assert_eq!(expected.map(EndState::number), [2, 3, 4, 1]);
}

/// Observed 3.2 to 3.5.
#[test]
fn only_a_listening_instance_can_be_opened() {
    let expected = [Ok(Connected), Err(231), Err(231), Err(231)];
    assert_eq!(states(|instance| instance.open(ACCESS)), expected);
}

/// Observed 4.4 to 4.7.
#[test]
fn only_a_disconnected_instance_begins_to_listen() {
    let expected = [Ok(Listening), Ok(Connected), Err(232), Ok(Listening)];
    assert_eq!(states(|instance| instance.listen(SECOND)), expected);
    let places = all().map(|instance| instance.listen(SECOND));
    assert_eq!(places[0], Ok(Instance::Listening { ticket: FIRST }));
    assert_eq!(places[3], Ok(Instance::Listening { ticket: SECOND }));
}

/// Observed 9.1, 9.3, 9.6 and reference 1.4.
#[test]
fn every_instance_can_be_disconnected_once() {
    let expected = [
        Ok(Disconnected),
        Ok(Disconnected),
        Ok(Disconnected),
        Err(233),
    ];
    assert_eq!(states(Instance::disconnect), expected);
}

/// Observed 9.21.
#[test]
fn a_client_that_closes_leaves_its_instance_closing() {
    let expected = [Ok(Listening), Ok(Closing), Ok(Closing), Ok(Disconnected)];
    assert_eq!(
        states(|instance| Ok(instance.client_closed(FIRST))),
        expected
    );
}

#[test]
fn an_open_in_vain_leaves_its_instance_listening_in_its_place() {
    let expected = [Ok(Listening), Ok(Listening), Ok(Closing), Ok(Disconnected)];
    assert_eq!(states(|instance| Ok(instance.give_back(FIRST))), expected);
    let ticket = FIRST;
    let given_back = connected(FIRST).give_back(FIRST);
    assert_eq!(given_back, Instance::Listening { ticket });
    assert_eq!(connected(SECOND).give_back(FIRST), connected(SECOND));
}

#[test]
fn a_client_that_was_let_go_cannot_take_the_next_one_along() {
    let again = connected(FIRST)
        .disconnect()
        .and_then(|it| it.listen(SECOND));
    let again = again.and_then(|it| it.open(ACCESS)).unwrap();
    assert_eq!(again.client_closed(FIRST), again);
    assert_eq!(again.client_closed(SECOND).state(), Closing);
}

/// Observed 14.2 and 14.3 say it of the client's process.
#[test]
fn the_client_is_known_until_it_is_let_go() {
    let expected = [None, Some(ACCESS), Some(ACCESS), None];
    assert_eq!(all().map(Instance::client_access), expected);
}

/// Observed 9.10, 9.22.
#[test]
fn a_closed_peer_changes_only_a_connected_end() {
    let after = [Listening, Connected, Closing, Disconnected].map(EndState::peer_closed);
    assert_eq!(after, [Listening, Closing, Closing, Disconnected]);
}

/// A cell of a table: `None` goes on, 0 succeeds, `-n` is data and then n.
fn cell(verdict: Verdict) -> Option<i64> {
    match verdict {
        Verdict::Proceed => None,
        Verdict::Succeed => Some(0),
        Verdict::DrainThen(error) => Some(-i64::from(error.code())),
        Verdict::Fail(error) => Some(i64::from(error.code())),
    }
}

const OK: Option<i64> = None;

const fn no(code: i64) -> Option<i64> {
    Some(code)
}

/// The table of the server end in reference 2.3.
#[test]
fn the_server_end_answers_by_the_table() {
    #[rustfmt::skip]
    let table = [
        //                Listening  Connected  Closing   Disconnected
        (Op::Read,        [no(536),  OK,        no(-109), no(233)]),
        (Op::Write,       [no(536),  OK,        no(232),  no(233)]),
        (Op::Peek,        [no(230),  OK,        no(-109), no(230)]),
        (Op::Transact,    [no(230),  OK,        no(230),  no(230)]),
        (Op::Flush,       [no(0),    OK,        no(0),    no(0)]),
        (Op::Connect,     [OK,       no(535),   no(232),  OK]),
        (Op::Disconnect,  [OK,       OK,        OK,       no(233)]),
        (Op::Impersonate, [no(1368), OK,        OK,       no(1368)]),
        (Op::Query,       [OK,       OK,        OK,       OK]),
        (Op::SetState,    [OK,       OK,        OK,       OK]),
        (Op::ClientId,    [no(1168), OK,        OK,       no(1168)]),
        (Op::ServerId,    [OK,       OK,        OK,       OK]),
    ];
    for (operation, row) in table {
        let answers = [Listening, Connected, Closing, Disconnected]
            .map(|state| cell(state.verdict(End::Server, operation)));
        assert_eq!(answers, row, "{operation:?}");
    }
}

/// The table of the client end in reference 2.3, and observed 9.5.
#[test]
fn the_client_end_answers_by_the_table() {
    #[rustfmt::skip]
    let table = [
        //                Connected Closing   Disconnected
        (Op::Read,        [OK,      no(-109), no(233)]),
        (Op::Write,       [OK,      no(232),  no(233)]),
        (Op::Peek,        [OK,      no(-109), no(233)]),
        (Op::Transact,    [OK,      no(230),  no(233)]),
        (Op::Flush,       [OK,      no(0),    no(233)]),
        (Op::Connect,     [no(1),   no(1),    no(1)]),
        (Op::Disconnect,  [no(1),   no(1),    no(233)]),
        (Op::Impersonate, [no(1),   no(1),    no(1)]),
        (Op::Query,       [OK,      OK,       no(233)]),
        (Op::SetState,    [OK,      OK,       no(233)]),
        (Op::ClientId,    [OK,      OK,       no(233)]),
        (Op::ServerId,    [OK,      OK,       no(233)]),
    ];
    for (operation, row) in table {
        let answers = [Connected, Closing, Disconnected]
            .map(|state| cell(state.verdict(End::Client, operation)));
        assert_eq!(answers, row, "{operation:?}");
        let alone = Listening.verdict(End::Client, operation);
        assert_eq!(alone, Disconnected.verdict(End::Client, operation));
    }
}

#[test]
fn verdicts_that_share_a_code_keep_their_status() {
    let status = |operation| match Closing.verdict(End::Server, operation) {
        Verdict::Fail(error) | Verdict::DrainThen(error) => error.status(),
        Verdict::Proceed | Verdict::Succeed => None,
    };
    assert_eq!(status(Op::Write), Some(Status::PIPE_CLOSING));
    assert_eq!(status(Op::Transact), Some(Status::INVALID_PIPE_STATE));
    assert_eq!(status(Op::Read), Some(Status::PIPE_BROKEN));
}
