//! A tape whose beginning was folded away answers what it still knows as the tape of the whole run does, and says of the rest that it does not know it. The files of a recording
//! that was cut are together the tape of the whole run.

mod support;
#[path = "support/fold.rs"]
mod tapes;

use heaptape::perform::{plan, Plan};
use heaptape::query::{
    epochs, fragmentation, freed, growth, lifetimes, peak, rss, temporary, timeline, Group, Grouping, GrowthQuery,
    Lifetime, Measured, Query, LIFETIME_BOUNDS, LIFETIME_COLUMNS, REGION_GAP,
};
use heaptape::symbols::NoSymbols;
use heaptape::table::{AllocIx, Heap, Level, Moment, NEVER};
use heaptape::tape::Tape;
use heaptape_format::record::ProcessOrigin;
use heaptape_format::{Block, EventNo, Part, ProcessIx, StackId};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use support::{heap_of, Recording, TempDir};
use tapes::{cuts, fold};

/// Rounds of work in several generations of stacks: blocks that go at once, that outlive some rounds, or stay; grown buffers, mappings, a worker that is forked
/// and ends, one that stays. Much more is alive early than ever again.
fn history() -> Vec<u8> {
    let mut tape = Recording::new(300);
    tape.process(100, ProcessOrigin::Exec, b"/app/service")
        .thread(0, 100, b"main")
        .thread(0, 101, b"worker")
        .module(b"/app/service", b"");
    let stacks = |tape: &mut Recording| -> Vec<StackId> {
        (0..12)
            .map(|site| tape.stack(0, &[0x100, 0x200 + site % 3, 0x1000 + site * 16]))
            .collect()
    };
    let mut of = stacks(&mut tape);
    tape.map(0, 0x7000_0000, 1 << 20, of[0]);
    for round in 0..60u64 {
        if round % 8 == 5 {
            tape.new_generation();
            of = stacks(&mut tape);
        }
        tape.wait(100_000).marker(b"round").sample(0, (8 << 20) + round * 4096);
        match round {
            2 => drop(tape.alloc(0, 0x9000_0000, 5 << 20, of[9])),
            3 => drop(tape.free(0, 0x9000_0000)),
            10 | 30 => {
                let child = if round == 10 { 1 } else { 2 };
                tape.process(100 + child, ProcessOrigin::Fork(ProcessIx(0)), b"/app/service")
                    .thread(child, 100 + child, b"child");
                let thread = 1 + child;
                tape.free(thread, 0x20_0000)
                    .alloc(thread, 0x60_0000, 700, of[1])
                    .sample(child, 3 << 20);
                if child == 1 {
                    tape.end_process(1, 0);
                }
            }
            _ => {}
        }
        if round == 33 {
            // A part of what was mapped before any cut.
            tape.unmap(0, 0x7004_0000, 0x4_0000).map(0, 0x7100_0000, 1 << 16, of[3]);
        }
        for step in 0..20u64 {
            tape.wait(7 + 300 * (step % 5));
            let (number, site) = (round * 20 + step, (step % 12) as usize);
            let at = 0x20_0000 + number * 0x200;
            tape.alloc((step % 2) as u32, at, 20 + number % 400, of[site]);
            match step % 5 {
                0 => {}
                1 | 2 => drop(tape.free(1, at)),
                // Later, in another round or generation.
                _ if number > 90 => drop(tape.free(0, at - 90 * 0x200)),
                _ => {}
            }
            if step == 10 {
                tape.resize(0, 0x20_0000, 100 + number, of[7]);
            }
        }
    }
    tape.end_process(0, 0);
    tape.finish()
}

/// The whole run, and by cut the tape that was folded there, alone and as a file of a recording.
fn all() -> (Vec<u8>, Vec<(EventNo, Vec<u8>)>) {
    let whole = history();
    let cuts = cuts(&whole);
    assert_eq!(cuts.len(), 7);
    let part = Part {
        number: 2,
        continues: 1,
    };
    let folded = cuts.iter().flat_map(|cut| {
        let of = |part| (cut.first_event, fold(&whole, cut, 200, part));
        [of(None), of(Some(part))]
    });
    let folded = folded.collect();
    (whole, folded)
}

fn each(check: impl Fn(&Heap, &Heap)) {
    let (whole, folded) = all();
    let whole = heap_of(whole);
    for (cut, bytes) in folded {
        let heap = heap_of(bytes);
        assert_eq!(heap.start().cut, cut);
        assert!(heap.damage.is_empty() && heap.ended_cleanly());
        check(&heap, &whole);
    }
}

fn every_row() -> Query {
    Query {
        rows: 0,
        ..Query::default()
    }
}

/// The instants from which on all is known, some between, and the end.
fn moments(heap: &Heap) -> Vec<Moment> {
    let (from, until) = (heap.start(), heap.end());
    let at = |part: u64| {
        let cut = from.cut.get() + (until.cut.get() - from.cut.get()) * part / 4;
        heap.after(EventNo(cut - 1))
    };
    [from, at(1), at(2), at(3), until].to_vec()
}

#[track_caller]
fn assert_same<R: serde::Serialize>(of_folded: &R, of_whole: &R) {
    let text = |report: &R| serde_json::to_string_pretty(report).expect("it is plain data");
    assert_eq!(text(of_folded), text(of_whole));
}

#[test]
fn growth_since_full_history_is_that_of_the_whole_run() {
    each(|folded, whole| {
        let which = GrowthQuery {
            points: 16,
            from: folded.start(),
            until: folded.end(),
            limit: Some(64 << 20),
            all: true,
        };
        let report = growth(folded, &which, &every_row(), &NoSymbols);
        assert!(report.rows.len() > 5);
        assert_same(&report, &growth(whole, &which, &every_row(), &NoSymbols));
    });
}

#[test]
fn blocks_lie_in_the_address_space_as_they_do_in_the_whole_run() {
    each(|folded, whole| {
        for moment in moments(folded) {
            let of = |heap: &Heap| fragmentation(heap, &moment, REGION_GAP, &every_row(), &NoSymbols);
            assert!(of(folded).live.count > 0);
            assert_same(&of(folded), &of(whole));
        }
    });
}

#[test]
fn the_resident_set_is_held_against_the_heap_where_that_is_known() {
    each(|folded, whole| {
        let mut compared = 0;
        for moment in moments(folded) {
            let of = |heap: &Heap| rss(heap, Some(&moment), &every_row()).expect("there are samples");
            let (found, mut all) = (of(folded), of(whole));
            // A sample that is older than full history has no heap to stand beside.
            all.processes
                .retain(|process| process.at.micros >= folded.start().time.get());
            assert_same(&found, &all);
            compared += found.processes.len();
        }
        assert!(compared >= 4);
    });
}

#[test]
fn rounds_are_judged_if_what_they_left_is_known() {
    each(|folded, whole| {
        for after in [0, 1, 7, 70] {
            let report = epochs(folded, "round", after, &every_row(), &NoSymbols);
            let markers = whole.catalog.markers.iter().map(|marker| Moment {
                cut: marker.at,
                time: marker.time,
                by_time: true,
            });
            let ends: Vec<Moment> = markers.chain([whole.end()]).collect();
            assert_eq!(report.spans, ends.len() - 1);
            let known: Vec<usize> = (0..ends.len() - 1)
                .filter(|span| {
                    ends.get(span + 1 + after)
                        .is_some_and(|end| end.cut >= folded.start().cut)
                })
                .collect();
            let mut left = Level::default();
            let mut left_by = 0;
            for &span in &known {
                let before = left;
                for row in 0..whole.allocations.len() as u32 {
                    let birth = whole.allocations.birth(row as usize);
                    let is_in = birth >= ends[span].cut && birth < ends[span + 1].cut;
                    if is_in && whole.is_live(row, &ends[span + 1 + after]) {
                        left.add(whole.level_of(row));
                    }
                }
                left_by += usize::from(left != before);
            }
            assert_eq!(report.judged, known.len());
            assert_eq!((report.table.total.level, report.table.total.epochs), (left, left_by));
            let first = report.from.map(|from| from.event);
            assert_eq!(first, known.first().map(|&span| ends[span].cut.get()));
        }
    });
}

/// The rows of a folded tape by their births, with their places in the whole run; all that were alive when full history began, or came later, are there.
fn rows_in_whole(folded: &Heap, whole: &Heap) -> Vec<usize> {
    let places: BTreeMap<EventNo, usize> = (0..whole.allocations.len())
        .map(|row| (whole.allocations.birth(row), row))
        .collect();
    let rows: Vec<usize> = (0..folded.allocations.len())
        .map(|row| places[&folded.allocations.birth(row)])
        .collect();
    for row in 0..whole.allocations.len() {
        if whole.effective_death(row as u32) >= folded.start().cut {
            assert!(rows.contains(&row));
        }
    }
    rows
}

/// Events and microseconds that a block lived; `None` when it was never freed.
fn life(heap: &Heap, row: usize) -> Option<(u64, u64)> {
    let (birth, death) = (heap.allocations.birth(row), heap.allocations.death(row));
    let time = |event| heap.clock.time_of(event).get();
    (death != NEVER).then(|| (death.get() - birth.get(), time(death) - time(birth)))
}

#[test]
fn blocks_that_are_known_have_lived_as_long_as_in_the_whole_run() {
    each(|folded, whole| {
        let rows = rows_in_whole(folded, whole);
        assert!(rows.len() < whole.allocations.len());
        let mut histogram = [Level::default(); LIFETIME_COLUMNS];
        for &row in &rows {
            let column =
                life(whole, row).map(|(_, micros)| LIFETIME_BOUNDS.iter().filter(|&&bound| bound <= micros).count());
            histogram[column.unwrap_or(LIFETIME_COLUMNS - 1)].add(whole.level_of(row as u32));
        }
        let report = lifetimes(folded, &every_row(), &NoSymbols);
        assert_eq!(report.table.total.histogram, histogram);
        assert!(histogram.iter().filter(|level| level.count > 0).count() > 2);
        for (measured, lengths) in [(Measured::Events, [1, 300]), (Measured::Time, [1, 900_000])] {
            for length in lengths {
                let mut short = Level::default();
                for &row in &rows {
                    let life = life(whole, row).map(|(events, micros)| match measured {
                        Measured::Events => events,
                        _ => micros,
                    });
                    if life.is_some_and(|life| life <= length) {
                        short.add(whole.level_of(row as u32));
                    }
                }
                let report = temporary(folded, Lifetime { measured, length }, &every_row(), &NoSymbols);
                assert_eq!(report.table.total.temporary, short);
            }
        }
    });
}

#[test]
fn the_timeline_begins_with_full_history_and_tells_no_level_before() {
    each(|folded, whole| {
        let of = |heap| timeline(heap, &every_row(), 40, &NoSymbols);
        let (found, all) = (of(folded), of(whole));
        let start = folded.start();
        assert_eq!(found.span[0].event, start.cut.get());
        assert_eq!(found.markers.len(), all.markers.len());
        for (marker, other) in found.markers.iter().zip(&all.markers) {
            assert_eq!((&marker.at, marker.number), (&other.at, other.number));
            let is_known = marker.at.event >= start.cut.get();
            assert_eq!(marker.live, other.live.filter(|_| is_known));
        }
        for point in &found.points[..39] {
            let time = heaptape_format::Micros(point.micros);
            let moment = Moment {
                cut: whole.clock.cut_at(time),
                time,
                by_time: false,
            };
            assert_eq!(point.live, whole.live_level(&moment));
        }
        assert_eq!(found.end, all.end);
        assert!(
            folded.remarks().iter().any(|remark| remark.contains("the peak, 52")),
            "{:?}",
            folded.remarks()
        );
    });
}

fn plan_of(bytes: &[u8], process: u32) -> Plan {
    let tape = Tape::from_source(Box::new(bytes.to_vec()), Path::new("test.tape")).expect("it is a tape");
    plan(&tape, &heap_of(bytes.to_vec()).catalog, ProcessIx(process), false)
}

#[test]
fn a_replay_begins_with_what_was_alive_and_comes_to_the_same_end() {
    let (whole, folded) = all();
    for (_, bytes) in folded {
        let heap = heap_of(bytes.clone());
        for process in [0, 2] {
            let (found, all) = (plan_of(&bytes, process), plan_of(&whole, process));
            assert_eq!(found.end_live, all.end_live);
            // What a child inherited is no call of its own.
            assert_eq!(found.skipped, if process == 0 { 0 } else { all.skipped });
            let mut query = every_row();
            query.filter.only.processes = vec![heap.catalog.processes[process as usize].pid.to_string()];
            assert_eq!(found.peak_live, peak(&heap, &query, &NoSymbols).total.size);
        }
    }
}

#[test]
fn what_was_freed_in_the_folded_span_is_told_by_stack() {
    let (whole, folded) = all();
    let whole = heap_of(whole);
    for (cut, bytes) in folded {
        let heap = heap_of(bytes.clone());
        let tape = Tape::from_source(Box::new(bytes), Path::new("test.tape")).expect("it is a tape");
        let mut query = every_row();
        query.by = Grouping::new(&[Group::Traceback]).expect("it is one");
        let (report, others) = freed(&heap, &tape, &query, &NoSymbols).expect("it was folded");
        assert_eq!(others, Level::default());
        let kept = rows_in_whole(&heap, &whole);
        let place = |stack| -> Vec<_> {
            let frames = whole.catalog.stacks.frames(stack);
            frames
                .map(|frame| format!("{:?}", whole.catalog.stacks.kind(frame)))
                .collect()
        };
        let mut expected: BTreeMap<Vec<String>, Level> = BTreeMap::new();
        for row in 0..whole.allocations.len() as u32 {
            // What a forked process still has of it keeps a block in the table.
            let is_kept = kept.contains(&(row as usize));
            if whole.allocations.death(row as usize) < cut && !is_kept {
                let stack = place(whole.allocations.get(AllocIx(row)).stack);
                expected.entry(stack).or_default().add(whole.level_of(row));
            }
        }
        let mut found: Vec<Level> = report
            .rows
            .iter()
            .map(|row| Level {
                size: row.size,
                count: row.count,
            })
            .collect();
        let mut expected: Vec<Level> = expected.into_values().collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "before event {}", cut.get());
        let all: u64 = expected.iter().map(|level| level.count).sum();
        assert_eq!(report.total.count, all);
    }
    assert!(freed(
        &whole,
        &Tape::from_source(Box::new(history()), Path::new("a")).expect("it is a tape"),
        &every_row(),
        &NoSymbols
    )
    .is_err());
}

fn heaptape(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(line.split(' '))
        .current_dir(folder)
        .output()
        .expect("heaptape runs")
}

const QUESTIONS: [&str; 10] = [
    "growth a.tape --all",
    "lifetimes a.tape",
    "temporary a.tape",
    "epochs a.tape --marker round",
    "rss a.tape",
    "fragmentation a.tape@end",
    "timeline a.tape",
    "snapshot a.tape --freed",
    "summarize a.tape -o - --no-symbols",
    "replay a.tape --one-thread",
];

#[test]
fn every_answer_of_a_folded_tape_says_from_when_on_history_is_full() {
    let whole = history();
    let last = cuts(&whole)[5];
    let folder = TempDir::new("folded-says");
    std::fs::write(folder.path().join("a.tape"), fold(&whole, &last, 200, None)).expect("a file can be written");
    std::fs::write(folder.path().join("budget.toml"), "[limits]\npeak = \"1GiB\"\n").expect("a file can be written");
    for question in QUESTIONS {
        let output = heaptape(folder.path(), question);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && said.contains("full history begins at"),
            "{question}: {said}"
        );
        let json = match question.starts_with("summarize") {
            true => output,
            false => heaptape(folder.path(), &format!("{question} --json")),
        };
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
        assert!(
            json["notes"][0]
                .as_str()
                .is_some_and(|note| note.contains("full history begins at")),
            "{question}: {json}"
        );
    }
    let refused = [
        // The run's peak and sums are not known, so they cannot be judged.
        (
            "check a.tape --budget budget.toml",
            "is not whole: full history begins at",
        ),
        ("temporary a.tape --within 64KiB", "full history begins at"),
        ("snapshot a.tape@end --freed", "a tape without an instant"),
        ("snapshot a.tape --freed --by size", "knows stacks and nothing else"),
        ("snapshot a.tape --min-lifetime 64KiB", "full history begins at"),
    ];
    for (question, why) in refused {
        let output = heaptape(folder.path(), question);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && said.contains(why),
            "{question}: {said}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_files_of_a_recording_answer_together_as_the_whole_tape_and_without_the_first_as_a_folded_one() {
    let whole = history();
    let at = |bytes: &[u8], event: EventNo| -> Block {
        let mut cuts = cuts(bytes).into_iter();
        cuts.find(|cut| cut.first_event == event)
            .expect("a generation begins there")
    };
    let events: Vec<EventNo> = [1, 3, 4].map(|which: usize| cuts(&whole)[which].first_event).to_vec();
    // Each file goes on for a while after the next has begun.
    let mut files = vec![whole.clone()];
    for (number, &event) in (2..).zip(&events) {
        let before = files.last().expect("there is one");
        let cut = at(before, event);
        let part = Part {
            number,
            continues: cut.sequence,
        };
        files.push(fold(before, &cut, 200, Some(part)));
    }
    for (file, &event) in files.iter_mut().zip(&events) {
        let next = cuts(file).into_iter().find(|cut| cut.first_event > event);
        file.truncate(next.expect("it goes on").offset as usize);
    }
    let folder = |name: &str| TempDir::new(&format!("rotated-{name}"));
    let (one, together, without) = (folder("one"), folder("together"), folder("without"));
    let alone = folder("folded");
    let write = |folder: &TempDir, name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("a file can be written");
    };
    write(&one, "a.tape", &whole);
    write(&alone, "a.tape", &fold(&whole, &at(&whole, events[0]), 200, None));
    for (number, file) in (1..).zip(&files) {
        let name = format!("a.{number:06}.tape");
        write(&together, &name, file);
        if number > 1 {
            write(&without, &name, file);
        }
    }
    let is_measured = |question: &&&str| question.starts_with("replay");
    for question in QUESTIONS.iter().filter(is_measured) {
        let plan = |folder: &TempDir| {
            let output = heaptape(folder.path(), &format!("{question} --json"));
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
            json["plan"].to_string()
        };
        assert_eq!(plan(&together), plan(&one));
        assert_eq!(plan(&without), plan(&alone));
    }
    // Nothing of the whole was folded away.
    let is_of_all = |question: &&&str| !is_measured(question) && !question.ends_with("--freed");
    for question in QUESTIONS.iter().filter(is_of_all) {
        let json = match question.starts_with("summarize") {
            true => String::new(),
            false => " --json".to_owned(),
        };
        let of = |folder: &TempDir| {
            let output = heaptape(folder.path(), &format!("{question}{json}"));
            assert!(
                output.status.success(),
                "{question}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert_eq!(of(&together), of(&one), "{question}");
        assert_eq!(of(&without), of(&alone), "{question}");
    }
}

#[test]
fn markers_that_are_too_many_to_keep_are_said_to_be_gone() {
    let mut tape = Recording::new(300);
    tape.process(100, ProcessOrigin::Exec, b"/app/service")
        .thread(0, 100, b"main")
        .module(b"/app/service", b"");
    for number in 0..5000u64 {
        let stack = tape.stack(0, &[0x100]);
        tape.wait(1).marker(b"round").alloc(0, number << 12, 8, stack);
    }
    tape.new_generation();
    let stack = tape.stack(0, &[0x100]);
    tape.wait(1).alloc(0, 0x7000_0000, 8, stack);
    let bytes = tape.finish();
    let heap = heap_of(fold(&bytes, &cuts(&bytes)[0], 300, None));
    let said = |remark: &String| remark.contains("the latest 4096 are known");
    assert!(heap.remarks().iter().any(said), "{:?}", heap.remarks());
    assert!(!heap_of(bytes).remarks().iter().any(said));
}
