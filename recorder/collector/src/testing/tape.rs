//! A tape read back whole, for tests.

use heaptape_format::record::{Frame, LossCause, Process, ProcessEnd, Stacks};
use heaptape_format::scan::Ending;
use heaptape_format::{
    read_events, read_tables, scan, BlockKind, Event, EventColumns, EventNo, Op, Placed, Record, StackId,
};

/// Everything that stands in a tape.
pub struct Tape {
    /// All events in order.
    pub events: Vec<Event>,
    /// All records in order, but for stacks.
    pub records: Vec<Placed>,
    /// All stacks.
    pub stacks: Vec<Stacks>,
    /// First event of each block, with its generation.
    pub generations: Vec<(EventNo, u32)>,
    /// How it ends.
    pub ending: Ending,
}

impl Tape {
    /// Reads a tape that must be without damage.
    pub fn read(bytes: &[u8]) -> Tape {
        let found = scan(bytes).unwrap();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        let mut tape = Tape {
            events: Vec::new(),
            records: Vec::new(),
            stacks: Vec::new(),
            generations: Vec::new(),
            ending: found.ending,
        };
        let mut columns = EventColumns::default();
        for block in &found.blocks {
            match block.kind {
                BlockKind::Events => {
                    read_events(bytes, block, &mut columns).unwrap();
                    tape.generations
                        .push((EventNo(tape.events.len() as u64), block.generation));
                    tape.events
                        .extend((0..columns.len()).filter_map(|index| columns.get(index)));
                }
                BlockKind::Records | BlockKind::Stacks => {
                    for placed in read_tables(bytes, block).unwrap() {
                        match placed.record {
                            Record::Stacks(stacks) => tape.stacks.push(stacks),
                            _ => tape.records.push(placed),
                        }
                    }
                }
                _ => {}
            }
        }
        tape
    }

    /// The processes.
    pub fn processes(&self) -> Vec<&Process> {
        self.records
            .iter()
            .filter_map(|placed| match &placed.record {
                Record::Process(process) => Some(process),
                _ => None,
            })
            .collect()
    }

    /// The ends of processes, with their indices.
    pub fn ends(&self) -> Vec<(u32, ProcessEnd)> {
        self.records
            .iter()
            .filter_map(|placed| match placed.record {
                Record::ProcessEnd { process, end } => Some((process.0, end)),
                _ => None,
            })
            .collect()
    }

    /// Events lost by a cause, as the records tell.
    pub fn lost(&self, wanted: LossCause) -> u64 {
        self.records
            .iter()
            .filter_map(|placed| match &placed.record {
                Record::Loss(loss) if loss.cause == wanted => Some(loss.events),
                _ => None,
            })
            .sum()
    }

    /// The frames of an event's stack, innermost first.
    pub fn frames(&self, event: usize) -> Vec<Frame> {
        let stack = match self.events[event].op {
            Op::Alloc { stack, .. } | Op::Resize { stack, .. } | Op::MoveIn { stack, .. } => stack,
            Op::Map { stack, .. } | Op::Remap { stack, .. } | Op::Brk { stack, .. } => stack,
            _ => StackId::ROOT,
        };
        let block = self.generations.partition_point(|(first, _)| first.0 <= event as u64) - 1;
        let generation = self.generations[block].1;
        let tables: Vec<&Stacks> = self
            .stacks
            .iter()
            .filter(|stacks| stacks.generation == generation)
            .collect();
        let mut frames = Vec::new();
        let mut node = stack;
        while node != StackId::ROOT {
            let table = tables
                .iter()
                .find(|table| (table.first_stack.0..table.first_stack.0 + table.parents.len() as u32).contains(&node.0))
                .unwrap();
            let at = (node.0 - table.first_stack.0) as usize;
            let id = table.frame_ids[at];
            let frame = tables
                .iter()
                .find_map(|table| table.frames.get(id.0.checked_sub(table.first_frame.0)? as usize))
                .unwrap();
            frames.push(*frame);
            node = table.parents[at];
        }
        frames
    }
}
