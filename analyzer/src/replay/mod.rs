//! From a tape to a [`Heap`]: blocks decoded in parallel, frees matched to allocations, mappings replayed apart.
//!
//! The result depends on the tape alone. Work is split by block for decoding and by address for matching; each part is done in the
//! order of events, so any number of threads yields the same tables.

mod block;
mod inherit;
mod mapping;
mod matching;
mod peak;
mod rows;

use crate::table::{Clock, Counters, Gap, Heap, Level, Mappings, Scale};
use crate::tape::{Catalog, Tape};
use crate::text::Text;
use block::{Digest, Workspaces};
use heaptape_format::record::LossCause;
use heaptape_format::{Block, BlockKind};
use heaptape_format::{Damage, EventNo};
use matching::Matcher;
use peak::Peak;
use rayon::prelude::*;
use rows::Rows;
use std::sync::OnceLock;

/// Event blocks decoded at once; bounds the memory of what is decoded and not yet matched.
const BATCH: usize = 16;

/// Told how far a replay is: events done, events in all.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Replays a whole tape. Never fails: what cannot be read is listed in [`Heap::damage`] and counted.
///
/// ```
/// # use heaptape_format::{record::{End, Header}, Writer, WriterOptions};
/// # let mut bytes = Vec::new();
/// # let writer = Writer::new(&Header::default(), WriterOptions::default(), &mut bytes);
/// # writer.finish(&End::default(), &mut bytes);
/// use heaptape::{replay::replay, tape::Tape};
/// let tape = Tape::from_source(Box::new(bytes), "empty.tape".as_ref()).unwrap();
/// let heap = replay(&tape, "empty.tape", &|_, _| ());
/// assert!(heap.allocations.is_empty() && heap.ended_cleanly());
/// ```
pub fn replay(tape: &Tape, name: &str, progress: Progress<'_>) -> Heap {
    let mut catalog = Catalog::read(tape);
    let blocks: Vec<&Block> = tape
        .scan()
        .blocks
        .iter()
        .filter(|block| block.kind == BlockKind::Events)
        .collect();
    let total: u64 = blocks.iter().map(|block| u64::from(block.events)).sum();

    let mut counters = Counters::default();
    let mut rows = Rows::default();
    let mut clock = Clock::default();
    let mut mappings = Mappings::default();
    let mut matcher = Matcher::new(&catalog);
    let mut peak = Peak::new(&catalog);
    let mut damage: Vec<Damage> = tape.damage().to_vec();
    damage.append(&mut catalog.damage);
    let mut digests: Vec<Digest> = Vec::new();
    let workspaces = Workspaces::default();
    let mut done = 0;
    for batch in blocks.chunks(BATCH) {
        digests.resize_with(batch.len(), Digest::default);
        let broken: Vec<Damage> = digests
            .par_iter_mut()
            .zip(batch)
            .filter_map(|(digest, block)| digest.read(tape, block, &catalog, &workspaces).err())
            .collect();
        damage.extend(broken);
        for (digest, block) in digests.iter_mut().zip(batch) {
            done += u64::from(block.events);
            counters.events += digest.weight;
            counters.unknown_threads += digest.unknown_threads;
            counters.unknown_types += digest.unknown_types;
            for change in digest.mappings.drain(..) {
                change.apply(&mut mappings);
            }
            if let Some(times) = digest.clock.take() {
                clock.push(&times);
            }
        }
        let first_rows = rows.append(&mut digests);
        matcher.take(&digests, &first_rows, &mut rows);
        peak.take(&digests);
        progress(done, total);
    }
    drop(digests);
    counters.overflow = rows.overflow;
    let peak = peak.finish().filter(|_| rows.overflow == 0);
    let rows = rows.finish();
    let matched = matcher.finish(&rows, &catalog, &mut counters);
    counters.allocations = rows.len() as u64;
    let scale = Scale::new(catalog.header.options.sample_bytes);
    damage.sort_by_key(|d| (d.offset, d.length));

    let mut heap = Heap {
        name: Text::new(name),
        gaps: gaps(&damage, &catalog),
        catalog,
        allocations: rows,
        mappings,
        inherited_deaths: matched,
        clock,
        counters,
        damage,
        ending: tape.scan().ending.clone(),
        file_length: tape.length(),
        scale,
        peak: OnceLock::new(),
        strata: None,
        index: None,
    };
    heap.counters.bytes_allocated = sum_of_sizes(&heap);
    if let Some((event, size)) = peak {
        let Level { count, .. } = heap.live_level(&heap.after(event));
        let _ = heap.peak.set(Some((event, Level { size, count })));
    }
    heap
}

fn sum_of_sizes(heap: &Heap) -> u128 {
    let pieces = heap.pieces(0..heap.allocations.len());
    let sizes = pieces.par_iter().map(|piece| {
        let mut sum = 0;
        heap.visit(piece, 0, |item| sum += u128::from(item.size));
        sum
    });
    sizes.sum()
}

/// Where frees may be missing. Damage that lost no event, or whose place in the order of events nobody knows, counts from the start:
/// it is better to doubt too much than to call a block leaked that was freed.
pub(crate) fn gaps(damage: &[Damage], catalog: &Catalog) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = damage
        .iter()
        .filter(|d| d.lost_events != Some(0))
        .map(|d| Gap {
            // Events are missing from this number on, so what was born before it is in doubt from then on.
            at: d.events_at.unwrap_or(EventNo(0)),
            events: d.lost_events,
            cause: Text::new(&d.cause.to_string()),
        })
        .chain(catalog.losses.iter().filter(|loss| is_gap(loss.cause)).map(|loss| Gap {
            at: loss.at,
            events: (loss.events > 0).then_some(loss.events),
            cause: Text::new(loss_name(loss.cause)),
        }))
        .collect();
    gaps.sort_by_key(|gap| gap.at);
    gaps
}

/// Whether a loss may hold frees of any block. A single nested or late event does not make a whole heap doubtful.
fn is_gap(cause: LossCause) -> bool {
    !matches!(cause, LossCause::Nested | LossCause::Late)
}

/// A loss in words.
pub fn loss_name(cause: LossCause) -> &'static str {
    match cause {
        LossCause::PoolFull => "the recorder's buffers were full",
        LossCause::NoSlot => "too many threads for the recorder",
        LossCause::Nested => "an event inside the recorder itself",
        LossCause::Late => "an event came too late to be put in order",
        LossCause::Output => "the output could not be written",
        LossCause::Paused => "recording was paused",
        _ => "a cause unknown to this version",
    }
}
