//! The records of a folded span: what names things stays, what happened is thinned out.

use crate::id::{EventNo, Micros, ProcessIx, ThreadIx};
use crate::record::{Loss, LossCause, Placed, Record, Thread};
use crate::writer::Writer;
use std::collections::VecDeque;

/// Markers that stay of a folded span: the latest.
pub const MAX_MARKERS: usize = 4096;
/// Samples of memory that stay: evenly thinned out.
const MAX_SAMPLES: usize = 1024;
/// Losses that stay apart; more are added up by cause.
const MAX_LOSSES: usize = 256;

/// A thread: where its record lies, and whether it is gone.
#[derive(Clone)]
struct Known {
    at: EventNo,
    time: Micros,
    thread: Thread,
    end: Option<(EventNo, Micros)>,
}

#[derive(Clone, Default)]
pub(super) struct Records {
    /// Processes, modules, code objects, types, interpreters: all of them, since others are named by their place among them.
    names: Vec<Placed>,
    threads: Vec<Known>,
    markers: VecDeque<Placed>,
    samples: Vec<Placed>,
    losses: Vec<Placed>,
}

impl Records {
    #[inline]
    pub(super) fn process_of(&self, thread: ThreadIx) -> Option<ProcessIx> {
        self.threads
            .get(thread.get() as usize)
            .map(|known| known.thread.process)
    }

    /// All processes, in their order.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcessIx> + '_ {
        let records = self.names.iter();
        let processes = records.filter(|placed| matches!(placed.record, Record::Process(_)));
        processes.enumerate().map(|(ix, _)| ProcessIx(ix as u32))
    }

    pub(super) fn add(&mut self, placed: Placed) {
        let Placed { at, time, .. } = placed;
        match placed.record {
            Record::Thread(thread) => self.threads.push(Known {
                at,
                time,
                thread,
                end: None,
            }),
            Record::ThreadName { thread, name } => {
                if let Some(known) = self.threads.get_mut(thread.get() as usize) {
                    known.thread.name = name;
                }
            }
            Record::ThreadEnd { thread } => {
                if let Some(known) = self.threads.get_mut(thread.get() as usize) {
                    known.end = Some((at, time));
                }
            }
            Record::Marker(_) => {
                if self.markers.len() == MAX_MARKERS {
                    self.markers.pop_front();
                }
                self.markers.push_back(placed);
            }
            Record::Sample(_) => {
                self.samples.push(placed);
                if self.samples.len() == 2 * MAX_SAMPLES {
                    let mut number = 0;
                    self.samples.retain(|_| {
                        number += 1;
                        number % 2 == 1
                    });
                }
            }
            Record::Loss(loss) => self.add_loss(at, time, loss),
            _ => self.names.push(placed),
        }
    }

    /// Something is missing in the tape itself.
    pub(super) fn lose(&mut self, at: EventNo, time: Micros, events: u64, cause: LossCause) {
        self.add_loss(
            at,
            time,
            Loss {
                thread: None,
                events,
                cause,
            },
        );
    }

    fn add_loss(&mut self, at: EventNo, time: Micros, loss: Loss) {
        if self.losses.len() >= MAX_LOSSES {
            // At the latest place: a reader doubts what was born before it.
            let same = self
                .losses
                .iter_mut()
                .rev()
                .find_map(|placed| match &mut placed.record {
                    Record::Loss(other) if other.cause == loss.cause => Some((&mut placed.at, &mut placed.time, other)),
                    _ => None,
                });
            if let Some((other_at, other_time, other)) = same {
                *other_at = at;
                *other_time = time;
                other.thread = None;
                other.events = if other.events == 0 || loss.events == 0 {
                    0
                } else {
                    other.events.saturating_add(loss.events)
                };
                return;
            }
        }
        let record = Record::Loss(loss);
        self.losses.push(Placed { at, time, record });
    }

    /// Hands everything to a writer. A thread that is gone and of which nothing stays keeps its place only, and so does a process.
    pub(super) fn finish(
        self,
        thread_stays: impl Fn(ThreadIx) -> bool,
        process_stays: impl Fn(ProcessIx) -> bool,
        writer: &mut Writer,
    ) {
        let mut processes = 0;
        for mut placed in self.names {
            if let Record::Process(process) = &mut placed.record {
                if !process_stays(ProcessIx(processes)) {
                    process.exe.clear();
                    process.command.clear();
                }
                processes += 1;
            }
            writer.placed(placed);
        }
        for (ix, known) in (0..).map(ThreadIx).zip(self.threads) {
            let Known {
                mut at,
                mut time,
                mut thread,
                end,
            } = known;
            let stays = end.is_none() || thread_stays(ix);
            if !stays {
                (at, time) = (EventNo(0), Micros(0));
                thread.tid = 0;
                thread.name.clear();
            }
            let record = Record::Thread(thread);
            writer.placed(Placed { at, time, record });
            if let Some((at, time)) = end.filter(|_| stays) {
                let record = Record::ThreadEnd { thread: ix };
                writer.placed(Placed { at, time, record });
            }
        }
        for placed in self.markers.into_iter().chain(self.samples).chain(self.losses) {
            writer.placed(placed);
        }
    }
}
