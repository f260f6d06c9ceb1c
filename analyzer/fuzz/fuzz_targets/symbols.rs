//! The file of a module, and one that belongs to it. The input: what the second file is, the length of the first in three bytes, eight offsets of two bytes that are looked up, then the
//! two files.
#![no_main]

#[path = "../../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use heaptape::query::{snapshot, Group, Query};
use heaptape::symbols::{check, Options, Symbolizer};
use heaptape_format::record::ProcessOrigin;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use support::{heap_of, Recording, TempDir};

const HEAD: usize = 20;
/// Where a second file is found: beside the module as its debug file, as a package or a file of split debug information, as what dwz shares.
const PLACES: [&str; 4] = [".debug/module", "module.dwp", "split.dwo", "common.debug"];

/// All that there is for the symbolizer.
static ROOT: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new("fuzzed-symbols");
    fs::create_dir(folder.path().join(".debug")).expect("a folder can be made");
    folder
});

fn put(name: &str, content: Option<&[u8]>) {
    let path = ROOT.path().join(name);
    match content {
        Some(content) => fs::write(path, content).expect("the folder takes files"),
        None => drop(fs::remove_file(path)),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((head, files)) = data.split_first_chunk::<HEAD>() else {
        return;
    };
    let length = u32::from_le_bytes([head[1], head[2], head[3], 0]) as usize;
    let (module, other) = files.split_at(length.min(files.len()));
    put("module", Some(module));
    for (number, place) in PLACES.iter().enumerate() {
        put(place, Some(other).filter(|_| usize::from(head[0]) == number + 1));
    }
    let mut tape = Recording::new(64);
    tape.process(1, ProcessOrigin::Exec, b"/module")
        .thread(0, 1, b"")
        .module(b"/module", b"");
    for (number, offset) in head[4..].chunks(2).enumerate() {
        let offset = u64::from(u16::from_le_bytes([offset[0], offset[1]]));
        let stack = tape.stack(0, &[offset]);
        tape.alloc(0, 0x1000 * (1 + number as u64), 10, stack);
    }
    let heap = heap_of(tape.finish());
    let symbolizer = Symbolizer::new(Options {
        sysroot: Some(ROOT.path().to_owned()),
        ..Options::default()
    });
    let query = Query {
        by: Group::Line.into(),
        rows: 0,
        ..Query::default()
    };
    let report = snapshot(&heap, &heap.end(), &query, &symbolizer);
    assert_eq!(report.total.count, 8);
    for row in &report.rows {
        assert!(!row.key.to_string().contains(char::is_control));
    }
    let checked = check(&heap, &symbolizer);
    assert_eq!(checked.modules.len(), 1);
    for coverage in symbolizer.coverage() {
        let problem = coverage.problem.iter().map(|text| text.as_str());
        let said = problem.chain(coverage.supplements.iter().map(|text| text.as_str()));
        assert!(said.into_iter().all(|text| !text.contains(char::is_control)));
        assert!(coverage
            .file
            .iter()
            .all(|file| Path::new(file.as_str()).starts_with(ROOT.path())));
    }
});
