//! How the heap moved over time.

use super::stats::accepted_anywhere;
use super::{Instant, Query};
use crate::report;
use crate::symbols::Resolver;
use crate::table::{Heap, Level, Sweep, NEVER};
use crate::text::Text;
use hashbrown::HashMap;
use heaptape_format::{EventNo, Micros, ProcessIx};
use serde::Serialize;
use std::collections::BTreeMap;

/// One column of the plot: a span of time, and the state at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    /// End of the span, microseconds since the start.
    pub micros: u64,
    /// Alive at its end.
    pub live: Level,
    /// Most bytes alive at any instant within it.
    pub highest: u128,
    /// Address space mapped at its end; beside the heap, not part of it.
    pub mapped: u128,
}

/// A marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MarkerPoint {
    /// Its name.
    pub name: Text,
    /// Its number among the markers of that name, from 1.
    pub number: usize,
    /// When.
    pub at: Instant,
    /// Alive then; nothing when that is before full history begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Level>,
}

/// Memory as the system saw it, all recorded processes together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SamplePoint {
    /// Microseconds since the start.
    pub micros: u64,
    /// Resident set, summed over processes.
    pub rss: u128,
    /// Proportional set, summed; 0 when not known.
    pub pss: u128,
}

/// The highest level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeakPoint {
    /// Just after the event that reached it first.
    pub at: Instant,
    /// Alive then.
    pub live: Level,
}

/// How the heap moved over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// The tape.
    pub tape: Text,
    /// The first and last instant.
    pub span: [Instant; 2],
    /// Equal spans of time.
    pub points: Vec<Point>,
    /// The exact peak; nothing when nothing was allocated.
    pub peak: Option<PeakPoint>,
    /// Alive after the last event, before processes that ended there ended.
    pub end: Level,
    /// Markers in their order.
    pub markers: Vec<MarkerPoint>,
    /// Samples in their order.
    pub samples: Vec<SamplePoint>,
}

/// The levels at `columns` equally spaced instants, with the exact peak.
pub fn timeline(heap: &Heap, query: &Query, columns: usize, resolver: &dyn Resolver) -> Timeline {
    let columns = columns.max(1);
    let begin = heap.start().time.get();
    let duration = heap.duration().get() - begin;
    let wanted = query.filter.rows(heap);
    let accepted = accepted_anywhere(heap, query, resolver);
    let sweep = Sweep::new(heap, |item| wanted.accepts(item) && accepted[item.stack.0 as usize]);

    let ends: Vec<(u64, EventNo)> = (1..=columns)
        .map(|column| {
            let micros = begin + (u128::from(duration) * column as u128 / columns as u128) as u64;
            (
                micros,
                if column == columns {
                    heap.end().cut
                } else {
                    heap.clock.cut_at(Micros(micros))
                },
            )
        })
        .collect();
    let mut points = Columns::new(&ends);
    let marker_cuts = marker_cuts(heap);
    let mut markers = Columns::new(&marker_cuts);
    let mut peak: Option<(EventNo, Level)> = None;
    sweep.walk(|event, level| {
        points.step(event, level);
        markers.step(event, level);
        if peak.is_none_or(|(_, best)| level.size > best.size) {
            peak = Some((event, level));
        }
    });
    let mut points = points.finish();
    for (point, mapped) in points.iter_mut().zip(mapped_at(heap, &ends)) {
        point.mapped = mapped;
    }
    let levels: Vec<Level> = markers.finish().iter().map(|point| point.live).collect();
    Timeline {
        tape: heap.name.clone(),
        span: [Instant::of(heap, &heap.start()), Instant::of(heap, &heap.end())],
        end: points.last().map(|point| point.live).unwrap_or_default(),
        points,
        peak: peak.map(|(event, live)| PeakPoint {
            at: Instant::of(heap, &heap.after(event)),
            live,
        }),
        markers: marker_points(heap, &levels),
        samples: samples(heap),
    }
}

/// The timeline without its points: peak, end, markers and samples, which need no walk over all events.
pub fn overview(heap: &Heap) -> Timeline {
    let cuts = marker_cuts(heap);
    let cuts: Vec<EventNo> = cuts.into_iter().map(|(_, cut)| cut).collect();
    let levels = heap.live_levels(&cuts);
    Timeline {
        tape: heap.name.clone(),
        span: [Instant::of(heap, &heap.start()), Instant::of(heap, &heap.end())],
        points: Vec::new(),
        peak: heap.peak().map(|(moment, live)| PeakPoint {
            at: Instant::of(heap, &moment),
            live,
        }),
        end: heap.live_level(&heap.end()),
        markers: marker_points(heap, &levels),
        samples: samples(heap),
    }
}

/// The markers, given their levels in the order of events.
fn marker_points(heap: &Heap, levels: &[Level]) -> Vec<MarkerPoint> {
    let mut counts: BTreeMap<&Text, usize> = BTreeMap::new();
    let mut order: Vec<usize> = (0..heap.catalog.markers.len()).collect();
    order.sort_by_key(|&index| heap.catalog.markers[index].at);
    let mut level_of = vec![Level::default(); order.len()];
    for (index, &level) in order.into_iter().zip(levels) {
        level_of[index] = level;
    }
    let markers = heap.catalog.markers.iter().zip(level_of);
    markers
        .map(|(marker, live)| {
            let number = counts.entry(&marker.name).or_insert(0);
            *number += 1;
            MarkerPoint {
                name: marker.name.clone(),
                number: *number,
                at: Instant {
                    event: marker.at.get(),
                    micros: marker.time.get(),
                    wall_clock: report::wall_clock(&heap.catalog.header, marker.time),
                },
                live: (marker.at >= heap.start().cut).then_some(live),
            }
        })
        .collect()
}

/// The instants of the markers, in the order of events.
fn marker_cuts(heap: &Heap) -> Vec<(u64, EventNo)> {
    let mut cuts: Vec<(u64, EventNo)> = heap
        .catalog
        .markers
        .iter()
        .map(|marker| (marker.time.get(), marker.at))
        .collect();
    cuts.sort_by_key(|&(_, cut)| cut);
    cuts
}

/// Follows a walk over the levels and notes them at given instants.
struct Columns<'a> {
    ends: &'a [(u64, EventNo)],
    done: Vec<Point>,
    level: Level,
    highest: u128,
}

impl<'a> Columns<'a> {
    fn new(ends: &'a [(u64, EventNo)]) -> Columns<'a> {
        Columns {
            ends,
            done: Vec::with_capacity(ends.len()),
            level: Level::default(),
            highest: 0,
        }
    }

    fn step(&mut self, event: EventNo, level: Level) {
        while self.ends.get(self.done.len()).is_some_and(|&(_, cut)| cut <= event) {
            self.close();
        }
        self.level = level;
        self.highest = self.highest.max(level.size);
    }

    fn close(&mut self) {
        let (micros, _) = self.ends[self.done.len()];
        self.done.push(Point {
            micros,
            live: self.level,
            highest: self.highest,
            mapped: 0,
        });
        self.highest = self.level.size;
    }

    fn finish(mut self) -> Vec<Point> {
        while self.done.len() < self.ends.len() {
            self.close();
        }
        self.done
    }
}

/// Bytes of address space mapped at each of some instants, which are in order.
fn mapped_at(heap: &Heap, ends: &[(u64, EventNo)]) -> Vec<u128> {
    let mut changes: Vec<(EventNo, i128)> = Vec::with_capacity(2 * heap.mappings.rows.len());
    for row in &heap.mappings.rows {
        let end = row
            .process
            .map_or(NEVER, |process| heap.process_end(process))
            .min(row.death);
        changes.push((row.birth, i128::from(row.length.get())));
        if end != NEVER {
            changes.push((end, -i128::from(row.length.get())));
        }
    }
    changes.sort_unstable();
    let mut changes = changes.into_iter().peekable();
    let mut mapped: i128 = 0;
    ends.iter()
        .map(|&(_, cut)| {
            while let Some((_, change)) = changes.next_if(|&(event, _)| event < cut) {
                mapped += change;
            }
            mapped.max(0) as u128
        })
        .collect()
}

/// Resident memory of all processes together, at each sample.
fn samples(heap: &Heap) -> Vec<SamplePoint> {
    let processes = &heap.catalog.processes;
    let mut ends: Vec<(Micros, ProcessIx)> = (0..processes.len() as u32)
        .map(ProcessIx)
        .filter_map(|process| Some((processes[process.get() as usize].end?.time, process)))
        .collect();
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let mut latest: HashMap<ProcessIx, (u64, u64)> = HashMap::new();
    let (mut rss, mut pss) = (0u128, 0u128);
    let mut points: Vec<SamplePoint> = Vec::new();
    for sample in &heap.catalog.samples {
        let memory = &sample.memory;
        let mut replace = |process: ProcessIx, now: Option<(u64, u64)>| {
            let before = match now {
                Some(now) => latest.insert(process, now),
                None => latest.remove(&process),
            };
            let (now, before) = (now.unwrap_or_default(), before.unwrap_or_default());
            rss = rss + u128::from(now.0) - u128::from(before.0);
            pss = pss + u128::from(now.1) - u128::from(before.1);
        };
        while let Some((_, gone)) = ends.next_if(|&(time, _)| time < sample.time) {
            replace(gone, None);
        }
        let is_over = processes
            .get(memory.process.get() as usize)
            .and_then(|info| info.end)
            .is_some_and(|end| end.time < sample.time);
        if !is_over {
            replace(memory.process, Some((memory.rss.get(), memory.pss.get())));
        }
        let point = SamplePoint {
            micros: sample.time.get(),
            rss,
            pss,
        };
        // Samples of several processes are taken in one go: one point for all.
        match points.last_mut().filter(|last| last.micros == point.micros) {
            Some(last) => *last = point,
            None => points.push(point),
        }
    }
    points
}
