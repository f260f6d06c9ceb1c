//! Every question against a plain computation over all rows, for made-up histories, from a replay and from an index.

mod support;

use heaptape::index::{open, IndexPlace};
use heaptape::query::{
    epochs, fragmentation, growth, lifetimes, peak, processes, reallocs, rss, sizes, snapshot, temporary, threads,
    unwinding, Filter, Group, GrowthQuery, Lifetime, Lives, Measured, Query, Rule, Unwinding, LIFETIME_BOUNDS,
    LIFETIME_COLUMNS,
};
use heaptape::symbols::NoSymbols;
use heaptape::table::{AllocIx, Allocation, Flags, Heap, Level, Moment, NEVER};
use heaptape::tape::Tape;
use heaptape::text::Text;
use heaptape_format::record::{Frame, ProcessOrigin, Record};
use heaptape_format::{Address, EventNo, Micros, ModuleIx, ProcessIx, StackId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use support::{heap_of, Recording};

/// A program of some threads, processes and markers, made up from a seed.
fn made_up(seed: u64, steps: u32) -> Vec<u8> {
    let mut dice = seed | 1;
    let mut roll = move |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 11) % below
    };
    let mut tape = Recording::new(7);
    tape.process(100, ProcessOrigin::Exec, b"/bin/first")
        .thread(0, 100, b"main")
        .thread(0, 101, b"worker")
        .module(b"/bin/first", b"");
    let stacks: Vec<StackId> = (0..6).map(|site| tape.stack(0, &[0x10, 0x100 + site * 16])).collect();
    let mut homes = vec![(0u32, 0u32), (0, 1)];
    let mut live: Vec<(u32, u64)> = Vec::new();
    let mut next = 0x10_0000u64;
    tape.map(0, 0x10_0000, 0x800, stacks[0]);
    for _ in 0..steps {
        let waits = [0, 0, 1, 9, 90, 5_000, 400_000, 70_000_000];
        tape.wait(waits[roll(8) as usize]);
        let (process, thread) = homes[roll(homes.len() as u64) as usize];
        let stack = stacks[roll(6) as usize];
        let size = [0, 1, 2, 24, 100, 4096, 5000, 70_000][roll(8) as usize];
        let own: Vec<usize> = (0..live.len()).filter(|&at| live[at].0 == process).collect();
        let chosen = (!own.is_empty()).then(|| own[roll(own.len().max(1) as u64) as usize]);
        match (roll(12), chosen) {
            (0..=3, Some(at)) => {
                tape.free(thread, live.swap_remove(at).1);
            }
            (4, Some(at)) => {
                tape.resize(thread, live[at].1, size, stack);
            }
            (5, Some(at)) => {
                next += 0x400 + size + roll(3) * 0x20_0000;
                tape.relocate(thread, live[at].1, next, size, stack);
                live[at].1 = next;
            }
            (6, _) => {
                tape.marker(b"round").sample(process, 4096 * (1 + next % 4099));
            }
            (7, _) if homes.len() < 6 && roll(4) == 0 => {
                let child = 1 + homes.last().map_or(0, |home| home.0);
                let number = homes.len() as u32;
                tape.process(200 + child, ProcessOrigin::Fork(ProcessIx(process)), b"/bin/child")
                    .thread(child, 200 + child, b"child");
                homes.push((child, number));
            }
            (8, _) if roll(9) == 0 => {
                let child = homes.last().map_or(0, |home| home.0);
                if child > 0 {
                    tape.end_process(child, 0);
                    homes.pop();
                    live.retain(|&(process, _)| process != child);
                    // Threads are numbered as they come: no more children, whose numbers would be wrong.
                    homes.truncate(2.max(homes.len()));
                    while homes.len() < 6 {
                        homes.push((0, 1));
                    }
                }
            }
            (9, _) => {
                tape.alloc(thread, next + 0x40, size, stack).free(thread, next + 0x40);
            }
            _ => {
                next += 0x100 + size + roll(2) * 0x1800;
                tape.alloc(thread, next, size, stack);
                live.push((process, next));
            }
        }
    }
    tape.finish()
}

/// The heap of a tape as its index has it.
fn through_index(bytes: &[u8]) -> Heap {
    let folder = support::TempDir::new("questions");
    let tape = Tape::from_source(Box::new(bytes.to_vec()), Path::new("test.tape")).expect("the bytes are a tape");
    let place = IndexPlace::Folder(folder.path().to_owned());
    let open = || open(&tape, "test.tape", &place, &|_, _| ()).expect("the folder takes files");
    open();
    let heap = open();
    assert!(heap.index_path().is_some() && !heap.index_is_bad());
    heap
}

fn rows(heap: &Heap) -> Vec<Allocation> {
    (0..heap.allocations.len() as u32)
        .map(|row| heap.allocations.get(AllocIx(row)))
        .collect()
}

/// How long a block lived, looked up the plain way.
fn life(heap: &Heap, rows: &[Allocation], row: usize, measured: Measured) -> Option<u64> {
    let Allocation { birth, death, .. } = rows[row];
    (death != NEVER).then(|| match measured {
        Measured::Events => death.get() - birth.get(),
        Measured::Time => heap.clock.time_of(death).get() - heap.clock.time_of(birth).get(),
        Measured::Bytes => rows
            .iter()
            .filter(|other| other.birth > birth && other.birth < death)
            .map(|other| other.size.get())
            .sum(),
    })
}

fn sum<'a>(rows: impl Iterator<Item = &'a Allocation>) -> Level {
    let mut level = Level::default();
    for row in rows {
        level.add(Level {
            size: u128::from(row.size.get()),
            count: 1,
        });
    }
    level
}

fn by_process() -> Query {
    Query {
        by: Group::Process.into(),
        rows: 0,
        ..Query::default()
    }
}

/// Moments all over a tape.
fn moments(heap: &Heap) -> Vec<Moment> {
    let last = heap.end().cut.get();
    let at = |eighth: u64| Moment {
        cut: EventNo(last * eighth / 8),
        time: heap.clock.time_of(EventNo((last * eighth / 8).saturating_sub(1))),
        by_time: false,
    };
    (0..=8).map(at).collect()
}

fn check(heap: &Heap) {
    let rows = rows(heap);
    let is_live = |row: usize, moment: &Moment| heap.is_live(row as u32, moment);
    check_lives(heap, &rows);
    check_sizes(heap, &rows);
    check_homes(heap, &rows);
    check_reallocs(heap, &rows);
    for after in 0..3 {
        check_epochs(heap, &rows, after);
    }
    for moment in moments(heap) {
        check_space(heap, &rows, &moment);
        check_inherited(heap, &rows, &moment);
        check_rss(heap, &rows, &moment);
    }
    // Growth: every point is a snapshot.
    let which = GrowthQuery {
        points: 16,
        from: heap.start(),
        until: heap.end(),
        limit: None,
        all: true,
    };
    let report = growth(heap, &which, &by_process(), &NoSymbols);
    for (point, (&micros, &size)) in report.points.iter().zip(&report.total.sizes).enumerate() {
        let moment = match point {
            15 => heap.end(),
            _ => Moment {
                cut: heap.clock.cut_at(Micros(micros)),
                time: Micros(micros),
                by_time: true,
            },
        };
        let live = (0..rows.len())
            .filter(|&row| is_live(row, &moment))
            .map(|row| &rows[row]);
        assert_eq!(size, sum(live).size, "point {point}");
    }
}

/// What a process has of its ancestors' heaps at a moment.
fn inherited_by(heap: &Heap, process: ProcessIx, moment: &Moment) -> Vec<usize> {
    let mut inherited = Vec::new();
    heap.inherited(process, moment, |row| inherited.push(row as usize));
    inherited
}

/// What is inherited is counted once for each process that has it, and only when it is asked for.
fn check_inherited(heap: &Heap, rows: &[Allocation], moment: &Moment) {
    let own = (0..rows.len()).filter(|&row| heap.is_live(row as u32, moment));
    let own: Vec<&Allocation> = own.map(|row| &rows[row]).collect();
    let processes = (0..heap.catalog.processes.len() as u32).map(ProcessIx);
    let copies = processes.flat_map(|process| inherited_by(heap, process, moment));
    let copies: Vec<&Allocation> = copies.map(|row| &rows[row]).collect();
    for most in [u64::MAX, 100] {
        let mut query = by_process();
        query.filter.only.sizes = vec![0..=most];
        let is_small = |row: &&&Allocation| row.size.get() <= most;
        let (of_own, of_copies) = (
            own.iter().filter(is_small).copied(),
            copies.iter().filter(is_small).copied(),
        );
        let all = sum(of_own.clone().chain(of_copies));
        assert_eq!(snapshot(heap, moment, &query, &NoSymbols).total, sum(of_own));
        query.filter.inherited = true;
        assert_eq!(snapshot(heap, moment, &query, &NoSymbols).total, all);
        assert_eq!(sizes(heap, Some(moment), &query, &NoSymbols).total, all);
    }
}

/// The heap beside each process's latest sample.
fn check_rss(heap: &Heap, rows: &[Allocation], moment: &Moment) {
    let found = match rss(heap, Some(moment), &by_process()) {
        Ok(found) => found.processes,
        Err(_) => return assert!(heap.catalog.samples.is_empty()),
    };
    let mut found = found.iter();
    for (number, info) in (0..).zip(&heap.catalog.processes) {
        let process = ProcessIx(number);
        let mut of_it = heap
            .catalog
            .samples
            .iter()
            .filter(|sample| sample.memory.process == process);
        let latest = of_it.rfind(|sample| sample.time <= moment.time);
        let is_there = info.at <= moment.cut && heap.is_process_alive(process, moment);
        let Some(sample) = latest.filter(|_| is_there) else {
            continue;
        };
        let then = Moment {
            cut: heap.clock.cut_at(sample.time),
            time: sample.time,
            by_time: true,
        };
        let is_its = |row: &usize| heap.process_of(*row as u32) == Some(process);
        let live: Vec<usize> = (0..rows.len())
            .filter(|row| is_its(row) && heap.is_live(*row as u32, &then))
            .collect();
        let level = sum(live.iter().map(|&row| &rows[row]));
        let pages = live.iter().flat_map(|&row| {
            let (start, size) = (rows[row].address.get(), rows[row].size.get());
            start / 4096..(start + size).div_ceil(4096) * u64::from(size > 0)
        });
        let pages = u128::from(pages.collect::<BTreeSet<u64>>().len() as u64) * 4096;
        let inherited = inherited_by(heap, process, &then);
        let resident = found.next().expect("it is there");
        assert_eq!((resident.pid, resident.at.micros), (info.pid, sample.time.get()));
        assert_eq!(resident.live, level, "live at {:?}", sample.time);
        assert_eq!(resident.around, pages.saturating_sub(level.size));
        assert_eq!(resident.inherited, sum(inherited.iter().map(|&row| &rows[row])));
        let rss = sample.memory.rss.get();
        assert_eq!(resident.rss, rss);
        assert_eq!(resident.rest, i128::from(rss) - pages.max(level.size) as i128);
    }
    assert!(found.next().is_none());
}

fn check_lives(heap: &Heap, rows: &[Allocation]) {
    for (measured, lengths) in [
        (Measured::Events, [0, 1, 2, 30]),
        (Measured::Bytes, [0, 1, 100, 80_000]),
        (Measured::Time, [0, 9, 5_000, 70_000_000]),
        (Measured::Time, [10, 99, 1_000, 60_000_000]),
    ] {
        for length in lengths {
            let within = Lifetime { measured, length };
            let is_short = |row: &usize| life(heap, rows, *row, measured).is_some_and(|life| life <= length);
            let short = sum((0..rows.len()).filter(is_short).map(|row| &rows[row]));
            let report = temporary(heap, within, &by_process(), &NoSymbols);
            assert_eq!(report.table.total.temporary, short, "within {within}");
            assert_eq!(report.table.total.allocated, sum(rows.iter()), "within {within}");
            // The filters are the same measure.
            let mut query = by_process();
            query.filter.only.lifetimes = vec![Lives::at_most(within)];
            assert_eq!(
                sizes(heap, None, &query, &NoSymbols).total,
                short,
                "lived at most {within}"
            );
            query.filter.only.lifetimes = vec![Lives::at_least(within)];
            let is_long = |row: &usize| life(heap, rows, *row, measured).is_none_or(|life| life >= length);
            let long = sum((0..rows.len()).filter(is_long).map(|row| &rows[row]));
            assert_eq!(
                sizes(heap, None, &query, &NoSymbols).total,
                long,
                "lived at least {within}"
            );
        }
    }
    let mut histogram = [Level::default(); LIFETIME_COLUMNS];
    for row in 0..rows.len() {
        let column = match life(heap, rows, row, Measured::Time) {
            Some(life) => LIFETIME_BOUNDS.partition_point(|&bound| bound <= life),
            None => LIFETIME_COLUMNS - 1,
        };
        histogram[column].add(sum(std::iter::once(&rows[row])));
    }
    // By stack an index knows it beforehand.
    for by in [Group::Process, Group::Traceback] {
        let query = Query {
            by: by.into(),
            ..by_process()
        };
        let report = lifetimes(heap, &query, &NoSymbols);
        assert_eq!(report.table.total.histogram, histogram);
        assert_eq!(report.table.total.allocated, sum(rows.iter()));
        let at_once = "#1".parse().expect("a lifetime");
        let is_short = |row: &usize| life(heap, rows, *row, Measured::Events) == Some(1);
        let short = sum((0..rows.len()).filter(is_short).map(|row| &rows[row]));
        let report = temporary(heap, at_once, &query, &NoSymbols);
        assert_eq!(report.table.total.temporary, short);
        assert_eq!(report.table.total.allocated, sum(rows.iter()));
    }
}

fn check_sizes(heap: &Heap, rows: &[Allocation]) {
    let mut instants: Vec<Option<Moment>> = moments(heap).into_iter().map(Some).collect();
    instants.push(None);
    for moment in instants {
        let report = sizes(heap, moment.as_ref(), &by_process(), &NoSymbols);
        let is_there = |row: &usize| moment.is_none_or(|moment| heap.is_live(*row as u32, &moment));
        let there: Vec<&Allocation> = (0..rows.len()).filter(is_there).map(|row| &rows[row]).collect();
        assert_eq!(report.total, sum(there.iter().copied()));
        let mut counted = 0;
        for column in report.columns {
            let inside = |row: &&&Allocation| (column.from..=column.until).contains(&row.size.get());
            assert_eq!(column.level, sum(there.iter().filter(inside).copied()));
            counted += column.level.count;
        }
        assert_eq!(counted, there.len() as u64);
    }
}

fn check_homes(heap: &Heap, rows: &[Allocation]) {
    for moment in moments(heap) {
        let report = processes(heap, &moment, &Query::default(), &NoSymbols);
        assert_eq!(report.processes.len(), heap.catalog.processes.len());
        for found in &report.processes {
            let process = ProcessIx(found.number);
            let own: Vec<usize> = (0..rows.len())
                .filter(|&row| heap.process_of(row as u32) == Some(process))
                .collect();
            let of = |keep: &dyn Fn(usize) -> bool| sum(own.iter().filter(|&&row| keep(row)).map(|&row| &rows[row]));
            assert_eq!(found.work.allocated, of(&|_| true));
            assert_eq!(found.work.never_freed, of(&|row| rows[row].death == NEVER));
            assert_eq!(found.work.live, of(&|row| heap.is_live(row as u32, &moment)));
            let mut inherited = Level::default();
            heap.inherited(process, &moment, |row| {
                inherited.add(sum(std::iter::once(&rows[row as usize])))
            });
            assert_eq!(found.inherited, inherited);
        }
        let query = Query {
            rows: 0,
            ..Query::default()
        };
        let report = threads(heap, &moment, &query, &NoSymbols);
        let mut by_tid: BTreeMap<u32, Level> = BTreeMap::new();
        for row in rows {
            let tid = heap.catalog.threads[row.thread.get() as usize].tid;
            by_tid.entry(tid).or_default().add(sum(std::iter::once(row)));
        }
        let found: BTreeMap<u32, Level> = report.rows.iter().map(|row| (row.tid, row.work.allocated)).collect();
        assert_eq!(found, by_tid);
        assert_eq!(report.total.allocated, sum(rows.iter()));
    }
}

fn check_reallocs(heap: &Heap, rows: &[Allocation]) {
    let report = reallocs(heap, &by_process(), &NoSymbols).table.total;
    let made: Vec<&Allocation> = rows.iter().filter(|row| row.predecessor != AllocIx::NONE).collect();
    assert!(made.iter().all(|row| row.flags.has(Flags::REALLOC)));
    assert_eq!(report.level, sum(made.iter().copied()));
    let (mut copied, mut moved, mut longest, mut chains) = (0, 0, 0, 0);
    let is_predecessor: BTreeSet<AllocIx> = made.iter().map(|row| row.predecessor).collect();
    for row in &made {
        let before = rows[row.predecessor.0 as usize];
        if before.address != row.address {
            moved += 1;
            copied += u128::from(before.size.get().min(row.size.get()));
        }
        let mut calls = 0;
        let mut at = **row;
        while at.predecessor != AllocIx::NONE {
            calls += 1;
            at = rows[at.predecessor.0 as usize];
        }
        longest = longest.max(calls);
    }
    for (number, row) in rows.iter().enumerate() {
        chains += u64::from(row.predecessor != AllocIx::NONE && !is_predecessor.contains(&AllocIx(number as u32)));
    }
    assert_eq!(
        (report.copied, report.moved, report.longest, report.chains),
        (copied, moved, longest, chains)
    );
}

fn check_epochs(heap: &Heap, rows: &[Allocation], after: usize) {
    let report = epochs(heap, "round", after, &by_process(), &NoSymbols);
    let mut ends: Vec<Moment> = heap
        .catalog
        .markers
        .iter()
        .map(|marker| Moment {
            cut: marker.at,
            time: marker.time,
            by_time: true,
        })
        .collect();
    let spans = ends.len();
    ends.push(heap.end());
    let mut left = Vec::new();
    let mut judged = 0;
    for span in 0..spans {
        let Some(alive_at) = ends.get(span + 1 + after) else {
            continue;
        };
        judged += 1;
        left.extend((0..rows.len()).filter(|&row| {
            let birth = rows[row].birth;
            ends[span].cut <= birth && birth < ends[span + 1].cut && heap.is_live(row as u32, alive_at)
        }));
    }
    assert_eq!((report.spans, report.judged), (spans, judged));
    assert_eq!(
        report.table.total.level,
        sum(left.iter().map(|&row| &rows[row])),
        "after {after}"
    );
}

fn check_space(heap: &Heap, rows: &[Allocation], moment: &Moment) {
    let report = fragmentation(
        heap,
        moment,
        0x1_0000,
        &Query {
            rows: 0,
            ..Query::default()
        },
        &NoSymbols,
    );
    let live: Vec<usize> = (0..rows.len())
        .filter(|&row| heap.is_live(row as u32, moment))
        .collect();
    assert_eq!(report.live, sum(live.iter().map(|&row| &rows[row])));
    // Every live byte, one by one.
    let mut bytes: BTreeMap<Option<ProcessIx>, BTreeSet<u64>> = BTreeMap::new();
    for &row in &live {
        let (start, size) = (rows[row].address.get(), rows[row].size.get());
        bytes
            .entry(heap.process_of(row as u32))
            .or_default()
            .extend(start..start + size);
    }
    let mut by_page: BTreeMap<(Option<ProcessIx>, u64), u64> = BTreeMap::new();
    for (&process, bytes) in &bytes {
        bytes
            .iter()
            .for_each(|byte| *by_page.entry((process, byte / 4096)).or_default() += 1);
    }
    // A page on the border of two regions is told of each.
    let told: u64 = report.fill.iter().map(|fill| fill.pages).sum();
    assert_eq!(u128::from(told) * 4096, report.pages);
    assert!(told >= by_page.len() as u64 && told <= by_page.len() as u64 + report.regions.len() as u64);
    let filled: u128 = report.fill.iter().map(|fill| fill.live).sum();
    assert_eq!(filled, by_page.values().map(|&bytes| u128::from(bytes)).sum::<u128>());
    // No byte of a hole is live, and the bytes at both its ends are.
    for hole in &report.largest_holes {
        let start = u64::from_str_radix(&hole.address[2..], 16).expect("it is a number");
        let is_of = |process: &Option<ProcessIx>| {
            process.map(|process| heap.catalog.processes[process.get() as usize].pid) == hole.pid
        };
        let live = bytes
            .iter()
            .filter(|(process, _)| is_of(process))
            .map(|(_, bytes)| bytes);
        assert!(live
            .clone()
            .all(|bytes| bytes.range(start..start + hole.length).next().is_none()));
        // A block of no bytes is an end, too.
        let begins = |at: u64| live_begins(rows, &live, at, heap, hole.pid);
        fn live_begins<'a>(
            rows: &[Allocation],
            bytes: &(impl Iterator<Item = &'a BTreeSet<u64>> + Clone),
            at: u64,
            heap: &Heap,
            pid: Option<u32>,
        ) -> bool {
            bytes.clone().any(|bytes| bytes.contains(&at))
                || rows.iter().enumerate().any(|(row, block)| {
                    let process = heap.process_of(row as u32);
                    let own = process.map(|process| heap.catalog.processes[process.get() as usize].pid);
                    block.size.get() == 0 && block.address.get() == at && own == pid
                })
        }
        assert!(
            begins(start + hole.length),
            "nothing behind the hole at {}",
            hole.address
        );
    }
    let holes: u128 = report.holes_by_length.iter().map(|column| column.level.size).sum();
    assert_eq!(holes, report.holes.size);
    assert_eq!(report.largest_holes.len() as u64, report.holes.count);
}

/// Rules with what they mean, looked up the plain way.
fn check_rules(heap: &Heap) {
    let rows = rows(heap);
    let tid = |row: &Allocation| heap.catalog.threads[row.thread.get() as usize].tid;
    let pid = |row: &Allocation| {
        let process = heap.catalog.threads[row.thread.get() as usize].process;
        heap.catalog.processes[process.get() as usize].pid
    };
    let middle = heap.end().cut.get() / 2;
    let born = format!("born:..#{middle}");
    type Meaning<'a> = Box<dyn Fn(&Allocation) -> bool + 'a>;
    let rules: Vec<(&str, Meaning)> = vec![
        ("thread:worker", Box::new(|row| tid(row) == 101)),
        ("thread:100", Box::new(|row| tid(row) == 100)),
        ("process:child", Box::new(|row| pid(row) > 200)),
        ("size:1..100", Box::new(|row| (1..=100).contains(&row.size.get()))),
        ("size:4096", Box::new(|row| row.size.get() == 4096)),
        (
            "api:realloc",
            Box::new(|row| row.api == heaptape_format::AllocApi::Realloc),
        ),
        ("lifetime:..1ms", {
            Box::new(|row| {
                let micros = |event| heap.clock.time_of(event).get();
                row.death != NEVER && micros(row.death) - micros(row.birth) <= 1000
            })
        }),
        ("lifetime:#2..#40", {
            Box::new(|row| row.death != NEVER && (2..=40).contains(&(row.death.get() - row.birth.get())))
        }),
        (&born, Box::new(|row| row.birth.get() < middle)),
    ];
    let filtered = |include: &[&str], exclude: &[&str]| {
        let mut filter = Filter::default();
        let rule = |text: &&str| text.parse::<Rule>().expect("it is a rule");
        include
            .iter()
            .map(rule)
            .for_each(|rule| assert!(filter.only.add(rule).is_none()));
        exclude
            .iter()
            .map(rule)
            .for_each(|rule| assert!(filter.without.add(rule).is_none()));
        let query = Query { filter, ..by_process() };
        let total = sizes(heap, None, &query, &NoSymbols).total;
        // Questions about lives may be answered by sums that an index has.
        let lives = lifetimes(heap, &query, &NoSymbols).table.total;
        let columns = lives.histogram.iter().fold(Level::default(), |mut sum, &column| {
            sum.add(column);
            sum
        });
        assert_eq!((lives.allocated, columns), (total, total), "{include:?} {exclude:?}");
        for within in ["#1", "10us", "9us", "5ms", "60s", "100B"] {
            let within = within.parse().expect("a lifetime");
            assert_eq!(temporary(heap, within, &query, &NoSymbols).table.total.allocated, total);
        }
        (total, query)
    };
    for (a, means_a) in &rules {
        let (without, _) = filtered(&[], &[a]);
        assert_eq!(without, sum(rows.iter().filter(|row| !means_a(row))), "without {a}");
        for (b, means_b) in &rules {
            let (found, query) = filtered(&[a, b], &[]);
            // Rules about one property are alternatives.
            let is_same = a.split_once(':').map(|(field, _)| field) == b.split_once(':').map(|(field, _)| field);
            let means = |row: &&Allocation| match is_same {
                true => means_a(row) || means_b(row),
                false => means_a(row) && means_b(row),
            };
            assert_eq!(found, sum(rows.iter().filter(means)), "{a} {b}");
            check_peak(heap, &rows, &query, &|row| means(&row));
        }
    }
    check_peak(heap, &rows, &by_process(), &|_| true);
}

fn check_peak(heap: &Heap, rows: &[Allocation], query: &Query, means: &dyn Fn(&Allocation) -> bool) {
    let report = peak(heap, query, &NoSymbols);
    let mut highest = (0, 0);
    for cut in 1..=heap.end().cut.get() {
        let lives = |row: &usize| {
            let death = heap.effective_death(*row as u32).get();
            rows[*row].birth.get() < cut && death >= cut && means(&rows[*row])
        };
        let size = sum((0..rows.len()).filter(lives).map(|row| &rows[row])).size;
        if size > highest.1 {
            highest = (cut, size);
        }
    }
    assert_eq!(report.total.size, highest.1);
    if highest.1 > 0 {
        assert_eq!(report.at.event, highest.0);
        let at = Moment {
            cut: EventNo(highest.0),
            time: Micros(report.at.micros),
            by_time: false,
        };
        assert_eq!(report.rows, snapshot(heap, &at, query, &NoSymbols).rows);
    }
}

#[test]
fn more_pages_than_can_be_counted_are_as_many_as_can_be() {
    let mut tape = Recording::new(1000);
    for process in 0..4200 {
        tape.process(1 + process, ProcessOrigin::Exec, b"/app/vast")
            .thread(process, 1 + process, b"vast")
            .alloc(process, 0x1000, u64::MAX - 0x2000, StackId::ROOT);
    }
    let heap = heap_of(tape.finish());
    let report = fragmentation(&heap, &heap.end(), 0x1_0000, &Query::default(), &NoSymbols);
    let pages: Vec<u64> = report.fill.iter().map(|fill| fill.pages).collect();
    assert_eq!((pages[9], report.live.count), (u64::MAX, 4200));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_a_plain_computation(seed in any::<u64>(), steps in 0..160u32) {
        let bytes = made_up(seed, steps);
        check(&heap_of(bytes.clone()));
        check(&through_index(&bytes));
    }

    #[test]
    fn rules_mean_what_they_say_alone_and_together(seed in any::<u64>(), steps in 0..60u32) {
        check_rules(&heap_of(made_up(seed, steps)));
    }
}

/// A history in which a block grows in place out of a mapping and over others.
#[test]
fn bytes_of_blocks_that_overlap_beyond_a_mapping_count_once() {
    check(&heap_of(made_up(9967592060846341020, 71)));
}

#[test]
fn many_rows_in_several_pieces_are_answered_as_few_are() {
    let bytes = support::busy(150_000);
    let heap = through_index(&bytes);
    let rows = rows(&heap);
    assert!(rows.len() > 1 << 16);
    // Bytes asked for before each row.
    let before: Vec<u64> = std::iter::once(0)
        .chain(rows.iter().scan(0, |before, row| {
            *before += row.size.get();
            Some(*before)
        }))
        .collect();
    let life = |row: usize, measured| match rows[row].death {
        NEVER => None,
        death if measured == Measured::Bytes => {
            let until = rows.partition_point(|other| other.birth < death);
            Some(before[until.max(row + 1)] - before[row + 1])
        }
        _ => life(&heap, &rows, row, measured),
    };
    for measured in [Measured::Events, Measured::Time, Measured::Bytes] {
        let lives: Vec<Option<u64>> = (0..rows.len()).map(|row| life(row, measured)).collect();
        let mut lengths: Vec<u64> = lives.iter().flatten().copied().collect();
        lengths.sort_unstable();
        let part = |of: usize| lengths[(lengths.len() - 1) * of / 1000];
        // Shares of all blocks, from few to all: groups of the index answer for more or fewer of them.
        let shares = [0, 1, 10, 100, 500, 900, 950, 990, 999, 1000].map(part);
        for length in shares.into_iter().chain([1]) {
            let within = Lifetime { measured, length };
            let mut query = by_process();
            let ask = |query: &Query| temporary(&heap, within, query, &NoSymbols).table.total;
            let short = |least: u64| {
                let rows = rows.iter().zip(&lives).filter(|(row, _)| row.size.get() >= least);
                let short = rows.filter(|(_, life)| life.is_some_and(|life| life <= length));
                sum(short.map(|(row, _)| row))
            };
            assert_eq!(ask(&query).temporary, short(0), "within {within}");
            query.filter.only.sizes = vec![3000..=u64::MAX];
            assert_eq!(ask(&query).temporary, short(3000), "within {within}");
            assert_eq!(
                ask(&query).allocated,
                sum(rows.iter().filter(|row| row.size.get() >= 3000))
            );
            query.filter.only.sizes.clear();
            query.filter.only.lifetimes = vec![Lives {
                least: length / 2,
                ..Lives::at_most(within)
            }];
            let found = rows.iter().zip(&lives).filter(|(_, life)| {
                let in_between = length / 2..=length;
                life.is_some_and(|life| in_between.contains(&life))
            });
            let found = sum(found.map(|(row, _)| row));
            assert_eq!(
                lifetimes(&heap, &query, &NoSymbols).table.total.allocated,
                found,
                "{within}"
            );
            let in_sizes = sizes(&heap, None, &query, &NoSymbols).total;
            assert_eq!(in_sizes, found, "half of {within} to all of it");
        }
    }
    check_reallocs(&heap, &rows);
    check_homes(&heap, &rows);
}

#[test]
fn answers_are_the_same_for_any_number_of_threads() {
    let heap = through_index(&support::busy(100_000));
    let dump = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(|| {
            let query = Query::default();
            let within = "64KiB".parse().expect("a lifetime");
            format!(
                "{:?} {:?} {:?} {:?} {:?}",
                temporary(&heap, within, &query, &NoSymbols),
                lifetimes(&heap, &query, &NoSymbols),
                sizes(&heap, None, &query, &NoSymbols),
                reallocs(&heap, &query, &NoSymbols),
                threads_of(&heap),
            )
        })
    };
    let one = dump(1);
    for threads in [2, 5] {
        assert!(dump(threads) == one, "{threads} threads");
    }
}

fn threads_of(heap: &Heap) -> String {
    format!("{:?}", threads(heap, &heap.end(), &Query::default(), &NoSymbols))
}

#[test]
fn where_stacks_end_is_told_by_module() {
    let mut tape = Recording::new(4);
    tape.process(1, ProcessOrigin::Exec, b"/app/service");
    tape.thread(0, 1, b"main");
    for (path, tables) in [
        (&b"/app/service"[..], Some(true)),
        (b"/lib/bare.so", Some(false)),
        (b"/lib/c", None),
    ] {
        tape.module(path, b"");
        if let Some(tables) = tables {
            let module = ModuleIx(u32::from(path == b"/lib/bare.so"));
            tape.record(Record::Unwind { module, tables });
        }
    }
    // One that nothing was said of, and one of a module that is not there.
    tape.record(Record::Unwind {
        module: ModuleIx(9),
        tables: true,
    });
    let native = |module, offset| Frame::Native {
        module: ModuleIx(module),
        offset,
    };
    let stacks = [
        vec![native(0, 1), native(1, 2)],
        vec![Frame::Truncated, native(1, 2), native(0, 1)],
        vec![Frame::Truncated, native(1, 3)],
        vec![Frame::Truncated, native(1, 3), native(1, 2), native(0, 4)],
        vec![
            Frame::Truncated,
            Frame::Raw {
                process: ProcessIx(0),
                address: Address(64),
            },
            native(0, 1),
        ],
        vec![Frame::Truncated],
        vec![native(2, 7), Frame::Truncated, native(1, 8)],
    ];
    for (number, frames) in stacks.iter().enumerate() {
        let stack = tape.frames(frames);
        for copy in 0..=number as u64 {
            let address = 0x1000 * (number as u64 + 1) + 64 * copy;
            tape.alloc(0, address, 10, stack);
            if copy % 2 == 1 {
                tape.free(0, address);
            }
        }
    }
    let bytes = tape.finish();
    let heap = heap_of(bytes.clone());
    assert_eq!(unwinding(&through_index(&bytes)), unwinding(&heap));
    let row = |module: Option<&str>, tables, places, count| Unwinding {
        module: module.map(Text::new),
        tables,
        places,
        cut: Level {
            size: 10 * u128::from(count),
            count,
        },
    };
    assert_eq!(
        unwinding(&heap),
        [
            row(None, None, 1, 5 + 6),
            row(Some("/app/service"), Some(true), 0, 0),
            row(Some("/lib/bare.so"), Some(false), 2, 2 + 3 + 4),
            row(Some("/lib/c"), None, 0, 0),
        ]
    );
}
