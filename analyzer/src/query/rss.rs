//! The heap beside what the system says: what of the resident set is live, what lies around live blocks, and what neither explains.

use super::fragmentation::fragmentation;
use super::snapshot::is_mapped;
use super::{Instant, NoSuchTime, Query};
use crate::symbols::NoSymbols;
use crate::table::{Heap, Level, MappingKind, Moment};
use crate::tape::SampleInfo;
use crate::text::Text;
use heaptape_format::{Micros, ProcessIx};
use serde::Serialize;

/// A process at its latest sample before an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resident {
    /// Its id on the device.
    pub pid: u32,
    /// Its executable.
    pub exe: Text,
    /// The sample's time: everything here is of then.
    pub at: Instant,
    /// Resident set.
    pub rss: u64,
    /// Proportional set; 0 when not known.
    pub pss: u64,
    /// Swapped out; 0 when not known.
    pub swap: u64,
    /// What the memory control group is charged with, all its processes together; 0 when not known.
    pub cgroup: u64,
    /// Live blocks.
    pub live: Level,
    /// In the pages of live blocks, beside these.
    pub around: u128,
    /// What it inherited and still has, which it shares with its ancestors until one of them writes.
    pub inherited: Level,
    /// Address space that the program mapped itself, without memory behind it before it is touched: an upper bound of what is resident of it. Arenas of Python,
    /// which the live blocks lie in, are not counted.
    pub mapped: Level,
    /// The resident set less live blocks and what lies around them: the program's code and stacks, its mappings as far as they are touched, memory that the
    /// allocator keeps, and the recorder's buffers. Below zero when live memory was never touched or is swapped out.
    pub rest: i128,
}

/// The heap beside the resident set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rss {
    /// The tape.
    pub tape: Text,
    /// The instant that was asked for, or that of the highest resident set.
    pub at: Instant,
    /// Samples in the tape.
    pub samples: usize,
    /// Processes that were alive and had been sampled, in the order of the tape.
    pub processes: Vec<Resident>,
}

/// The samples from when on the heap is known: those of a folded span have no heap to stand beside.
fn known(heap: &Heap) -> &[SampleInfo] {
    let samples = &heap.catalog.samples;
    let start = heap.start().time;
    // A folded tape has those that stayed of the span before all others.
    let first = samples.iter().position(|sample| sample.time >= start);
    &samples[first.unwrap_or(samples.len())..]
}

/// The time of the highest resident set, all processes together.
fn highest(heap: &Heap) -> Option<Micros> {
    let mut highest: Option<(u128, Micros)> = None;
    let samples = known(heap);
    for together in samples.chunk_by(|a, b| a.time == b.time) {
        let rss: u128 = together.iter().map(|sample| u128::from(sample.memory.rss.get())).sum();
        if highest.is_none_or(|(most, _)| rss > most) {
            highest = Some((rss, together[0].time));
        }
    }
    highest.map(|(_, time)| time)
}

/// The processes at a moment, or when most was resident.
///
/// # Errors
/// When the tape has no samples of memory, or only such as are older than its full history.
pub fn rss(heap: &Heap, moment: Option<&Moment>, query: &Query) -> Result<Rss, NoSuchTime> {
    let time = highest(heap).ok_or_else(|| NoSuchTime {
        message: match heap.catalog.samples.is_empty() {
            true => format!("{}: no sample of the resident set was recorded", heap.name),
            false => format!(
                "{}: no sample of the resident set was recorded since full history begins",
                heap.name
            ),
        },
    })?;
    let at = |time: Micros| Moment {
        cut: heap.clock.cut_at(time).max(heap.start().cut),
        time,
        by_time: true,
    };
    let moment = moment.copied().unwrap_or_else(|| at(time));
    let mut processes = Vec::new();
    for (number, info) in heap.catalog.processes.iter().enumerate() {
        let process = ProcessIx(number as u32);
        if info.at > moment.cut || !heap.is_process_alive(process, &moment) {
            continue;
        }
        let of_it = known(heap).iter().rev();
        let Some(sample) = of_it
            .filter(|sample| sample.memory.process == process)
            .find(|sample| sample.time <= moment.time)
        else {
            continue;
        };
        let then = at(sample.time);
        let mut of_process = query.clone();
        of_process.filter.only.processes = vec![info.pid.to_string()];
        let space = fragmentation(heap, &then, REGION_GAP, &of_process, &NoSymbols);
        let mut mapped = Level::default();
        for row in &heap.mappings.rows {
            if row.process == Some(process) && row.kind != MappingKind::Arena && is_mapped(heap, row, &then) {
                mapped.add(Level {
                    size: u128::from(row.length.get()),
                    count: 1,
                });
            }
        }
        let mut inherited = Level::default();
        heap.inherited_items(process, &then, |item| inherited.add(heap.level(item)));
        let memory = &sample.memory;
        processes.push(Resident {
            pid: info.pid,
            exe: info.exe.clone(),
            at: Instant::of(heap, &then),
            rss: memory.rss.get(),
            pss: memory.pss.get(),
            swap: memory.swap.get(),
            cgroup: memory.cgroup.get(),
            live: space.live,
            around: space.pages.saturating_sub(space.live.size),
            inherited,
            mapped,
            rest: i128::from(memory.rss.get()) - space.pages.max(space.live.size) as i128,
        });
    }
    Ok(Rss {
        tape: heap.name.clone(),
        at: Instant::of(heap, &moment),
        samples: heap.catalog.samples.len(),
        processes,
    })
}

/// See [`super::Fragmentation::gap`].
pub const REGION_GAP: u64 = 1 << 20;
