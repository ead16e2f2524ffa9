//! Bad input and bad times: each call has its error, nothing hangs, nothing is lost on the way.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use ntpipe::{
    ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, PipeStream, ServerOptions,
    WaitMode, anonymous,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod support;
use support::{PIPE, Scenario, code, descriptors, files, hear, raw, say, this_test, until};

/// Longer than the watchdog waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// A name that nobody has.
const OTHER: &str = r"\\.\pipe\other";

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options
}

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let server = options().in_buffer_size(10).create(PIPE).unwrap();
    let mut options = ClientOptions::new();
    let client = options.pipe_mode(PipeMode::Message).open(PIPE).unwrap();
    server.connect().unwrap();
    (server, client)
}

#[test]
fn an_end_that_was_closed_answers_each_call() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        server.write_message(b"last").unwrap();
        server.close();
        server.close();
        let mut buf = [0; 10];
        assert_eq!(code(server.read_message(&mut buf)), 109);
        assert_eq!(code(server.write_message(b"x")), 232);
        assert_eq!(code(server.peek(&mut buf)), 109);
        assert_eq!(code(server.flush()), 0);
        assert_eq!(code(server.transact(b"x", &mut buf)), 230);
        assert_eq!(code(server.connect()), 6);
        assert_eq!(code(server.connect_timeout(PATIENCE)), 6);
        assert_eq!(code(server.disconnect()), 6);
        assert_eq!(code(server.info()), 6);
        assert_eq!(code(server.instances()), 6);
        assert_eq!(code(server.handle_state()), 6);
        assert_eq!(code(server.client_process_id()), 6);
        assert_eq!(code(server.cancel_io()), 1168);
        // The client has what was written, and the end.
        assert_eq!(client.read_message(&mut buf).unwrap().len, 4);
        assert_eq!(code(client.read_message(&mut buf)), 109);
        assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
        assert_eq!(files(&raw::dir()), [""; 0]);
    });
}

#[test]
fn names_that_are_too_long_are_refused_by_each_call() {
    Scenario::alone(this_test!(), || {
        let name = |len: usize| format!(r"\\.\pipe\{}", "x".repeat(len));
        for wrong in [&*name(248), &*name(100_000), "", "pipe", r"\\.\pipe\"] {
            let mut buf = [0; 10];
            let short = Some(Duration::from_millis(1));
            assert_eq!(code(options().create(wrong)), 123, "{wrong}");
            assert_eq!(code(Listener::bind(wrong, &options())), 123, "{wrong}");
            assert_eq!(code(ClientOptions::new().open(wrong)), 123, "{wrong}");
            assert_eq!(code(ntpipe::wait(wrong, short)), 123, "{wrong}");
            assert_eq!(code(ntpipe::call(wrong, b"x", &mut buf, short)), 123);
            assert_eq!(code(ntpipe::info(wrong)), 123, "{wrong}");
        }
        assert_eq!(files(&raw::dir()), [""; 0]);
        // The longest there is.
        let longest = name(247);
        let server = options().create(&longest).unwrap();
        let _client = ClientOptions::new().open(&longest).unwrap();
        server.connect().unwrap();
        assert_eq!(ntpipe::list().unwrap().len(), 1);
    });
}

#[test]
fn empty_buffers_are_no_fault() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        // A message of nothing is a message.
        assert_eq!(client.write_message(&[]).unwrap(), 0);
        let read = server.read_message(&mut []).unwrap();
        assert_eq!((read.len, read.more), (0, false));
        // Of another nothing is taken.
        client.write_message(b"rest").unwrap();
        let read = server.read_message(&mut []).unwrap();
        assert_eq!((read.len, read.more), (0, true));
        assert_eq!(server.peek(&mut []).unwrap().available, 4);
        assert_eq!(server.read_message(&mut [0; 4]).unwrap().len, 4);
        // Neither a request nor its reply needs bytes.
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(server.read_message(&mut []).unwrap().len, 0);
                server.write_message(&[]).unwrap();
            });
            let reply = client.transact(&[], &mut []).unwrap();
            assert_eq!((reply.len, reply.more), (0, false));
        });
        let (reader, writer) = anonymous::pipe(0).unwrap();
        assert_eq!(writer.write_message(&[]).unwrap(), 0);
        assert_eq!(reader.peek(&mut []).unwrap().available, 0);
        reader.set_wait_mode(WaitMode::NoWait).unwrap();
        assert_eq!(code(reader.read_message(&mut [0])), 232);
    });
}

/// How often an end is closed under each call.
const CLOSES: u32 = 60;

/// Does something again and again until the end that it is done to has gone.
fn hammer<T>(calls: impl Fn() -> io::Result<T>, ends: &[u32], fine: &[u32]) {
    loop {
        let code = code(calls());
        if ends.contains(&code) {
            return;
        }
        assert!(code == 0 || fine.contains(&code), "{code}");
        thread::yield_now();
    }
}

fn hammer_pipe<'a>(scope: &'a thread::Scope<'a, '_>, pipe: &'a PipeStream) {
    scope.spawn(|| hammer(|| pipe.read_message(&mut [0; 3]), &[109], &[]));
    scope.spawn(|| hammer(|| pipe.write_message(&[1; 7]), &[109, 232], &[]));
    scope.spawn(|| hammer(|| pipe.peek(&mut [0; 3]), &[109], &[]));
    // 231: other calls are under way (observed 11.5).
    let transact = || pipe.transact(b"ask", &mut [0; 3]);
    scope.spawn(move || hammer(transact, &[109, 230, 232], &[231]));
    // A flush never says that the peer has gone if nothing is left to flush.
    let flush = || match pipe.flush() {
        Ok(()) => pipe.peek(&mut []).map(drop),
        error => error,
    };
    scope.spawn(move || hammer(flush, &[109, 232], &[]));
}

#[test]
fn an_end_that_closes_under_its_calls_ends_them() {
    Scenario::alone(this_test!(), || {
        let listening = options().create(OTHER).unwrap();
        let before = descriptors();
        for round in 0..CLOSES {
            let (server, client) = pair();
            thread::scope(|scope| {
                hammer_pipe(scope, &server);
                hammer_pipe(scope, &client);
                for _ in 0..round % 7 {
                    thread::yield_now();
                }
                // Both its own calls and those of the other end.
                server.close();
            });
        }
        until(|| descriptors() <= before);
        assert_eq!(listening.instances().unwrap(), 1);
    });
}

#[test]
fn an_end_that_disconnects_under_its_calls_ends_them() {
    Scenario::alone(this_test!(), || {
        let server = options().in_buffer_size(10).create(PIPE).unwrap();
        let mut before = None;
        for round in 0..CLOSES {
            let mut options = ClientOptions::new();
            options.pipe_mode(PipeMode::Message);
            let client = thread::scope(|scope| {
                let open = scope.spawn(|| options.open_timeout(PIPE, PATIENCE).unwrap());
                server.connect().unwrap();
                open.join().unwrap()
            });
            thread::scope(|scope| {
                for pipe in [&*server, &*client] {
                    scope.spawn(|| hammer(|| pipe.read_message(&mut [0; 3]), &[233], &[]));
                    scope.spawn(|| hammer(|| pipe.write_message(&[1; 7]), &[233], &[]));
                    scope.spawn(|| hammer(|| pipe.peek(&mut [0; 3]), &[230, 233], &[]));
                    let transact = || pipe.transact(b"ask", &mut [0; 3]);
                    scope.spawn(move || hammer(transact, &[230, 233], &[231]));
                }
                scope.spawn(|| hammer(|| client.flush(), &[233], &[]));
                for _ in 0..round % 7 {
                    thread::yield_now();
                }
                server.disconnect().unwrap();
            });
            drop(client);
            let before = *before.get_or_insert_with(descriptors);
            until(|| descriptors() <= before);
        }
    });
}

#[test]
fn a_name_that_goes_under_its_calls_ends_them() {
    Scenario::alone(this_test!(), || {
        let _listening = options().create(OTHER).unwrap();
        let before = descriptors();
        for round in 0..CLOSES {
            let server = options().create(PIPE).unwrap();
            let listener = &Listener::bind(PIPE, &options()).unwrap();
            thread::scope(|scope| {
                // 232: its client has come and gone.
                scope.spawn(|| {
                    hammer(
                        || match server.connect() {
                            Err(error) if error.raw_os_error() != Some(232) => Err(error),
                            _ => server.disconnect(),
                        },
                        &[6, 109],
                        &[],
                    );
                });
                let accept = || listener.accept().map(drop);
                for _ in 0..2 {
                    scope.spawn(move || hammer(accept, &[995], &[]));
                    // 231: the others were faster, or all are just being disconnected.
                    let open = || ClientOptions::new().open(PIPE).map(drop);
                    scope.spawn(move || hammer(open, &[2], &[231]));
                }
                let wait = || ntpipe::wait(PIPE, Some(PATIENCE));
                scope.spawn(move || hammer(wait, &[2], &[]));
                scope.spawn(|| hammer(|| ntpipe::info(PIPE), &[2], &[]));
                for _ in 0..round % 7 {
                    thread::yield_now();
                }
                if round % 2 == 0 {
                    server.close();
                }
                listener.close();
                server.close();
            });
            assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
        }
        until(|| descriptors() <= before);
    });
}

/// Does something while this process can have no descriptor with that number or a higher one.
fn below<T>(number: u64, work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(number),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let result = work();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

/// One more than the highest descriptor; all lower ones are taken from here on.
fn without_holes() -> u64 {
    let mut fillers = Vec::new();
    loop {
        let count = descriptors() as u64;
        let filler = std::fs::File::open("/dev/null").unwrap();
        // Reading the count takes one itself.
        let number = u64::try_from(filler.as_raw_fd()).unwrap();
        if number + 1 >= count {
            std::mem::forget(fillers);
            return number;
        }
        fillers.push(filler);
    }
}

/// Gives a call one descriptor more at a time until it succeeds; until then it fails with 4, and
/// keeps nothing. Returns how many it needs.
fn scarce<T>(what: &str, call: impl Fn() -> io::Result<T>) -> u64 {
    let first = without_holes();
    for spare in 0..20 {
        let before = descriptors();
        let result = below(first + spare, &call);
        match code(result.as_ref().map(drop).map_err(copy)) {
            0 => {
                drop(result);
                until(|| descriptors() <= before);
                return spare;
            }
            code => assert_eq!(code, 4, "{what} with {spare} more"),
        }
        // The other side may just be noticing that nothing came of it.
        until(|| descriptors() <= before);
    }
    panic!("{what} takes more than 20 descriptors");
}

fn copy(error: &io::Error) -> io::Error {
    use ntpipe::IoErrorExt;
    let code = error.win32_code().unwrap();
    ntpipe::Error::from_code(code.try_into().unwrap()).into()
}

/// Serves whoever comes, until it is told to stop.
fn host(options: &ServerOptions) {
    let listener = Listener::bind(PIPE, options).unwrap();
    say("up");
    thread::scope(|scope| {
        scope.spawn(|| {
            for server in listener.incoming() {
                let Ok(server) = server else { return };
                let mut buf = [0; 10];
                while let Ok(read) = server.read_message(&mut buf) {
                    if server.write_message(&buf[..read.len]).is_err() {
                        break;
                    }
                }
            }
        });
        hear();
        listener.close();
    });
}

#[test]
fn without_descriptors_each_call_says_so_and_keeps_nothing() {
    Scenario::new(this_test!())
        .role("host", || host(&options()))
        .role("poor", || {
            // First all that a process needs only once.
            expect_other();
            let open = || ClientOptions::new().open_timeout(PIPE, PATIENCE);
            assert!(scarce("open", open) > 0);
            let call = || ntpipe::call(PIPE, b"ask", &mut [0; 10], Some(PATIENCE));
            assert!(scarce("call", call) > 0);
            assert!(scarce("wait", || ntpipe::wait(PIPE, Some(PATIENCE))) > 0);
            assert!(scarce("info", || ntpipe::info(PIPE)) > 0);
            let list = || ntpipe::list().inspect(|found| assert_eq!(found.len(), 1));
            assert!(scarce("list", list) > 0);
            assert!(scarce("create", || options().create(OTHER)) > 0);
            assert!(scarce("a further instance", || options().create(PIPE)) > 0);
            assert!(scarce("bind", || Listener::bind(OTHER, &options())) > 0);
            assert!(scarce("pipe", || anonymous::pipe(0)) > 0);
            expect_other();
        })
        .run(|stage| {
            let mut host = stage.start("host");
            host.expect("up");
            stage.start("poor").finish();
            host.say("stop");
            host.finish();
            assert_eq!(stage.files(), [""; 0]);
        });
}

/// Pipes of this process work, and go.
fn expect_other() {
    let server = options().create(OTHER).unwrap();
    let client = ClientOptions::new().open(OTHER).unwrap();
    server.connect().unwrap();
    client.write_message(b"hello").unwrap();
    assert_eq!(server.read_message(&mut [0; 10]).unwrap().len, 5);
}

#[test]
fn a_process_that_begins_without_descriptors_says_so() {
    Scenario::new(this_test!())
        .role("host", || host(&options()))
        .role("open", || {
            scarce_at_first(|| ClientOptions::new().open_timeout(PIPE, PATIENCE));
        })
        .role("create", || scarce_at_first(|| options().create(OTHER)))
        .role("join", || scarce_at_first(|| options().create(PIPE)))
        .role("pipe", || scarce_at_first(|| anonymous::pipe(0)))
        .role("list", || scarce_at_first(ntpipe::list))
        .run(|stage| {
            let mut host = stage.start("host");
            host.expect("up");
            for role in ["open", "create", "join", "pipe", "list"] {
                stage.start(role).finish();
            }
            host.say("stop");
            host.finish();
        });
}

/// As [`scarce`], in a process that has used no pipe yet: what it begins with it keeps.
fn scarce_at_first<T>(call: impl Fn() -> io::Result<T>) {
    let first = without_holes();
    for spare in 0..20 {
        match code(below(first + spare, &call)) {
            0 => return expect_other(),
            code => assert_eq!(code, 4, "with {spare} more"),
        }
    }
    panic!("it takes more than 20 descriptors");
}

/// Does something while this process can have no more than that many bytes of addresses more.
fn within<T>(bytes: u64, work: impl FnOnce() -> T) -> T {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let before = getrlimit(Resource::As);
    let limit = Rlimit {
        current: Some(pages * rustix::param::page_size() as u64 + bytes),
        maximum: before.maximum,
    };
    setrlimit(Resource::As, limit).unwrap();
    let result = work();
    setrlimit(Resource::As, before).unwrap();
    result
}

/// Enough for everything but the largest pipes.
const MODEST: u64 = 200 << 20;

#[test]
fn without_memory_a_pipe_says_so_and_keeps_nothing() {
    Scenario::alone(this_test!(), || {
        drop(anonymous::pipe(0).unwrap());
        let before = descriptors();
        for quota in [1 << 28, u32::MAX / 2 + 2, u32::MAX] {
            assert_eq!(code(within(MODEST, || anonymous::pipe(quota))), 1450);
            assert_eq!(descriptors(), before);
        }
        let (reader, writer) = within(MODEST, || anonymous::pipe(1 << 20)).unwrap();
        assert_eq!(writer.write_message(&[1; 100]).unwrap(), 100);
        assert_eq!(reader.read_message(&mut [0; 200]).unwrap().len, 100);
    });
}

#[test]
fn the_largest_pipes_carry_data() {
    Scenario::alone(this_test!(), || {
        // Addresses only: what is not used takes no memory.
        let (reader, writer) = anonymous::pipe(u32::MAX).unwrap();
        assert_eq!(writer.write_message(&[1; 1_000_000]).unwrap(), 1_000_000);
        assert_eq!(reader.peek(&mut []).unwrap().available, 1_000_000);
        let mut options = options();
        options.in_buffer_size(u32::MAX).out_buffer_size(u32::MAX);
        let server = options.create(PIPE).unwrap();
        let client = ClientOptions::new().open(PIPE).unwrap();
        server.connect().unwrap();
        assert_eq!(client.info().unwrap().in_buffer_size, u32::MAX);
        assert_eq!(client.write_message(&[1; 1_000_000]).unwrap(), 1_000_000);
        assert_eq!(server.peek(&mut []).unwrap().available, 1_000_000);
    });
}

/// A server whose pipe takes more memory than some have.
fn large(bytes: Option<u64>) {
    let mut options = options();
    options.in_buffer_size(u32::MAX).out_buffer_size(1 << 28);
    match bytes {
        None => host(&options),
        Some(bytes) => {
            // What a process needs only once.
            expect_other();
            within(bytes, || host(&options));
        }
    }
}

#[test]
fn an_open_without_memory_on_either_side_says_so_and_gives_the_instance_back() {
    Scenario::new(this_test!())
        .role("rich", || large(None))
        .role("poor", || large(Some(MODEST)))
        .role("client", || {
            expect_other();
            let limit = hear();
            let open = || ClientOptions::new().open_timeout(PIPE, PATIENCE);
            let before = descriptors();
            for _ in 0..20 {
                let opened = match &*limit {
                    "poor" => within(MODEST, open),
                    _ => open(),
                };
                assert_eq!(code(opened), 1450);
            }
            until(|| descriptors() <= before);
            let info = ntpipe::info(PIPE).unwrap();
            assert!(info.listening <= info.instances);
            until(|| ntpipe::info(PIPE).unwrap().listening > 0);
        })
        .run(|stage| {
            for (server, client) in [("rich", "poor"), ("poor", "rich")] {
                let mut host = stage.start(server);
                host.expect("up");
                let mut visitor = stage.start("client");
                visitor.say(client);
                visitor.finish();
                host.say("stop");
                host.finish();
                assert_eq!(stage.files(), [""; 0]);
            }
        });
}
