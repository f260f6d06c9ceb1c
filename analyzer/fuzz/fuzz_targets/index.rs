//! An index beside a sound tape. The first byte of the input says whether its checksums are made right, the rest is the file. Seeds: indexes of `fixtures/golden/v1.tape`.
#![no_main]

#[path = "../../tests/support/answers.rs"]
#[allow(dead_code)]
mod answers;

use answers::answers_at;
use heaptape::index::{read, seal};
use heaptape::replay::replay;
use heaptape::tape::Tape;
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const TAPE: &[u8] = include_bytes!("../../../fixtures/golden/v1.tape");
const NAME: &str = "v1.tape";
const INSTANTS: u64 = 5;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("heaptape-fuzzed-{}.idx", std::process::id())));
static TRUTH: LazyLock<String> = LazyLock::new(|| answers_at(&replay(&tape(), NAME, &|_, _| ()), INSTANTS));

fn tape() -> Tape {
    Tape::from_source(Box::new(TAPE.to_vec()), Path::new(NAME)).expect("it is a tape")
}

fuzz_target!(|data: &[u8]| {
    let Some((&is_sealed, index)) = data.split_first() else {
        return;
    };
    let is_sealed = is_sealed & 1 == 1;
    let tape = tape();
    let index = match is_sealed {
        true => seal(&tape, index),
        false => Some(index.to_vec()),
    };
    let Some(index) = index else { return };
    std::fs::write(&*FILE, index).expect("the folder takes files");
    let Ok(heap) = read(&tape, NAME, &FILE) else { return };
    let found = answers_at(&heap, INSTANTS);
    // With checksums that hold an index may tell other numbers, and nothing worse.
    assert!(is_sealed || heap.index_is_bad() || found == *TRUTH);
});
