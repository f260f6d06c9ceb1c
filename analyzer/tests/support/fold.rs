//! Tapes whose beginning is folded away, as the collector makes them.

use heaptape_format::fold::{rehead, Folder};
use heaptape_format::{scan, Block, Part, WriterOptions};

/// The blocks with which generations of stacks begin: a tape can be cut in front of them.
pub fn cuts(bytes: &[u8]) -> Vec<Block> {
    let blocks = scan(bytes).expect("it is a tape").blocks;
    let pairs = blocks.windows(2).filter(|pair| pair[1].generation > pair[0].generation);
    pairs.map(|pair| pair[1]).collect()
}

/// The tape with everything before one of its blocks folded, as a tape of its own or as a file of a recording.
pub fn fold(bytes: &[u8], first: &Block, block_events: u32, part: Option<Part>) -> Vec<u8> {
    let found = scan(bytes).expect("it is a tape");
    let mut folder = Folder::new(&found.header);
    if let Some(part) = part {
        folder.begins(part);
    }
    for block in found.blocks.iter().filter(|block| block.offset < first.offset) {
        folder.take(bytes, block);
    }
    let mut out = Vec::new();
    let options = WriterOptions {
        block_events,
        ..WriterOptions::default()
    };
    let stamp = folder.finish(options, |bytes| {
        out.extend_from_slice(bytes);
        true
    });
    let mut stamp = stamp.expect("nothing has stopped it");
    let mut rest = bytes[first.offset as usize..].to_vec();
    assert_eq!(rehead(&mut rest, first.generation, &mut stamp), rest.len());
    out.extend_from_slice(&rest);
    out
}
