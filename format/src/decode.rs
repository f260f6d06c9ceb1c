//! Decoding single blocks. Blocks are independent of each other and may be decoded in parallel.

use crate::block::{BlockKind, HEADER_LENGTH, MAX_PAYLOAD_LENGTH, MAX_RAW_LENGTH};
use crate::columns::EventColumns;
use crate::damage::{Damage, DamageCause};
pub(crate) use crate::events::Scratch;
use crate::id::EventNo;
use crate::payload;
use crate::record::{Placed, Record};
use crate::scan::Block;
use crate::source::Source;
use crate::{events, stacks};

/// Decodes a block of events into `into`, which is emptied first and empty again after damage.
///
/// # Errors
/// When the block is not one of events, or damaged.
pub fn read_events<S: Source + ?Sized>(source: &S, block: &Block, into: &mut EventColumns) -> Result<(), Damage> {
    into.clear();
    if block.kind != BlockKind::Events {
        return Err(damage(
            block,
            DamageCause::Content {
                what: "it is no block of events",
            },
        ));
    }
    let raw = read_raw(source, block)?;
    into.first_event = block.first_event;
    let mut scratch = std::mem::take(&mut into.scratch);
    let decoded = events::decode(&raw, block, &mut scratch, into);
    into.scratch = scratch;
    decoded.map_err(|what| {
        into.clear();
        damage(block, DamageCause::Content { what })
    })
}

/// Decodes a block of records or stacks; stacks come as `Record::Stacks`. Other kinds of blocks have no records.
///
/// # Errors
/// When the block is damaged.
pub fn read_tables<S: Source + ?Sized>(source: &S, block: &Block) -> Result<Vec<Placed>, Damage> {
    let content = |what| damage(block, DamageCause::Content { what });
    match block.kind {
        BlockKind::Records => {
            let raw = read_raw(source, block)?;
            let mut rest = raw.as_slice();
            let mut records = Vec::new();
            for _ in 0..block.records {
                let (record, after) = postcard::take_from_bytes(rest).map_err(|_| content("a record is malformed"))?;
                let record: Placed = record;
                if matches!(record.record, Record::Stacks(_)) {
                    return Err(content("stacks where they do not belong"));
                }
                records.push(record);
                rest = after;
            }
            if rest.is_empty() {
                Ok(records)
            } else {
                Err(content("bytes are left over"))
            }
        }
        BlockKind::Stacks => {
            let raw = read_raw(source, block)?;
            let stacks = stacks::decode(&raw, block.generation, block.frames, block.stacks).map_err(content)?;
            Ok(vec![Placed {
                at: block.first_event,
                time: block.first_time,
                record: Record::Stacks(stacks),
            }])
        }
        BlockKind::Header | BlockKind::Events | BlockKind::End | BlockKind::Optional(_) => Ok(Vec::new()),
    }
}

/// The payload of a block, decompressed.
pub(crate) fn read_raw<S: Source + ?Sized>(source: &S, block: &Block) -> Result<Vec<u8>, Damage> {
    let too_long = || {
        damage(
            block,
            DamageCause::Header {
                what: "it is longer than the format allows",
            },
        )
    };
    let length = block.length.checked_sub(HEADER_LENGTH as u64).ok_or_else(too_long)?;
    if length > u64::from(MAX_PAYLOAD_LENGTH) || block.raw_length > MAX_RAW_LENGTH {
        return Err(too_long());
    }
    let unreadable = |message| damage(block, DamageCause::Unreadable { message });
    if source
        .len()
        .checked_sub(block.offset)
        .is_none_or(|left| left < block.length)
    {
        return Err(unreadable("the file ends within this block".into()));
    }
    let mut stored = vec![0; length as usize];
    source
        .read_at(block.offset + HEADER_LENGTH as u64, &mut stored)
        .map_err(|error| unreadable(error.message))?;
    if crc32fast::hash(&stored) != block.payload_checksum {
        return Err(damage(block, DamageCause::Checksum));
    }
    let mut raw = Vec::new();
    payload::decompress(&stored, block.raw_length, &mut raw)
        .map_err(|what| damage(block, DamageCause::Compression { what }))?;
    Ok(raw)
}

fn damage(block: &Block, cause: DamageCause) -> Damage {
    Damage {
        offset: block.offset,
        length: block.length,
        cause,
        lost_events: Some(u64::from(block.events)),
        events_at: (block.events > 0).then_some(EventNo(block.first_event.get())),
    }
}
