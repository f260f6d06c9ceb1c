//! A whole file: read at once, and followed while it grows. Seeds: any tapes.
#![no_main]

use heaptape_format::{read_events, read_tables, resume, scan, EventColumns};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(whole) = scan(data) else { return };
    let mut columns = EventColumns::default();
    for block in &whole.blocks {
        let _ = read_tables(data, block);
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
