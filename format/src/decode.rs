//! Decoding single blocks. Blocks are independent of each other and may be decoded in parallel.

use crate::block::{Block, BlockKind, HEADER_LENGTH, MAX_PAYLOAD_LENGTH, MAX_RAW_LENGTH};
use crate::columns::EventColumns;
use crate::damage::{Damage, DamageCause};
use crate::id::EventNo;
use crate::payload::Decompressor;
use crate::record::{Folded, Placed, Record};
use crate::sink::EventSink;
use crate::source::Source;
use crate::{events, keyframe, stacks};

/// Decodes a block of events or a keyframe into `into`, in place of what was there. It is empty after damage.
///
/// # Errors
/// When the block is not one of events, or damaged.
pub fn read_events<S: Source + ?Sized>(source: &S, block: &Block, into: &mut EventColumns) -> Result<(), Damage> {
    let mut decoder = std::mem::take(&mut into.decoder);
    let decoded = decoder.read(source, block, into);
    into.decoder = decoder;
    decoded.inspect_err(|_| into.clear())
}

/// Decodes blocks of events; keeps its memory from one block to the next. Holds nothing that shows.
#[derive(Default)]
pub struct Decoder {
    payload: Payload,
    events: events::Scratch,
}

impl Decoder {
    /// Hands the events of a block to a sink.
    ///
    /// # Errors
    /// When the block is not one of events, or damaged: what the sink was told then means nothing.
    pub fn read<S: Source + ?Sized>(
        &mut self,
        source: &S,
        block: &Block,
        into: &mut impl EventSink,
    ) -> Result<(), Damage> {
        let content = |what| damage(block, DamageCause::Content { what });
        if !matches!(block.kind, BlockKind::Events | BlockKind::Keyframe) {
            return Err(content("it is no block of events"));
        }
        let raw = self.payload.read(source, block)?;
        match block.kind {
            BlockKind::Keyframe => keyframe::decode(raw, block, &mut self.events, into),
            _ => events::decode(raw, block, &mut self.events, into),
        }
        .map_err(content)
    }
}

impl Clone for Decoder {
    fn clone(&self) -> Self {
        Decoder::default()
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
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
        BlockKind::Header
        | BlockKind::Events
        | BlockKind::End
        | BlockKind::Keyframe
        | BlockKind::Folded
        | BlockKind::Part
        | BlockKind::Names
        | BlockKind::Optional(_) => Ok(Vec::new()),
    }
}

/// Decodes a folded block; `None` for other kinds.
///
/// # Errors
/// When the block is damaged.
pub fn read_folded<S: Source + ?Sized>(source: &S, block: &Block) -> Result<Option<Folded>, Damage> {
    if block.kind != BlockKind::Folded {
        return Ok(None);
    }
    let raw = read_raw(source, block)?;
    let content = |what| damage(block, DamageCause::Content { what });
    let (folded, rest): (Folded, _) =
        postcard::take_from_bytes(&raw).map_err(|_| content("the totals are malformed"))?;
    if !rest.is_empty() {
        return Err(content("bytes are left over"));
    }
    Ok(Some(folded))
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

pub(crate) fn damage(block: &Block, cause: DamageCause) -> Damage {
    Damage {
        offset: block.offset,
        length: block.length,
        cause,
        lost_events: Some(u64::from(block.events)),
        events_at: (block.events > 0).then_some(EventNo(block.first_event.get())),
    }
}
