use std::task::Poll;

use ntpipe_proto::lane::{Begun, Charge, Reading};
use ntpipe_proto::{Access, Direction, End, EndState, PipeState, PipeType, ReadMode};

use super::reading::{Look, Waiting};
use super::*;
use crate::ring::{Capacities, Files, Offer, Trust};

const QUOTA: u32 = 100;

/// The reading and the writing end of a message pipe.
fn pair() -> (PipeStream, PipeStream) {
    let (inbound, outbound) = (ring_capacity(QUOTA), ring_capacity(0));
    let (reader, reader_memory) = Offer::new(outbound).unwrap();
    let (writer, writer_memory) = Offer::new(inbound).unwrap();
    let reader = reader.accept(writer_memory, inbound, Trust::Same).unwrap();
    let writer = writer.accept(reader_memory, outbound, Trust::Same).unwrap();
    (
        end(End::Server, Arc::new(reader)),
        end(End::Client, Arc::new(writer)),
    )
}

fn end(end: End, link: Arc<Link>) -> PipeStream {
    let is_reader = end == End::Server;
    let terms = Terms {
        end,
        pipe_type: PipeType::Message,
        direction: Direction::Inbound,
        access: Access::GENERIC_READ,
        reads: is_reader.then_some(QUOTA),
        writes: (!is_reader).then_some(QUOTA),
    };
    let stream = PipeStream::new(terms, ReadMode::Message, EndState::Connected);
    stream.attach(&link);
    stream
}

/// A further holder, which happens to live in this process; dropped, it is as good as killed.
fn join(stream: &PipeStream) -> PipeStream {
    let newcomer = stream.share().unwrap();
    let files = newcomer.link.files();
    let files = Files::new(files.own.try_clone().unwrap(), files.peer().unwrap());
    let (mine, other) = match stream.terms.end {
        End::Server => (ring_capacity(0), ring_capacity(QUOTA)),
        End::Client => (ring_capacity(QUOTA), ring_capacity(0)),
    };
    let capacities = Capacities {
        own: mine,
        peer: other,
    };
    let ring = ring_capacity(stream.terms.writes.unwrap_or(0));
    let roster = Roster::join(newcomer.file, newcomer.id, ring).unwrap();
    let link = Link::join(files, capacities, Trust::Same, roster).unwrap();
    end(stream.terms.end, Arc::new(link))
}

fn link(stream: &PipeStream) -> Arc<Link> {
    stream
        .linked(&lock(&stream.read.side).link, Operation::Read)
        .unwrap()
}

fn read(stream: &PipeStream) -> Vec<u8> {
    let mut buf = vec![0; 1000];
    let soon = Instant::now() + Duration::from_millis(1);
    match stream.read_until(&mut buf, Some(soon)) {
        Ok(read) => buf.truncate(read.len),
        Err(error) => {
            assert_eq!(error, Error::SEM_TIMEOUT);
            buf.clear();
        }
    }
    buf
}

fn write(stream: &PipeStream, text: &[u8]) -> Result<usize, Error> {
    let soon = Instant::now() + Duration::from_millis(1);
    stream.write_until(text, Some(soon))
}

/// How far a holder comes with a call before it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    BeforeSaving,
    BeforeTelling,
}

/// Begins a write and dies with it.
fn die_writing(stream: PipeStream, text: &[u8], death: Death) {
    let link = link(&stream);
    let mut side = lock(&stream.write);
    let held = side.enter(&stream.terms, &link, None).unwrap();
    let lane = DeferredOut::new(&link, side.shared.so_far);
    let begun = side.writer.begin(&lane, text, Charge::Charged).unwrap();
    if death == Death::BeforeTelling {
        if let Begun::Pending(id) = begun {
            let me = link.roster().unwrap().me().to_u32();
            side.shared.owners.push((Waiter::Write(id), me));
        }
        side.shared.so_far = lane.so_far();
        side.save(&held).unwrap();
    }
    std::mem::forget(held);
}

/// Takes a message and dies with it.
fn die_reading(stream: PipeStream, death: Death) {
    let link = link(&stream);
    let mut side = lock(&stream.read.side);
    let held = side.enter(&stream.terms, &link, None).unwrap();
    let lane = DeferredIn::new(&link, side.shared.so_far);
    let (mut op, mut buf) = (Reading::default(), [0; 1000]);
    let read = (side.reader).read(&mut op, &lane, ReadMode::Message, &mut buf);
    assert!(matches!(read, Ok(Poll::Ready(_))));
    if death == Death::BeforeTelling {
        side.shared.so_far = lane.so_far();
        side.save(&held).unwrap();
    }
    std::mem::forget(held);
}

#[test]
fn what_a_dead_writer_has_not_saved_never_happened() {
    let (reader, writer) = pair();
    let other = join(&writer);
    write(&writer, b"one").unwrap();
    die_writing(other, b"two", Death::BeforeSaving);
    write(&writer, b"three").unwrap();
    assert_eq!(
        (read(&reader), read(&reader)),
        (b"one".to_vec(), b"three".to_vec())
    );
    assert_eq!(read(&reader), b"");
}

#[test]
fn what_a_dead_writer_has_saved_the_next_one_tells() {
    let (reader, writer) = pair();
    let other = join(&writer);
    write(&writer, b"one").unwrap();
    die_writing(other, b"two", Death::BeforeTelling);
    assert_eq!(read(&reader), b"one");
    assert_eq!(read(&reader), b"", "nobody has told yet");
    write(&writer, b"three").unwrap();
    assert_eq!(
        (read(&reader), read(&reader)),
        (b"two".to_vec(), b"three".to_vec())
    );
}

#[test]
fn a_pending_write_that_a_dead_writer_has_saved_is_taken_back() {
    for death in [Death::BeforeSaving, Death::BeforeTelling] {
        let (reader, writer) = pair();
        let other = join(&writer);
        let holder = link(&other).roster().unwrap().me();
        die_writing(other, &[7; 500], death);
        assert!(writer.look_for_dead(holder));
        assert_eq!(read(&reader), b"", "{death:?}");
        assert_eq!(write(&writer, &[1; QUOTA as usize]), Ok(100));
        assert_eq!(write(&writer, b"x"), Err(Error::SEM_TIMEOUT));
        assert_eq!(read(&reader).len(), 100);
    }
}

#[test]
fn what_a_dead_reader_has_not_saved_stays() {
    let (reader, writer) = pair();
    let other = join(&reader);
    write(&writer, b"one").unwrap();
    die_reading(other, Death::BeforeSaving);
    assert_eq!(read(&reader), b"one");
}

#[test]
fn what_a_dead_reader_has_saved_is_gone_and_its_room_is_free() {
    let (reader, writer) = pair();
    let other = join(&reader);
    write(&writer, &[1; QUOTA as usize]).unwrap();
    die_reading(other, Death::BeforeTelling);
    assert_eq!(
        write(&writer, b"x"),
        Err(Error::SEM_TIMEOUT),
        "nobody has told yet"
    );
    assert_eq!(read(&reader), b"");
    assert_eq!(write(&writer, b"next"), Ok(4));
    assert_eq!(read(&reader), b"next");
}

#[test]
fn a_reader_that_dies_with_its_claim_gives_the_write_free() {
    let (reader, writer) = pair();
    let other = join(&reader);
    // In one thread: the write is pending, and waits to be taken back.
    let writing = link(&writer);
    let id = {
        let mut side = lock(&writer.write);
        match side.writer.begin(&*writing, &[3; 500], Charge::Charged) {
            Ok(Begun::Pending(id)) => id,
            begun => panic!("{begun:?}"),
        }
    };
    {
        let link = link(&other);
        let mut side = lock(&other.read.side);
        let held = side.enter(&other.terms, &link, None).unwrap();
        let lane = DeferredIn::new(&link, side.shared.so_far);
        let (mut op, mut buf) = (Reading::default(), [0; 1000]);
        let read = (side.reader).read(&mut op, &lane, ReadMode::Message, &mut buf);
        assert!(matches!(read, Ok(Poll::Ready(_))));
        std::mem::forget(held);
    }
    let withdraw = || lock(&writer.write).writer.withdraw(&*writing, id);
    assert_eq!(withdraw(), Ok(Withdrawal::Contested));
    drop(other);
    assert_eq!(withdraw(), Ok(Withdrawal::Contested));
    // The next one sees what it has claimed, and that it was for nothing.
    assert_eq!(reader.peek_into(&mut []).unwrap().messages, 0);
    assert_eq!(withdraw(), Ok(Withdrawal::Withdrawn));
    assert_eq!(read(&reader), b"");
    assert_eq!(write(&writer, b"next"), Ok(4));
    assert_eq!(read(&reader), b"next");
}

#[test]
fn a_mode_that_one_holder_sets_is_everybodys() {
    let (reader, _writer) = pair();
    let other = join(&reader);
    assert_eq!(other.mode(), ReadMode::Message);
    link(&other).roster().unwrap().set_modes(PipeState::CLIENT);
    assert_eq!(reader.mode(), ReadMode::Byte);
    // It stays so for who holds the end alone again.
    assert_eq!(other.leave_end(), Left::Others);
    reader.detach(EndState::Disconnected);
    assert_eq!(reader.mode(), ReadMode::Byte);
}

#[test]
fn the_last_one_to_leave_knows() {
    let (reader, _writer) = pair();
    let (two, three) = (join(&reader), join(&reader));
    let four = join(&three);
    assert_eq!(reader.leave_end(), Left::Others);
    drop(three);
    assert_eq!(two.leave_end(), Left::Others);
    assert_eq!(four.leave_end(), Left::Last);
}

#[test]
fn a_state_that_nobody_can_have_saved_kills_the_connection() {
    let (reader, writer) = pair();
    let other = join(&reader);
    write(&writer, b"one").unwrap();
    let at_work = link(&other);
    let held = at_work.roster().unwrap().lock(Side::Read, None).unwrap();
    held.save(&[1, 2, 3, 4, 5, 6, 7]).unwrap();
    drop(held);
    for _ in 0..2 {
        assert_eq!(
            reader.read_until(&mut [0; 10], None),
            Err(Error::INVALID_DATA)
        );
    }
}

#[test]
fn a_message_that_is_on_its_way_is_not_taken_in_part() {
    let (reader, writer) = pair();
    let other = join(&reader);
    let writing = link(&writer);
    let message = vec![9; 40_000];
    // A writer that has come to the first piece only.
    let half = {
        let mut side = lock(&writer.write);
        let mut engine = Writer::new(PipeType::Message, QUOTA, ring_capacity(QUOTA));
        let begun = engine.begin(&*writing, &message, Charge::Charged);
        assert!(matches!(begun, Ok(Begun::Pending(_))));
        let tail = writing.written_so_far().tail;
        let first = ntpipe_proto::lane::Pos(16 + ntpipe_proto::lane::FRAGMENT);
        Outgoing::publish(&*writing, first);
        side.writer = engine;
        tail
    };
    let mut buf = vec![0; 50_000];
    let soon = || Some(Instant::now() + Duration::from_millis(1));
    let timed_out = other.read_until(&mut buf, soon());
    assert_eq!(timed_out, Err(Error::SEM_TIMEOUT));
    drop(other);
    Outgoing::publish(&*writing, half);
    let read = reader.read_until(&mut buf, soon()).unwrap();
    assert_eq!((read.len, read.more), (40_000, false));
}

#[test]
fn who_has_a_part_of_a_message_gets_the_rest_too() {
    let (reader, writer) = pair();
    let other = join(&reader);
    let writing = link(&writer);
    // More than the ring has room for.
    let message: Vec<u8> = (0..200_000).map(|n: u32| n.to_le_bytes()[0]).collect();
    let begun = lock(&writer.write)
        .writer
        .begin(&*writing, &message, Charge::Charged);
    let Ok(Begun::Pending(id)) = begun else {
        panic!("{begun:?}");
    };
    let reading = link(&other);
    let (mut op, mut buf) = (Reading::default(), vec![0; 300_000]);
    let mut look = || {
        let mut side = lock(&other.read.side);
        // It has not even said that it waits.
        other.look(
            &mut side,
            &reading,
            &mut Waiting::default(),
            &mut op,
            &mut buf,
        )
    };
    assert_eq!(look(), Ok(Look::Nothing));
    // The rest is there for whoever takes it.
    let resumed = lock(&writer.write).writer.resume(&*writing, id, &message);
    assert_eq!(resumed, Ok(Poll::Pending));
    let soon = Some(Instant::now() + Duration::from_millis(5));
    let rest = reader.read_until(&mut [0; 10], soon);
    assert_eq!(rest, Err(Error::SEM_TIMEOUT));
    let read = loop {
        let mut side = lock(&writer.write);
        let _ = side.writer.resume(&*writing, id, &message);
        drop(side);
        if let Look::Done(read) = look().unwrap() {
            break read;
        }
    };
    assert_eq!(read.len, message.len());
    assert!(buf[..message.len()] == message);
}

#[test]
fn what_a_dead_reader_has_saved_is_told_by_a_call_that_tells_nothing_itself() {
    let (reader, writer) = pair();
    let other = join(&reader);
    write(&writer, &[1; QUOTA as usize]).unwrap();
    die_reading(other, Death::BeforeTelling);
    assert_eq!(reader.peek_into(&mut []).unwrap().messages, 0);
    assert_eq!(write(&writer, b"next"), Ok(4));
}
