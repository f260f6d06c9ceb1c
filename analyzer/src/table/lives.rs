//! All rows in groups of those that are alike in stack, thread, type, entry point and about in length of life, added up once for the whole recording. An index keeps them, so that the
//! usual questions about lifetimes need not look at every row. Where that makes too many groups, threads are not told apart.

use super::{Column, Flags, Heap, Item, Level, Marks, Times, NEVER, PIECE};
use crate::tape::StackIx;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use heaptape_format::{EventNo, Micros, ThreadIx, TypeIx};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Lives shorter than this, in microseconds, and not shorter than the one before; the two columns behind the last are of longer lives and of blocks that were
/// never freed.
pub const LIFETIME_BOUNDS: [u64; 9] = [
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    60_000_000,
    3_600_000_000,
];

/// Columns.
pub const LIFETIME_COLUMNS: usize = LIFETIME_BOUNDS.len() + 2;

/// [`LIFETIME_BOUNDS`] in 32 bits, and some that no life passes: so a processor compares several at once.
const BOUNDS: [u32; 12] = {
    let mut bounds = [u32::MAX; 12];
    let mut at = 0;
    while at < LIFETIME_BOUNDS.len() {
        assert!(LIFETIME_BOUNDS[at] < LONGEST);
        bounds[at] = LIFETIME_BOUNDS[at] as u32;
        at += 1;
    }
    bounds
};
const LONGEST: u64 = u32::MAX as u64 - 1;

/// The column of a row's life.
#[inline]
pub(crate) fn column_of(heap: &Heap, times: &mut Times<'_>, item: &Item) -> usize {
    let birth = heap.allocations.birth(item.row as usize).get();
    fine_life(times, birth, item.death).column()
}

/// Rows that are alike in nearly all that questions ask for, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alike {
    key: AlikeKey,
    /// The smallest and the largest block.
    sizes: (u64, u64),
    /// The shortest and the longest life in events, of those that ended.
    events: (u64, u64),
    /// All of them.
    pub level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct AlikeKey {
    stack: u32,
    traits: Traits,
}

/// What rows that are alike have in common beside the stack; there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Traits {
    /// `None`: any.
    thread: Option<u32>,
    kind: u32,
    api: u8,
    life: FineLife,
    /// Freed by the event behind the one that allocated it.
    is_at_once: bool,
}

impl Hash for Traits {
    // All in two words: every row is looked up by it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let thread = self.thread.map_or(u64::from(u32::MAX), u64::from);
        state.write_u64(thread << 32 | u64::from(self.kind));
        state.write_u32(u32::from_le_bytes([
            self.api,
            self.life.0,
            u8::from(self.is_at_once),
            0,
        ]));
    }
}

/// The length of a life, so that it is known both of "less than" and of "not more than" a bound of [`LIFETIME_BOUNDS`]: an even number 2n is a life below bound n and above the one before,
/// 2n + 1 one of exactly bound n; the last two are of longer lives and of those without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FineLife(u8);

const LONGER: u8 = 2 * LIFETIME_BOUNDS.len() as u8;

impl FineLife {
    /// Of what was never freed.
    pub(super) const ENDLESS: FineLife = FineLife(LONGER + 1);

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = FineLife> + Clone {
        (0..=FineLife::ENDLESS.0).map(FineLife)
    }

    /// Its place among all. An index may hold others, which are taken for endless, as everywhere.
    pub(super) fn number(self) -> u32 {
        u32::from(self.0.min(FineLife::ENDLESS.0))
    }

    fn of(life: Option<u64>) -> FineLife {
        let Some(life) = life else { return FineLife::ENDLESS };
        let life = life.min(LONGEST) as u32;
        let passed = BOUNDS
            .iter()
            .map(|&bound| u32::from(bound <= life) + u32::from(bound < life));
        FineLife(passed.sum::<u32>() as u8)
    }

    /// The lives that it stands for; `None`: without an end.
    pub(super) fn lives(self) -> Option<RangeInclusive<u64>> {
        let bound = |number: u8| LIFETIME_BOUNDS.get(usize::from(number)).copied();
        let half = self.0 / 2;
        match self.0 {
            even if even % 2 == 0 && even <= LONGER => {
                let above = half.checked_sub(1).and_then(bound);
                Some(above.map_or(0, |above| above + 1)..=bound(half).map_or(u64::MAX, |below| below - 1))
            }
            odd => bound(half).filter(|_| odd < LONGER).map(|exactly| exactly..=exactly),
        }
    }

    fn column(self) -> usize {
        (self.number() as usize).div_ceil(2)
    }
}

impl Alike {
    /// One of them, as far as it is known; neither its row nor its size, not always its thread, and of its death only whether it never came.
    pub(crate) fn item(&self) -> Item {
        Item {
            row: 0,
            death: self.lives().map_or(NEVER.get(), |_| 0),
            size: 0,
            stack: StackIx(self.key.stack),
            thread: ThreadIx(self.key.traits.thread.unwrap_or(u32::MAX)),
            kind: TypeIx(self.key.traits.kind),
            marks: Marks::new(self.key.traits.api, Flags::default()),
        }
    }

    /// Whether all are of one thread, which is known.
    pub(crate) fn has_thread(&self) -> bool {
        self.key.traits.thread.is_some()
    }

    /// No block is smaller or larger.
    pub(crate) fn sizes(&self) -> RangeInclusive<u64> {
        self.sizes.0..=self.sizes.1
    }

    /// Who asked for them.
    pub(super) fn stack(&self) -> StackIx {
        StackIx(self.key.stack)
    }

    pub(super) fn life(&self) -> FineLife {
        self.key.traits.life
    }

    /// No life is shorter or longer, in events, if they have an end.
    pub(crate) fn events(&self) -> RangeInclusive<u64> {
        self.events.0..=self.events.1
    }

    /// No life is shorter or longer, in microseconds; `None`: they have no end.
    pub(crate) fn lives(&self) -> Option<RangeInclusive<u64>> {
        self.key.traits.life.lives()
    }

    /// Which column of a histogram their lives belong to.
    pub(crate) fn column(&self) -> usize {
        self.key.traits.life.column()
    }

    /// Whether all were freed by the next event, or none was.
    pub(crate) fn is_at_once(&self) -> bool {
        self.key.traits.is_at_once
    }
}

/// More groups than this are never kept.
pub(crate) const MOST_GROUPS: usize = 1 << 20;

/// Memory that a group takes, at most, while all are found and written.
pub(crate) const GROUP_BYTES: u64 = 512;

/// Groups that each thread of ours may make, at least, before it hands them over.
const LEAST_OWN: usize = 1 << 12;

/// What [`Alike`] rows of a heap there are, serialized, since most questions do without.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    pub bytes: Column<u8>,
    read: OnceLock<Option<Vec<Alike>>>,
}

/// A group in the making; see [`Alike`].
#[derive(Clone, Copy)]
struct Sum {
    sizes: (u64, u64),
    events: (u64, u64),
    level: Level,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        let both = |own: (u64, u64), other: (u64, u64)| (own.0.min(other.0), own.1.max(other.1));
        self.sizes = both(self.sizes, other.sizes);
        self.events = both(self.events, other.events);
        self.level.add(other.level);
    }
}

/// Rows whose groups are looked for at once. All are looked at before any is changed: a processor waits for many reads from memory at one time, but not for those that hang on what it finds.
const WINDOW: usize = 64;

/// Groups of one thread of ours: a table far larger than a cache, in which every row has its place anywhere.
#[derive(Default)]
struct Groups {
    traits: Vec<Traits>,
    numbers: HashMap<Traits, u32>,
    /// By stack and number of traits.
    table: HashTable<((u32, u32), Sum)>,
    hasher: DefaultHashBuilder,
    rows: Vec<(u64, (u32, u32), Sum)>,
}

impl Groups {
    #[inline]
    fn add(&mut self, stack: u32, traits: Traits, sum: Sum) {
        let number = *self.numbers.entry(traits).or_insert_with(|| {
            self.traits.push(traits);
            (self.traits.len() - 1) as u32
        });
        let key = (stack, number);
        self.rows.push((self.hasher.hash_one(key), key, sum));
        if self.rows.len() == WINDOW {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let find = |(hash, key, _): &(u64, (u32, u32), Sum)| self.table.find(*hash, |(found, _)| found == key);
        let seen = self.rows.iter().filter_map(find);
        std::hint::black_box(seen.fold(0, |seen, (_, sum)| seen ^ sum.level.count));
        for (hash, key, sum) in self.rows.drain(..) {
            let hash_of = |(key, _): &((u32, u32), Sum)| self.hasher.hash_one(key);
            match self.table.entry(hash, |(found, _)| *found == key, hash_of) {
                Entry::Occupied(group) => group.into_mut().1.add(&sum),
                Entry::Vacant(place) => drop(place.insert((key, sum))),
            }
        }
    }

    fn len(&mut self) -> usize {
        self.settle();
        self.table.len()
    }

    fn drain(&mut self) -> impl Iterator<Item = (AlikeKey, Sum)> + '_ {
        self.settle();
        self.numbers.clear();
        let traits = std::mem::take(&mut self.traits);
        let key = move |(stack, number): (u32, u32)| AlikeKey {
            stack,
            traits: traits[number as usize],
        };
        self.table.drain().map(move |(of, sum)| (key(of), sum))
    }
}

/// Groups of all threads of ours together, as many as may be.
struct Sums {
    groups: HashMap<AlikeKey, Sum>,
    most: usize,
    /// Whether the threads of the recording are told apart.
    by_thread: bool,
    /// Whether there are too many even so.
    is_given_up: bool,
}

impl Sums {
    fn take(&mut self, from: impl Iterator<Item = (AlikeKey, Sum)>) {
        for (mut key, sum) in from {
            if self.is_given_up {
                continue;
            }
            key.traits.thread = key.traits.thread.filter(|_| self.by_thread);
            self.groups
                .entry(key)
                .and_modify(|group| group.add(&sum))
                .or_insert(sum);
            if self.groups.len() > self.most {
                self.is_given_up = !std::mem::take(&mut self.by_thread);
                let groups = std::mem::take(&mut self.groups);
                self.take(groups.into_iter());
            }
        }
    }
}

impl Lives {
    /// Adds up all rows; nothing if they make more groups than so many though threads are not told apart.
    pub(crate) fn of(heap: &Heap, most: usize) -> Lives {
        let all = Mutex::new(Sums {
            groups: HashMap::new(),
            most,
            by_thread: true,
            is_given_up: false,
        });
        let hand_over = |own: &mut Groups| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.take(own.drain());
        };
        // As many as there may be in the end: whatever is handed over is looked up again.
        let at_once = (most / rayon::current_num_threads().max(1)).max(LEAST_OWN);
        let pieces = heap.pieces(0..heap.allocations.len());
        let shares = pieces.len().div_ceil(rayon::current_num_threads() * 4).max(1);
        pieces.par_chunks(shares).for_each(|pieces| {
            let mut own = Groups::default();
            let mut times = Times::new(&heap.clock);
            for piece in pieces {
                heap.visit(piece, 0, |item| {
                    let birth = heap.allocations.birth(item.row as usize).get();
                    let traits = Traits {
                        thread: Some(item.thread.get()),
                        kind: item.kind.get(),
                        api: item.marks.api() as u8,
                        life: fine_life(&mut times, birth, item.death),
                        is_at_once: item.death == birth.saturating_add(1),
                    };
                    let events = item.death.saturating_sub(birth);
                    let sum = Sum {
                        sizes: (item.size, item.size),
                        events: (events, events),
                        level: heap.level(item),
                    };
                    own.add(item.stack.0, traits, sum);
                });
                if own.len() > at_once {
                    hand_over(&mut own);
                }
            }
            hand_over(&mut own);
        });
        let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        if all.is_given_up {
            return Lives::default();
        }
        let groups = all.groups.into_iter();
        let alike = groups.map(|(key, Sum { sizes, events, level })| Alike {
            key,
            sizes,
            events,
            level,
        });
        let mut alike: Vec<Alike> = alike.collect();
        alike.sort_unstable_by_key(|one| one.key);
        // Nothing of this can fail to be serialized; without bytes there is nothing to read.
        let bytes = postcard::to_allocvec(&alike).unwrap_or_default();
        Lives::in_bytes(Column::Memory(bytes.into()))
    }

    pub(crate) fn in_bytes(bytes: Column<u8>) -> Lives {
        Lives {
            bytes,
            read: OnceLock::new(),
        }
    }

    fn read(&self, heap: &Heap) -> Option<Vec<Alike>> {
        let length = self.bytes.len();
        if length == 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(length);
        for piece in 0..length.div_ceil(PIECE) {
            let piece = self.bytes.piece(piece);
            bytes.extend_from_slice(&piece[..piece.len().min(length - bytes.len())]);
        }
        let read: Option<Vec<Alike>> = postcard::from_bytes(&bytes).ok();
        let stacks = heap.catalog.stacks.len();
        let kinds = heap.catalog.types.len();
        let is_known = |one: &Alike| (one.key.stack as usize) < stacks && (one.key.traits.kind as usize) < kinds;
        let is_possible = |all: &Vec<Alike>| {
            let sum = all.iter().fold(Level::default(), |sum, one| sum.and(one.level));
            all.iter().all(is_known) && sum.is_possible(heap.allocations.len())
        };
        let read = read.filter(is_possible);
        if let (None, Some(index)) = (&read, &heap.index) {
            index.mark_bad();
        }
        read
    }
}

impl Heap {
    /// All rows in groups of alike ones, if an index has them.
    pub(crate) fn alike(&self) -> Option<&[Alike]> {
        let lives = self.lives.as_ref()?;
        lives.read.get_or_init(|| lives.read(self)).as_deref()
    }
}

pub(super) fn fine_life(times: &mut Times<'_>, birth: u64, death: u64) -> FineLife {
    if death == NEVER.get() {
        return FineLife::of(None);
    }
    let birth = times.time_of(EventNo(birth)).get();
    let life = |death: Micros| FineLife::of(Some(death.get().saturating_sub(birth)));
    let [earliest, latest] = times.bounds_of(EventNo(death));
    let shortest = life(earliest);
    match shortest == life(latest) {
        true => shortest,
        false => life(times.time_of(EventNo(death))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(life: u64) -> usize {
        LIFETIME_BOUNDS.partition_point(|&bound| bound <= life)
    }

    #[test]
    fn a_fine_life_is_one_of_those_it_stands_for_and_in_the_same_column() {
        let around = LIFETIME_BOUNDS.iter().flat_map(|&bound| [bound - 1, bound, bound + 1]);
        for life in around.chain([0, 5, u64::MAX]) {
            let fine = FineLife::of(Some(life));
            assert_eq!(fine.column(), column(life), "{life}");
            let lives = fine.lives().expect("it ends");
            assert!(lives.contains(&life), "{life}");
            assert!(
                [lives.start(), lives.end()]
                    .iter()
                    .all(|&&end| FineLife::of(Some(end)) == fine),
                "{life}"
            );
        }
        assert_eq!((FineLife::of(None).column(), FineLife::of(None).lives()), (10, None));
        assert_eq!(FineLife(u8::MAX).column(), 10);
    }
}
