//! Several processes that serve one name: who is next, who counts, and what happens when one dies.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ntpipe::{ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};
use rustix::process::{Pid, Signal, kill_process};

mod support;
use support::{
    Child, PIPE, Random, Scenario, Stage, asleep, code, descriptors, hear, is_stopped, raw, say,
    this_test, until,
};

/// Longer than the watchdog waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that does what it is told, with its instances by the number of their creation.
fn server() {
    let mut instances: Vec<Option<NamedPipeServer>> = Vec::new();
    loop {
        let line = hear();
        let words: Vec<&str> = line.split(' ').collect();
        let at = words.get(1).and_then(|word| word.parse::<usize>().ok());
        let instance = at.and_then(|at| instances.get(at)?.as_ref());
        match words[0] {
            "create" => {
                let created = options(&words[1..]).create(PIPE);
                say(code(created.as_ref().map(drop).map_err(copy)));
                instances.extend(created.ok().map(Some));
            }
            "listen" => say(code(instance.unwrap().connect_timeout(Duration::ZERO))),
            "disconnect" => say(code(instance.unwrap().disconnect())),
            "serve" => {
                serve(instance.unwrap());
                say("served");
            }
            "close" => {
                instances[at.unwrap()] = None;
                say("closed");
            }
            "count" => say(instance.unwrap().instances().unwrap()),
            "client" => say(instance.unwrap().client_process_id().unwrap()),
            "descriptors" => say(descriptors()),
            other => panic!("{other}?"),
        }
    }
}

fn options(words: &[&str]) -> ServerOptions {
    let mut options = ServerOptions::new();
    for word in words {
        match *word {
            "first" => options.first_pipe_instance(true),
            "inbound" => options.access_outbound(false),
            "message" => options.pipe_mode(PipeMode::Message),
            "small" => options.in_buffer_size(10).out_buffer_size(20),
            max => options.max_instances(max.parse().unwrap()),
        };
    }
    options
}

fn copy(error: &std::io::Error) -> std::io::Error {
    use ntpipe::IoErrorExt;
    let code = error.win32_code().unwrap();
    ntpipe::Error::from_code(code.try_into().unwrap()).into()
}

/// One question and its answer.
fn serve(instance: &NamedPipeServer) {
    instance.connect().unwrap();
    let mut buf = [0; 100];
    let len = instance.read_message(&mut buf).unwrap().len;
    instance.write_message(&buf[..len]).unwrap();
}

/// A client that does what it is told.
fn client() {
    let mut clients: Vec<NamedPipeClient> = Vec::new();
    loop {
        let line = hear();
        let words: Vec<&str> = line.split(' ').collect();
        let at = words.get(1).and_then(|word| word.parse::<usize>().ok());
        match words[0] {
            "open" => match ClientOptions::new().open(PIPE) {
                Ok(client) => {
                    say(client.server_process_id().unwrap());
                    clients.push(client);
                }
                Err(error) => say(format!("error {}", code::<()>(Err(error)))),
            },
            "ask" => {
                ask(&clients[at.unwrap()]).unwrap();
                say("answered");
            }
            "count" => say(clients[at.unwrap()].instances().unwrap()),
            "close" => {
                clients.clear();
                say("closed");
            }
            "wait" => {
                let time = at.map(|at| Duration::from_millis(at as u64));
                let wait = || say(code(ntpipe::wait(PIPE, time.or(Some(PATIENCE)))));
                asleep(wait, || say("waiting"));
            }
            "insist" => {
                let open = || match ClientOptions::new().open(PIPE) {
                    Ok(client) => say(client.server_process_id().unwrap()),
                    Err(error) => say(format!("error {}", code::<()>(Err(error)))),
                };
                asleep(open, || say("waiting"));
            }
            // Too short to be seen asleep.
            "try" => {
                let wait = ntpipe::wait(PIPE, Some(Duration::from_millis(1)));
                say(code(wait));
            }
            "info" => match ntpipe::info(PIPE) {
                Ok(info) => say(format!(
                    "{} of {}, {} listen, {:?}, owner {}",
                    info.instances,
                    info.info.max_instances,
                    info.listening,
                    info.info.mode,
                    info.server_process_id
                )),
                Err(error) => say(format!("error {}", code::<()>(Err(error)))),
            },
            other => panic!("{other}?"),
        }
    }
}

fn ask(client: &NamedPipeClient) -> std::io::Result<()> {
    client.write_message(b"question")?;
    let mut buf = [0; 100];
    let len = client.read_message(&mut buf)?.len;
    assert_eq!(&buf[..len], b"question");
    Ok(())
}

/// Tells a child something, and hears what it says to that.
#[track_caller]
fn tell(child: &mut Child, line: &str, expected: impl std::fmt::Display) {
    child.say(line);
    child.expect(&expected.to_string());
}

/// Asks until that is the answer; the watchdog bounds it.
fn hear_until(child: &mut Child, line: &str, expected: &str) {
    until(|| {
        child.say(line);
        child.hear() == expected
    });
}

fn scenario(test: &'static str) -> Scenario {
    Scenario::new(test)
        .role("server", server)
        .role("client", client)
}

/// The name has gone, and has left nothing.
fn expect_gone(stage: &Stage, client: &mut Child) {
    tell(client, "open", "error 2");
    assert_eq!(stage.files(), [""; 0]);
}

#[test]
fn a_second_process_serves_clients_of_its_own() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two] = [(); 2].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create message 3", 0);
        tell(&mut two, "create small 200", 0);
        let info = format!("2 of 3, 2 listen, Message, owner {}", one.id());
        tell(&mut client, "info", info);
        tell(&mut client, "open", one.id());
        tell(&mut client, "open", two.id());
        tell(&mut client, "open", "error 231");
        for (n, server) in [&mut one, &mut two].into_iter().enumerate() {
            server.say("serve 0");
            tell(&mut client, &format!("ask {n}"), "answered");
            server.expect("served");
            tell(server, "client 0", client.id());
            tell(server, "count 0", 2);
            tell(&mut client, &format!("count {n}"), 2);
        }
        tell(&mut two, "close 0", "closed");
        tell(&mut client, "count 0", 1);
        tell(&mut client, "count 1", 0);
        tell(&mut one, "close 0", "closed");
        expect_gone(stage, &mut client);
    });
}

#[test]
fn the_rules_for_further_instances_hold_across_processes() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two] = [(); 2].map(|()| stage.start("server"));
        tell(&mut one, "create 3", 0);
        tell(&mut two, "create first", 5);
        tell(&mut two, "create inbound", 5);
        for n in 0..2 {
            tell(&mut two, "create", 0);
            tell(&mut two, "count 0", n + 2);
        }
        for server in [&mut one, &mut two] {
            tell(server, "create", 231);
            tell(server, "create first", 231);
            tell(server, "create inbound", 231);
        }
        tell(&mut two, "close 1", "closed");
        tell(&mut one, "create first", 5);
        tell(&mut two, "create inbound", 5);
        tell(&mut one, "create", 0);
        tell(&mut two, "create", 231);
        tell(&mut one, "close 1", "closed");
        tell(&mut two, "create", 0);
    });
}

#[test]
fn the_instance_that_has_listened_longest_is_next_wherever_it_is() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two, mut three] = [(); 3].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create", 0);
        tell(&mut two, "create", 0);
        tell(&mut three, "create", 0);
        tell(&mut two, "create", 0);
        let ids = [one.id(), two.id(), three.id()];
        tell(&mut client, "open", ids[0]);
        tell(&mut client, "open", ids[1]);
        // Both behind the two that listen still.
        tell(&mut two, "disconnect 0", 0);
        tell(&mut two, "listen 0", 121);
        tell(&mut one, "disconnect 0", 0);
        tell(&mut one, "listen 0", 121);
        // Out of line, and in again at its end.
        tell(&mut three, "disconnect 0", 0);
        tell(&mut three, "listen 0", 121);
        for next in [1, 1, 0, 2] {
            tell(&mut client, "open", ids[next]);
        }
        tell(&mut client, "open", "error 231");
    });
}

#[test]
fn an_instance_that_does_not_listen_gets_no_client() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two] = [(); 2].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create", 0);
        tell(&mut two, "create", 0);
        tell(&mut client, "open", one.id());
        tell(&mut two, "disconnect 0", 0);
        let info = format!("2 of 255, 0 listen, Byte, owner {}", one.id());
        tell(&mut client, "info", info);
        tell(&mut two, "disconnect 0", 233);
        tell(&mut client, "open", "error 231");
        client.say("wait");
        client.expect("waiting");
        tell(&mut two, "listen 0", 121);
        client.expect("0");
        tell(&mut client, "open", two.id());
        tell(&mut client, "try", 121);
    });
}

#[test]
fn the_name_goes_on_when_its_owner_closes() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two, mut three] = [(); 3].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create message 4", 0);
        tell(&mut two, "create", 0);
        tell(&mut client, "open", one.id());
        tell(&mut one, "close 0", "closed");
        tell(&mut one, "create first", 5);
        tell(&mut three, "create first", 5);
        let info = format!("1 of 4, 1 listen, Message, owner {}", two.id());
        tell(&mut client, "info", info);
        // Who was the owner is one of the others now.
        tell(&mut one, "create", 0);
        tell(&mut three, "create", 0);
        for server in [&mut two, &mut one, &mut three] {
            tell(&mut client, "open", server.id());
        }
        tell(&mut two, "close 0", "closed");
        hear_until(&mut three, "count 0", "2");
        tell(&mut one, "count 1", 2);
        tell(&mut one, "close 1", "closed");
        tell(&mut three, "close 0", "closed");
        expect_gone(stage, &mut client);
    });
}

/// The process that answers for the name, as a client sees it.
fn owner(client: &mut Child) -> u32 {
    client.say("info");
    let info = client.hear();
    info.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn heirs_follow_each_other_until_none_is_left() {
    scenario(this_test!()).run(|stage| {
        let mut servers: Vec<_> = (0..4).map(|_| stage.start("server")).collect();
        let mut client = stage.start("client");
        for server in &mut servers {
            tell(server, "create message 9", 0);
        }
        while servers.len() > 1 {
            let owner = owner(&mut client);
            let dies = servers.iter().position(|server| server.id() == owner);
            servers.remove(dies.unwrap()).kill();
            // What the dead one had is gone, and the others come back.
            let left = servers.len();
            for server in &mut servers {
                hear_until(server, "count 0", &left.to_string());
            }
        }
        let last = servers.pop().unwrap();
        let info = format!("1 of 9, 1 listen, Message, owner {}", last.id());
        tell(&mut client, "info", info);
        last.kill();
        expect_gone(stage, &mut client);
    });
}

#[test]
fn connections_with_others_outlive_the_owner() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two] = [(); 2].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create", 0);
        tell(&mut two, "create", 0);
        tell(&mut two, "create", 0);
        for id in [one.id(), two.id()] {
            tell(&mut client, "open", id);
        }
        one.kill();
        two.say("serve 0");
        tell(&mut client, "ask 1", "answered");
        two.expect("served");
        tell(&mut client, "open", two.id());
        tell(&mut client, "open", "error 231");
        tell(&mut two, "count 0", 2);
        tell(&mut two, "disconnect 0", 0);
        tell(&mut two, "listen 0", 121);
        tell(&mut client, "open", two.id());
    });
}

#[test]
fn the_order_of_the_line_outlives_the_owner() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two, mut three] = [(); 3].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create", 0);
        for _ in 0..2 {
            tell(&mut two, "create", 0);
            tell(&mut three, "create", 0);
        }
        tell(&mut two, "disconnect 0", 0);
        tell(&mut two, "listen 0", 121);
        one.kill();
        // Both are back.
        for server in [&mut two, &mut three] {
            hear_until(server, "count 0", "4");
        }
        for next in [&three, &two, &three, &two] {
            tell(&mut client, "open", next.id());
        }
    });
}

/// Three servers of which the first, the owner, is dead, the second is the next and busy, and the
/// third is stopped.
fn inheritance(stage: &Stage) -> (Child, Child, Child) {
    let [mut one, mut two, mut three] = [(); 3].map(|()| stage.start("server"));
    let mut client = stage.start("client");
    for server in [&mut one, &mut two, &mut three] {
        tell(server, "create", 0);
    }
    tell(&mut client, "open", one.id());
    tell(&mut client, "open", two.id());
    signal(&three, Signal::STOP);
    until(|| is_stopped(three.id()));
    one.kill();
    assert_eq!(owner(&mut client), two.id());
    (two, three, client)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

#[test]
fn a_new_owner_waits_for_the_others_before_it_is_busy() {
    scenario(this_test!()).run(|stage| {
        let came_in = |_| {
            let (_two, three, mut client) = inheritance(stage);
            client.say("insist");
            client.expect("waiting");
            signal(&three, Signal::CONT);
            client.hear() == three.id().to_string()
        };
        assert!((0..ATTEMPTS).any(came_in));
    });
}

/// It does not wait long, and this machine may be busy. What does not wait at all never succeeds.
const ATTEMPTS: u32 = 50;

#[test]
fn an_instance_of_the_new_owner_ends_the_wait_for_the_others() {
    scenario(this_test!()).run(|stage| {
        let came_in = |_| {
            let (mut two, _three, mut client) = inheritance(stage);
            client.say("insist");
            client.expect("waiting");
            tell(&mut two, "create", 0);
            client.hear() == two.id().to_string()
        };
        assert!((0..ATTEMPTS).any(came_in));
    });
}

#[test]
fn a_new_owner_does_not_wait_for_the_others_for_ever() {
    scenario(this_test!()).run(|stage| {
        let (mut two, three, mut client) = inheritance(stage);
        tell(&mut client, "open", "error 231");
        tell(&mut client, "open", "error 231");
        signal(&three, Signal::CONT);
        hear_until(&mut two, "count 0", "2");
        tell(&mut client, "open", three.id());
    });
}

#[test]
fn a_member_that_dies_takes_its_instances_along() {
    scenario(this_test!()).run(|stage| {
        let mut one = stage.start("server");
        let mut client = stage.start("client");
        tell(&mut one, "create 2", 0);
        tell(&mut client, "open", one.id());
        for _ in 0..10 {
            let mut two = stage.start("server");
            tell(&mut two, "create", 0);
            tell(&mut one, "create", 231);
            two.kill();
            hear_until(&mut one, "count 0", "1");
            tell(&mut client, "open", "error 231");
        }
        tell(&mut one, "close 0", "closed");
        expect_gone(stage, &mut client);
    });
}

#[test]
fn a_wait_goes_on_when_the_owner_dies() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two] = [(); 2].map(|()| stage.start("server"));
        let [mut client, mut other] = [(); 2].map(|()| stage.start("client"));
        tell(&mut one, "create", 0);
        tell(&mut two, "create", 0);
        tell(&mut client, "open", one.id());
        tell(&mut client, "open", two.id());
        tell(&mut other, "wait", "waiting");
        tell(&mut client, "wait 700", "waiting");
        one.kill();
        client.expect("121");
        tell(&mut two, "disconnect 0", 0);
        tell(&mut two, "listen 0", 121);
        other.expect("0");
        tell(&mut client, "open", two.id());
        // And ends with the name.
        tell(&mut other, "wait", "waiting");
        two.kill();
        other.expect("2");
        expect_gone(stage, &mut client);
    });
}

#[test]
fn a_stopped_member_stops_nobody_else() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two] = [(); 2].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create", 0);
        tell(&mut two, "create", 0);
        let stopped = Pid::from_raw(two.id() as i32).unwrap();
        kill_process(stopped, Signal::STOP).unwrap();
        tell(&mut client, "open", one.id());
        tell(&mut one, "count 0", 2);
        tell(&mut one, "create", 0);
        let info = format!("3 of 255, 2 listen, Byte, owner {}", one.id());
        tell(&mut client, "info", info);
        // The one that it is given to does not answer before it goes on.
        client.say("open");
        let mut other = stage.start("client");
        until(|| {
            other.say("info");
            other.hear().contains("1 listen")
        });
        tell(&mut other, "open", one.id());
        kill_process(stopped, Signal::CONT).unwrap();
        client.expect(&two.id().to_string());
        two.say("serve 0");
        tell(&mut client, "ask 1", "answered");
        two.expect("served");
    });
}

#[test]
fn members_leave_no_descriptors_behind() {
    scenario(this_test!()).run(|stage| {
        let [mut one, mut two] = [(); 2].map(|()| stage.start("server"));
        let mut client = stage.start("client");
        tell(&mut one, "create", 0);
        let mut visit = |one: &mut Child, two: &mut Child, n: u32| {
            tell(two, "create", 0);
            tell(two, "create", 0);
            tell(
                &mut client,
                "open",
                if n == 0 { one.id() } else { two.id() },
            );
            tell(&mut client, "open", two.id());
            tell(&mut client, "close", "closed");
            tell(two, &format!("close {}", 2 * n), "closed");
            tell(two, &format!("close {}", 2 * n + 1), "closed");
            tell(one, "count 0", 1);
        };
        let mut count = |server: &mut Child| -> u32 {
            server.say("descriptors");
            server.hear().parse().unwrap()
        };
        visit(&mut one, &mut two, 0);
        let before = [&mut one, &mut two].map(&mut count);
        for n in 1..10 {
            visit(&mut one, &mut two, n);
            // What is closed elsewhere is noticed a little later.
            for (server, before) in [&mut one, &mut two].into_iter().zip(before) {
                until(|| count(server) <= before);
            }
        }
    });
}

/// Serves whoever comes, in several threads, until it is told to stop.
fn listener() {
    let listener = Listener::bind(PIPE, ServerOptions::new().pipe_mode(PipeMode::Message)).unwrap();
    say("up");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for client in listener.incoming() {
                    let Ok(client) = client else { continue };
                    let mut buf = [0; 100];
                    while let Ok(read) = client.read_message(&mut buf) {
                        if client.write_message(&buf[..read.len]).is_err() {
                            break;
                        }
                    }
                }
            });
        }
        hear();
        listener.close();
    });
}

/// Opens, asks and closes until it is told to stop; says how often it had an answer.
fn visitor() {
    let stop = AtomicBool::new(false);
    let mut answers = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            hear();
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let client = match ClientOptions::new().open_timeout(PIPE, PATIENCE) {
                Ok(client) => client,
                Err(error) => panic!("no pipe: {error}"),
            };
            // It may die meanwhile.
            let Ok(()) = ask(&client) else { continue };
            answers += 1;
            if answers == 1 {
                say("answered");
            }
        }
    });
    say(answers);
}

/// Tries to have the name for itself.
fn stranger() {
    let stop = AtomicBool::new(false);
    let mut options = ServerOptions::new();
    options.access_outbound(false).first_pipe_instance(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            hear();
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(code(options.create(PIPE)), 5);
        }
    });
    say("never");
}

/// How often owners are killed; more by an environment variable.
fn rounds() -> u32 {
    let rounds = std::env::var("NTPIPE_TEST_ROUNDS").ok();
    rounds.map_or(50, |rounds| rounds.parse().unwrap())
}

#[test]
fn a_name_outlives_its_owners_for_those_who_use_it() {
    scenario(this_test!())
        .role("listener", listener)
        .role("visitor", visitor)
        .role("stranger", stranger)
        .run(|stage| {
            let begun = Instant::now();
            let start = || {
                let mut listener = stage.start("listener");
                listener.expect("up");
                listener
            };
            let mut listeners: Vec<_> = (0..3).map(|_| start()).collect();
            let mut client = stage.start("client");
            let mut visitor = stage.start("visitor");
            let mut stranger = stage.start("stranger");
            visitor.expect("answered");
            let mut random = Random(0x5EED);
            for round in 0..rounds() {
                // Mostly the owner, sometimes another, and sometimes both at once.
                let owner = owner(&mut client);
                let at = listeners.iter().position(|child| child.id() == owner);
                let at = at.unwrap_or(0);
                let dies = match round % 4 {
                    3 => random.below(3) as usize,
                    _ => at,
                };
                let dead = listeners.remove(dies);
                if round % 5 == 4 {
                    let other = listeners.remove(0);
                    kill_process(Pid::from_raw(dead.id() as i32).unwrap(), Signal::KILL).unwrap();
                    other.kill();
                    listeners.push(start());
                }
                dead.kill();
                listeners.push(start());
            }
            visitor.say("stop");
            let answers = visitor.hear();
            stranger.say("stop");
            stranger.expect("never");
            println!("{answers} answers");
            support::report("killing owners", begun);
            for mut listener in listeners {
                listener.say("stop");
                listener.finish();
            }
            expect_gone(stage, &mut client);
        });
}

#[test]
fn who_says_nonsense_about_instances_is_sent_away() {
    scenario(this_test!())
        .role("liar", || {
            use ntpipe_proto::control::{Answer, Notice};
            let notice = |turn, instance| {
                let rest = Notice::Rest { turn, instance };
                rest.encode().unwrap()
            };
            // Before it has any instance.
            let liar = raw::Raw::connect();
            liar.send(&notice(1, 1), &[]).unwrap();
            assert!(liar.receive().is_none());
            // Of another name, with a cut message.
            let resume = |name: &str, instance| {
                let pipe = ntpipe_proto::NameInfo {
                    pipe_type: ntpipe_proto::PipeType::Byte,
                    direction: ntpipe::Direction::Duplex,
                    max_instances: ntpipe_proto::MaxInstances::UNLIMITED,
                    instances: 7,
                    listening: 7,
                    default_timeout: ntpipe_proto::DefaultTimeout::default(),
                };
                let resume = Notice::Resume {
                    turn: 1,
                    instance,
                    place: Some(0),
                    pipe,
                    quotas: ntpipe_proto::Quotas {
                        inbound: 1,
                        outbound: 1,
                    },
                    name: name.into(),
                };
                resume.encode().unwrap()
            };
            let liar = raw::Raw::connect();
            liar.send(&resume("OTHER", 1), &[]).unwrap();
            liar.expect_end();
            let liar = raw::Raw::connect();
            liar.send(&resume("TEST", 1)[..30], &[]).unwrap();
            assert!(liar.receive().is_none());
            // Instances of others, and its own twice.
            let liar = raw::Raw::connect();
            let answer = |bytes: &[u8]| {
                liar.send(bytes, &[]).unwrap();
                Answer::decode(&liar.receive().unwrap().0).unwrap()
            };
            assert_eq!(answer(&resume("TEST", 8)), Answer::Done { turn: 1 });
            let failed = |error| Answer::Failed { turn: 1, error };
            let invalid = failed(ntpipe::Error::INVALID_PARAMETER);
            assert_eq!(answer(&resume("TEST", 8)), invalid);
            let unknown = failed(ntpipe::Error::INVALID_HANDLE);
            assert_eq!(answer(&notice(1, 0)), unknown);
            assert_eq!(ntpipe::info(PIPE).unwrap().listening, 2);
            assert_eq!(answer(&notice(1, 8)), Answer::Done { turn: 1 });
            assert_eq!(ntpipe::info(PIPE).unwrap().listening, 1);
            // Who has instances opens nothing.
            liar.send(&raw::open_request(), &[]).unwrap();
            assert!(liar.receive().is_none());
            until(|| ntpipe::info(PIPE).unwrap().instances == 1);
        })
        .run(|stage| {
            let mut one = stage.start("server");
            let mut client = stage.start("client");
            tell(&mut one, "create", 0);
            stage.start("liar").finish();
            tell(&mut client, "open", one.id());
        });
}
