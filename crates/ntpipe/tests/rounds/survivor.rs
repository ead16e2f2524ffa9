//! The process that has to cope.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use ntpipe::{
    ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, PipeStream, ServerOptions,
};

use super::PATIENCE;
use super::board;
use super::plan::{Act, Board, Plan, Received};
use super::support::{LOCK, PIPE, Random, SOCKET, code, descriptors, files, hear, raw, say, until};
use super::victim::{ROOM, client_options, room, server_options};

/// How long a server listens before it looks whether there is anyone left to come.
const MOMENT: Duration = Duration::from_millis(5);

/// Plays rounds until there are no more; says how long the news of a death took, in microseconds.
fn rounds(mut play: impl FnMut(&Plan, &Board) -> Option<Duration>) {
    let board = board();
    // What a process has from its first pipe on.
    drop(ServerOptions::new().create(r"\\.\pipe\first").unwrap());
    let mut before = None;
    loop {
        let Ok(seed) = hear().parse() else { return };
        let noticed = play(&Plan::new(seed), board);
        // Everything is let go of, soon.
        let before = *before.get_or_insert_with(descriptors);
        until(|| descriptors() <= before);
        match noticed {
            Some(time) => say(time.as_micros()),
            None => say("-"),
        }
    }
}

pub(crate) fn server() {
    let mut last: Option<(PipeMode, u32, NamedPipeServer)> = None;
    rounds(|plan, board| {
        if !matches!(&last, Some((mode, quota, _)) if (*mode, *quota) == (plan.mode, plan.quota)) {
            // First the old one: a name has one type.
            last = None;
            let server = server_options(plan).create(PIPE).unwrap();
            last = Some((plan.mode, plan.quota, server));
        }
        let server = &last.as_ref().unwrap().2;
        assert_eq!(files(&raw::dir()), [LOCK, SOCKET]);
        Board::set(&board.is_open, 1);
        serve_victim(plan, board, server)
    });
    // The server closes with this process; the parent looks whether anything stays.
}

fn serve_victim(plan: &Plan, board: &Board, server: &NamedPipeServer) -> Option<Duration> {
    loop {
        let is_dead = board.is_dead();
        match code(server.connect_timeout(MOMENT)) {
            // 232: it has come and gone.
            0 | 232 => {}
            121 if is_dead && Board::get(&board.completed) == 0 => return None,
            121 => continue,
            other => panic!("connect: {other}"),
        }
        let mut received = Received::default();
        let noticed = survive(plan, board, server, &mut received);
        expect_end(server);
        server.disconnect().unwrap();
        let is_empty = received.frames == 0 && received.rest.is_empty();
        let was_alive = noticed.is_zero();
        if is_empty && (was_alive || Board::get(&board.completed) > 0) {
            // A victim of an earlier round, which was on its way when it died.
            continue;
        }
        assert!(!was_alive, "an end that nobody made");
        received.check(board);
        return Some(noticed);
    }
}

pub(crate) fn client() {
    rounds(|plan, board| {
        Board::set(&board.is_open, 1);
        let client = open(plan, board);
        let noticed = client.map(|client| {
            let mut received = Received::default();
            let noticed = survive(plan, board, &client, &mut received);
            assert!(!noticed.is_zero(), "an end that nobody made");
            expect_end(&client);
            received.check(board);
            noticed
        });
        until(|| board.is_dead());
        assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
        until(|| files(&raw::dir()).is_empty());
        noticed
    });
}

/// A client of the victim, if it lives long enough.
fn open(plan: &Plan, board: &Board) -> Option<NamedPipeClient> {
    let options = client_options(plan);
    loop {
        let is_dead = board.is_dead();
        let opened = match plan.seed % 3 {
            0 => options.open(PIPE),
            1 => options.open_timeout(PIPE, PATIENCE),
            _ => ntpipe::wait(PIPE, Some(PATIENCE)).and_then(|()| options.open(PIPE)),
        };
        match opened {
            Ok(client) => return Some(client),
            Err(error) => match code::<()>(Err(error)) {
                2 if is_dead => return None,
                2 => thread::yield_now(),
                other => panic!("open: {other}"),
            },
        }
    }
}

/// What a name is worth when its server and its client have died.
pub(crate) fn heir() {
    rounds(|plan, board| {
        Board::set(&board.is_open, 1);
        until(|| Board::get(&board.killed) != 0);
        if plan.seed & 2 == 0 {
            until(|| board.is_dead());
        }
        let begin = Instant::now();
        let mut options = server_options(plan);
        options.first_pipe_instance(true);
        let server = loop {
            let is_dead = board.is_dead();
            match options.create(PIPE) {
                Ok(server) => break server,
                // It was not quite dead.
                Err(error) => assert!(!is_dead, "{error}"),
            }
        };
        let noticed = begin.elapsed();
        let client = ClientOptions::new().open(PIPE).unwrap();
        server.connect().unwrap();
        talk(&client, &server);
        drop((server, client));
        assert_eq!(files(&raw::dir()), [""; 0]);
        until(|| board.is_dead());
        Some(noticed)
    });
}

fn talk(client: &NamedPipeClient, server: &NamedPipeServer) {
    thread::scope(|scope| {
        scope.spawn(|| client.write_message(b"hello").unwrap());
        let mut buf = [0; 5];
        let mut len = 0;
        while len < 5 {
            len += server.read_message(&mut buf[len..]).unwrap().len;
        }
        assert_eq!(&buf, b"hello");
    });
}

/// Answers whoever comes, who may die at any point.
pub(crate) fn answer_all(listener: &Listener) {
    for server in listener.incoming() {
        let mut buf = [0; 10];
        let Ok(server) = server else { return };
        while let Ok(read) = server.read_message(&mut buf) {
            if server.write_message(&buf[..read.len]).is_err() {
                break;
            }
        }
    }
}

/// A server whose visitors are killed.
pub(crate) fn host() {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message).max_instances(3);
    let listener = Listener::bind(PIPE, &options).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| answer_all(&listener));
        scope.spawn(|| answer_all(&listener));
        rounds(|_, board| {
            Board::set(&board.is_open, 1);
            until(|| board.is_dead());
            let client = ClientOptions::new().open_timeout(PIPE, PATIENCE).unwrap();
            client.write_message(b"there?").unwrap();
            assert_eq!(client.read_message(&mut [0; 10]).unwrap().len, 6);
            drop(client);
            assert_eq!(files(&raw::dir()), [LOCK, SOCKET]);
            Some(board.since_kill())
        });
        listener.close();
    });
}

/// A server and its client, beside another server of the same name that is killed. Which of the two
/// servers owns the name, the round says.
pub(crate) fn partner() {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    let bind = || Listener::bind(PIPE, &options).unwrap();
    let mut own = bind();
    rounds(|plan, board| {
        Board::set(&board.is_open, 1);
        until(|| Board::get(&board.steps) > 0 || board.is_dead());
        if plan.seed & 2 == 0 {
            // The victim has the name now, if it still lives.
            let next = bind();
            own.close();
            own = next;
        }
        thread::scope(|scope| {
            scope.spawn(|| answer_all(&own));
            let mut last = 0;
            while last < 3 {
                last += u64::from(board.is_dead());
                ask_someone(board);
            }
            own.close();
        });
        own = bind();
        Some(board.since_kill())
    });
}

/// One server lives always, so that the name is never gone; only who has answered may die.
fn ask_someone(board: &Board) {
    let client = ClientOptions::new().open_timeout(PIPE, PATIENCE).unwrap();
    let answer = client
        .write_message(b"ask")
        .and_then(|_| client.read_message(&mut [0; 10]));
    match answer {
        Ok(read) => assert_eq!(read.len, 3),
        Err(error) => assert!(!gone(board, Err(error)).is_zero(), "nobody has died"),
    }
}

/// After a death nothing comes any more, and nothing goes.
fn expect_end(pipe: &PipeStream) {
    assert_eq!(code(pipe.read_message(&mut [0; 10])), 109);
    assert_eq!(code(pipe.peek(&mut [0; 10])), 109);
    assert_eq!(code(pipe.write_message(b"x")), 232);
}

/// Does its part until the victim is gone; how long after the kill it learned of that, or nothing
/// if there was none.
fn survive(plan: &Plan, board: &Board, pipe: &PipeStream, received: &mut Received) -> Duration {
    pipe.set_read_mode(plan.mode).unwrap();
    let mut random = Random(plan.seed | 1);
    let mut buf = vec![0; ROOM];
    match plan.act {
        Act::Read | Act::ReadNothing => read_on(plan, board, pipe, received, &mut random),
        Act::ReadLate => {
            until(|| board.is_dead());
            until(|| pipe.write_message(&[]).is_err());
            let noticed = board.since_kill();
            let total = read_late(plan, pipe, received, &mut buf);
            assert!(total <= plan.quota as usize, "{total} bytes were complete");
            assert!(received.rest.is_empty(), "a part of a withdrawn write");
            noticed
        }
        Act::Write | Act::WriteInVain => write_on(plan, board, pipe),
        Act::Flush => {
            let flushed = || loop {
                pipe.write_message(b"more")?;
                pipe.flush()?;
            };
            gone(board, flushed())
        }
        Act::Both => thread::scope(|scope| {
            let writer = scope.spawn(|| write_on(plan, board, pipe));
            let read = read_on(plan, board, pipe, received, &mut random);
            writer.join().unwrap().max(read)
        }),
        Act::Transact => transact_on(plan, board, pipe, &mut buf),
        Act::Peek => loop {
            let peeked = match pipe.peek(&mut buf[..100]) {
                Ok(peeked) => peeked,
                Err(error) => break gone(board, Err(error)),
            };
            if peeked.available == 0 {
                thread::yield_now();
                continue;
            }
            match pipe.read_message(&mut buf) {
                Ok(read) => received.add(plan, &buf[..read.len], !read.more),
                // What was there has been taken back.
                Err(error) => break gone(board, Err(error)),
            }
        },
    }
}

/// How long ago the victim was killed, of which this is the news.
fn gone(board: &Board, end: io::Result<()>) -> Duration {
    let since = board.since_kill();
    let end = code(end);
    assert!(matches!(end, 109 | 232), "{end}");
    since
}

fn read_on(
    plan: &Plan,
    board: &Board,
    pipe: &PipeStream,
    received: &mut Received,
    random: &mut Random,
) -> Duration {
    let mut buf = vec![0; ROOM];
    loop {
        let len = room(random);
        match pipe.read_message(&mut buf[..len]) {
            Ok(read) => received.add(plan, &buf[..read.len], !read.more),
            Err(error) => {
                let since = board.since_kill();
                assert_eq!(code::<()>(Err(error)), 109);
                break since;
            }
        }
    }
}

fn read_late(plan: &Plan, pipe: &PipeStream, received: &mut Received, buf: &mut [u8]) -> usize {
    let mut total = 0;
    loop {
        match pipe.read_message(buf) {
            Ok(read) => {
                total += read.len;
                received.add(plan, &buf[..read.len], !read.more);
            }
            Err(error) => {
                assert_eq!(code::<()>(Err(error)), 109);
                return total;
            }
        }
    }
}

fn write_on(plan: &Plan, board: &Board, pipe: &PipeStream) -> Duration {
    for number in 1.. {
        let frame = plan.frame(number);
        match pipe.write_message(&frame) {
            Ok(written) => assert_eq!(written, frame.len()),
            Err(error) => return gone(board, Err(error)),
        }
    }
    unreachable!("numbers don't end")
}

fn transact_on(plan: &Plan, board: &Board, pipe: &PipeStream, buf: &mut [u8]) -> Duration {
    for number in 1.. {
        let frame = plan.frame(number);
        match pipe.transact(&frame, buf) {
            Ok(read) if read.more => {
                // The answer was taken back in the middle.
                assert!(frame.starts_with(&buf[..read.len]) && !board.since_kill().is_zero());
            }
            Ok(read) => assert!(buf[..read.len] == frame),
            Err(error) => {
                let since = board.since_kill();
                // 230: it was dead when the call began (observed 9, the states).
                assert!(matches!(code::<()>(Err(error)), 109 | 230 | 232));
                return since;
            }
        }
    }
    unreachable!("numbers don't end")
}
