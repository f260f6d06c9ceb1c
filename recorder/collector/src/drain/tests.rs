//! The drain, played by made-up threads.

use super::*;
use crate::testing::{drain, finish, process, segment, Player};
use heaptape_format::record::{Frame, ProcessOrigin};
use heaptape_format::{Address, Event, Micros, ModuleIx, Op, ProcessIx, Record, WriterOptions};
use heaptape_shm::entry::{flag, kind, note};
use heaptape_shm::slot::BUSY;

const MS: u64 = 1_000_000;

fn addresses(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .map(|event| match event.op {
            Op::Alloc { address, .. } | Op::Free { address } | Op::MoveOut { address } => address.0,
            Op::MoveIn { address, .. } | Op::Resize { address, .. } => address.0,
            ref other => panic!("{other:?}"),
        })
        .collect()
}

/// A small generator, so that a failing case can be played again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

#[test]
fn events_of_all_threads_come_out_in_the_order_of_their_stamps() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let segment = segment(4, 16, 64);
        let (mut drain, host) = drain(
            segment,
            WriterOptions {
                block_events: 64,
                ..WriterOptions::default()
            },
        );
        let owner = process(&segment, 41, None, 0);
        let mut players: Vec<Player> = (0..8).map(|tid| Player::new(&segment, owner, 10 + tid)).collect();
        let mut expected = Vec::new();
        let mut now = 2 * MS;
        for step in 0..2000u64 {
            now += dice.roll(20_000) + 1;
            let index = dice.roll(players.len() as u64) as usize;
            players[index].alloc(now, step, 1);
            expected.push(step);
            if dice.roll(40) == 0 {
                host.0.now.set(now + dice.roll(400_000));
                now = host.0.now.get();
                drain.round();
            }
        }
        let tape = finish(drain);
        assert_eq!(addresses(&tape.events), expected, "seed {seed}");
        assert!(tape.events.is_sorted_by_key(|event| event.time));
        assert_eq!(tape.lost(LossCause::Late), 0);
        let last = tape.events.last().unwrap();
        assert_eq!(
            last.time,
            Micros((now - MS) / 1000).min(last.time),
            "a stamp is a nanosecond here"
        );
    }
}

#[test]
fn what_a_thread_inside_an_event_may_still_publish_is_waited_for() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut quick = Player::new(&segment, owner, 10);
    let mut slow = Player::new(&segment, owner, 11);
    slow.alloc(2 * MS, 1, 1);
    quick.alloc(3 * MS, 2, 1);
    host.0.now.set(4 * MS);
    drain.round();
    // A realloc began at 5 ms and takes long.
    slow.inflight(5 * MS);
    quick.alloc(4 * MS, 3, 1);
    quick.alloc(6 * MS, 4, 1);
    host.0.now.set(50 * MS);
    assert_eq!(drain.round().taken, 1, "what comes before 5 ms is certain");
    slow.entry(kind::REALLOC, 0, 40 * MS, &[70, 8, 1, 5 * MS], 0, &[]);
    host.0.now.set(60 * MS);
    drain.round();
    let tape = finish(drain);
    assert_eq!(addresses(&tape.events), [1, 2, 3, 1, 4, 70]);
    assert_eq!(tape.lost(LossCause::Late), 0);
}

#[test]
fn a_thread_that_has_marked_itself_busy_holds_back_only_what_is_after_its_last_event() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut one = Player::new(&segment, owner, 10);
    let mut other = Player::new(&segment, owner, 11);
    one.alloc(2 * MS, 1, 1);
    other.alloc(3 * MS, 2, 1);
    other.alloc(5 * MS, 4, 1);
    one.alloc(4 * MS, 3, 1);
    one.inflight(BUSY);
    host.0.now.set(10 * MS);
    assert_eq!(drain.round().taken, 3);
    assert_eq!(drain.round().taken, 0);
    one.inflight(heaptape_shm::slot::IDLE);
    assert_eq!(drain.round().taken, 1);
    assert_eq!(addresses(&finish(drain).events), [1, 2, 3, 4]);
}

#[test]
fn a_stuck_thread_is_passed_when_the_pool_is_full_and_its_late_events_are_counted() {
    let segment = segment(4, 4, 8);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut stuck = Player::new(&segment, owner, 10);
    let mut other = Player::new(&segment, owner, 11);
    stuck.alloc(2 * MS, 1, 1);
    stuck.inflight(3 * MS);
    let mut written = 0;
    for step in 0..1000 {
        let head = heaptape_shm::entry::Head {
            kind: kind::ALLOC,
            api: 0,
            push: 0,
            pop: 0,
            flags: 0,
        };
        if other.words(&[head.pack(), 4 * MS + step, 100 + step, 1]).is_err() {
            break;
        }
        written += 1;
    }
    assert!(written < 1000, "the pool is full");
    host.0.now.set(10 * MS);
    assert_eq!(drain.round().taken, 1);
    host.0.now.set(100 * MS);
    assert_eq!(drain.round().taken, 0, "it is waited for");
    host.0.now.set(500 * MS);
    assert_eq!(drain.round().taken, written);
    // What the stuck thread then publishes is kept, and called late.
    stuck.free(3 * MS, 1);
    host.0.now.set(600 * MS);
    drain.round();
    let tape = finish(drain);
    assert_eq!(tape.events.len() as u64, written + 2);
    assert_eq!(tape.lost(LossCause::Late), 1);
    assert!(tape.events.is_sorted_by_key(|event| event.time));
}

#[test]
fn a_realloc_that_moves_is_two_events_at_its_two_ends() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut one = Player::new(&segment, owner, 10);
    let mut other = Player::new(&segment, owner, 11);
    one.alloc(2 * MS, 100, 8);
    // The other thread gets the old address before the realloc has returned.
    one.entry(kind::REALLOC, 0, 5 * MS, &[200, 16, 100, 3 * MS], 0, &[]);
    other.alloc(4 * MS, 100, 8);
    one.entry(kind::REALLOC, 0, 7 * MS, &[200, 12, 200, 6 * MS], 0, &[]);
    host.0.now.set(20 * MS);
    drain.round();
    let tape = finish(drain);
    let kinds: Vec<(&str, u64)> = tape
        .events
        .iter()
        .map(|event| match event.op {
            Op::Alloc { address, .. } => ("alloc", address.0),
            Op::MoveOut { address } => ("out", address.0),
            Op::MoveIn { address, .. } => ("in", address.0),
            Op::Resize { address, .. } => ("resize", address.0),
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("alloc", 100),
            ("out", 100),
            ("alloc", 100),
            ("in", 200),
            ("resize", 200)
        ]
    );
}

fn native(module: u32, offset: u64) -> Frame {
    Frame::Native {
        module: ModuleIx(module),
        offset,
    }
}

#[test]
fn stacks_follow_pops_and_pushes_also_of_events_that_carry_none() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(
        segment,
        WriterOptions {
            max_stacks: 5,
            ..WriterOptions::default()
        },
    );
    let owner = process(&segment, 41, None, 0);
    let mut one = Player::new(&segment, owner, 10);
    one.module(2 * MS, "/lib/a", 0x1000, 0x9000);
    one.entry(kind::ALLOC, flag::RESET, 3 * MS, &[1, 8], 0, &[0x1010, 0x1020, 0x1030]);
    one.entry(kind::STACK, 0, 3 * MS + 1, &[], 1, &[0x1040]);
    one.entry(kind::ALLOC, 0, 3 * MS + 2, &[2, 8], 0, &[0x1050]);
    one.entry(kind::ALLOC, 0, 3 * MS + 3, &[3, 8], 1, &[]);
    one.entry(
        kind::ALLOC,
        flag::RESET | flag::TRUNCATED,
        3 * MS + 4,
        &[4, 8],
        0,
        &[0x1010, 0x1020],
    );
    host.0.now.set(20 * MS);
    drain.round();
    let tape = finish(drain);
    let inner_first = |offsets: &[u64]| offsets.iter().map(|offset| native(0, *offset)).collect::<Vec<Frame>>();
    assert_eq!(tape.frames(0), inner_first(&[0x30, 0x20, 0x10]));
    assert_eq!(tape.frames(1), inner_first(&[0x50, 0x40, 0x20, 0x10]));
    assert_eq!(tape.frames(2), inner_first(&[0x40, 0x20, 0x10]));
    assert_eq!(
        tape.frames(3),
        [inner_first(&[0x20, 0x10]), vec![Frame::Truncated]].concat()
    );
    assert!(
        tape.generations.last().unwrap().1 > 0,
        "five nodes were not enough for one generation"
    );
}

#[test]
fn stacks_deeper_than_a_generation_holds_are_told_twice_at_most() {
    let segment = segment(4, 4, 64);
    let options = WriterOptions {
        max_stacks: 5,
        ..WriterOptions::default()
    };
    let (mut drain, host) = drain(segment, options);
    let owner = process(&segment, 41, None, 0);
    let mut one = Player::new(&segment, owner, 10);
    one.module(2 * MS, "/lib/a", 0x1000, 0x9000);
    one.entry(kind::ALLOC, flag::RESET, 3 * MS, &[1, 8], 0, &[0x1001]);
    // A recursion that allocates at every step, and then a hundred times at its end.
    let depth = 100;
    for step in 1..depth {
        one.entry(kind::ALLOC, 0, 3 * MS + step, &[1 + step, 8], 0, &[0x1001 + step]);
    }
    for step in depth..2 * depth {
        one.entry(kind::ALLOC, 0, 3 * MS + step, &[1 + step, 8], 1, &[0x1001 + step]);
    }
    host.0.now.set(20 * MS);
    drain.round();
    let tape = finish(drain);
    for (event, frames) in [(0, 1), (50, 51), (99, 100), (150, 100), (199, 100)] {
        assert_eq!(tape.frames(event).len(), frames, "{event}");
        assert_eq!(tape.frames(event).first(), Some(&native(0, 1 + event as u64)));
    }
    let generations = tape.generations.last().unwrap().1;
    assert!((2..20).contains(&generations), "{generations}");
}

#[test]
fn a_module_at_the_place_of_another_gives_new_stacks_to_the_same_addresses() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut one = Player::new(&segment, owner, 10);
    one.module(2 * MS, "/lib/a", 0x1000, 0x2000);
    one.entry(kind::ALLOC, flag::RESET, 3 * MS, &[1, 8], 0, &[0x1010]);
    one.note(
        note::MODULE_GONE,
        4 * MS,
        &[0x1000u64.to_le_bytes(), 0x2000u64.to_le_bytes()].concat(),
    );
    one.module(5 * MS, "/lib/b", 0x1000, 0x2000);
    one.entry(kind::ALLOC, flag::RESET, 6 * MS, &[2, 8], 0, &[0x1010]);
    one.entry(kind::ALLOC, flag::RESET, 7 * MS, &[3, 8], 0, &[0x5010]);
    // The system knows one more, which the program has not told of.
    host.0.modules.borrow_mut().push(crate::host::FoundModule {
        path: b"/lib/c".to_vec(),
        bias: 0x7000,
        start: 0x7000,
        end: 0x8000,
        ..Default::default()
    });
    one.entry(kind::ALLOC, flag::RESET, 3000 * MS, &[4, 8], 0, &[0x7010]);
    host.0.now.set(4000 * MS);
    drain.round();
    let tape = finish(drain);
    assert_eq!(tape.frames(0), [native(0, 0x10)]);
    assert_eq!(tape.frames(1), [native(1, 0x10)]);
    assert_eq!(
        tape.frames(2),
        [Frame::Raw {
            process: ProcessIx(0),
            address: Address(0x5010)
        }]
    );
    assert_eq!(tape.frames(3), [native(2, 0x10)]);
}

#[test]
fn a_forked_child_inherits_modules_and_stands_where_the_fork_was() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut parent = Player::new(&segment, owner, 10);
    parent.module(2 * MS, "/lib/a", 0x1000, 0x2000);
    parent.alloc(3 * MS, 1, 8);
    parent.note(note::FORK, 4 * MS + 10, &(4 * MS).to_le_bytes());
    parent.alloc(5 * MS, 2, 8);
    host.0.now.set(6 * MS);
    drain.round();
    drain.round();
    assert_eq!(
        drain.scribe.writer.next_event().0,
        1,
        "the child has not registered yet: what comes after waits"
    );
    let child = process(&segment, 2, Some(owner), 4 * MS);
    let mut in_child = Player::new(&segment, child, 20);
    in_child.entry(kind::ALLOC, flag::RESET, 7 * MS, &[3, 8], 0, &[0x1010]);
    host.0.now.set(8 * MS);
    drain.round();
    let tape = finish(drain);
    assert_eq!(addresses(&tape.events), [1, 2, 3]);
    assert_eq!(tape.frames(2), [native(0, 0x10)]);
    let processes = tape.processes();
    assert_eq!(processes[1].origin, ProcessOrigin::Fork(ProcessIx(0)));
    assert_eq!(processes[1].exe, b"/bin/p41");
    let at = tape
        .records
        .iter()
        .find(|placed| matches!(&placed.record, Record::Process(child) if child.pid == 2));
    assert_eq!(at.unwrap().at.0, 1, "after the parent's first event, before its second");
}

#[test]
fn a_fork_that_failed_holds_nobody_up_for_long() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut parent = Player::new(&segment, owner, 10);
    parent.note(note::FORK, 4 * MS, &(4 * MS).to_le_bytes());
    parent.alloc(5 * MS, 2, 8);
    for now in [6, 50, 120] {
        host.0.now.set(now * MS);
        drain.round();
    }
    assert_eq!(drain.scribe.writer.next_event().0, 1);
}

#[test]
fn exec_ends_the_old_image_and_begins_an_empty_one() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let old = process(&segment, 41, None, 0);
    let mut before = Player::new(&segment, old, 1);
    before.module(2 * MS, "/lib/a", 0x1000, 0x2000);
    before.alloc(3 * MS, 1, 8);
    let new = process(&segment, 41, None, 4 * MS);
    let mut after = Player::new(&segment, new, 1);
    after.note(note::THREAD_NAME, 5 * MS, b"main");
    after.note(note::PROCESS, 5 * MS + 1, b"/bin/new\0new\0-x\0");
    after.entry(kind::ALLOC, flag::RESET, 6 * MS, &[2, 8], 0, &[0x1010]);
    host.0.now.set(10 * MS);
    drain.round();
    drain.sweep();
    let tape = finish(drain);
    let processes = tape.processes();
    assert_eq!(processes[1].origin, ProcessOrigin::Replace(ProcessIx(0)));
    assert_eq!(processes[1].exe, b"/bin/new");
    assert_eq!(processes[1].command, [b"new".to_vec(), b"-x".to_vec()]);
    assert_eq!(tape.ends(), [(0, ProcessEnd::Replaced)]);
    assert!(
        matches!(tape.frames(1)[..], [Frame::Raw { .. }]),
        "the old image's modules are not the new one's"
    );
}

#[test]
fn a_killed_process_loses_nothing_it_published_and_its_chunks_and_slots_come_back() {
    let segment = segment(4, 8, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let survivor = process(&segment, 41, None, 0);
    let victim = process(&segment, 2, None, 0);
    let mut alive = Player::new(&segment, survivor, 10);
    let mut killed: Vec<Player> = (0..3).map(|tid| Player::new(&segment, victim, 20 + tid)).collect();
    alive.alloc(2 * MS, 1, 1);
    for step in 0..30 {
        killed[step as usize % 3].alloc(3 * MS + step, 100 + step, 1);
    }
    // One dies with an event in flight, and one with a chunk taken but not linked.
    killed[0].inflight(4 * MS);
    let orphan = segment.control().take_chunk(0).unwrap();
    segment
        .chunk(orphan)
        .unwrap()
        .owner
        .store(killed[1].slot, Ordering::Relaxed);
    alive.alloc(5 * MS, 2, 1);
    host.0.now.set(10 * MS);
    drain.round();
    host.0.dead.borrow_mut().insert(2);
    for now in [11, 12, 13, 3000, 3001] {
        host.0.now.set(now * MS);
        drain.round();
        drain.sweep();
    }
    assert_eq!(segment.control().free_chunks(), 15, "all but the survivor's");
    assert!(killed
        .iter()
        .all(|player| segment.threads()[player.slot as usize].life.load(Ordering::Relaxed) == life::FREE));
    assert_eq!(
        segment.processes()[victim as usize].life.load(Ordering::Relaxed),
        life::FREE
    );
    let tape = finish(drain);
    assert_eq!(tape.events.len(), 32);
    assert_eq!(tape.ends(), [(1, ProcessEnd::Gone)]);
    let gone = tape
        .records
        .iter()
        .filter(|placed| matches!(placed.record, Record::ThreadEnd { .. }))
        .count();
    assert_eq!(gone, 3);
}

#[test]
fn a_thousand_idle_threads_do_not_hold_a_small_pool() {
    let segment = segment(4, 1000, 256);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut players: Vec<Player> = (0..1000).map(|tid| Player::new(&segment, owner, 10 + tid)).collect();
    let mut now = 2 * MS;
    let mut expected = 0;
    for lap in 0..3u64 {
        for (index, player) in players.iter_mut().enumerate() {
            now += 1000;
            player.alloc(now, lap * 1000 + index as u64, 1);
            expected += 1;
            if index % 50 == 49 {
                now += MS;
                for _ in 0..2 {
                    host.0.now.set(now);
                    drain.round();
                    drain.reclaim();
                    now += MS;
                }
            }
        }
    }
    assert!(host.0.barriers.get() > 0);
    let tape = finish(drain);
    assert_eq!(addresses(&tape.events), (0..expected).collect::<Vec<u64>>());
}

#[test]
fn a_process_that_goes_on_with_a_program_that_is_not_recorded_is_told_once_and_stays() {
    let segment = segment(4, 4, 64);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut player = Player::new(&segment, owner, 41);
    player.alloc(2 * MS, 1, 1);
    host.0.now.set(3 * MS);
    drain.round();
    for (leaves, counted) in [
        (false, 0),
        (true, 0),
        (false, 0),
        (true, 0),
        (true, 1),
        (true, 1),
        (false, 1),
    ] {
        host.0.left.replace(leaves.then_some(41).into_iter().collect());
        drain.find_absent();
        assert_eq!(drain.totals().lost_processes, counted);
    }
    assert!(drain.anybody_alive());
    host.0.now.set(5 * MS);
    drain.round();
    let tape = finish(drain);
    let markers = tape
        .records
        .iter()
        .filter(|placed| matches!(placed.record, Record::Marker(_)));
    assert_eq!((markers.count(), tape.events.len()), (1, 1));
}

#[test]
fn many_short_threads_fit_through_few_slots() {
    let segment = segment(4, 32, 64);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut now = 2 * MS;
    for wave in 0..500u32 {
        for thread in 0..16 {
            let tid = 1000 + wave * 16 + thread;
            let mut player = Player::new(&segment, owner, tid);
            now += 1000;
            player.alloc(now, u64::from(tid), 1);
            host.0.dead_threads.borrow_mut().insert(tid);
        }
        for _ in 0..3 {
            now += MS;
            host.0.now.set(now);
            drain.round();
            drain.sweep();
        }
    }
    let tape = finish(drain);
    assert_eq!(tape.events.len(), 8000);
    let threads = tape
        .records
        .iter()
        .filter(|placed| matches!(placed.record, Record::Thread(_)))
        .count();
    assert_eq!(threads, 8000);
}

#[test]
fn what_the_slots_count_as_lost_is_on_the_tape() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut one = Player::new(&segment, owner, 10);
    one.alloc(2 * MS, 1, 1);
    host.0.now.set(5 * MS);
    drain.round();
    let slot = &segment.threads()[one.slot as usize];
    slot.lost_full.store(5, Ordering::Relaxed);
    slot.lost_nested.store(2, Ordering::Relaxed);
    drain.sweep();
    slot.lost_full.store(9, Ordering::Relaxed);
    segment.control().lost_no_slot.store(3, Ordering::Relaxed);
    let tape = finish(drain);
    assert_eq!(tape.lost(LossCause::PoolFull), 9);
    assert_eq!(tape.lost(LossCause::Nested), 2);
    assert_eq!(tape.lost(LossCause::NoSlot), 3);
    let heaptape_format::scan::Ending::Clean(end) = tape.ending else {
        panic!("{:?}", tape.ending)
    };
    assert_eq!(end.lost, 14);
}

#[test]
fn a_program_that_writes_over_the_shared_memory_costs_its_own_events_only() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let segment = segment(4, 8, 32);
        let (mut drain, host) = drain(segment, WriterOptions::default());
        let owner = process(&segment, 41, None, 0);
        let mut good = Player::new(&segment, owner, 10);
        let mut wild = Player::new(&segment, owner, 11);
        let mut now = 2 * MS;
        for step in 0..50 {
            now += 1000;
            good.alloc(now, step, 1);
            let words: Vec<u64> = (0..dice.roll(9) + 1)
                .map(|_| match dice.roll(4) {
                    0 => dice.roll(12),
                    1 => now,
                    2 => dice.roll(u64::MAX),
                    _ => u64::MAX << dice.roll(63),
                })
                .collect();
            wild.words(&words).unwrap();
            if dice.roll(5) == 0 {
                host.0.now.set(now);
                drain.round();
                drain.reclaim();
            }
        }
        let chunk = segment.threads()[wild.slot as usize].chunk.load(Ordering::Relaxed);
        segment
            .chunk(chunk)
            .unwrap()
            .next
            .store(dice.roll(40) as u32, Ordering::Relaxed);
        segment
            .chunk(chunk)
            .unwrap()
            .committed
            .store(dice.roll(4000) as u32, Ordering::Relaxed);
        host.0.now.set(now + 10 * MS);
        drain.round();
        let tape = finish(drain);
        let threads = tape.records.iter().filter_map(|placed| match &placed.record {
            Record::Thread(thread) => Some(thread.tid),
            _ => None,
        });
        let good = threads.into_iter().position(|tid| tid == 10).unwrap() as u32;
        let of_good = tape.events.iter().filter(|event| event.thread.0 == good).count();
        assert!(of_good >= 50, "seed {seed}: {of_good}");
    }
}

#[test]
fn a_marker_from_outside_stands_where_it_was_set() {
    let segment = segment(4, 4, 16);
    let (mut drain, host) = drain(segment, WriterOptions::default());
    let owner = process(&segment, 41, None, 0);
    let mut one = Player::new(&segment, owner, 10);
    one.alloc(2 * MS, 1, 1);
    one.alloc(3 * MS, 2, 1);
    host.0.now.set(3 * MS + 100_000);
    drain.round();
    let image = drain.scribe.images.living(41).unwrap();
    host.0.now.set(4 * MS);
    drain.mark(image, b"ready".to_vec());
    one.alloc(5 * MS, 3, 1);
    host.0.now.set(6 * MS);
    drain.round();
    let tape = finish(drain);
    let marker = tape
        .records
        .iter()
        .find(|placed| matches!(placed.record, Record::Marker(_)))
        .unwrap();
    assert_eq!(marker.at.0, 2);
    assert_eq!(marker.time, Micros(3000));
}
