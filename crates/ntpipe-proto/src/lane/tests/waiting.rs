//! What reads that wait take directly (observed 5.7, reference 2.5).

use super::*;

impl Pair {
    fn ask(&mut self, total: usize) {
        self.reader.ask(&self.memory, total);
    }

    fn asked(&self) -> u64 {
        self.memory.asked.get()
    }
}

#[test]
fn a_waiting_read_lets_a_write_pass_the_quota() {
    // observed 5.7
    let mut pair = Pair::new(PipeType::Byte, 4);
    assert_eq!(pair.read(3), Poll::Pending);
    pair.reader.ask(&pair.memory, 3);
    assert_eq!(pair.write(b"1234567"), Begun::Done);
    pair.pending(b"8");
    pair.reader.ask(&pair.memory, 0);
    assert_eq!(pair.read(3), some(b"123"));
}

#[test]
fn a_waiting_read_counts_only_with_what_it_still_takes() {
    // observed 5.5, 5.7
    let mut pair = Pair::new(PipeType::Message, 100);
    let src = vec![7; 150_000];
    let mut dst = vec![0; src.len() - 101];
    pair.reader.ask(&pair.memory, dst.len());
    let id = pair.pending(&src);
    let mut op = Reading::default();
    let lane = &pair.memory;
    while pair
        .reader
        .read(&mut op, lane, ReadMode::Message, &mut dst)
        .unwrap()
        .is_pending()
    {
        assert_eq!(pair.writer.resume(lane, id, &src), Ok(Poll::Pending));
    }
    assert_eq!(pair.writer.resume(lane, id, &src), Ok(Poll::Pending));
}

#[test]
fn a_waiting_read_that_takes_an_empty_message_lets_no_other_write_pass_the_quota() {
    let mut pair = Pair::new(PipeType::Message, 0);
    assert_eq!(pair.read(100), Poll::Pending);
    pair.reader.ask(&pair.memory, 100);
    assert_eq!(pair.write(b""), Begun::Done);
    let id = pair.pending(b"later");
    assert_eq!(pair.read(100), some(b""));
    pair.reader.stop_asking(&pair.memory);
    assert_eq!(pair.resume(id, b"later"), Poll::Pending);
}

#[test]
fn a_waiting_read_asks_for_nothing_once_it_has_a_whole_write() {
    let mut pair = Pair::new(PipeType::Message, 0);
    pair.reader.ask(&pair.memory, 100);
    assert_eq!(pair.write(b"short"), Begun::Done);
    assert_eq!(pair.read(100), some(b"short"));
    assert_eq!(pair.memory.asked.get(), 0);
    pair.pending(b"the next read's");
}

#[test]
fn two_waiting_reads_take_one_message_between_them() {
    // reference 2.5, row 47
    let mut pair = Pair::new(PipeType::Message, 0);
    pair.ask(2 + 10);
    assert_eq!(pair.write(b"hello"), Begun::Done);
    assert_eq!(pair.read(2), part(b"he"));
    assert_eq!(pair.asked(), 10);
    assert_eq!(pair.read(10), some(b"llo"));
    assert_eq!(pair.asked(), 0);
    pair.pending(b"later");
}

#[test]
fn the_first_waiting_read_leaves_what_the_second_asks_for() {
    let mut pair = Pair::new(PipeType::Message, 0);
    pair.ask(10 + 10);
    assert_eq!(pair.write(b"hello"), Begun::Done);
    assert_eq!(pair.read(10), some(b"hello"));
    assert_eq!(
        pair.asked(),
        10,
        "the first has ended, and asks for nothing"
    );
    pair.pending(b"eleven bytes");
    assert_eq!(pair.read(10), part(b"eleven byt"));
    assert_eq!(pair.asked(), 0);
}

#[test]
fn a_waiting_read_that_goes_on_with_the_next_write_asks_for_nothing_there() {
    let mut pair = Pair::new(PipeType::Byte, 0);
    pair.ask(10 + 10);
    assert_eq!(pair.write(b"abc"), Begun::Done);
    pair.pending(b"defg");
    assert_eq!(pair.read(10), some(b"abcdefg"));
    assert_eq!(pair.asked(), 10);
}

#[test]
fn an_empty_message_ends_the_first_waiting_read_alone() {
    // observed 5.14
    let mut pair = Pair::new(PipeType::Message, 0);
    pair.ask(10 + 10);
    assert_eq!(pair.write(b""), Begun::Done);
    assert_eq!(pair.read(10), some(b""));
    assert_eq!(pair.asked(), 10);
    assert_eq!(pair.write(b"0123456789"), Begun::Done);
}

#[test]
fn a_read_of_nothing_asks_for_nothing() {
    // observed 5.12
    let mut pair = Pair::new(PipeType::Byte, 0);
    pair.ask(1000);
    assert_eq!(pair.write(b"x"), Begun::Done);
    assert_eq!(pair.read(0), some(b""));
    assert_eq!(pair.asked(), 1000);
    assert_eq!(pair.read(1000), some(b"x"));
    assert_eq!(pair.asked(), 0);
}

#[test]
fn the_turn_to_store_goes_on_although_the_write_before_waits() {
    // observed 5.2, 5.3
    let mut pair = Pair::new(PipeType::Byte, 0);
    let src = vec![7; 70_000];
    let large = pair.pending(&src);
    let small = pair.pending(b"abc");
    assert_eq!(pair.writer.first_unstored(), Some(large));
    assert_eq!(pair.read(40_000), some(&src[..40_000]));
    assert_eq!(pair.resume(large, &src), Poll::Pending);
    assert_eq!(pair.writer.first_unstored(), Some(small));
    assert_eq!(pair.resume(small, b"abc"), Poll::Pending);
    assert_eq!(pair.writer.first_unstored(), None);
    assert_eq!(pair.peek(40_000).0.len(), 30_003);
}
