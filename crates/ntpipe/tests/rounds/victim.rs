//! The processes that are killed, and the one that makes and kills them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use ntpipe::{ClientOptions, Listener, PipeMode, PipeStream, ServerOptions};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid,
};

use super::plan::{Act, Board, Plan, now};
use super::support::{PIPE, Random, code, hear, say};
use super::survivor::answer_all;
use super::{PATIENCE, board};

/// How long the victim has for the operations that it should have begun.
const MOMENT: Duration = Duration::from_millis(8);
/// More than any frame has.
pub(crate) const ROOM: usize = 200_000;

pub(crate) fn server_options(plan: &Plan) -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(plan.mode);
    options.in_buffer_size(plan.quota);
    options.out_buffer_size(plan.quota);
    options
}

pub(crate) fn client_options(plan: &Plan) -> ClientOptions {
    let mut options = ClientOptions::new();
    options.pipe_mode(plan.mode);
    options
}

/// Makes a victim for each line, and kills it. It has no threads and no pipes of its own, so that
/// nothing is inherited.
pub(crate) fn nursery(victims: &[fn(&Plan, &Board)]) {
    let board = board();
    loop {
        let Ok(seed) = hear().parse() else { return };
        let plan = Plan::new(seed);
        let mut pids: Vec<_> = victims.iter().map(|live| born(*live, &plan)).collect();
        let begin = Instant::now();
        while Board::get(&board.steps) < plan.ops && begin.elapsed() < MOMENT {
            thread::yield_now();
        }
        let then = Instant::now();
        while then.elapsed() < plan.delay {
            thread::yield_now();
        }
        if seed & 1 == 0 {
            pids.reverse();
        }
        Board::set(&board.killed, now());
        for pid in &pids {
            kill_process(*pid, Signal::KILL).unwrap();
        }
        for pid in pids {
            let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
            let signal = status.terminating_signal();
            assert_eq!(signal, Some(libc::SIGKILL), "it ended by itself: {plan:?}");
        }
        Board::set(&board.is_dead, 1);
        say("dead");
    }
}

fn born(live: fn(&Plan, &Board), plan: &Plan) -> Pid {
    // SAFETY: this process has no other threads that could hold a lock.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
        let _ = catch_unwind(AssertUnwindSafe(|| live(plan, board())));
        // SAFETY: this takes a number only; nothing of the parent's is to be cleaned up.
        unsafe { libc::_exit(1) };
    }
    Pid::from_raw(pid).unwrap()
}

/// Waits until the survivor is ready for it.
fn await_open(board: &Board) {
    while Board::get(&board.is_open) == 0 {
        thread::yield_now();
    }
}

pub(crate) fn client(plan: &Plan, board: &Board) {
    await_open(board);
    let client = loop {
        match client_options(plan).open_timeout(PIPE, PATIENCE) {
            Ok(client) => break client,
            // The server is a victim too, and not yet there.
            Err(error) => assert_eq!(code::<()>(Err(error)), 2),
        }
    };
    live(plan, board, &client);
}

pub(crate) fn server(plan: &Plan, board: &Board) {
    await_open(board);
    let mut options = server_options(plan);
    let server = options.first_pipe_instance(true).create(PIPE).unwrap();
    alive(board, server.connect());
    live(plan, board, &server);
}

/// One of several servers of a name.
pub(crate) fn colleague(_: &Plan, board: &Board) {
    await_open(board);
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    let listener = Listener::bind(PIPE, &options).unwrap();
    board.step();
    answer_all(&listener);
}

/// Uses a name and its owner in all ways, for ever.
pub(crate) fn visitor(plan: &Plan, board: &Board) {
    await_open(board);
    let mut random = Random(plan.seed | 1);
    loop {
        board.step();
        match random.below(6) {
            0 => drop(ntpipe::list().unwrap()),
            1 => drop(ntpipe::info(PIPE).unwrap()),
            2 => ntpipe::wait(PIPE, Some(PATIENCE)).unwrap(),
            3 => drop(ClientOptions::new().open(PIPE)),
            4 => {
                // 231: what it waited for, another has taken.
                let read = ntpipe::call(PIPE, b"ask", &mut [0; 10], Some(PATIENCE));
                assert!([0, 231].contains(&code(read)));
            }
            _ => {
                let client = ClientOptions::new().open_timeout(PIPE, PATIENCE).unwrap();
                client.write_message(b"ask").unwrap();
                if random.below(2) == 0 {
                    assert_eq!(client.read_message(&mut [0; 10]).unwrap().len, 3);
                }
            }
        }
    }
}

/// What the victim does at its end until it is killed.
fn live(plan: &Plan, board: &Board, pipe: &PipeStream) {
    board.step();
    match plan.act {
        Act::Read | Act::ReadLate | Act::Peek => write_on(plan, board, pipe),
        Act::ReadNothing | Act::Write => read_on(plan, board, pipe, u64::MAX),
        Act::WriteInVain => rest(),
        Act::Flush => read_on(plan, board, pipe, plan.ops / 2),
        Act::Both => thread::scope(|scope| {
            scope.spawn(|| read_on(plan, board, pipe, u64::MAX));
            write_on(plan, board, pipe);
        }),
        Act::Transact => answer_on(board, pipe),
    }
}

/// What a call has returned, unless the other side of it has just been killed too.
fn alive<T>(board: &Board, result: io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(_) if Board::get(&board.killed) != 0 => rest(),
        Err(error) => panic!("{error}"),
    }
}

fn rest() -> ! {
    loop {
        thread::park();
    }
}

fn write_on(plan: &Plan, board: &Board, pipe: &PipeStream) {
    for number in 1.. {
        let frame = plan.frame(number);
        Board::set(&board.begun, number);
        board.step();
        let written = alive(board, pipe.write_message(&frame));
        assert_eq!(written, frame.len());
        Board::set(&board.completed, number);
    }
}

fn read_on(plan: &Plan, board: &Board, pipe: &PipeStream, times: u64) {
    let mut random = Random(plan.seed | 1);
    let mut buf = vec![0; ROOM];
    for _ in 0..times {
        let len = room(&mut random);
        board.step();
        alive(board, pipe.read_message(&mut buf[..len]));
    }
    rest()
}

fn answer_on(board: &Board, pipe: &PipeStream) {
    pipe.set_read_mode(PipeMode::Message).unwrap();
    let mut buf = vec![0; ROOM];
    loop {
        board.step();
        let read = alive(board, pipe.read_message(&mut buf));
        assert!(!read.more);
        board.step();
        alive(board, pipe.write_message(&buf[..read.len]));
    }
}

/// The size of a read: all of a frame, or less.
pub(crate) fn room(random: &mut Random) -> usize {
    let limit = [20, 500, ROOM as u64][random.below(3) as usize];
    1 + random.below(limit) as usize
}
