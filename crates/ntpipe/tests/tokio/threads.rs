//! Threads at the same end as tasks.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::thread::gettid;
use tokio::runtime::Builder;

use crate::support::{PATIENCE, bytes, code, messages, pattern, until_asleep};

#[test]
fn a_thread_goes_on_when_a_runtime_that_ends_takes_a_message_back() {
    for flushes in [true, false] {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (server, client, end_of_it) = runtime.block_on(async {
            let (server, client) = messages(64);
            assert_eq!(client.try_write(&pattern(2 << 20)).unwrap(), 2 << 20);
            let thread = client.try_clone().unwrap().into_blocking();
            (server, client, thread)
        });
        let (mine, (ended, end)) = (mpsc::channel(), mpsc::channel());
        thread::spawn(move || {
            let wait = || match flushes {
                true => end_of_it.flush(),
                false => end_of_it.write_message(b"next").map(drop),
            };
            mine.0.send(gettid()).unwrap();
            ended.send(wait()).unwrap();
        });
        until_asleep(mine.1.recv().unwrap());
        drop(runtime);
        end.recv_timeout(PATIENCE).unwrap().unwrap();
        drop(client);
        if !flushes {
            let mut buf = [0; 9];
            assert_eq!(server.try_read(&mut buf).unwrap(), 4);
            assert_eq!(&buf[..4], b"next");
        }
    }
}

#[test]
fn what_a_thread_took_back_leaves_room_for_a_part() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_server, client) = bytes(65536);
        let thread = client.try_clone().unwrap().into_blocking();
        let brief = Duration::from_micros(1);
        thread.set_write_timeout(Some(brief)).unwrap();
        assert_eq!(code(thread.write_message(&pattern(4 << 20))), 121);
        client.writable().await.unwrap();
        assert!(client.try_write(&pattern(65536)).unwrap() > 0);
    });
}
