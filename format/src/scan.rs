//! Finding the blocks of a tape by their headers, without decompressing them, whatever happened to the file.
//!
//! Memory: the list of blocks (at most one entry per 96 bytes of file) and of damage (bounded), and one window of the file.
//!
//! What is decided for good never depends on how long the file is, so that [`resume`] on a growing file comes to what one scan of the whole
//! file finds. What is said about the end of the file is provisional; `confirmed` is where the next look begins.

use crate::annex::Annex;
use crate::block::{
    span, tape_id, Block, BlockKind, RawHeader, FLAG_OPTIONAL, HEADER_LENGTH, MAGIC, MAX_BLOCK_EVENTS,
    MAX_PAYLOAD_LENGTH, MAX_RAW_LENGTH, MAX_RECORDS_LENGTH, MAX_SPAN, VERSION,
};
use crate::damage::{Damage, DamageCause};
use crate::decode::read_raw;
use crate::id::EventNo;
use crate::not_a_tape::NotATape;
use crate::record::{End, Header};
use crate::search::{look, search, Found};
use crate::source::Source;

/// Damage entries that are kept; what comes after is summed up in one.
pub const MAX_DAMAGE: usize = 10_000;
/// How far into a file that does not begin like a tape its first block is looked for.
pub const MAX_LEAD: u64 = 64 << 20;
/// How the tape ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its writer ended it.
    Clean(End),
    /// It ends between blocks or inside one: it is still being written, its writer was killed, or the file was cut.
    Unclean {
        /// Where the last whole block ends.
        whole: u64,
        /// Bytes after it, the beginning of a block.
        partial: u64,
        /// Events that the header of the unfinished block announces, when it is there.
        pending_events: Option<u32>,
    },
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The description of the recording; empty when `header_is_lost`.
    pub header: Header,
    /// Whether the description was damaged beyond use.
    pub header_is_lost: bool,
    /// The usable blocks in their order.
    pub blocks: Vec<Block>,
    /// What is wrong, in the order of the file.
    pub damage: Vec<Damage>,
    /// How it ends.
    pub ending: Ending,
    state: State,
    confirmed: Confirmed,
}

/// What the next block is measured against.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    tape: u64,
    /// Where the next header belongs.
    at: u64,
    /// Where to search when it is not there: the payload before it, since bytes may have been cut out of that.
    search_from: u64,
    next_sequence: u64,
    next_event: u64,
    last_time: u64,
    generation: u32,
    frames: u32,
    stacks: u32,
    header: Option<Header>,
    end: Option<End>,
    /// Whether a keyframe can no longer come.
    in_full: bool,
    /// Whether blocks before the next one are known to be lost; the index of the damage entry that their events are counted at.
    gap: Gap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    None,
    /// The entry was dropped because there are too many.
    Unlisted,
    At(usize),
}

/// The last state that no further byte of the file can change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Confirmed {
    state: State,
    blocks: usize,
    damage: usize,
    last_damage: Option<Damage>,
    /// The entry whose events are still uncounted is one that can change later.
    gap_damage: Option<Damage>,
}

/// Finds the blocks of a tape.
///
/// # Errors
/// When the file is no tape, or nothing of one can be found. Damage is no error.
pub fn scan<S: Source + ?Sized>(source: &S) -> Result<Scan, NotATape> {
    let state = State::begin(source)?;
    let confirmed = Confirmed {
        state: state.clone(),
        blocks: 0,
        damage: 0,
        last_damage: None,
        gap_damage: None,
    };
    let mut scan = Scan {
        header: Header::default(),
        header_is_lost: true,
        blocks: Vec::new(),
        damage: Vec::new(),
        ending: Ending::Unclean {
            whole: 0,
            partial: 0,
            pending_events: None,
        },
        state,
        confirmed,
    };
    scan.run(source);
    Ok(scan)
}

/// Goes on with a file that has grown since. The result is what [`scan`] would find now.
pub fn resume<S: Source + ?Sized>(source: &S, scan: &mut Scan) {
    scan.restore();
    scan.run(source);
}

impl State {
    /// Finds out which tape this is.
    fn begin<S: Source + ?Sized>(source: &S) -> Result<State, NotATape> {
        let length = source.len();
        if length == 0 {
            return Err(NotATape::Empty);
        }
        let mut begins = vec![0; usize::try_from(length).map_or(HEADER_LENGTH, |length| length.min(HEADER_LENGTH))];
        source.read_at(0, &mut begins).map_err(NotATape::Unreadable)?;
        let like_a_tape = MAGIC.starts_with(&begins[..begins.len().min(MAGIC.len())]) || begins.starts_with(&MAGIC);
        let first = <&[u8; HEADER_LENGTH]>::try_from(begins.as_slice())
            .ok()
            .and_then(RawHeader::from_bytes);
        if let Some(first) = first {
            if first.version > VERSION {
                return Err(NotATape::NewerVersion { version: first.version });
            }
            if tape_of(source, 0, &first).is_some() || first.end(0) > length {
                return Ok(State::new(first.tape));
            }
        }
        if begins.starts_with(&[0x1f, 0x8b]) {
            return Err(NotATape::Compressed { with: "gunzip" });
        }
        if begins.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(NotATape::Compressed { with: "unzstd" });
        }
        if begins.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            return Err(NotATape::Compressed { with: "unxz" });
        }
        let until = if like_a_tape { length } else { length.min(MAX_LEAD) };
        match search(source, 0, until, |header| {
            header.version == VERSION && header.reserved == 0
        }) {
            Some((_, header)) => Ok(State::new(header.tape)),
            None if like_a_tape && length < (HEADER_LENGTH as u64) => Err(NotATape::Cut { length }),
            None => {
                begins.truncate(MAGIC.len());
                Err(NotATape::NoTape { begins })
            }
        }
    }

    fn new(tape: u64) -> State {
        State {
            tape,
            at: 0,
            search_from: 0,
            next_sequence: 0,
            next_event: 0,
            last_time: 0,
            generation: 0,
            frames: 0,
            stacks: 0,
            header: None,
            end: None,
            in_full: false,
            gap: Gap::None,
        }
    }
}

/// The description in this block, if it is one and whole.
fn tape_of<S: Source + ?Sized>(source: &S, offset: u64, header: &RawHeader) -> Option<Header> {
    let block = header.block_at(offset, BlockKind::Header);
    let raw = read_raw(source, &block).ok()?;
    (header.kind == BlockKind::Header.number() && tape_id(&raw) == header.tape)
        .then(|| postcard::from_bytes(&raw).ok())
        .flatten()
}

impl Scan {
    /// What can be put at the end of this tape, and where that is: the bytes from there on are to be replaced by the annex. They are those of the end block, or of one that
    /// was not finished.
    ///
    /// `None` for a tape whose bytes after that would be lost: something lies behind its end.
    pub fn annex(&self, length: u64) -> Option<(u64, Annex)> {
        let end = self.blocks.last().filter(|block| block.kind == BlockKind::End);
        let at = match (&self.ending, end) {
            (Ending::Clean(_), Some(end)) if end.offset + end.length == length => end.offset,
            (Ending::Unclean { whole, .. }, _) => *whole,
            _ => return None,
        };
        let state = &self.state;
        let place = RawHeader {
            version: VERSION,
            kind: 0,
            flags: 0,
            payload_length: 0,
            raw_length: 0,
            payload_checksum: 0,
            tape: state.tape,
            sequence: end.map_or(state.next_sequence, |end| end.sequence),
            first_event: state.next_event,
            first_time: state.last_time,
            last_time: state.last_time,
            events: 0,
            weight: 0,
            records: 0,
            generation: state.generation,
            frames: state.frames,
            stacks: state.stacks,
            reserved: 0,
        };
        Some((at, Annex::new(place, state.end.clone())))
    }

    /// The number that all blocks of this tape have, and no others.
    pub fn tape(&self) -> u64 {
        self.state.tape
    }

    fn confirm(&mut self) {
        let gap_damage = match self.state.gap {
            Gap::At(index) => self.damage.get(index).cloned(),
            Gap::None | Gap::Unlisted => None,
        };
        self.confirmed = Confirmed {
            state: self.state.clone(),
            blocks: self.blocks.len(),
            damage: self.damage.len(),
            last_damage: self.damage.last().cloned(),
            gap_damage,
        };
    }

    fn restore(&mut self) {
        let Confirmed {
            state,
            blocks,
            damage,
            last_damage,
            gap_damage,
        } = self.confirmed.clone();
        self.state = state;
        self.blocks.truncate(blocks);
        self.damage.truncate(damage);
        if let (Some(entry), Some(last)) = (self.damage.last_mut(), last_damage) {
            *entry = last;
        }
        if let (Gap::At(index), Some(gap)) = (self.state.gap, gap_damage) {
            if let Some(entry) = self.damage.get_mut(index) {
                *entry = gap;
            }
        }
    }

    fn run<S: Source + ?Sized>(&mut self, source: &S) {
        let length = source.len();
        let (whole, pending_events) = self.walk(source, length);
        let header = self.state.header.clone();
        self.header_is_lost = header.is_none();
        self.header = header.unwrap_or_default();
        self.ending = match &self.state.end {
            Some(end) => Ending::Clean(end.clone()),
            None => Ending::Unclean {
                whole,
                partial: length.saturating_sub(whole),
                pending_events,
            },
        };
    }

    /// Goes from block to block to the end of the file. Returns where the last whole block ends and what the unfinished one announces.
    fn walk<S: Source + ?Sized>(&mut self, source: &S, length: u64) -> (u64, Option<u32>) {
        // Set when something is taken as said that more bytes could refute.
        let mut provisional = false;
        loop {
            if !provisional {
                self.confirm();
            }
            let at = self.state.at;
            match look(source, at, length) {
                Found::Header(header) => {
                    let end = header.end(at);
                    if end > length {
                        if self.next_block(source, at + HEADER_LENGTH as u64, length).is_none() {
                            let pending = (header.tape == self.state.tape).then_some(header.events);
                            return (at, pending);
                        }
                        provisional = true;
                    }
                    self.meet(source, at, &header);
                    self.state.at = end;
                    self.state.search_from = at + HEADER_LENGTH as u64;
                }
                Found::Other(cause) => {
                    let Some(next) = self.next_block(source, self.state.search_from, length) else {
                        self.lose(at, length.saturating_sub(at), cause);
                        return (at, None);
                    };
                    self.skip_to(at, next, cause);
                }
                Found::Tail if at <= length => return (at, None),
                Found::Tail => {
                    // Only after an unfinished block in which the next one begins.
                    let Some(next) = self.next_block(source, self.state.search_from, length) else {
                        return (length, None);
                    };
                    self.skip_to(at, next, DamageCause::NoBlock);
                }
            }
        }
    }

    /// The next block of this tape that can be used.
    fn next_block<S: Source + ?Sized>(&self, source: &S, from: u64, until: u64) -> Option<u64> {
        search(source, from, until, |header| {
            header.tape == self.state.tape && header.sequence >= self.state.next_sequence
        })
        .map(|(offset, _)| offset)
    }

    /// Goes on at `next`, since there is no block at `at`.
    fn skip_to(&mut self, at: u64, next: u64, cause: DamageCause) {
        if next > at {
            self.lose(at, next - at, cause);
        } else {
            self.harm(next, at - next, DamageCause::CutShort);
        }
        self.state.at = next;
        self.state.search_from = next;
    }

    /// Takes a block, or says why not.
    fn meet<S: Source + ?Sized>(&mut self, source: &S, offset: u64, header: &RawHeader) {
        let length = HEADER_LENGTH as u64 + u64::from(header.payload_length);
        if header.tape != self.state.tape {
            return self.harm(offset, length, DamageCause::OtherTape);
        }
        let expected = self.state.next_sequence;
        if header.sequence < expected {
            return self.harm(
                offset,
                length,
                DamageCause::OutOfSequence {
                    expected,
                    found: header.sequence,
                },
            );
        }
        let missing = header.sequence - expected;
        if missing > 0 && self.state.gap == Gap::None {
            self.lose(offset, 0, DamageCause::Missing { blocks: missing });
        }
        self.state.next_sequence = header.sequence.saturating_add(1);
        match self.kind_of(header) {
            Ok(kind) => self.take(source, offset, header, kind),
            Err(cause) => self.lose(offset, length, cause),
        }
    }

    /// Checks everything that a header says about itself and about its place.
    fn kind_of(&self, header: &RawHeader) -> Result<BlockKind, DamageCause> {
        let wrong = |what| Err(DamageCause::Header { what });
        if header.version != VERSION {
            return Err(DamageCause::NewerVersion {
                version: header.version,
            });
        }
        if header.flags & !FLAG_OPTIONAL != 0 || header.reserved != 0 {
            return Err(DamageCause::Reserved);
        }
        let known = [
            BlockKind::Header,
            BlockKind::Records,
            BlockKind::Stacks,
            BlockKind::Events,
            BlockKind::End,
            BlockKind::Keyframe,
            BlockKind::Names,
            BlockKind::Folded,
            BlockKind::Part,
        ]
        .into_iter()
        .find(|kind| kind.number() == header.kind);
        let kind = match known {
            Some(kind) => kind,
            None if header.flags & FLAG_OPTIONAL != 0 => BlockKind::Optional(header.kind),
            None => return Err(DamageCause::UnknownKind { kind: header.kind }),
        };
        let limit = match kind {
            BlockKind::Events | BlockKind::Stacks | BlockKind::Keyframe => MAX_RAW_LENGTH,
            BlockKind::Header
            | BlockKind::Records
            | BlockKind::End
            | BlockKind::Folded
            | BlockKind::Names
            | BlockKind::Part => MAX_RECORDS_LENGTH,
            BlockKind::Optional(_) => u32::MAX,
        };
        let state = &self.state;
        if state.end.is_some() {
            return wrong("it comes after the end of the tape");
        }
        if header.raw_length > limit || header.payload_length > MAX_PAYLOAD_LENGTH {
            return wrong("it is longer than the format allows");
        }
        let events_fit = match kind {
            BlockKind::Events => header.events > 0,
            BlockKind::Keyframe => (1..=MAX_SPAN).contains(&header.records),
            _ => header.events == 0,
        };
        if header.events > MAX_BLOCK_EVENTS || !events_fit {
            return wrong("the number of its events");
        }
        if matches!(kind, BlockKind::Keyframe | BlockKind::Folded) && state.in_full {
            return wrong("a keyframe comes before all events");
        }
        let span = span(kind, header.events, header.records);
        if u64::from(header.weight) > 2 * u64::from(span) {
            return wrong("the weight of its events");
        }
        let first_event_fits = match state.gap {
            Gap::None => header.first_event == state.next_event,
            Gap::At(_) | Gap::Unlisted => header.first_event >= state.next_event,
        };
        if !first_event_fits || header.first_event.checked_add(u64::from(span)).is_none() {
            return wrong("the number of its first event");
        }
        let in_order = matches!(kind, BlockKind::Events | BlockKind::Keyframe | BlockKind::Folded);
        if header.first_time > header.last_time || (in_order && header.first_time < state.last_time) {
            return wrong("its time goes backwards");
        }
        if header.generation < state.generation
            || (header.generation == state.generation && (header.frames < state.frames || header.stacks < state.stacks))
        {
            return wrong("its stacks are older than those before it");
        }
        Ok(kind)
    }

    fn take<S: Source + ?Sized>(&mut self, source: &S, offset: u64, header: &RawHeader, kind: BlockKind) {
        let block = header.block_at(offset, kind);
        let lost = header.first_event - self.state.next_event;
        if let Gap::At(index) = std::mem::replace(&mut self.state.gap, Gap::None) {
            if let Some(entry) = self.damage.get_mut(index) {
                entry.lost_events = Some(lost);
            }
        }
        self.state.next_event = header.first_event + u64::from(block.span());
        if matches!(kind, BlockKind::Events | BlockKind::Keyframe | BlockKind::Folded) {
            self.state.last_time = header.last_time;
            self.state.in_full |= kind != BlockKind::Keyframe;
        }
        self.state.generation = header.generation;
        self.state.frames = header.frames;
        self.state.stacks = header.stacks;
        self.blocks.push(block);
        match kind {
            BlockKind::Header => match tape_of(source, offset, header) {
                Some(description) => self.state.header = Some(description),
                None => self.broken(source, &block),
            },
            BlockKind::End => {
                let end = read_raw(source, &block)
                    .ok()
                    .and_then(|raw| postcard::from_bytes(&raw).ok());
                match end {
                    Some(end) => self.state.end = Some(end),
                    None => self.broken(source, &block),
                }
            }
            BlockKind::Records
            | BlockKind::Stacks
            | BlockKind::Events
            | BlockKind::Keyframe
            | BlockKind::Folded
            | BlockKind::Names
            | BlockKind::Part
            | BlockKind::Optional(_) => {}
        }
    }

    /// Lists a block whose payload had to be read here and is no good.
    fn broken<S: Source + ?Sized>(&mut self, source: &S, block: &Block) {
        let cause = match read_raw(source, block) {
            Err(damage) => damage.cause,
            Ok(_) => DamageCause::Content {
                what: "it is not what its kind says",
            },
        };
        self.harm(block.offset, block.length, cause);
    }

    /// Lists damage that costs no event.
    fn harm(&mut self, offset: u64, length: u64, cause: DamageCause) {
        self.list(Damage {
            offset,
            length,
            cause,
            lost_events: Some(0),
            events_at: None,
        });
    }

    /// Lists damage whose events the next good block tells.
    fn lose(&mut self, offset: u64, length: u64, cause: DamageCause) {
        if self.state.gap != Gap::None {
            return self.harm(offset, length, cause);
        }
        let events_at = Some(EventNo(self.state.next_event));
        let listed = self.list(Damage {
            offset,
            length,
            cause,
            lost_events: None,
            events_at,
        });
        self.state.gap = if listed {
            Gap::At(self.damage.len() - 1)
        } else {
            Gap::Unlisted
        };
    }

    /// Adds an entry; whether it has one of its own.
    fn list(&mut self, damage: Damage) -> bool {
        let full = self.damage.len() >= MAX_DAMAGE;
        if let Some(last) = self.damage.last_mut() {
            let end = damage.offset.saturating_add(damage.length);
            if full {
                last.cause = DamageCause::TooMuch;
                last.length = end.saturating_sub(last.offset);
                last.lost_events = None;
                return false;
            }
            let adjoins = last.offset.saturating_add(last.length) == damage.offset;
            if damage.cause == DamageCause::OtherTape && last.cause == DamageCause::OtherTape && adjoins {
                last.length += damage.length;
                return true;
            }
        }
        self.damage.push(damage);
        true
    }
}
