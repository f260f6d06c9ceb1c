//! Programs that are built in a test, and what is asked about them.

use super::support::{heap_of, Recording};
use heaptape::query::{snapshot, Group, Query};
use heaptape::symbols::{Options, Symbolizer};
use heaptape::table::Heap;
use heaptape_format::record::ProcessOrigin;
use object::{Object, ObjectSymbol};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const SOURCE: &str = "\
#include <stdlib.h>
static inline __attribute__((always_inline)) void *inner(int n) {
    return malloc(n);
}
void *outer(int n) {
    void *p = inner(n);
    return p ? p : 0;
}
int main(void) { free(outer(5)); return 0; }
";

/// Compiles the program; extra arguments go to the compiler.
pub fn build(dir: &Path, name: &str, extra: &[&str]) -> PathBuf {
    let source = dir.join("thing.c");
    std::fs::write(&source, SOURCE).expect("a file can be written");
    let binary = dir.join(name);
    run(Command::new("cc")
        .args(["-O1", "-fno-builtin", "-Wl,--build-id"])
        .args(extra)
        .arg("-o")
        .arg(&binary)
        .arg(&source));
    binary
}

pub fn run(command: &mut Command) {
    assert!(command.status().expect("the tool is there").success(), "{command:?}");
}

pub fn build_id(binary: &Path) -> Vec<u8> {
    let bytes = std::fs::read(binary).expect("it was built");
    let file = object::File::parse(&*bytes).expect("it is ELF");
    file.build_id().expect("it can be read").expect("it has one").to_vec()
}

/// The return address of the one call in `outer`: just behind it. Found by asking for every offset of the function.
pub fn offsets(binary: &Path) -> std::ops::Range<u64> {
    let bytes = std::fs::read(binary).expect("it was built");
    let file = object::File::parse(&*bytes).expect("it is ELF");
    let outer = file
        .symbols()
        .find(|symbol| symbol.name() == Ok("outer"))
        .expect("it has its symbol");
    outer.address() + 1..outer.address() + outer.size()
}

/// A tape with an allocation from every given return address of a module.
pub fn tape(path: &[u8], build_id: &[u8], offsets: std::ops::Range<u64>) -> Heap {
    tape_of(path, build_id, &offsets.collect::<Vec<u64>>())
}

/// The same for addresses in no row.
pub fn tape_of(path: &[u8], build_id: &[u8], offsets: &[u64]) -> Heap {
    let mut tape = Recording::new(64);
    tape.process(1, ProcessOrigin::Exec, path)
        .thread(0, 1, b"")
        .module(path, build_id);
    for &offset in offsets {
        let stack = tape.stack(0, &[offset]);
        tape.alloc(0, 0x1000 * offset, 10, stack);
    }
    heap_of(tape.finish())
}

/// Every row as text.
pub fn rows(heap: &Heap, options: Options, group: Group) -> (Vec<String>, Symbolizer) {
    let symbolizer = Symbolizer::new(options);
    let query = Query {
        by: group.into(),
        rows: 0,
        ..Query::default()
    };
    let report = snapshot(heap, &heap.end(), &query, &symbolizer);
    (report.rows.iter().map(|row| row.key.to_string()).collect(), symbolizer)
}

/// Whether a tool is here; says so when not. With `HEAPTAPE_REQUIRE=1` it must be.
pub fn has(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    if !is_here {
        let is_required = std::env::var_os("HEAPTAPE_REQUIRE").is_some_and(|value| value == "1");
        assert!(!is_required, "{tool} is not here, and HEAPTAPE_REQUIRE=1");
        println!("left out: {tool} is not here");
    }
    is_here
}

/// The path of a debug file below a tree of build-ids.
pub fn in_tree(tree: &Path, build_id: &[u8]) -> PathBuf {
    let hex: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = tree.join(".build-id").join(&hex[..2]);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder.join(format!("{}.debug", &hex[2..]))
}
