//! From a tape to a [`Heap`]: blocks decoded in parallel, frees matched to allocations, mappings replayed apart.
//!
//! The result depends on the tape alone. Work is split by block for decoding and by address for matching; each part is done in the
//! order of events, so any number of threads yields the same tables.

mod block;
mod inherit;
mod limits;
mod mapping;
mod matching;
mod peak;
mod rows;

use crate::table::{Clock, Counters, Gap, Heap, Level, MappingRow, Mappings, Scale, Storage, Strata};
use crate::tape::{Catalog, Tape};
use crate::text::Text;
pub use limits::{default_memory, Limits, ReplayError, LEAST_MEMORY};

use block::{Digest, Workspaces};
use heaptape_format::record::LossCause;
use heaptape_format::{Block, BlockKind};
use heaptape_format::{Damage, EventNo};
use matching::Matcher;
use peak::Peak;
use rayon::prelude::*;
use rows::Rows;
use std::sync::OnceLock;

/// Most event blocks decoded at once; bounds the memory of what is decoded and not yet matched.
const BATCH: usize = 16;

/// Blocks decoded at once for each thread: what is decoded is to stay in the processor's cache until it is matched.
const BATCH_PER_THREAD: usize = 2;

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
    let replayed = replay_within(tape, name, &Limits::none(), false, progress);
    replayed.expect("without a bound nothing is refused")
}

/// Replays a whole tape in bounded memory. What cannot be read is listed in [`Heap::damage`] and counted.
///
/// `strata`: whether long-lived rows are listed apart, as an index has them.
///
/// # Errors
/// When it takes more memory than allowed, or cannot write to disk what does not fit.
pub(crate) fn replay_within(
    tape: &Tape,
    name: &str,
    limits: &Limits,
    strata: bool,
    progress: Progress<'_>,
) -> Result<Heap, ReplayError> {
    let mut catalog = Catalog::read(tape);
    let blocks: Vec<&Block> = tape
        .scan()
        .blocks
        .iter()
        .filter(|block| matches!(block.kind, BlockKind::Events | BlockKind::Keyframe))
        .collect();
    let total: u64 = blocks.iter().map(|block| u64::from(block.events)).sum();
    let storage = limits.storage(total)?;
    let disk = limits.disk();
    let most = usize::try_from(total).unwrap_or(usize::MAX).min(u32::MAX as usize);

    let mut counters = Counters::default();
    let mut rows = Rows::new(&storage, most).map_err(&disk)?;
    let mut clock = Clock::stored(&storage, most).map_err(&disk)?;
    let mut mappings = Mappings::default();
    let mut matcher = Matcher::new(&catalog);
    let mut peak = Peak::new(&catalog);
    let mut damage: Vec<Damage> = tape.damage().to_vec();
    damage.append(&mut catalog.damage);
    let mut digests: Vec<Digest> = Vec::new();
    let workspaces = Workspaces::default();
    let mut done = 0;
    let at_once = (rayon::current_num_threads() * BATCH_PER_THREAD).min(BATCH);
    for batch in blocks.chunks(at_once) {
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
            for times in digest.clock.drain(..) {
                clock.push(&times).map_err(&disk)?;
            }
        }
        let first_rows = rows.append(&mut digests).map_err(&disk)?;
        matcher.take(&mut digests, &first_rows, &mut rows).map_err(&disk)?;
        peak.take(&digests);
        let of_mappings = mappings.rows.capacity() * size_of::<MappingRow>();
        limits.check(rows.memory() + clock.memory() + matcher.memory() + of_mappings)?;
        if storage != Storage::Memory && limits.is_tight() {
            rows.release();
            clock.release();
        }
        progress(done, total);
    }
    drop(digests);
    counters.overflow = rows.overflow;
    counters.bytes_allocated = rows.bytes;
    let peak = peak.finish().filter(|_| rows.overflow == 0);
    let rows = rows.finish();
    let matched = matcher.finish(&rows, &catalog, &mut counters);
    if catalog.header.options.is_partial() {
        // Who knows what lay there since.
        counters.unknown_frees += std::mem::take(&mut counters.double_frees);
    }
    counters.allocations = rows.len() as u64;
    if let Some(folded) = &catalog.folded {
        counters.allocations = counters
            .allocations
            .saturating_add(folded.blocks)
            .saturating_add(folded.left_blocks);
        counters.frees = counters.frees.saturating_add(folded.blocks);
        counters.bytes_allocated += u128::from(folded.bytes);
    }
    let scale = Scale::new(catalog.header.options.sample_bytes);
    damage.sort_by_key(|d| (d.offset, d.length));
    let strata = strata.then(|| Strata::of(&rows, &storage)).transpose().map_err(&disk)?;

    let heap = Heap {
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
        totals: OnceLock::new(),
        strata,
        lives: None,
        index: None,
    };
    if let Some((event, size)) = peak {
        let Level { count, .. } = heap.live_level(&heap.after(event));
        let _ = heap.peak.set(Some((event, Level { size, count })));
    }
    Ok(heap)
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
