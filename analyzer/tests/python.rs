//! What is answered about Python: types of objects, lines of Python among native frames, allocators, arenas.

mod support;

use heaptape::query::{
    arenas, diff, flame, snapshot, tree, Filter, Group, Grouping, Node, Query, Row, Selection, Span, Statistics,
};
use heaptape::symbols::{NoSymbols, View};
use heaptape::table::{Heap, Level};
use heaptape_format::record::ProcessOrigin;
use heaptape_format::{AllocApi, StackId};
use std::collections::BTreeMap;
use support::{heap_of, line, native, python_service, Recording};

fn by(groups: &[Group]) -> Grouping {
    Grouping::new(groups).expect("it is a grouping")
}

fn rows_of(heap: &Heap, query: &Query) -> Statistics {
    snapshot(heap, &heap.end(), query, &NoSymbols)
}

/// The rows of a snapshot at the end as text and level.
fn rows(heap: &Heap, groups: &[Group], view: View) -> BTreeMap<String, Level> {
    let query = Query {
        by: by(groups),
        view,
        rows: 0,
        ..Query::default()
    };
    let level = |row: &Row| Level {
        size: row.size,
        count: row.count,
    };
    let report = rows_of(heap, &query);
    report
        .rows
        .iter()
        .map(|row| (row.key.to_string(), level(row)))
        .collect()
}

fn counts(rows: &BTreeMap<String, Level>) -> Vec<(&str, u64)> {
    rows.iter().map(|(key, level)| (key.as_str(), level.count)).collect()
}

/// A process of Python with an object on each of these stacks.
fn objects_on(stacks: &[&[heaptape_format::record::Frame]]) -> Heap {
    let mut tape = Recording::new(64);
    tape.process(1, ProcessOrigin::Exec, b"python3")
        .thread(0, 1, b"")
        .module(b"/opt/python3", b"")
        .module(b"/lib/libc.so.6", b"")
        .code(b"outer", b"a.py")
        .code(b"inner", b"b.py");
    for (number, frames) in (0u64..).zip(stacks) {
        let stack = tape.frames(frames);
        tape.python(0, AllocApi::PyObj, 0x1000 + number * 64, 50, stack);
    }
    heap_of(tape.finish())
}

#[test]
fn a_stack_with_python_in_it_is_shown_by_its_most_recent_line_of_python() {
    let heap = objects_on(&[
        &[
            native(0, 1),
            line(0, 10),
            native(0, 2),
            line(1, 20),
            native(0, 3),
            native(1, 4),
        ],
        // C code that calls back into Python and allocates after that.
        &[line(0, 10), native(0, 2), line(1, 21), native(0, 2), line(0, 11)],
        &[native(0, 1), native(0, 5)],
        &[],
    ]);
    let merged = rows(&heap, &[Group::Line], View::Merged);
    assert_eq!(
        counts(&merged),
        [
            ("/opt/python3+0x5 (??)", 1),
            ("[no stack]", 1),
            ("a.py:11", 1),
            ("b.py:20", 1)
        ]
    );
    let python = rows(&heap, &[Group::Line], View::Python);
    assert_eq!(
        counts(&python),
        [("[no Python frame]", 2), ("a.py:11", 1), ("b.py:20", 1)]
    );
    let native = rows(&heap, &[Group::Line], View::Native);
    assert_eq!(
        counts(&native),
        [
            ("/opt/python3+0x2 (??)", 1),
            ("/opt/python3+0x3 (??)", 1),
            ("/opt/python3+0x5 (??)", 1),
            ("[no native frame]", 1)
        ]
    );
    // Which module the memory belongs to is a question about native code, whatever line is shown.
    let libraries = rows(&heap, &[Group::Library], View::Merged);
    assert_eq!(counts(&libraries), [("/opt/python3", 3), ("[no stack]", 1)]);
    let functions = rows(&heap, &[Group::Function], View::Merged);
    assert_eq!(functions["inner"].count + functions["outer"].count, 2);
}

#[test]
fn what_an_event_loop_runs_is_the_outermost_function_of_a_task() {
    let mut tape = Recording::new(64);
    tape.process(1, ProcessOrigin::Exec, b"python3")
        .thread(0, 1, b"")
        .module(b"/opt/python3", b"")
        .code(b"main", b"svc.py")
        .code(b"_run_once", b"/lib/python3.11/asyncio/base_events.py")
        .code(b"_run", b"/lib/python3.11/asyncio/events.py")
        .code(b"__step", b"/lib/python3.11/asyncio/tasks.py")
        .code(b"serve", b"svc.py")
        .code(b"read", b"/lib/python3.11/asyncio/streams.py")
        .code(b"_run", b"svc.py");
    let (start, once, run, step, serve, read, other) = (0, 1, 2, 3, 4, 5, 6);
    let in_loop = [line(start, 1), line(once, 2), line(run, 3), native(0, 7)];
    let stacks = [
        // The C and the Python implementation of tasks; what the task calls does not matter.
        [&in_loop[..], &[line(serve, 4)]].concat(),
        [
            &in_loop[..],
            &[line(step, 5), line(serve, 6), line(read, 7), native(0, 8)],
        ]
        .concat(),
        // The loop's own, outside of any task; a function that is only called like the loop's; nothing of Python.
        [&in_loop[..], &[line(step, 5)]].concat(),
        in_loop[..2].to_vec(),
        vec![line(start, 1), line(other, 9), line(serve, 4)],
        vec![native(0, 1)],
        // A loop in a task of another one.
        [&in_loop[..], &[line(serve, 4)], &in_loop[..], &[line(other, 2)]].concat(),
    ];
    for (number, frames) in (0u64..).zip(&stacks) {
        let stack = tape.frames(frames);
        tape.python(0, AllocApi::PyObj, 0x1000 + number * 64, 50, stack);
    }
    let heap = heap_of(tape.finish());
    let found = rows(&heap, &[Group::Coroutine], View::Merged);
    assert_eq!(counts(&found), [("[outside asyncio]", 4), ("_run", 1), ("serve", 2)]);
}

#[test]
fn code_that_the_tape_does_not_describe_is_counted_and_shown_as_unknown() {
    let heap = objects_on(&[&[line(0, 10), line(7, 10)], &[line(8, 1), line(1, 2)]]);
    assert_eq!(heap.catalog.unknown_code_frames(), 2);
    let found = rows(&heap, &[Group::Line], View::Merged);
    assert_eq!(counts(&found), [("[unknown Python code]", 1), ("b.py:2", 1)]);
}

#[test]
fn raw_frames_show_the_innermost_frame_whatever_it_is() {
    let heap = objects_on(&[&[line(0, 10), native(1, 4)], &[native(1, 4), line(1, 0)]]);
    let query = Query {
        raw_frames: true,
        ..Query::default()
    };
    let keys: Vec<String> = rows_of(&heap, &query)
        .rows
        .iter()
        .map(|row| row.key.to_string())
        .collect();
    assert_eq!(keys, ["b.py:?", "/lib/libc.so.6+0x4 (??)"]);
}

#[test]
fn tracebacks_flames_and_trees_have_the_frames_of_the_view() {
    let heap = objects_on(&[&[native(0, 1), line(0, 10), native(0, 2), line(1, 20), native(0, 3)]]);
    for (view, frames) in [
        (
            View::Merged,
            "?? (python3+0x1);a.py:outer:10;?? (python3+0x2);b.py:inner:20;?? (python3+0x3)",
        ),
        (View::Python, "a.py:outer:10;b.py:inner:20"),
        (View::Native, "?? (python3+0x1);?? (python3+0x2);?? (python3+0x3)"),
    ] {
        let query = Query {
            view,
            by: Group::Traceback.into(),
            ..Query::default()
        };
        let drawn = flame(&heap, &Span::At(heap.end()), &query, &NoSymbols);
        assert_eq!(drawn.lines[0].frames.join(";"), frames);
        let depth = frames.split(';').count();
        assert_eq!(rows_of(&heap, &query).rows[0].key.frames().len(), depth);
        let mut node: &Node = &tree(&heap, &heap.end(), &query, 0, 100, &NoSymbols).roots[0].clone();
        let mut deep = 1;
        while let Some(child) = node.children.first() {
            assert_eq!((node.total.count, node.own.count), (1, 0));
            node = child;
            deep += 1;
        }
        assert_eq!((deep, node.own.count), (depth, 1), "{view:?}");
    }
}

#[test]
fn a_tree_that_hides_frames_still_counts_every_block() {
    let heap = heap_of(python_service());
    for view in [View::Merged, View::Python, View::Native] {
        let query = Query {
            view,
            rows: 0,
            ..Query::default()
        };
        let found = tree(&heap, &heap.end(), &query, 0, 100, &NoSymbols);
        fn own(nodes: &[Node]) -> u64 {
            nodes.iter().map(|node| node.own.count + own(&node.children)).sum()
        }
        assert_eq!(found.total.count, 705);
        assert_eq!(own(&found.roots), 705, "{view:?}");
        assert_eq!(found.roots.iter().map(|node| node.total.count).sum::<u64>(), 705);
    }
}

#[test]
fn rows_by_type_name_every_object_and_say_how_many_have_no_type() {
    let heap = heap_of(python_service());
    let found = rows(&heap, &[Group::Type], View::Merged);
    assert_eq!(
        counts(&found),
        [
            ("[no type: malloc]", 100),
            ("[no type: python mem]", 101),
            ("[no type: python obj]", 1),
            ("[no type: python raw]", 1),
            ("dict", 1),
            ("session.Session", 101),
            ("str", 400),
        ]
    );
    let query = Query {
        by: Group::Type.into(),
        ..Query::default()
    };
    let types = rows_of(&heap, &query).types.expect("it was asked for");
    assert_eq!((types.objects.count, types.untyped.count), (503, 1));
    assert_eq!(rows_of(&heap, &Query::default()).types, None);
}

#[test]
fn a_type_that_is_said_blocks_of_the_tape_later_is_that_of_the_block() {
    for block_events in [1, 2, 3, 64] {
        let mut tape = Recording::new(block_events);
        tape.process(1, ProcessOrigin::Exec, b"python3")
            .thread(0, 1, b"")
            .object_type(b"list")
            .object_type(b"tuple");
        tape.python(0, AllocApi::PyObj, 0x1000, 10, StackId::ROOT)
            .python(0, AllocApi::PyObj, 0x2000, 20, StackId::ROOT)
            .python(0, AllocApi::PyMem, 0x3000, 30, StackId::ROOT)
            .typed(0, 0x2000, 2)
            .typed(0, 0x1000, 1)
            .typed(0, 0x1000, 2)
            .typed(0, 0x1000, 1);
        // A block that is resized is a new one, whose type is said anew.
        tape.resize(0, 0x2000, 25, StackId::ROOT).typed(0, 0x3000, 1);
        // The address is another block's now.
        tape.free(0, 0x1000)
            .typed(0, 0x1000, 2)
            .python(0, AllocApi::PyObj, 0x1000, 11, StackId::ROOT)
            .typed(0, 0x1000, 2);
        // A number without a name is no type, and nobody lives at the last address.
        tape.python(0, AllocApi::PyObj, 0x4000, 40, StackId::ROOT)
            .typed(0, 0x4000, 77)
            .typed(0, 0x5000, 1);
        let heap = heap_of(tape.finish());
        let rows = 0..heap.allocations.len();
        let kinds: Vec<u32> = rows.map(|row| heap.allocations.kind(row).get()).collect();
        assert_eq!(kinds, [1, 2, 1, 0, 2, 0], "blocks of {block_events} events");
        assert_eq!(heap.counters.unknown_types, 1);
    }
}

#[test]
fn a_forked_child_has_the_typed_blocks_of_its_parent() {
    let heap = heap_of(python_service());
    let of = |process: &str, inherited: bool| {
        let query = Query {
            by: Group::Type.into(),
            filter: Filter {
                only: Selection {
                    processes: vec![process.to_owned()],
                    ..Selection::default()
                },
                inherited,
                ..Filter::default()
            },
            rows: 0,
            ..Query::default()
        };
        let report = rows_of(&heap, &query);
        let rows = report.rows.iter().map(|row| (row.key.to_string(), row.count));
        rows.collect::<BTreeMap<String, u64>>()
    };
    assert_eq!(of("200", false), BTreeMap::from([("session.Session".to_owned(), 1)]));
    let (parent, child) = (of("100", false), of("200", true));
    assert_eq!(parent["session.Session"], 100);
    assert_eq!(child["session.Session"], 101);
    assert_eq!(child["str"], parent["str"]);
    // The child freed its copy of the one without a type.
    assert_eq!(
        (parent.get("[no type: python obj]"), child.get("[no type: python obj]")),
        (Some(&1), None)
    );
}

#[test]
fn every_grouping_adds_up_to_the_same_total() {
    let heap = heap_of(python_service());
    let total = rows_of(&heap, &Query::default()).total;
    for a in Group::ALL {
        for b in Group::ALL {
            let Ok(grouping) = Grouping::new(&[a, b, Group::Size]) else {
                continue;
            };
            let query = Query {
                by: grouping,
                rows: 0,
                ..Query::default()
            };
            let report = rows_of(&heap, &query);
            let mut sum = Level::default();
            for row in &report.rows {
                assert_eq!(row.key.0.len(), 3);
                sum.add(Level {
                    size: row.size,
                    count: row.count,
                });
            }
            assert_eq!((report.total, sum), (total, total), "{}", report.by);
        }
    }
}

#[test]
fn the_rows_of_two_properties_divide_those_of_each() {
    let heap = heap_of(python_service());
    let both = rows(&heap, &[Group::Type, Group::Line], View::Merged);
    for (place, group) in [(0, Group::Type), (1, Group::Line)] {
        let mut sums: BTreeMap<String, Level> = BTreeMap::new();
        for (key, level) in &both {
            let part = key.split(", ").nth(place).expect("it has two parts");
            sums.entry(part.to_owned()).or_default().add(*level);
        }
        assert_eq!(sums, rows(&heap, &[group], View::Merged));
    }
}

#[test]
fn filters_take_types_and_allocators() {
    let heap = heap_of(python_service());
    let count = |filter: Filter| {
        let query = Query {
            filter,
            ..Query::default()
        };
        rows_of(&heap, &query).total.count
    };
    let glob = |text: &str| globset::Glob::new(text).expect("it is a glob").compile_matcher();
    assert_eq!(
        count(Filter {
            only: Selection {
                types: vec![glob("session.*"), glob("di?t")],
                ..Selection::default()
            },
            ..Filter::default()
        }),
        102
    );
    assert_eq!(
        count(Filter {
            only: Selection {
                types: vec![glob("*")],
                ..Selection::default()
            },
            ..Filter::default()
        }),
        502
    );
    use heaptape::table::Domain;
    let of = |domains: &[Domain]| {
        count(Filter {
            only: Selection {
                domains: domains.to_vec(),
                ..Selection::default()
            },
            ..Filter::default()
        })
    };
    assert_eq!(Domain::ALL.map(|domain| of(&[domain])), [100, 1, 101, 503]);
    assert_eq!(of(&[Domain::PyRaw, Domain::PyMem, Domain::PyObj]), 605);
    let module = |pattern: &str| {
        count(Filter {
            include: vec![pattern.parse().expect("it is a pattern")],
            ..Filter::default()
        })
    };
    assert_eq!((module("*sqlite*"), module("session.py")), (100, 302));
    // A pattern on modules looks at native code, although a line of Python is shown.
    assert_eq!(
        (
            module("lib:libsqlite3*"),
            module("file:session.py"),
            module("func:Session.*")
        ),
        (100, 302, 302)
    );
}

#[test]
fn what_grew_is_told_by_type_as_tracemalloc_tells_it_by_line() {
    let heap = heap_of(python_service());
    let at = |name: &str| {
        let marker = heap.catalog.markers.iter().find(|marker| marker.name.as_str() == name);
        heap.after(heaptape_format::EventNo(marker.expect("it is there").at.get() - 1))
    };
    let (ready, busy) = (at("ready"), at("busy"));
    let query = Query {
        by: by(&[Group::Type, Group::Line]),
        filter: Filter {
            only: Selection {
                domains: vec![heaptape::table::Domain::PyObj],
                ..Selection::default()
            },
            ..Filter::default()
        },
        ..Query::default()
    };
    let report = diff((&heap, &ready), (&heap, &busy), &query, &NoSymbols);
    let text = heaptape::report::text_diff(&report, heaptape::report::TextOptions::default());
    let row = "session.Session, /srv/app/session.py:44: size=3100 B (+3100 B), count=50 (+50), average=62 B\n";
    assert!(text.contains(row), "{text}");
    assert!(text.ends_with("new: 0 of 450 python obj blocks (0.0 %) hold no object or one of unknown type: size=0 B\n"));
}

#[test]
fn arenas_are_no_part_of_the_heap_and_their_holders_are_named() {
    let heap = heap_of(python_service());
    let query = Query {
        by: by(&[Group::Type, Group::Line]),
        rows: 0,
        ..Query::default()
    };
    let total = rows_of(&heap, &query).total;
    assert!(total.size < 400_000, "{total:?}");
    let report = arenas(&heap, &heap.end(), 25, &query, &NoSymbols);
    assert_eq!(
        report.arenas,
        Level {
            size: 3 << 18,
            count: 3
        }
    );
    assert_eq!(
        (report.live.count, report.inherited.count, report.outside.count),
        (502, 1, 101)
    );
    assert_eq!(report.nearly_empty.count, 2);
    assert_eq!(report.nearly_empty_live.count, 102);
    let holders: Vec<(String, u64, u64, u64)> = report
        .holders
        .iter()
        .map(|holder| {
            (
                holder.key.to_string(),
                holder.arenas.count,
                holder.alone.count,
                holder.live.count,
            )
        })
        .collect();
    let expected = |key: &str, alone: u64, live: u64| (key.to_owned(), 1, alone, live);
    assert_eq!(
        holders,
        [
            expected("session.Session, /srv/app/session.py:44", 1, 100),
            expected("dict, /srv/app/handlers.py:17", 0, 1),
            expected("[no type: python obj], /srv/app/session.py:44", 0, 1),
        ]
    );
    let emptiest: Vec<(&str, u64)> = report
        .emptiest
        .iter()
        .map(|a| (a.address.as_str(), a.live.count))
        .collect();
    assert_eq!(emptiest, [("0x70100000", 2), ("0x70040000", 100), ("0x70000000", 400)]);
    let filled: Vec<u64> = report.fill.iter().map(|fill| fill.arenas.count).collect();
    assert_eq!(filled, [2, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn an_arena_that_was_given_back_holds_nothing() {
    let mut tape = Recording::new(64);
    tape.process(1, ProcessOrigin::Exec, b"python3").thread(0, 1, b"");
    tape.arena(0, 0x10_0000, 0x1_0000, StackId::ROOT)
        .python(0, AllocApi::PyObj, 0x10_0000, 100, StackId::ROOT)
        .free(0, 0x10_0000)
        .unmap(0, 0x10_0000, 0x1_0000);
    // Something else lies there now.
    tape.map(0, 0x10_0000, 0x1_0000, StackId::ROOT)
        .python(0, AllocApi::PyObj, 0x10_0100, 700, StackId::ROOT);
    let heap = heap_of(tape.finish());
    let report = arenas(&heap, &heap.end(), 25, &Query::default(), &NoSymbols);
    assert_eq!(
        (report.arenas.count, report.live.count, report.outside.count),
        (0, 0, 1)
    );
    let before = arenas(
        &heap,
        &heap.after(heaptape_format::EventNo(1)),
        25,
        &Query::default(),
        &NoSymbols,
    );
    assert_eq!(
        (before.arenas.count, before.live.count, before.nearly_empty.count),
        (1, 1, 1)
    );
}
