use std::sync::atomic::AtomicU32;

use super::*;

fn roster() -> Roster {
    Roster::create(65536, PipeState::CLIENT).unwrap()
}

/// A further holder, which happens to live in this process too.
fn join(roster: &Roster) -> Roster {
    let held = roster.lock(Side::Read, None).unwrap();
    let (id, file) = roster.enter(&held).unwrap();
    Roster::join(file, id, 65536).unwrap()
}

const BRIEF: Option<Duration> = Some(Duration::from_millis(30));

#[test]
fn the_state_saved_last_counts() {
    let one = roster();
    let two = join(&one);
    for side in [Side::Read, Side::Write] {
        for n in 1..4 {
            let held = one.lock(side, None).unwrap();
            let state: Vec<u64> = (0..n).map(|i| i * n).collect();
            held.save(&state).unwrap();
            drop(held);
            let held = two.lock(side, None).unwrap();
            assert_eq!((held.version(), held.load().unwrap()), (n, state));
        }
    }
}

#[test]
fn a_state_that_is_too_large_changes_nothing() {
    let one = roster();
    let held = one.lock(Side::Read, None).unwrap();
    held.save(&[1, 2, 3]).unwrap();
    let large = vec![0; held.room()];
    assert_eq!(held.save(&large), Err(Error::NO_SYSTEM_RESOURCES));
    assert_eq!(held.load().unwrap(), [1, 2, 3]);
}

#[test]
fn a_lock_keeps_living_holders_out() {
    let one = roster();
    let two = join(&one);
    let held = one.lock(Side::Write, None).unwrap();
    assert_eq!(two.lock(Side::Write, BRIEF).err(), Some(Error::SEM_TIMEOUT));
    assert!(!two.lock(Side::Read, None).unwrap().was_recovered());
    drop(held);
    assert!(!two.lock(Side::Write, BRIEF).unwrap().was_recovered());
}

#[test]
fn the_lock_of_a_dead_holder_is_taken_over() {
    let one = roster();
    let two = join(&one);
    // It dies with the lock: nothing is let go of but what the kernel lets go of.
    std::mem::forget(two.lock(Side::Write, None).unwrap());
    assert_eq!(one.lock(Side::Write, BRIEF).err(), Some(Error::SEM_TIMEOUT));
    drop(two);
    let held = one.lock(Side::Write, None).unwrap();
    assert!(held.was_recovered());
    drop(held);
    assert!(!one.lock(Side::Write, None).unwrap().was_recovered());
}

#[test]
fn the_dead_are_seen_and_their_places_used_again() {
    let one = roster();
    let ids: Vec<_> = (0..3)
        .map(|_| {
            let two = join(&one);
            let found: Vec<_> = one.others().collect();
            assert_eq!(found, [(two.me(), true)]);
            let id = two.me();
            drop(two);
            assert_eq!(one.others().collect::<Vec<_>>(), [(id, false)]);
            assert!(!one.has_others());
            let read = one.lock(Side::Read, None).unwrap();
            let write = one.lock(Side::Write, None).unwrap();
            one.strike(id, (&read, &write));
            assert_eq!(one.others().count(), 0);
            id
        })
        .collect();
    assert_eq!(ids[0].place(), ids[2].place());
    assert_ne!(ids[0], ids[2]);
}

#[test]
fn who_has_left_gets_no_lock() {
    let one = roster();
    let two = join(&one);
    let read = two.lock(Side::Read, None).unwrap();
    let write = two.lock(Side::Write, None).unwrap();
    two.strike(two.me(), (&read, &write));
    drop((read, write));
    assert_eq!(
        two.lock(Side::Read, None).err(),
        Some(Error::INVALID_HANDLE)
    );
    assert_eq!(one.others().count(), 0);
    assert!(one.lock(Side::Read, None).is_ok());
}

#[test]
fn holders_that_were_not_entered_are_refused() {
    let one = roster();
    let held = one.lock(Side::Read, None).unwrap();
    let (id, file) = one.enter(&held).unwrap();
    let other = HolderId::new(id.place(), 77);
    let copy = file.try_clone().unwrap();
    assert_eq!(
        Roster::join(copy, other, 65536).err(),
        Some(Error::INVALID_DATA)
    );
    let copy = file.try_clone().unwrap();
    assert_eq!(
        Roster::join(copy, id, 1 << 20).err(),
        Some(Error::INVALID_DATA),
        "another ring"
    );
    // Of another description, which does not have the lock.
    let copy = record_lock::reopen(&file).unwrap();
    assert_eq!(
        Roster::join(copy, id, 65536).err(),
        Some(Error::INVALID_DATA)
    );
    assert!(Roster::join(file, id, 65536).is_ok());
}

#[test]
fn turns_go_in_the_order_in_which_holders_came() {
    let one = roster();
    let two = join(&one);
    let turn = |roster: &Roster| roster.lock(Side::Read, None).unwrap().is_first();
    let take = |roster: &Roster| roster.lock(Side::Read, None).unwrap().take_ticket();
    assert!(turn(&one) && turn(&two));
    take(&two);
    assert!(!turn(&one) && turn(&two));
    take(&one);
    take(&two);
    assert!(!turn(&one) && turn(&two));
    two.lock(Side::Read, None).unwrap().give_ticket_back();
    assert!(turn(&one) && !turn(&two));
}

#[test]
fn the_bell_wakes_who_waits_in_another_holder() {
    let one = roster();
    let two = join(&one);
    let peer = AtomicU32::new(0);
    let flag = AtomicBool::new(false);
    let far = Instant::now() + Duration::from_secs(600);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            flag.store(true, Ordering::Relaxed);
            one.ring();
        });
        loop {
            let seen = two.begin_wait(&peer);
            let is_set = flag.load(Ordering::Relaxed);
            if !is_set {
                two.sleep(&peer, seen, far);
            }
            two.end_wait();
            if is_set {
                break;
            }
        }
    });
}

#[test]
fn a_garbled_state_is_an_error() {
    let one = roster();
    let held = one.lock(Side::Read, None).unwrap();
    held.save(&[1, 2]).unwrap();
    let (at, _) = one.state(Side::Read, held.version());
    for len in [READ_WORDS as u64, u64::MAX] {
        one.mapping.long_word(at).store(len, Ordering::Relaxed);
        assert_eq!(held.load(), Err(Error::INVALID_DATA));
    }
}
