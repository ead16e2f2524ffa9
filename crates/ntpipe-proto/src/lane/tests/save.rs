//! Saving and restoring the engine's state.

use super::*;

/// A writer with a write that is half stored and half read, two behind it, and a flush; and the
/// reader of that.
fn busy() -> Pair {
    let mut pair = Pair::new(PipeType::Message, 10);
    let long = [0xFF; 200_000];
    let first = pair.pending(&long);
    pair.pending(b"behind it");
    assert_eq!(pair.write(b""), Begun::Done);
    assert_eq!(pair.read(50_000), part(&long[..50_000]));
    assert_eq!(pair.resume(first, &long), Poll::Pending);
    let request = pair.writer.begin(&pair.memory, b"ask", Charge::Uncharged);
    assert_eq!(request, Ok(Begun::Done));
    let _ = pair.writer.flush();
    pair
}

fn words_of(save: impl FnOnce(&mut Vec<u64>)) -> Vec<u64> {
    let mut words = Vec::new();
    save(&mut words);
    words
}

fn writer(words: &[u64]) -> Result<Writer, Error> {
    Writer::restore(PipeType::Message, 10, ring_capacity(10), words)
}

fn reader(words: &[u64]) -> Result<Reader, Error> {
    Reader::restore(PipeType::Message, 10, ring_capacity(10), words)
}

#[test]
fn what_was_restored_saves_the_same() {
    let pair = busy();
    let saved = words_of(|words| pair.writer.save(words));
    assert_eq!(
        words_of(|words| writer(&saved).unwrap().save(words)),
        saved,
        "the writer"
    );
    let saved = words_of(|words| pair.reader.save(words));
    assert_eq!(
        words_of(|words| reader(&saved).unwrap().save(words)),
        saved,
        "the reader"
    );
}

#[test]
fn too_few_words_or_too_many_restore_nothing() {
    let pair = busy();
    let mut saved = words_of(|words| pair.writer.save(words));
    for len in 0..saved.len() {
        assert_eq!(writer(&saved[..len]).err(), Some(Error::INVALID_DATA));
    }
    saved.push(0);
    assert_eq!(writer(&saved).err(), Some(Error::INVALID_DATA));
    let mut saved = words_of(|words| pair.reader.save(words));
    for len in 0..saved.len() {
        assert_eq!(reader(&saved[..len]).err(), Some(Error::INVALID_DATA));
    }
    saved.push(0);
    assert_eq!(reader(&saved).err(), Some(Error::INVALID_DATA));
}

#[test]
fn a_count_of_more_items_than_words_restores_nothing() {
    let mut words = words_of(|words| Writer::new(PipeType::Byte, 10, 65536).save(words));
    let pending = words.len() - 3;
    assert_eq!(words[pending], 0);
    words[pending] = u64::MAX / 16;
    assert_eq!(writer(&words).err(), Some(Error::INVALID_DATA));
}

#[test]
fn another_holder_takes_back_the_write_of_one_that_died() {
    // observed 10.10
    let mut pair = Pair::new(PipeType::Message, 4);
    pair.pending(b"abcdef");
    let saved = words_of(|words| pair.writer.save(words));
    let mut other = Writer::restore(PipeType::Message, 4, ring_capacity(4), &saved).unwrap();
    let names: Vec<u64> = other.pending_ids().map(u64::from).collect();
    assert_eq!(names.len(), 1);
    let id = OpId::from(names[0]);
    assert_eq!(pair.read(2), part(b"ab"));
    assert_eq!(
        other.withdraw(&pair.memory, id),
        Ok(Withdrawal::Completed),
        "what is left is within the quota"
    );
    assert_eq!(pair.read(9), some(b"cdef"));

    let mut pair = Pair::new(PipeType::Message, 4);
    pair.pending(b"abcdef");
    let saved = words_of(|words| pair.writer.save(words));
    let mut other = Writer::restore(PipeType::Message, 4, ring_capacity(4), &saved).unwrap();
    assert_eq!(pair.read(1), part(b"a"));
    let withdrawal = other.withdraw(&pair.memory, id);
    assert_eq!(withdrawal, Ok(Withdrawal::Withdrawn));
    assert_eq!(other.pending_ids().next(), None);
    assert_eq!(pair.read(9), Poll::Pending);
}
