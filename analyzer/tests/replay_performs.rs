//! `replay` performs what the tape says: counts and bytes equal the table's, and what is performed equals the plan.

mod support;

use heaptape::perform::{plan, Plan};
use heaptape::query::{peak, Query};
use heaptape::symbols::NoSymbols;
use heaptape::table::{AllocIx, Domain, Heap, NEVER};
use heaptape::tape::Tape;
use heaptape_format::record::ProcessOrigin;
use heaptape_format::ProcessIx;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use support::{heap_of, Recording, TempDir};

fn plan_of(bytes: &[u8], heap: &Heap, python_too: bool) -> Plan {
    let tape = Tape::from_source(Box::new(bytes.to_vec()), Path::new("test.tape")).expect("the bytes are a tape");
    plan(&tape, &heap.catalog, ProcessIx(0), python_too)
}

/// What a plan must be, by the table alone.
fn check_plan(bytes: &[u8], python_too: bool) -> Plan {
    let heap = heap_of(bytes.to_vec());
    let found = plan_of(bytes, &heap, python_too);
    let rows: Vec<_> = (0..heap.allocations.len() as u32)
        .filter(|&row| heap.process_of(row) == Some(ProcessIx(0)))
        .map(|row| (row, heap.allocations.get(AllocIx(row))))
        .filter(|(_, row)| {
            let is_pythons = matches!(Domain::of(row.api), Domain::PyMem | Domain::PyObj);
            python_too || !is_pythons || row.size.get() > 512
        })
        .collect();
    let made_others: BTreeSet<u32> = rows.iter().map(|(_, row)| row.predecessor.0).collect();
    let is_made = |row: &heaptape::table::Allocation| row.predecessor != AllocIx::NONE;
    let count = |keep: &dyn Fn(u32, &heaptape::table::Allocation) -> bool| {
        rows.iter().filter(|(number, row)| keep(*number, row)).count() as u64
    };
    assert_eq!(found.allocations, count(&|_, row| !is_made(row)));
    assert_eq!(found.reallocations, count(&|_, row| is_made(row)));
    assert_eq!(
        found.frees,
        count(&|number, row| row.death != NEVER && !made_others.contains(&number))
    );
    assert_eq!(
        found.bytes,
        rows.iter().map(|(_, row)| u128::from(row.size.get())).sum::<u128>()
    );
    let alive = |row: &&(u32, heaptape::table::Allocation)| row.1.death == NEVER;
    assert_eq!(
        found.end_live,
        rows.iter()
            .filter(alive)
            .map(|(_, row)| u128::from(row.size.get()))
            .sum::<u128>()
    );
    if python_too || heap.catalog.types.len() == 1 {
        let mut query = Query::default();
        query.filter.only.processes = vec![heap.catalog.processes[0].pid.to_string()];
        assert_eq!(found.peak_live, peak(&heap, &query, &NoSymbols).total.size);
    }
    found
}

fn replay(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .arg("replay")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("heaptape runs")
}

#[test]
fn a_plan_is_what_the_table_has() {
    check_plan(&support::service(), false);
    check_plan(&support::busy(20_000), false);
    let python = support::python_service();
    let without = check_plan(&python, false);
    let with = check_plan(&python, true);
    assert!(without.python_small > 0 && with.python_small == 0 && with.allocations > without.allocations);
}

#[test]
fn what_is_performed_is_the_plan_for_every_setting() {
    let folder = TempDir::new("perform");
    let bytes = support::busy(20_000);
    std::fs::write(folder.path().join("busy.tape"), &bytes).expect("a file can be written");
    let plan = check_plan(&bytes, false);
    for more in [
        &["--touch", "none"][..],
        &["--one-thread"],
        &["--env", "GLIBC_TUNABLES=glibc.malloc.arena_max=1,X=2"],
    ] {
        let output = replay(folder.path(), &[&["busy.tape", "--json"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let variants = report["variants"].as_array().expect("a list");
        assert_eq!(variants.len(), 1 + usize::from(more[0] == "--env"));
        for variant in variants {
            let number = |name: &str| variant[name].as_u64().expect("a number");
            assert_eq!(number("allocations"), plan.allocations);
            assert_eq!(number("reallocations"), plan.reallocations);
            assert_eq!(number("frees"), plan.frees);
            assert_eq!(u128::from(number("bytes")), plan.bytes);
            assert_eq!((number("failed"), variant["gave_up"].as_str()), (0, Some("")));
            // Whole pages are resident: what is touched of the live blocks, at least where these are large.
            assert!(more[0] == "--touch" || number("peak_rss") > 0);
        }
        assert_eq!(report["plan"]["bytes"].as_u64().map(u128::from), Some(plan.bytes));
    }
    let output = replay(folder.path(), &["busy.tape"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("allocator") && text.contains("\nsystem "), "{text}");
}

#[test]
fn what_is_touched_is_what_is_resident() {
    let folder = TempDir::new("touched");
    let mut tape = Recording::new(64);
    tape.process(1, ProcessOrigin::Exec, b"/bin/large").thread(0, 1, b"");
    let stack = tape.stack(0, &[1]);
    for block in 0..64u64 {
        tape.alloc(0, 0x100_0000 * (block + 1), 1 << 20, stack);
    }
    std::fs::write(folder.path().join("large.tape"), tape.finish()).expect("a file can be written");
    let peak = |touch: &str| {
        let output = replay(folder.path(), &["large.tape", "--json", "--touch", touch]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report["variants"][0]["peak_rss"].as_u64().expect("a number")
    };
    let (none, page) = (peak("none"), peak("page"));
    assert!((64 << 20..72 << 20).contains(&page), "{page}");
    assert!(none < 8 << 20, "{none}");
}

#[test]
fn more_than_the_memory_allows_is_refused_before_anything_is_done() {
    let folder = TempDir::new("refused");
    let mut tape = Recording::new(64);
    tape.process(1, ProcessOrigin::Exec, b"/bin/large").thread(0, 1, b"");
    let stack = tape.stack(0, &[1]);
    tape.alloc(0, 0x1000, 1 << 50, stack).alloc(0, 0x2000, u64::MAX, stack);
    std::fs::write(folder.path().join("huge.tape"), tape.finish()).expect("a file can be written");
    std::fs::write(folder.path().join("svc.tape"), support::service()).expect("a file can be written");
    for (arguments, status, says) in [
        (&["huge.tape"][..], 1, "--memory allows"),
        (&["svc.tape", "--memory", "1k"], 1, "--memory allows 1024"),
        (
            &["svc.tape", "--preload", "libnothing-of-that-name.so"],
            1,
            "malloc came from",
        ),
        (&["svc.tape", "--process", "nobody"], 2, "heaptape processes"),
        (&["svc.tape", "--env", "LD_PRELOAD=x.so"], 2, "--preload"),
    ] {
        let output = replay(folder.path(), arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {message}");
        assert!(message.contains(says), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }
}
