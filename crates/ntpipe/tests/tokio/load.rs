//! Many connections, and peers that come and go at odd moments: no wake-up is lost.

use std::time::Duration;

use ntpipe::tokio::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::{in_both_runtimes, messages, name};

/// Connections at a time, and round trips on all of them together.
const CONNECTIONS: u32 = 200;
const ROUND_TRIPS: u32 = 10_000;
/// For the test that is about their number.
const MANY: u32 = 1000;

/// Small numbers without a pattern, the same in each run.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }

    /// Lets others run, mostly not at all, sometimes for long enough that the peer falls asleep, and
    /// now and then by sleeping.
    async fn dawdle(&mut self) {
        if self.below(16) == 0 {
            return tokio::time::sleep(Duration::from_micros(self.below(2000).into())).await;
        }
        let turns = match self.below(8) {
            0 => 100,
            1 | 2 => self.below(5),
            _ => 0,
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

async fn answer(server: NamedPipeServer, seed: u32) {
    let mut random = Random(seed);
    let mut buf = [0; 64];
    loop {
        random.dawdle().await;
        let len = match random.below(2) {
            0 => server
                .read_message(&mut buf)
                .await
                .map_or(0, |read| read.len),
            _ => {
                server.readable().await.unwrap();
                match server.try_read(&mut buf) {
                    Ok(len) => len,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        if len == 0 {
            return;
        }
        random.dawdle().await;
        server.write_message(&buf[..len]).await.unwrap();
    }
}

async fn ask(client: NamedPipeClient, seed: u32) {
    let mut random = Random(seed);
    let mut buf = [0; 64];
    for round in 0..ROUND_TRIPS / CONNECTIONS {
        let message = (seed, round);
        let bytes = [message.0.to_le_bytes(), message.1.to_le_bytes()].concat();
        client.write_message(&bytes).await.unwrap();
        random.dawdle().await;
        let read = client.read_message(&mut buf).await.unwrap();
        assert_eq!(&buf[..read.len], bytes);
    }
}

in_both_runtimes! {
    async fn ten_thousand_round_trips_on_two_hundred_connections() {
        let mut tasks = JoinSet::new();
        for seed in 1..=CONNECTIONS {
            let (server, client) = messages(4096);
            tasks.spawn(answer(server, seed));
            tasks.spawn(ask(client, seed + MANY));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    async fn a_writer_and_a_reader_of_each_end_don_t_starve_each_other() {
        let (server, client) = messages(64);
        let (server, client) = (std::sync::Arc::new(server), std::sync::Arc::new(client));
        let mut tasks = JoinSet::new();
        for seed in [1, 2] {
            let (server, client) = (std::sync::Arc::clone(&server), std::sync::Arc::clone(&client));
            tasks.spawn(async move {
                let mut random = Random(seed);
                for round in 0..1000_u32 {
                    random.dawdle().await;
                    match seed {
                        1 => server.write_message(&round.to_le_bytes()).await.unwrap(),
                        _ => client.write_message(&round.to_le_bytes()).await.unwrap(),
                    };
                }
            });
        }
        for seed in [3, 4] {
            let (server, client) = (std::sync::Arc::clone(&server), std::sync::Arc::clone(&client));
            tasks.spawn(async move {
                let mut random = Random(seed);
                let mut buf = [0; 4];
                for round in 0..1000_u32 {
                    random.dawdle().await;
                    match seed {
                        3 => server.read_message(&mut buf).await.unwrap(),
                        _ => client.read_message(&mut buf).await.unwrap(),
                    };
                    assert_eq!(u32::from_le_bytes(buf), round);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    async fn several_readers_of_one_end_share_what_there_is() {
        let (server, client) = messages(4096);
        let server = std::sync::Arc::new(server);
        let mut tasks = JoinSet::new();
        for seed in 1..=5 {
            let server = std::sync::Arc::clone(&server);
            tasks.spawn(async move {
                let mut random = Random(seed);
                let (mut got, mut buf) = (0, [0; 4]);
                while let Ok(read) = server.read_message(&mut buf).await {
                    got += read.len;
                    random.dawdle().await;
                }
                got
            });
        }
        for round in 0..1000_u32 {
            client.write_message(&round.to_le_bytes()).await.unwrap();
        }
        client.flush_until_read().await.unwrap();
        drop(client);
        let mut got = 0;
        while let Some(done) = tasks.join_next().await {
            got += done.unwrap();
        }
        assert_eq!(got, 4000);
    }
}

/// Descriptors are what this takes most of: four for a connection whose ends are both here.
#[tokio::test(flavor = "current_thread")]
async fn a_thousand_connections_on_one_thread() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let enough = u64::from(MANY) * 4 + 100;
    if limit.current.is_some_and(|now| now < enough) {
        let raised = rustix::process::Rlimit {
            current: limit.maximum.map(|most| most.min(enough)).or(Some(enough)),
            ..limit
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    }
    let name = name();
    let mut tasks = JoinSet::new();
    for _ in 0..MANY {
        let mut server = ServerOptions::new()
            .in_buffer_size(64)
            .out_buffer_size(64)
            .create(&name)
            .unwrap();
        let mut client = ClientOptions::new().open(&name).unwrap();
        tasks.spawn(async move {
            let mut buf = Vec::new();
            server.read_to_end(&mut buf).await.unwrap();
            assert_eq!(buf, b"hello world");
        });
        tasks.spawn(async move {
            client.write_all(b"hello ").await.unwrap();
            tokio::task::yield_now().await;
            client.write_all(b"world").await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
