//! Programs of every shape of growth, made up event by event, each told as what it is.

mod support;

use heaptape::query::{growth, Group, Growth, GrowthQuery, Query, Shape};
use heaptape::symbols::NoSymbols;
use heaptape_format::record::ProcessOrigin;
use heaptape_format::StackId;
use std::collections::{BTreeMap, VecDeque};
use support::{heap_of, Recording};

/// Seconds that a program runs.
const RUN: u64 = 1200;

/// What a site does in each second: the blocks that it allocates, in bytes, and how many of its oldest ones it frees.
type Site = fn(second: u64, held: usize) -> (Vec<u64>, usize);

const SITES: [(&str, Site, Shape); 8] = [
    ("leak", |_, _| (vec![100], 0), Shape::Steady),
    (
        "leak among requests",
        |second, _| match second % 2 {
            0 => (vec![5000, 90], 0),
            _ => (vec![], 1),
        },
        Shape::Steady,
    ),
    (
        "warm-up",
        |second, _| (vec![4000; usize::from(second < 120)], 0),
        Shape::Warmup,
    ),
    (
        "cache that is full",
        |_, held| (vec![1000], usize::from(held >= 200)),
        Shape::Warmup,
    ),
    (
        "cache that fills",
        // Fewer and fewer entries are not there yet.
        |second, _| (vec![64; (40 / (1 + second / 60)) as usize], 0),
        Shape::Slowing,
    ),
    (
        "step",
        |second, _| match second {
            0 => (vec![100_000], 0),
            900 => (vec![300_000], 0),
            _ => (vec![], 0),
        },
        Shape::Step,
    ),
    (
        "rising load",
        // A queue that grows longer, and whose entries all come through within a minute.
        |second, held| {
            let length = 20 + second as usize;
            (
                vec![50; length / 10 + 1],
                (held + length / 10 + 1).saturating_sub(length),
            )
        },
        Shape::Load,
    ),
    (
        "requests",
        |second, held| (vec![800; (second % 7) as usize], held),
        Shape::Level,
    ),
];

fn program() -> (Vec<u8>, Vec<StackId>) {
    let mut tape = Recording::new(512);
    tape.process(1, ProcessOrigin::Exec, b"/bin/program")
        .thread(0, 1, b"")
        .module(b"/bin/program", b"");
    let stacks: Vec<StackId> = (0..SITES.len() as u64)
        .map(|site| tape.stack(0, &[0x100, 0x1000 + site]))
        .collect();
    let mut held: Vec<VecDeque<u64>> = vec![VecDeque::new(); SITES.len()];
    let mut next = 0x10_0000;
    for second in 0..RUN {
        tape.wait(1_000_000);
        for (number, (name, site, _)) in SITES.iter().enumerate() {
            let blocks = &mut held[number];
            let (born, freed) = site(second, blocks.len());
            for _ in 0..freed.min(blocks.len()) {
                // Of the leak among requests, the request goes and the leak stays.
                let old = match *name {
                    "leak among requests" => blocks.remove(blocks.len() - 2),
                    _ => blocks.pop_front(),
                };
                tape.free(0, old.expect("it is held"));
            }
            for size in born {
                tape.alloc(0, next, size, stacks[number]);
                blocks.push_back(next);
                next += size.next_multiple_of(16) + 16;
            }
        }
    }
    (tape.finish(), stacks)
}

fn of(limit: Option<u64>, all: bool) -> Growth {
    let (bytes, _) = program();
    let heap = heap_of(bytes);
    let which = GrowthQuery {
        points: 64,
        from: heap.start(),
        until: heap.end(),
        limit,
        all,
    };
    let query = Query {
        by: Group::Line.into(),
        rows: 0,
        ..Query::default()
    };
    growth(&heap, &which, &query, &NoSymbols)
}

#[test]
fn every_program_is_told_as_what_it_is() {
    let report = of(None, true);
    let shapes: BTreeMap<String, Shape> = report
        .rows
        .iter()
        .map(|row| (row.key.to_string(), row.sum.trend.shape))
        .collect();
    for (number, (name, _, expected)) in SITES.iter().enumerate() {
        let key = format!("+{:#x} ", 0x1000 + number);
        let found = shapes.iter().find(|(found, _)| found.contains(&key));
        assert_eq!(found.map(|(_, shape)| shape), Some(expected), "{name}: {shapes:?}");
    }
}

#[test]
fn what_is_level_is_counted_and_the_limit_is_reached_when_it_is_said() {
    let report = of(Some(10_000_000), false);
    assert_eq!((report.rows.len(), report.level_rows), (5, 3));
    assert!(report.rows.is_sorted_by_key(|row| row.sum.trend.shape));
    let leak = report.rows.iter().find(|row| row.key.to_string().contains("+0x1000 "));
    let leak = &leak.expect("the leak is there").sum;
    // 100 bytes in each second.
    assert!((leak.trend.slope - 100.0).abs() < 2.0, "{}", leak.trend.slope);
    assert!(leak.trend.monotonicity > 0.99);
    let now = report.total.level.size as f64;
    let expected = (10_000_000.0 - now) / leak.trend.slope;
    assert!((leak.seconds_to_limit.expect("it grows") - expected).abs() < 1.0);
    let step = report.rows.iter().find(|row| row.sum.trend.shape == Shape::Step);
    assert_eq!(step.expect("the step is there").sum.seconds_to_limit, None);
}
