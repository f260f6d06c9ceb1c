//! Folding the beginning of a tape into a keyframe: of all its events those stay that still matter, with their numbers, times and stacks.
//!
//! What stays is, for every heap block and mapping that is alive in any process at the end of the folded span, its birth; and the deaths that say in which process of a family
//! of forks it is not. A reader replays a keyframe as it replays events, and comes to the same heap. Of what is gone there are totals by stack, and the
//! highest level.
//!
//! Memory: about 90 bytes for each block of memory that is alive, the stacks of what is alive (32 bytes a node) and of at most 260,000 nodes more, the records of
//! processes, modules and code objects as they are, the names of code that programs made (up to 16 MiB for each that did), and 48 bytes a thread. It does not grow with the number of events.
//!
//! No IO: the caller hands in the blocks of the tape in their order and gets bytes.

mod life;
mod names;
mod peak;
mod records;
mod space;
mod stacks;
mod write;

use crate::block::{Block, BlockKind};
use crate::columns::{EventColumns, OpCode, NO_BIRTH};
use crate::decode::{read_events, read_folded, read_tables};
use crate::id::{Bytes, EventNo, Micros, ProcessIx, ThreadIx};
use crate::names::read_names;
use crate::part::Part;
use crate::record::{Header, LossCause, Record};
use crate::source::Source;
use life::{Lives, Row};
use names::Names;
use peak::Peak;
use records::Records;
use space::{Piece, Spaces};
use stacks::Sites;

pub use records::MAX_MARKERS;
pub use write::{rehead, Restamp};

/// What threads belong to that the tape does not describe.
const NOBODY: ProcessIx = ProcessIx(u32::MAX);

/// Makes a keyframe of the blocks that it is given.
#[derive(Clone)]
pub struct Folder {
    header: Header,
    part: Option<Part>,
    records: Records,
    names: Names,
    sites: Sites,
    lives: Lives,
    spaces: Spaces,
    peak: Peak,
    columns: EventColumns,
    /// By event of a block: the event that ends what it begins.
    ends: Vec<u32>,
    next_event: EventNo,
    weight: u64,
    time: Micros,
}

impl Folder {
    /// A folder at the beginning of the tape with this header.
    pub fn new(header: &Header) -> Folder {
        Folder {
            header: header.clone(),
            part: None,
            records: Records::default(),
            names: Names::default(),
            sites: Sites::new(),
            lives: Lives::default(),
            spaces: Spaces::default(),
            peak: Peak::new(header.options.sample_bytes.is_some()),
            columns: EventColumns::default(),
            ends: Vec::new(),
            next_event: EventNo(0),
            weight: 0,
            time: Micros(0),
        }
    }

    /// The keyframe begins this file of a recording that is cut into files.
    pub fn begins(&mut self, part: Part) {
        self.part = Some(part);
    }

    /// Takes the next block. What is damaged is noted as a loss.
    pub fn take<S: Source + ?Sized>(&mut self, source: &S, block: &Block) {
        let taken = match block.kind {
            BlockKind::Records | BlockKind::Stacks => self.tables(source, block),
            BlockKind::Events | BlockKind::Keyframe => self.events(source, block),
            BlockKind::Folded => self.folded(source, block),
            BlockKind::Names => self.names(source, block),
            BlockKind::Header | BlockKind::End | BlockKind::Part | BlockKind::Optional(_) => return,
        };
        if block.first_event > self.next_event {
            let missing = block.first_event.get() - self.next_event.get();
            self.records
                .lose(self.next_event, block.first_time, missing, LossCause::Output);
        }
        if taken.is_err() {
            self.records.lose(
                block.first_event,
                block.first_time,
                u64::from(block.events),
                LossCause::Output,
            );
        }
        self.next_event = EventNo(block.first_event.get() + u64::from(block.span()));
        self.weight += u64::from(block.weight);
        if !matches!(block.kind, BlockKind::Records | BlockKind::Stacks | BlockKind::Names) {
            self.time = self.time.max(block.last_time);
        }
    }

    /// Blocks of memory that are alive, or kept for a process that was forked.
    pub fn live(&self) -> usize {
        self.lives.len()
    }

    fn tables<S: Source + ?Sized>(&mut self, source: &S, block: &Block) -> Result<(), crate::Damage> {
        for placed in read_tables(source, block)? {
            match placed.record {
                Record::Stacks(stacks) => {
                    if self.sites.is_new(stacks.generation) {
                        let needed = self.lives.rows().map(|row| row.stack).chain(self.spaces.stacks());
                        if let Some(moved) = self.sites.collect(needed) {
                            self.lives.rows_mut().for_each(|row| row.stack = moved.of(row.stack));
                            self.spaces.restack(|stack| moved.of(stack));
                        }
                    }
                    self.sites.add(&stacks);
                }
                _ => {
                    self.lives.record(&placed);
                    self.peak.record(&placed);
                    self.records.add(placed);
                }
            }
        }
        Ok(())
    }

    fn names<S: Source + ?Sized>(&mut self, source: &S, block: &Block) -> Result<(), crate::Damage> {
        for naming in read_names(source, block)? {
            self.names.add(naming);
        }
        Ok(())
    }

    fn folded<S: Source + ?Sized>(&mut self, source: &S, block: &Block) -> Result<(), crate::Damage> {
        if let Some(folded) = read_folded(source, block)? {
            self.sites.begin(block.generation);
            self.sites.add_folded(&folded);
            self.peak.begin_with(folded.peak);
        }
        Ok(())
    }

    fn events<S: Source + ?Sized>(&mut self, source: &S, block: &Block) -> Result<(), crate::Damage> {
        let mut columns = std::mem::take(&mut self.columns);
        let read = read_events(source, block, &mut columns);
        if read.is_ok() {
            self.sites.begin(block.generation);
            self.lives.reach(block.first_event);
            let Folder { lives, sites, .. } = self;
            lives.release_some_ghosts(|row| sites.freed(row.stack, row.size));
            self.find_ends(&columns);
            for at in 0..columns.len() {
                self.event(&columns, at, block.kind == BlockKind::Keyframe);
            }
        }
        self.columns = columns;
        read
    }

    /// By event of this block: the event here that ends what it begins.
    fn find_ends(&mut self, columns: &EventColumns) {
        self.ends.clear();
        self.ends.resize(columns.len(), NO_BIRTH);
        for (at, &birth) in columns.birth.iter().enumerate() {
            let is_death = columns.op[at].is_death() && (birth as usize) < at;
            let process = self.process(columns.thread[at]);
            if !is_death || process != self.process(columns.thread[birth as usize]) {
                continue;
            }
            // Of a fork in between, the child has a copy.
            let span = (columns.number(birth as usize), columns.number(at));
            if !self.lives.is_forked_within(process, span.0, span.1) {
                self.ends[birth as usize] = at as u32;
            }
        }
    }

    #[inline]
    fn process(&self, thread: ThreadIx) -> ProcessIx {
        self.records.process_of(thread).unwrap_or(NOBODY)
    }

    fn event(&mut self, columns: &EventColumns, at: usize, is_kept: bool) {
        let op = columns.op[at];
        let thread = columns.thread[at];
        let process = self.process(thread);
        let event = columns.number(at);
        let address = columns.address[at];
        let birth = columns.birth[at];
        // The birth in this block whose heap block this event ends.
        let own = Some(birth as usize).filter(|&birth| birth < at && self.ends[birth] == at as u32);
        self.peak.reach(event);
        let mut level = 0i128;
        let mut count = 0;
        if op.is_death() {
            let died = match own {
                Some(birth) => Some(columns.size[birth]),
                None => {
                    let row = self.lives.die(process, address, event, thread, columns.time[at]);
                    row.map(|row| self.bury(row))
                }
            };
            if let Some(Bytes(size)) = died {
                level -= i128::from(size);
                count -= 1;
            }
        }
        if op.is_birth() {
            let size = columns.size[at];
            let stack = self.sites.stack(columns.stack[at]);
            level += i128::from(size.get());
            count += 1;
            if op != OpCode::Resize {
                // Whatever lived there has gone unseen.
                if let Some(row) = self.lives.die(process, address, event, thread, columns.time[at]) {
                    level -= i128::from(self.bury(row).get());
                    count -= 1;
                }
            }
            if self.ends[at] == NO_BIRTH {
                self.lives.born(
                    process,
                    Row {
                        address,
                        size,
                        birth: event,
                        time: columns.time[at],
                        stack,
                        thread,
                        kind: columns.kind[at],
                        api: columns.api[at],
                        is_realloc: op != OpCode::Alloc,
                    },
                );
            } else {
                // Freed in this very block of the tape: nobody else hears of it.
                self.sites.freed(stack, size);
            }
        }
        match op {
            OpCode::Typed => {
                let is_passing = (birth as usize) < at && self.ends[birth as usize] != NO_BIRTH;
                if !is_passing {
                    self.lives.typed(process, address, columns.kind[at]);
                }
            }
            OpCode::Map | OpCode::Unmap | OpCode::Remap | OpCode::Brk => {
                if let Some(op) = columns.get(at) {
                    let stack = self.sites.stack(columns.stack[at]);
                    self.spaces.change(&op, process, event, stack);
                }
            }
            _ => {}
        }
        if count != 0 || level != 0 {
            self.peak
                .change(process, event, columns.time[at], level, count, is_kept);
        }
    }

    /// Counts a block that died, if it is gone for good.
    fn bury(&mut self, (row, is_gone): (Row, bool)) -> Bytes {
        if is_gone {
            self.sites.freed(row.stack, row.size);
        }
        row.size
    }
}

/// A live piece of address space or a live block, as it stays.
#[derive(Clone, Copy)]
enum Kept {
    Row(Row),
    Death(life::Death),
    Piece(Piece),
}
