//! Decoding single blocks. Blocks are independent of each other and may be decoded in parallel.

use crate::block::{Block, BlockKind, HEADER_LENGTH, MAX_PAYLOAD_LENGTH, MAX_RAW_LENGTH};
use crate::columns::EventColumns;
use crate::damage::{Damage, DamageCause};
use crate::id::EventNo;
use crate::payload::Decompressor;
use crate::record::{Placed, Record};
use crate::source::Source;
use crate::{events, stacks};

/// Decodes a block of events into `into`, in place of what was there. It is empty after damage.
///
/// # Errors
/// When the block is not one of events, or damaged.
pub fn read_events<S: Source + ?Sized>(source: &S, block: &Block, into: &mut EventColumns) -> Result<(), Damage> {
    if block.kind != BlockKind::Events {
        into.clear();
        return Err(damage(
            block,
            DamageCause::Content {
                what: "it is no block of events",
            },
        ));
    }
    into.first_event = block.first_event;
    let mut workspace = std::mem::take(&mut into.workspace);
    let decoded = decode_events(source, block, &mut workspace, into);
    into.workspace = workspace;
    decoded.inspect_err(|_| into.clear())
}

fn decode_events<S: Source + ?Sized>(
    source: &S,
    block: &Block,
    workspace: &mut Workspace,
    into: &mut EventColumns,
) -> Result<(), Damage> {
    let mut payload = workspace.payload.take().unwrap_or_default();
    let decoded = payload.read(source, block).and_then(|raw| {
        events::decode(raw, block, &mut workspace.events, into)
            .map_err(|what| damage(block, DamageCause::Content { what }))
    });
    workspace.payload = Some(payload);
    decoded
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

/// What is worth keeping from one decoded block to the next. Holds nothing that shows.
#[derive(Default)]
pub(crate) struct Workspace {
    payload: Option<Payload>,
    events: events::Scratch,
}

impl Clone for Workspace {
    fn clone(&self) -> Self {
        Workspace::default()
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workspace")
    }
}

/// The payload of a block, decompressed.
pub(crate) fn read_raw<S: Source + ?Sized>(source: &S, block: &Block) -> Result<Vec<u8>, Damage> {
    let mut payload = Payload::default();
    payload.read(source, block)?;
    Ok(payload.raw)
}

/// Reads payloads and decompresses them.
#[derive(Default)]
struct Payload {
    stored: Vec<u8>,
    raw: Vec<u8>,
    decompressor: Decompressor,
}

impl Payload {
    fn read<S: Source + ?Sized>(&mut self, source: &S, block: &Block) -> Result<&[u8], Damage> {
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
        self.stored.resize(length as usize, 0);
        source
            .read_at(block.offset + HEADER_LENGTH as u64, &mut self.stored)
            .map_err(|error| unreadable(error.message))?;
        if crc32fast::hash(&self.stored) != block.payload_checksum {
            return Err(damage(block, DamageCause::Checksum));
        }
        self.decompressor
            .decompress(&self.stored, block.raw_length, &mut self.raw)
            .map_err(|what| damage(block, DamageCause::Compression { what }))?;
        Ok(&self.raw)
    }
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
