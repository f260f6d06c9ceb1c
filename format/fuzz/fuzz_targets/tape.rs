//! A whole file: read at once, and followed while it grows. Seeds: any tapes.
#![no_main]

#[path = "../../tests/common/forge.rs"]
#[allow(dead_code)]
mod forge;
#[path = "../mutate.rs"]
mod mutate;

use heaptape_format::{read_events, read_folded, read_names, read_tables, resume, scan, EventColumns};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate::tape(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let Ok(whole) = scan(data) else { return };
    let mut columns = EventColumns::default();
    for block in &whole.blocks {
        let _ = read_tables(data, block);
        let _ = read_folded(data, block);
        for naming in read_names(data, block).unwrap_or_default() {
            assert!(!format!("{naming:?}").is_empty());
        }
        if read_events(data, block, &mut columns).is_ok() {
            assert_eq!(columns.len(), block.events as usize);
            assert_eq!(columns.iter().count(), columns.len());
        }
    }
    for damage in &whole.damage {
        assert!(!damage.to_string().is_empty());
    }
    let half = &data[..data.len() / 2];
    if let Ok(mut growing) = scan(half) {
        resume(data, &mut growing);
        if growing.blocks.first().map(|block| block.offset) == whole.blocks.first().map(|block| block.offset) {
            assert_eq!(growing, whole);
        }
    }
});
