//! Reads of an end that several processes hold.

use super::*;

/// Memory whose reader pauses.
struct Pausing<'a>(&'a Memory);

impl Incoming for Pausing<'_> {
    fn tail(&self) -> Pos {
        Incoming::tail(self.0)
    }

    fn completed(&self) -> Pos {
        Incoming::completed(self.0)
    }

    fn offered(&self) -> u64 {
        Incoming::offered(self.0)
    }

    fn header(&self, at: Pos) -> Header {
        Incoming::header(self.0, at)
    }

    fn load(&self, at: Pos, dst: &mut [u8]) {
        Incoming::load(self.0, at, dst);
    }

    fn publish(&self, taken: Taken) {
        Incoming::publish(self.0, taken);
    }

    fn claim(&self, to: Pos) {
        Incoming::claim(self.0, to);
    }

    fn ask(&self, bytes: u64) {
        Incoming::ask(self.0, bytes);
    }

    fn fence(&self) {
        Incoming::fence(self.0);
    }

    fn pauses(&self) -> bool {
        true
    }
}

#[test]
fn a_read_of_bytes_pauses_behind_each_pending_write() {
    let mut pair = Pair::new(PipeType::Byte, 10);
    pair.write(b"12345");
    pair.pending(&[7; 40_000]);
    pair.pending(b"last");
    let mut op = Reading::default();
    let mut dst = vec![0; 50_000];
    // A write that is complete can't be withdrawn; one of several records is one.
    for len in [40_005, 40_009, 40_009] {
        let read = pair
            .reader
            .read(&mut op, &Pausing(&pair.memory), ReadMode::Byte, &mut dst);
        assert_eq!(read, Ok(Poll::Ready(Read { len, more: false })));
    }
    assert_eq!(
        (&dst[..5], &dst[40_005..40_009]),
        (&b"12345"[..], &b"last"[..])
    );
}
