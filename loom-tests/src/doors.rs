//! Claims about the doors themselves: what the models rely on, and what bare loom would miss.

use crate::arena::Arena;
use crate::model::{models, spawn};
use crate::reclaim::{Collector, Handle};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

models! {
    None => a_published_message_is_whole,
    None => a_message_published_relaxed_is_caught: IsCaught,
    None => a_message_observed_relaxed_is_caught: IsCaught,
    None => a_relaxed_publication_in_an_exchange_loop_is_caught: IsCaught,
    None => a_pinned_reader_never_meets_reused_memory,
    None => a_reader_past_its_pin_is_caught: IsCaught,
    None => a_deferred_action_runs_when_the_last_older_pin_ends,
    None => what_is_never_due_runs_when_the_collector_goes,
    None => a_lock_orders_its_holders,
    None => a_granule_used_both_ways_is_caught: IsCaught,
    None => a_released_range_reads_as_zero,
}

fn message_passing(publish: Ordering, observe: Ordering) {
    let arena = Arc::new(Arena::new(64).expect("arena"));
    let writer = {
        let arena = Arc::clone(&arena);
        spawn(move || {
            // SAFETY: nobody reads before the flag, which is what the model checks.
            unsafe { arena.write(8, b"message") };
            arena.word(0).store(1, publish);
        })
    };
    if arena.word(0).load(observe) == 1 {
        // SAFETY: nobody writes after the flag.
        assert_eq!(unsafe { arena.read(8, 7) }, b"message");
    }
    writer.join().expect("writer");
}

fn a_published_message_is_whole() {
    message_passing(Ordering::Release, Ordering::Acquire);
}

fn a_message_published_relaxed_is_caught() {
    message_passing(Ordering::Relaxed, Ordering::Acquire);
}

fn a_message_observed_relaxed_is_caught() {
    message_passing(Ordering::Release, Ordering::Relaxed);
}

/// Two threads write a cell each and publish it by exchanging the head, in a loop.
fn exchange_publication(order: Ordering) {
    let arena = Arc::new(Arena::new(64).expect("arena"));
    let publish = move |arena: &Arena, at: u64| {
        // SAFETY: each thread writes its own cell before it publishes it.
        unsafe { arena.write(at, &[1; 8]) };
        let head = arena.word(0);
        let mut seen = head.load(Ordering::Relaxed);
        loop {
            if seen != 0 {
                // SAFETY: a published cell is written no more.
                assert_eq!(unsafe { arena.read(seen, 8) }, [1; 8]);
            }
            match head.compare_exchange(seen, at, order, Ordering::Acquire) {
                Ok(_) => break,
                Err(newer) => seen = newer,
            }
        }
    };
    let other = {
        let arena = Arc::clone(&arena);
        spawn(move || publish(&arena, 8))
    };
    publish(&arena, 16);
    other.join().expect("other");
}

fn a_relaxed_publication_in_an_exchange_loop_is_caught() {
    exchange_publication(Ordering::Relaxed);
}

/// When the reader of [`reclamation`] reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Pinned,
    AfterItsPin,
}

/// A reader looks for a cell under a pin; a writer unlinks it, defers its reuse and goes on.
fn reclamation(reads: Reads) {
    let arena = Arc::new(Arena::new(64).expect("arena"));
    let collector = Collector::new();
    // SAFETY: no other thread yet.
    unsafe { arena.write(8, &[1; 8]) };
    arena.word(0).store(8, Ordering::Relaxed);
    let reader = {
        let arena = Arc::clone(&arena);
        let handle = collector.register();
        spawn(move || {
            let pin = handle.pin();
            let at = arena.word(0).load(Ordering::Relaxed);
            if reads == Reads::AfterItsPin {
                drop(pin);
            }
            if at != 0 {
                // SAFETY: pinned, or else caught.
                assert_eq!(unsafe { arena.read(at, 8) }, [1; 8]);
            }
        })
    };
    let handle = collector.register();
    let pin = handle.pin();
    arena.word(0).store(0, Ordering::Relaxed);
    let reused = Arc::clone(&arena);
    // SAFETY: the cell is unlinked, and no pin from before is live when the action runs.
    pin.defer(move || unsafe { reused.write(8, &[2; 8]) });
    drop(pin);
    reader.join().expect("reader");
}

fn a_pinned_reader_never_meets_reused_memory() {
    reclamation(Reads::Pinned);
}

fn a_reader_past_its_pin_is_caught() {
    reclamation(Reads::AfterItsPin);
}

fn a_deferred_action_runs_when_the_last_older_pin_ends() {
    let done = Arc::new(AtomicU64::new(0));
    let collector = Collector::new();
    let handles: [Handle; 3] = std::array::from_fn(|_| collector.register());
    let (mut older, own) = (handles[0].pin(), handles[1].pin());
    let action = Arc::clone(&done);
    own.defer(move || action.store(1, Ordering::Relaxed));
    let _younger = handles[2].pin();
    drop(own);
    assert_eq!(done.load(Ordering::Relaxed), 0);
    older.renew();
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

fn what_is_never_due_runs_when_the_collector_goes() {
    let done = Arc::new(AtomicU64::new(0));
    let collector = Collector::new();
    let handle = collector.register();
    let action = Arc::clone(&done);
    let pin = handle.pin();
    pin.defer(move || action.store(1, Ordering::Relaxed));
    let nested = handle.pin();
    drop(pin);
    assert_eq!(done.load(Ordering::Relaxed), 0);
    drop(nested);
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

fn a_lock_orders_its_holders() {
    let total = Arc::new(Mutex::new(0));
    let other = {
        let total = Arc::clone(&total);
        spawn(move || *total.lock() += 1)
    };
    *total.lock() += 1;
    other.join().expect("other");
    assert_eq!(*total.lock(), 2);
}

fn a_granule_used_both_ways_is_caught() {
    let arena = Arena::new(64).expect("arena");
    arena.word(8).store(1, Ordering::Relaxed);
    // SAFETY: one thread.
    let _ = unsafe { arena.read(8, 1) };
}

fn a_released_range_reads_as_zero() {
    let arena = Arena::new(64).expect("arena");
    // SAFETY: one thread.
    unsafe { arena.write(8, &[1; 8]) };
    arena.word(16).store(1, Ordering::Relaxed);
    // SAFETY: one thread.
    unsafe { arena.release(0, 32) }.expect("release");
    // SAFETY: one thread.
    assert_eq!(unsafe { arena.read(8, 8) }, [0; 8]);
    assert_eq!(arena.word(16).load(Ordering::Relaxed), 0);
}
