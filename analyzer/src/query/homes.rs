//! Threads and processes: who allocated what, and who came from whom.

use super::stats::accepted_anywhere;
use super::{Instant, Query};
use crate::symbols::Resolver;
use crate::table::{Heap, Item, Level, Moment};
use crate::text::Text;
use heaptape_format::record::{ProcessEnd, ProcessOrigin};
use heaptape_format::{EventNo, Micros, ProcessIx, ThreadIx};
use rayon::prelude::*;
use serde::Serialize;

/// What a thread or a process did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// All that it allocated in the recording.
    pub allocated: Level,
    /// The part of it that was never freed, whatever became of the process.
    pub never_freed: Level,
    /// The part of it that is alive at the instant.
    pub live: Level,
}

impl Work {
    fn add(&mut self, other: &Work) {
        self.allocated.add(other.allocated);
        self.never_freed.add(other.never_freed);
        self.live.add(other.live);
    }
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadRow {
    /// Its id on the device.
    pub tid: u32,
    /// Its latest name.
    pub name: Text,
    /// Its process.
    pub pid: u32,
    /// What it did.
    #[serde(flatten)]
    pub work: Work,
}

/// The threads of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Threads {
    /// The tape.
    pub tape: Text,
    /// The instant of what is alive.
    pub at: Instant,
    /// All threads together.
    pub total: Work,
    /// By bytes allocated, falling.
    pub rows: Vec<ThreadRow>,
    /// Threads that were left out.
    pub omitted_rows: usize,
}

/// A process image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessRow {
    /// Its number in the tape, from 0.
    pub number: u32,
    /// Its id on the device.
    pub pid: u32,
    /// Its parent's id on the device.
    pub parent_pid: u32,
    /// Its executable.
    pub exe: Text,
    /// Its command line.
    pub command: Vec<Text>,
    /// How it came to be: `exec`, `replaced` or `forked`.
    pub origin: &'static str,
    /// The image, by number, that it was forked from or that it replaced, or else the recorded one that started it.
    pub parent: Option<u32>,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Instant>,
    /// How: in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// Its threads.
    pub threads: usize,
    /// What it did.
    #[serde(flatten)]
    pub work: Work,
    /// What it has at the instant of its ancestors' heaps.
    pub inherited: Level,
}

/// The processes of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Processes {
    /// The tape.
    pub tape: Text,
    /// The instant of what is alive.
    pub at: Instant,
    /// All processes together; what is inherited is not counted again.
    pub total: Work,
    /// In the order of the tape.
    pub processes: Vec<ProcessRow>,
}

/// By thread, what it did; what threads did that the tape does not describe is behind.
fn work(heap: &Heap, moment: &Moment, query: &Query, resolver: &dyn Resolver) -> Vec<Work> {
    let wanted = query.filter.rows(heap);
    let accepted = accepted_anywhere(heap, query, resolver);
    let threads = heap.catalog.threads.len();
    let born = heap.allocations.born_before(moment.cut);
    let add = |work: &mut [Work], item: &Item| {
        if !wanted.accepts(item) || !accepted[item.stack.0 as usize] {
            return;
        }
        let own = &mut work[(item.thread.get() as usize).min(threads)];
        let level = heap.level(item);
        own.allocated.add(level);
        if item.death == crate::table::NEVER.get() {
            own.never_freed.add(level);
        }
        let is_there = (item.row as usize) < born && item.death >= moment.cut.get();
        if is_there && heap.is_home_alive(item.thread, moment) {
            own.live.add(level);
        }
    };
    let new = || vec![Work::default(); threads + 1];
    let pieces = heap.pieces(0..heap.allocations.len());
    // A hostile tape may have very many threads: their list is not made anew for every piece.
    let shares = pieces.len().div_ceil(rayon::current_num_threads() * 2).max(1);
    pieces
        .par_chunks(shares)
        .map(|pieces| {
            let mut work = new();
            for piece in pieces {
                heap.visit(piece, 0, |item| add(&mut work, item));
            }
            work
        })
        .reduce(new, |mut sum, part| {
            sum.iter_mut().zip(&part).for_each(|(sum, part)| sum.add(part));
            sum
        })
}

fn total(work: &[Work]) -> Work {
    work.iter().fold(Work::default(), |mut sum, part| {
        sum.add(part);
        sum
    })
}

/// What every thread did.
pub fn threads(heap: &Heap, moment: &Moment, query: &Query, resolver: &dyn Resolver) -> Threads {
    let work = work(heap, moment, query, resolver);
    let pid_of = |process: ProcessIx| {
        heap.catalog
            .processes
            .get(process.get() as usize)
            .map_or(0, |info| info.pid)
    };
    let known = heap.catalog.threads.iter().zip(&work).map(|(info, &work)| ThreadRow {
        tid: info.tid,
        name: info.name.clone(),
        pid: pid_of(info.process),
        work,
    });
    let unknown = work.last().map(|&work| ThreadRow {
        tid: 0,
        name: Text::new("[unknown threads]"),
        pid: 0,
        work,
    });
    let mut rows: Vec<ThreadRow> = known
        .chain(unknown)
        .filter(|row| row.work.allocated.count > 0)
        .collect();
    // Equal ones stay in the order of the tape.
    rows.sort_by_key(|row| std::cmp::Reverse(row.work.allocated));
    let kept = match query.rows {
        0 => rows.len(),
        wanted => wanted.min(rows.len()),
    };
    let omitted_rows = rows.len() - kept;
    rows.truncate(kept);
    Threads {
        tape: heap.name.clone(),
        at: Instant::of(heap, moment),
        total: total(&work),
        rows,
        omitted_rows,
    }
}

/// What every process did, and what it inherited.
pub fn processes(heap: &Heap, moment: &Moment, query: &Query, resolver: &dyn Resolver) -> Processes {
    let by_thread = work(heap, moment, query, resolver);
    let infos = &heap.catalog.processes;
    let mut own = vec![(Work::default(), 0usize); infos.len()];
    for (thread, work) in by_thread.iter().enumerate().take(heap.catalog.threads.len()) {
        let process = heap.catalog.process_of(ThreadIx(thread as u32));
        if let Some((sum, threads)) = process.and_then(|process| own.get_mut(process.get() as usize)) {
            sum.add(work);
            *threads += 1;
        }
    }
    let wanted = query.filter.rows(heap);
    let accepted = accepted_anywhere(heap, query, resolver);
    let at = |cut: EventNo, time: Micros| {
        Instant::of(
            heap,
            &Moment {
                cut,
                time,
                by_time: true,
            },
        )
    };
    let rows = infos
        .iter()
        .zip(own)
        .enumerate()
        .map(|(number, (info, (work, threads)))| {
            let process = ProcessIx(number as u32);
            let mut inherited = Level::default();
            heap.inherited_items(process, moment, |item| {
                if wanted.accepts_inherited(item) && accepted[item.stack.0 as usize] {
                    inherited.add(heap.level(item));
                }
            });
            let (origin, parent) = match info.origin {
                ProcessOrigin::Fork(parent) => ("forked", Some(parent.get())),
                ProcessOrigin::Replace(old) => ("replaced", Some(old.get())),
                _ => ("exec", starter(heap, number)),
            };
            ProcessRow {
                number: number as u32,
                pid: info.pid,
                parent_pid: info.parent_pid,
                exe: info.exe.clone(),
                command: info.command.clone(),
                origin,
                parent,
                began: at(info.at, info.time),
                ended: info.end.map(|end| at(end.at, end.time)),
                ending: info.end.map(|end| ending(end.how)),
                threads,
                work,
                inherited,
            }
        });
    Processes {
        tape: heap.name.clone(),
        at: Instant::of(heap, moment),
        total: total(&by_thread),
        processes: rows.collect(),
    }
}

/// The latest earlier image with the id of a process's parent.
fn starter(heap: &Heap, number: usize) -> Option<u32> {
    let infos = &heap.catalog.processes;
    let is_parent = |info: &crate::tape::ProcessInfo| info.pid == infos[number].parent_pid;
    infos[..number].iter().rposition(is_parent).map(|parent| parent as u32)
}

fn ending(how: ProcessEnd) -> String {
    match how {
        ProcessEnd::Exit(status) => format!("exit status {status}"),
        ProcessEnd::Signal(signal) => format!("killed by signal {signal}"),
        ProcessEnd::Replaced => "replaced by exec".to_owned(),
        ProcessEnd::Gone => "gone".to_owned(),
        ProcessEnd::Running => "running when the recording ended".to_owned(),
    }
}
