//! The blocks that the receiver does not have yet.

use heaptape_format::link::BlockHead;
use std::collections::VecDeque;
use std::sync::Arc;

/// Of the spool, events may take so many quarters; the rest is for what they refer to.
const FOR_EVENTS: u64 = 3;

/// A block on its way.
struct Waiting {
    sequence: u64,
    bytes: Arc<[u8]>,
}

/// Blocks in their order, until they are acknowledged.
///
/// When it is full, blocks of events are dropped, which their numbers show to every reader of the tape; stacks and records never, since everything after them refers to them.
pub struct Spool {
    limit: u64,
    blocks: VecDeque<Waiting>,
    /// Bytes of the blocks.
    bytes: u64,
    /// All before this block has been pushed.
    pushed: u64,
    /// The receiver has all before this block.
    acknowledged: u64,
    tape: Option<u64>,
    dropped: u64,
    is_ended: bool,
}

/// There is no room for what may not be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Spool {
    /// An empty one that holds so many bytes.
    pub fn new(limit: u64) -> Spool {
        Spool {
            limit,
            blocks: VecDeque::new(),
            bytes: 0,
            pushed: 0,
            acknowledged: 0,
            tape: None,
            dropped: 0,
            is_ended: false,
        }
    }

    /// Takes whole blocks.
    ///
    /// # Errors
    /// When there is no room for blocks that may not be dropped. Those before are taken.
    pub fn push(&mut self, mut blocks: &[u8]) -> Result<(), Full> {
        while let Some(head) = BlockHead::at_start(blocks) {
            let length = (BlockHead::LENGTH + head.payload_length()).min(blocks.len());
            let (block, rest) = blocks.split_at(length);
            blocks = rest;
            let after = self.bytes + length as u64;
            self.tape = Some(head.tape());
            if head.events() > 0 && after > self.limit / 4 * FOR_EVENTS {
                self.dropped += u64::from(head.events());
            } else if after > self.limit && !head.is_end() {
                return Err(Full);
            } else {
                self.is_ended |= head.is_end();
                self.bytes = after;
                self.blocks.push_back(Waiting {
                    sequence: head.sequence(),
                    bytes: block.into(),
                });
            }
            self.pushed = head.sequence().saturating_add(1);
        }
        Ok(())
    }

    /// The receiver has stored all before this block. `false`, and nothing happens, when there is no such block yet.
    pub fn acknowledge(&mut self, next: u64) -> bool {
        if next > self.pushed {
            return false;
        }
        self.acknowledged = self.acknowledged.max(next);
        while let Some(block) = self.blocks.front().filter(|block| block.sequence < next) {
            self.bytes -= block.bytes.len() as u64;
            self.blocks.pop_front();
        }
        true
    }

    /// The first block from this one on, with its number.
    pub fn from(&self, sequence: u64) -> Option<(u64, Arc<[u8]>)> {
        let at = self.blocks.partition_point(|block| block.sequence < sequence);
        let block = self.blocks.get(at)?;
        Some((block.sequence, Arc::clone(&block.bytes)))
    }

    /// All before this block is gone: the receiver has it.
    pub fn oldest(&self) -> u64 {
        self.acknowledged
    }

    /// The number of the tape, as soon as it is known.
    pub fn tape(&self) -> Option<u64> {
        self.tape
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Events that have had no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether the receiver has all of an ended tape.
    pub fn is_done(&self) -> bool {
        self.is_ended && self.blocks.is_empty()
    }

    /// All that waits, in its order.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().map(|block| &*block.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptape_format::record::{End, Header};
    use heaptape_format::{
        scan, Address, AllocApi, BlockKind, Bytes, Event, Frame, Micros, Op, ProcessIx, StackId, ThreadIx, Writer,
        WriterOptions,
    };

    /// A tape of small blocks, each of which adds stacks.
    fn tape() -> Vec<u8> {
        let mut out = Vec::new();
        let options = WriterOptions {
            block_events: 200,
            ..WriterOptions::default()
        };
        let mut writer = Writer::new(&Header::default(), options, &mut out);
        for number in 0..20_000u64 {
            let frame = writer.frame(Frame::Raw {
                process: ProcessIx(0),
                address: Address(number / 10),
            });
            let stack = writer.stack(StackId::ROOT, frame);
            let op = Op::Alloc {
                api: AllocApi::Malloc,
                address: Address(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20),
                size: Bytes(number % 999),
                stack,
            };
            let event = Event {
                time: Micros(number),
                thread: ThreadIx(0),
                op,
            };
            writer.event(&event, &mut out);
        }
        writer.finish(&End::default(), &mut out);
        out
    }

    fn received(spool: &Spool) -> Vec<u8> {
        spool.waiting().flatten().copied().collect()
    }

    #[test]
    fn what_fits_is_kept_as_it_is_until_it_is_acknowledged() {
        let tape = tape();
        let mut spool = Spool::new(tape.len() as u64 * 2);
        assert_eq!(spool.push(&tape), Ok(()));
        assert_eq!((spool.bytes(), spool.dropped()), (tape.len() as u64, 0));
        assert!(received(&spool) == tape);
        let last = scan(&tape[..]).unwrap().blocks.last().unwrap().sequence;
        for next in [0, 3, 3, 1, last, last + 1] {
            assert!(!spool.is_done());
            assert!(spool.acknowledge(next));
            assert!(spool.oldest() >= next);
            assert!(spool.from(0).is_none_or(|(sequence, _)| sequence == spool.oldest()));
        }
        assert!(spool.is_done() && spool.bytes() == 0);
        assert!(!spool.acknowledge(last + 2), "nobody can have what there is not");
        assert_eq!(spool.from(0).map(|(sequence, _)| sequence), None);
    }

    #[test]
    fn what_does_not_fit_are_events_and_a_reader_of_the_rest_counts_them() {
        let tape = tape();
        let mut spool = Spool::new(tape.len() as u64 / 2);
        assert_eq!(spool.push(&tape), Ok(()));
        assert!(spool.dropped() > 0 && spool.bytes() <= tape.len() as u64 / 2);
        let rest = received(&spool);
        let (whole, found) = (scan(&tape[..]).unwrap(), scan(&rest[..]).unwrap());
        let lost: u64 = found.damage.iter().filter_map(|damage| damage.lost_events).sum();
        assert_eq!(lost, spool.dropped());
        let others =
            |blocks: &[heaptape_format::Block]| blocks.iter().filter(|block| block.kind != BlockKind::Events).count();
        assert_eq!(others(&found.blocks), others(&whole.blocks));
        // As soon as there is room, events are taken again.
        assert!(spool.acknowledge(whole.blocks.last().unwrap().sequence + 1));
        let before = spool.dropped();
        spool.push(&tape[..2000]).unwrap();
        assert_eq!(spool.dropped(), before);
    }

    #[test]
    fn without_room_for_what_others_refer_to_nothing_more_is_taken() {
        let tape = tape();
        let mut spool = Spool::new(4096);
        assert_eq!(spool.push(&tape), Err(Full));
        assert!(spool.bytes() <= 4096);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut spool = Spool::new(4096);
        for garbage in [&[][..], b"nothing", &[0; 500]] {
            assert_eq!(spool.push(garbage), Ok(()));
        }
        // A torn block is taken as far as it goes: a receiver sees what is wrong with it.
        let tape = tape();
        assert_eq!(spool.push(&tape[..100]), Ok(()));
        assert_eq!(spool.bytes(), 100);
    }
}
