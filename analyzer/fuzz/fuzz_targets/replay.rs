//! A whole tape, replayed and asked everything. Seeds: any tapes.
#![no_main]

#[path = "../../tests/support/answers.rs"]
#[allow(dead_code)]
mod answers;
#[path = "../../../format/tests/common/forge.rs"]
#[allow(dead_code)]
mod forge;
#[path = "../../../format/fuzz/mutate.rs"]
mod mutate;

use heaptape::replay::replay;
use heaptape::tape::Tape;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::path::Path;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate::tape(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let Ok(tape) = Tape::from_source(Box::new(data.to_vec()), Path::new("fuzzed.tape")) else {
        return;
    };
    let heap = replay(&tape, "fuzzed.tape", &|_, _| ());
    let notes = heap.notes();
    assert!(notes.iter().all(|note| !note.to_string().contains(char::is_control)));
    assert!(!answers::answers_at(&heap, 5).is_empty());
});
