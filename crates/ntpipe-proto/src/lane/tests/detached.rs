//! Writes that never wait, behind one that is larger than the ring (observed 5.4, 11.6).

use super::*;

/// A pair whose writer has begun to write much more than the ring holds.
fn blocked(quota: u32) -> (Pair, OpId, Vec<u8>) {
    let mut pair = Pair::new(PipeType::Message, quota);
    let len = 3 * usize::try_from(ring_capacity(quota)).unwrap();
    let src: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[1]).collect();
    let id = pair.pending(&src);
    (pair, id, src)
}

impl Pair {
    fn request(&mut self, src: &[u8]) -> Begun {
        let lane = &self.memory;
        self.writer.begin(lane, src, Charge::Uncharged).unwrap()
    }

    fn withdraw(&mut self, id: OpId) {
        let withdrawal = self.writer.withdraw(&self.memory, id);
        assert_eq!(withdrawal, Ok(Withdrawal::Withdrawn));
    }

    /// Reads a whole message while its writer goes on with it.
    fn stream(&mut self, id: OpId, src: &[u8]) -> Vec<u8> {
        let mut dst = vec![0; src.len()];
        let mut op = Reading::default();
        let lane = &self.memory;
        while self
            .reader
            .read(&mut op, lane, ReadMode::Message, &mut dst)
            .unwrap()
            .is_pending()
        {
            let _ = self.writer.resume(lane, id, src).unwrap();
        }
        dst
    }
}

#[test]
fn what_never_waits_does_not_wait_for_room() {
    let (mut pair, id, src) = blocked(4);
    assert_eq!(pair.request(b"request"), Begun::Done);
    assert_eq!(pair.write(b""), Begun::Done);
    assert_eq!(pair.peek(0).1.available, count(src.len()) + 7);
    assert!(pair.stream(id, &src) == src);
    assert_eq!(pair.read(9), some(b"request"));
    assert_eq!(pair.read(9), some(b""));
    assert_eq!(pair.read(9), Poll::Pending);
    assert_eq!(pair.writer.free_quota(&pair.memory), Ok(4));
}

#[test]
fn it_is_stored_by_the_withdrawal_of_what_is_before_it() {
    let (mut pair, id, _) = blocked(4);
    let second = pair.pending(b"second");
    assert_eq!(pair.request(b"request"), Begun::Done);
    assert_eq!(pair.write(b""), Begun::Done);
    pair.withdraw(id);
    pair.withdraw(second);
    // The writer does nothing more.
    assert_eq!(pair.peek(0).1.available, 7);
    assert_eq!(pair.read(9), some(b"request"));
    assert_eq!(pair.read(9), some(b""));
}

#[test]
fn what_never_waits_needs_no_reserve_behind_what_was_withdrawn() {
    let (mut pair, id, _) = blocked(4);
    pair.withdraw(id);
    assert_eq!(pair.request(b"request"), Begun::Done);
    assert_eq!(pair.read(9), some(b"request"));
    let (mut pair, id, _) = blocked(4);
    pair.withdraw(id);
    assert_eq!(pair.request(b""), Begun::Done);
    assert_eq!(pair.read(9), some(b""));
}

#[test]
fn each_has_room_when_its_time_comes() {
    for quota in [0, 4096, 65536] {
        let (mut pair, first, _) = blocked(quota);
        let limit = ring_capacity(quota).min(4 * 65536) / 4;
        let request = vec![7; usize::try_from(limit).unwrap() / 5];
        let mut requests = 0;
        while requests < 100 && pair.request(&request) == Begun::Done {
            requests += 1;
        }
        assert!(
            (2..5).contains(&requests),
            "{requests} of a fifth of the reserve"
        );
        let beyond = pair.writer.pending_ids().last().unwrap();
        pair.withdraw(beyond);
        let src = vec![9; 1 << 20];
        let second = pair.pending(&src);
        assert_eq!(pair.write(b""), Begun::Done);
        pair.withdraw(first);
        assert_eq!(pair.resume(second, &src), Poll::Pending);
        pair.withdraw(second);
        for _ in 0..requests {
            assert!(pair.read(request.len()) == some(&request));
        }
        assert_eq!(pair.read(9), some(b""));
        assert_eq!(pair.read(9), Poll::Pending);
    }
}

#[test]
fn a_write_before_them_leaves_their_room_alone() {
    let (mut pair, first, _) = blocked(4);
    let src = [9; 10_000];
    let second = pair.pending(&src);
    for _ in 0..28 {
        assert_eq!(pair.request(&[7; 1000]), Begun::Done);
    }
    pair.withdraw(first);
    assert_eq!(pair.resume(second, &src), Poll::Pending);
    pair.withdraw(second);
    for _ in 0..28 {
        assert_eq!(pair.read(1000), some(&[7; 1000]));
    }
}

#[test]
fn more_than_the_reserve_waits_for_room() {
    let (mut pair, id, _) = blocked(4);
    let large = vec![1; 20_000];
    let Begun::Pending(request) = pair.request(&large) else {
        panic!("it is larger than a quarter of the ring");
    };
    pair.withdraw(id);
    let lane = &pair.memory;
    assert_eq!(pair.writer.resume(lane, request, &large), Ok(Poll::Pending));
    assert_eq!(
        pair.read(1),
        Poll::Pending,
        "what was withdrawn is let go of"
    );
    assert_eq!(pair.resume(request, &large), Poll::Ready(()));
    assert_eq!(pair.read(20_000), some(&large));
}

#[test]
fn a_detached_request_is_nobodys_pending_write() {
    let (mut pair, id, _) = blocked(4);
    assert_eq!(pair.request(b"request"), Begun::Done);
    let pending: Vec<_> = pair.writer.pending_ids().collect();
    assert_eq!(pending, [id]);
    let next = u64::from(id) + 1;
    let withdrawal = pair.writer.withdraw(&pair.memory, OpId::from(next));
    assert_eq!(withdrawal, Ok(Withdrawal::Completed));
    pair.withdraw(id);
    assert!(!pair.writer.has_waiters());
    assert_eq!(pair.read(9), some(b"request"));
}

#[test]
fn a_flush_waits_for_what_is_detached() {
    let (mut pair, id, _) = blocked(4);
    assert_eq!(pair.request(b"request"), Begun::Done);
    let flush = pair.writer.flush();
    pair.withdraw(id);
    let poll = pair.writer.poll_flush(&pair.memory, flush);
    assert_eq!(poll, Ok(Poll::Pending));
    assert_eq!(pair.read(9), some(b"request"));
    let poll = pair.writer.poll_flush(&pair.memory, flush);
    assert_eq!(poll, Ok(Poll::Ready(())));
}

#[test]
fn what_is_detached_dies_with_its_writer() {
    let (mut pair, _, _) = blocked(4);
    assert_eq!(pair.request(b"request"), Begun::Done);
    pair.reader.writer_gone(&pair.memory).unwrap();
    let lane = &pair.memory;
    assert_eq!(pair.reader.peek(lane, &mut []), Err(Error::BROKEN_PIPE));
}

#[test]
fn a_stored_request_outlives_its_writer_though_it_was_detached() {
    let (mut pair, id, _) = blocked(4);
    assert_eq!(pair.request(b"request"), Begun::Done);
    pair.withdraw(id);
    pair.reader.writer_gone(&pair.memory).unwrap();
    assert_eq!(pair.read(9), some(b"request"));
}
