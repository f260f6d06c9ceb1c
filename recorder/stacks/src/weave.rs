//! The frames of an interpreter among the native ones: one stack of both.
//!
//! An interpreter keeps a chain of frames of its own, and runs each stretch of it in one call of its evaluation function, so a native frame of that function stands for some
//! interpreted frames: they take its place. The last such chain of a thread is kept as a list of [`Strand`]s, outermost first, and compared with memory as the native list is
//! ([`crate::cache`]): a strand whose frame still holds what it held, reached by way of the innermost frame, need not be read again.
//!
//! The result is again a difference, now of the whole stack: so many frames to pop, these to push. Nothing here knows what an interpreter looks like but for the places of three
//! words in its frames ([`Links`]).
#![allow(unsafe_code)]

use crate::cache::{Capture, Overflow};
use crate::walk::Frame;

/// An interpreted frame, as it was when it was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Strand {
    /// Address of the interpreter's frame.
    pub frame: usize,
    /// Its word that links it to its caller.
    pub previous: usize,
    /// Its word that tells the instruction.
    pub instruction: usize,
    /// Its word that names the code.
    pub code: usize,
    /// The frame of its caller: what `previous` says, or, when that leads to a frame of the interpreter's own bookkeeping, what stands there.
    pub outer: usize,
    /// What is recorded.
    pub word: u64,
    /// An address in the native frame of the evaluation function that runs it; 0 when only the order is known.
    pub key: usize,
    /// Index of that native frame in the native list.
    pub home: u32,
    /// Number of native frames that this strand and the outer ones take the place of, and in bit 31 whether its home is one of them.
    rank: u32,
}

const REPLACES: u32 = 1 << 31;
/// A chain that is longer is not believed.
pub const MOST_FRAMES: usize = 1 << 20;

impl Strand {
    #[inline(always)]
    fn replaces(&self) -> bool {
        self.rank & REPLACES != 0
    }

    /// It takes the place of this native frame.
    #[inline(always)]
    fn stands_at(&self, native: usize) -> bool {
        self.home as usize == native && self.replaces()
    }

    #[inline(always)]
    fn replaced(&self) -> usize {
        (self.rank & !REPLACES) as usize
    }
}

/// Where the words of a [`Strand`] lie in an interpreter's frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Links {
    /// Link to the caller's frame.
    pub previous: usize,
    /// The instruction.
    pub instruction: usize,
    /// Bits of the instruction's word that count.
    pub instruction_mask: usize,
    /// The code.
    pub code: usize,
    /// Bits of the code's word that are its address.
    pub code_mask: usize,
}

impl Links {
    /// Reads a frame.
    ///
    /// # Safety
    /// `frame` must be a live frame, or memory that was one and can still be read.
    #[inline(always)]
    pub unsafe fn read(&self, frame: usize) -> Strand {
        // SAFETY: the caller's promise; the instruction may be a half word, after which a frame goes on.
        unsafe {
            Strand {
                frame,
                previous: ((frame + self.previous) as *const usize).read_volatile(),
                instruction: ((frame + self.instruction) as *const usize).read_unaligned() & self.instruction_mask,
                code: ((frame + self.code) as *const usize).read_volatile() & self.code_mask,
                ..Strand::default()
            }
        }
    }
}

/// The list of one thread; its memory is handed in at each call, as for [`crate::StackCache`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Weave {
    count: usize,
}

/// Fresh strands: those at `first..` of the memory, behind `shared` old ones that stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// Outermost strands of the list that stay.
    pub shared: usize,
    /// Index of the first new one; the new ones reach to the end of the memory, outermost first.
    pub first: usize,
}

impl Fresh {
    /// No strands, old or new.
    pub const fn none(strands: &[Strand]) -> Fresh {
        Fresh {
            shared: 0,
            first: strands.len(),
        }
    }
}

/// How the whole stack differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The native part.
    pub native: Capture,
    /// The interpreted part.
    pub fresh: Fresh,
    /// Innermost frames that are gone.
    pub pop: usize,
    /// Frames that are new.
    pub push: usize,
    /// Native frame from which on everything is pushed.
    from: usize,
}

impl Weave {
    /// Drops the list.
    pub fn forget(&mut self) {
        self.count = 0;
    }

    /// The list.
    pub fn list<'a>(&self, strands: &'a [Strand]) -> &'a [Strand] {
        &strands[..self.count.min(strands.len())]
    }

    /// Number of outermost strands whose native frames still run them: those that stay, and the one that is called from the innermost of these. That one stands in no stack
    /// itself, so it does not matter where in the evaluation function it is by now.
    #[inline(always)]
    pub fn within(&self, strands: &[Strand], natives: &Natives<'_>, evaluates: impl Fn(usize) -> bool) -> usize {
        let shared = natives.capture.shared;
        let mut count = self.count.min(strands.len());
        while strands
            .get(count.wrapping_sub(1))
            .is_some_and(|strand| strand.home as usize > shared)
        {
            count -= 1;
        }
        let Some(last) = count.checked_sub(1).and_then(|index| strands.get(index)) else {
            return 0;
        };
        if last.home as usize == shared {
            let here = last.replaces() && shared < natives.count() && {
                let frame = natives.get(shared);
                match last.key {
                    0 => evaluates(frame.pc),
                    key => frame.slot < key,
                }
            };
            while !here
                && strands
                    .get(count.wrapping_sub(1))
                    .is_some_and(|strand| strand.home as usize == shared)
            {
                count -= 1;
            }
        }
        count
    }

    /// Number of outermost strands, of the first `count`, that the chain from `innermost` outwards still goes through, and whose frames hold what they held.
    ///
    /// Only live frames are read: each is the innermost one, or its caller's by the words just compared. (The processor need not wait for one to read the next.)
    /// Where `depth` of them hold, those further out are taken to do so: only so many innermost frames of the stack are wanted.
    ///
    /// # Safety
    /// `innermost` must be 0 or the innermost frame of a chain that stays as it is during the call.
    #[inline(always)]
    pub unsafe fn standing(
        strands: &[Strand],
        mut count: usize,
        innermost: usize,
        links: &Links,
        depth: usize,
    ) -> usize {
        let mut frame = innermost;
        for _ in 0..MOST_FRAMES {
            if frame == 0 || count == 0 {
                return 0;
            }
            let Some(last) = strands.get(count - 1).map(|strand| strand.frame) else {
                return 0;
            };
            if last != frame {
                // SAFETY: reached from the innermost one.
                let previous = unsafe { links.read(frame) }.previous;
                // A frame called by the last one is nowhere in the list.
                if previous == last {
                    frame = last;
                    continue;
                }
            }
            let Some(found) = strands.iter().take(count).rposition(|strand| strand.frame == frame) else {
                // SAFETY: as above.
                frame = unsafe { links.read(frame) }.previous;
                continue;
            };
            let mut standing = found + 1;
            let mut at = found + 1;
            let broken = loop {
                if standing - at >= depth {
                    break false;
                }
                let Some(strand) = at.checked_sub(1).and_then(|index| strands.get(index)) else {
                    break false;
                };
                at -= 1;
                // SAFETY: reached from the innermost one.
                let now = unsafe { links.read(strand.frame) };
                if now.previous != strand.previous {
                    frame = now.previous;
                    break true;
                }
                if strand.outer != strand.previous {
                    // SAFETY: as above: the frame that comes before the caller's.
                    let outer = unsafe { links.read(now.previous) }.previous;
                    if outer != strand.outer {
                        frame = outer;
                        break true;
                    }
                }
                if (now.instruction ^ strand.instruction) | (now.code ^ strand.code) != 0 {
                    standing = at;
                }
                // Frames that are left out lie between: they are always read again.
                if strands
                    .get(at.wrapping_sub(1))
                    .is_some_and(|caller| caller.frame != strand.outer)
                {
                    frame = strand.outer;
                    break true;
                }
            };
            if !broken {
                return standing;
            }
            count = at;
        }
        0
    }

    /// Finds the native frames of the fresh strands, by their keys, or in their order among the frames that `evaluates` knows, and the difference to the stack before.
    #[inline(always)]
    pub fn plan(
        &self,
        natives: Natives<'_>,
        strands: &mut [Strand],
        fresh: Fresh,
        before: usize,
        evaluates: impl Fn(usize) -> bool,
    ) -> Plan {
        if fresh.first < strands.len() {
            place(&natives, strands, fresh, evaluates);
        }
        let capture = natives.capture;
        let old = self.list(strands);
        let outer = fresh.shared.checked_sub(1).and_then(|index| strands.get(index));
        let mut from = capture.shared + usize::from(outer.is_some_and(|outer| outer.stands_at(capture.shared)));
        if let Some(gone) = old.get(fresh.shared).filter(|_| !capture.reset) {
            from = from.min(gone.home as usize);
        }
        if let Some(strand) = strands.get(fresh.first) {
            from = from.min(strand.home as usize);
        }
        let replaced = outer.map_or(0, |outer| outer.replaced() - usize::from(outer.stands_at(from)));
        let common = from + fresh.shared - replaced;
        // That frame is not pushed when strands that stay take its place, and none is added to them.
        let joined = strands
            .get(fresh.first)
            .is_some_and(|strand| strand.home as usize == from);
        from += usize::from(!joined && outer.is_some_and(|outer| outer.stands_at(from)));
        let before = if capture.reset {
            common
        } else {
            before + old.len() - old.last().map_or(0, Strand::replaced)
        };
        let last = strands.get(fresh.first..).and_then(<[Strand]>::last).or(outer);
        let now = natives.count() + fresh.shared + (strands.len() - fresh.first) - last.map_or(0, Strand::replaced);
        Plan {
            native: capture,
            fresh,
            pop: before - common,
            push: now - common,
            from,
        }
    }

    /// [`Weave::plan`] where no strand is new and all that run in the native frames that stay stand.
    #[inline(always)]
    pub fn plan_native(
        &self,
        capacity: usize,
        strands: &[Strand],
        capture: Capture,
        fresh: Fresh,
        before: usize,
    ) -> Plan {
        let old = self.list(strands);
        let outer = fresh.shared.checked_sub(1).and_then(|index| old.get(index));
        let passed = usize::from(outer.is_some_and(|outer| outer.stands_at(capture.shared)));
        let common = capture.shared + passed + fresh.shared - outer.map_or(0, Strand::replaced);
        Plan {
            native: capture,
            fresh,
            pop: before + old.len() - old.last().map_or(0, Strand::replaced) - common,
            push: capacity - capture.first - passed,
            from: capture.shared + passed,
        }
    }

    /// Makes the planned list the list.
    #[inline(always)]
    pub fn keep(&mut self, strands: &mut [Strand], fresh: Fresh) {
        let count = strands.len() - fresh.first;
        for index in 0..count {
            let from = strands.get(fresh.first + index).copied();
            if let (Some(strand), Some(place)) = (from, strands.get_mut(fresh.shared + index)) {
                *place = strand;
            }
        }
        self.count = fresh.shared + count;
    }
}

/// The native list as captured: some old frames, then the fresh ones.
#[derive(Clone, Copy, Debug)]
pub struct Natives<'a> {
    /// The memory of the list.
    pub frames: &'a [Frame],
    /// How it was captured.
    pub capture: Capture,
}

impl Natives<'_> {
    /// Number of native frames.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.capture.shared + self.frames.len() - self.capture.first
    }

    /// The native frame of this index, from the outermost.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Frame {
        let place = match index.checked_sub(self.capture.shared) {
            None => index,
            Some(fresh) => self.capture.first + fresh,
        };
        self.frames.get(place).copied().unwrap_or_default()
    }
}

/// Gives each fresh strand its home.
fn place(natives: &Natives<'_>, strands: &mut [Strand], fresh: Fresh, evaluates: impl Fn(usize) -> bool) {
    let (old, new) = strands.split_at_mut(fresh.first);
    let count = natives.count();
    let mut outer = fresh.shared.checked_sub(1).map(|index| old[index]);
    if new[0].key == 0 {
        // From the innermost outwards: the outer part of the native stack may belong to another chain.
        let mut at = count;
        let least = outer.map_or(0, |outer| outer.home as usize + usize::from(outer.replaces()));
        for strand in new.iter_mut().rev() {
            strand.rank = 0;
            while at > least {
                at -= 1;
                if evaluates(natives.get(at).pc) {
                    strand.rank = REPLACES;
                    break;
                }
            }
            strand.home = at as u32;
        }
    } else {
        let mut at = outer.map_or(0, |outer| outer.home as usize);
        let mut key = outer.map_or(0, |outer| outer.key);
        let mut replaces = outer.is_some_and(|outer| outer.replaces());
        for strand in new.iter_mut() {
            if strand.key != key {
                key = strand.key;
                // Slots lie the lower the further in; the first one below the address is the slot of the frame that the address lies in.
                let found = (at..count).find(|index| natives.get(*index).slot < key);
                // Where the stack is cut short, the frame that the address lies in may be one of those that are missing.
                replaces = found.is_some_and(|index| index > 0 || evaluates(natives.get(index).pc));
                at = found.unwrap_or(at + usize::from(replaces));
            }
            strand.home = at as u32;
            strand.rank = if replaces { REPLACES } else { 0 };
        }
    }
    for strand in new {
        let before = outer.map_or(0, |outer| outer.rank & !REPLACES);
        let same = outer.is_some_and(|outer| outer.home == strand.home && outer.replaces());
        strand.rank += before + u32::from(strand.replaces() && !same);
        outer = Some(*strand);
    }
}

impl Plan {
    /// The words of the frames to push, outermost first.
    #[inline(always)]
    pub fn words<'a>(&self, frames: &'a [Frame], strands: &'a [Strand]) -> Words<'a> {
        let natives = Natives {
            frames,
            capture: self.native,
        };
        let outer = self.fresh.shared.checked_sub(1).and_then(|index| strands.get(index));
        let replaced = outer.is_some_and(|outer| outer.stands_at(self.from));
        Words {
            natives,
            strands: strands.get(self.fresh.first..).unwrap_or_default(),
            at: self.from,
            replaced,
        }
    }

    /// Index in the memory of the native list from which on everything is pushed, if it is nothing else.
    #[inline(always)]
    pub fn natives(&self, strands: usize) -> Option<usize> {
        let only = self.fresh.first == strands && self.from >= self.native.shared;
        only.then(|| self.native.first + self.from - self.native.shared)
    }
}

/// The frames of a [`Plan`], outermost first, as they are recorded.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    natives: Natives<'a>,
    strands: &'a [Strand],
    at: usize,
    replaced: bool,
}

impl Iterator for Words<'_> {
    type Item = u64;

    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        loop {
            if let Some((strand, rest)) = self.strands.split_first() {
                if strand.home as usize == self.at {
                    self.replaced |= strand.replaces();
                    self.strands = rest;
                    return Some(strand.word);
                }
            }
            if self.at >= self.natives.count() {
                return None;
            }
            let native = self.natives.get(self.at);
            self.at += 1;
            if !core::mem::take(&mut self.replaced) {
                return Some(native.return_address() as u64);
            }
        }
    }
}

/// Puts a fresh strand into the memory, before those put there earlier, which are further in.
///
/// # Errors
/// [`Overflow`] when there is no room behind the `shared` old ones.
#[inline(always)]
pub fn push_outer(strands: &mut [Strand], first: &mut usize, list: usize, strand: Strand) -> Result<(), Overflow> {
    if *first <= list {
        return Err(Overflow);
    }
    let place = strands.get_mut(*first - 1).ok_or(Overflow)?;
    *place = strand;
    *first -= 1;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::WORD;
    use std::vec;
    use std::vec::Vec;

    /// Program counters in the evaluation function.
    const EVALUATION: core::ops::Range<usize> = 0xe0..0xe4;

    /// A native frame of the model: its program counter, and the interpreted frames that it runs.
    type Model = Vec<(usize, Vec<u64>)>;

    /// What the whole stack must look like.
    fn expected(model: &Model) -> Vec<u64> {
        model
            .iter()
            .flat_map(|(pc, inner)| {
                if inner.is_empty() {
                    vec![*pc as u64]
                } else {
                    inner.clone()
                }
            })
            .collect()
    }

    fn slot(index: usize) -> usize {
        (1 << 20) - index * 64
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % limit
        }
    }

    fn flat(model: &Model) -> Vec<(usize, u64)> {
        let frames = model.iter().enumerate();
        frames
            .flat_map(|(home, (_, inner))| inner.iter().map(move |word| (home, *word)))
            .collect()
    }

    /// Captures the change from one model to the next as the two lists would, and gives the difference.
    fn step(
        old: &Model,
        new: &Model,
        weave: &mut Weave,
        frames: &mut [Frame],
        strands: &mut [Strand],
        keyed: bool,
    ) -> (usize, Vec<u64>) {
        let shared = old.iter().zip(new).take_while(|(old, new)| old.0 == new.0).count();
        let reset = shared == 0;
        let first = frames.len() - (new.len() - shared);
        for (index, (pc, _)) in new.iter().enumerate().skip(shared) {
            frames[first + index - shared] = Frame {
                slot: slot(index),
                pc: *pc,
                fp: 0,
            };
        }
        let capture = Capture {
            pop: if reset { 0 } else { old.len() - shared },
            first,
            reset,
            truncated: false,
            shared,
            cacheable: true,
        };
        let (old_inner, new_inner) = (flat(old), flat(new));
        let natives = Natives { frames, capture };
        let within = if reset {
            0
        } else {
            weave.within(strands, &natives, |pc| EVALUATION.contains(&pc))
        };
        let standing = old_inner[..within]
            .iter()
            .zip(&new_inner)
            .take_while(|(old, new)| old == new)
            .count();
        let mut at = strands.len();
        for (home, word) in new_inner[standing..].iter().rev() {
            let key = if keyed { slot(*home) + 8 } else { 0 };
            let strand = Strand {
                word: *word,
                key,
                ..Strand::default()
            };
            push_outer(strands, &mut at, old_inner.len(), strand).unwrap();
        }
        let natives = Natives { frames, capture };
        let plan = weave.plan(
            natives,
            strands,
            Fresh {
                shared: standing,
                first: at,
            },
            old.len(),
            |pc| EVALUATION.contains(&pc),
        );
        let words: Vec<u64> = plan.words(frames, strands).collect();
        assert_eq!(words.len(), plan.push);
        if let Some(first) = plan.natives(strands.len()) {
            let fresh: Vec<u64> = frames[first..].iter().map(|frame| frame.pc as u64).collect();
            assert_eq!(words, fresh);
        }
        if at == strands.len() && standing == within && !reset {
            let quick = weave.plan_native(frames.len(), strands, capture, plan.fresh, old.len());
            assert_eq!(quick, plan);
        }
        for index in 0..new.len() - shared {
            frames[shared + index] = frames[first + index];
        }
        weave.keep(strands, plan.fresh);
        let pop = if reset { usize::MAX } else { plan.pop };
        (pop, words)
    }

    #[test]
    fn every_difference_gives_the_stack_with_interpreted_frames_in_the_place_of_those_that_run_them() {
        for keyed in [true, false] {
            let mut random = Random(7);
            let (mut frames, mut strands) = (vec![Frame::default(); 256], vec![Strand::default(); 256]);
            let mut weave = Weave::default();
            let mut old: Model = Vec::new();
            let mut stack: Vec<u64> = Vec::new();
            for round in 0..if cfg!(miri) { 50 } else { 20_000 } {
                let mut new = old.clone();
                if !new.is_empty() {
                    new.truncate(1 + random.below(new.len()));
                    // The evaluation function goes on, and what it runs.
                    let last = new.last_mut().unwrap();
                    if EVALUATION.contains(&last.0) && random.below(2) == 0 {
                        last.0 = EVALUATION.start + random.below(4);
                    }
                    if random.below(2) == 0 {
                        let inner = &mut new.last_mut().unwrap().1;
                        if !inner.is_empty() {
                            let keep = if keyed { random.below(inner.len() + 1) } else { 1 };
                            inner.truncate(keep);
                            if let Some(last) = inner.last_mut() {
                                *last = 1 << 63 | random.below(3) as u64;
                            }
                        }
                    }
                }
                if random.below(50) == 0 {
                    new.clear();
                }
                if new.is_empty() {
                    new.push((0x10 + round % 2, Vec::new()));
                }
                for _ in 0..random.below(4) {
                    if random.below(3) == 0 {
                        let count = if keyed { random.below(4) } else { 1 };
                        let inner = (0..count).map(|_| 1 << 63 | random.below(4) as u64).collect();
                        new.push((EVALUATION.start + random.below(4), inner));
                    } else {
                        new.push((0x20 + random.below(3), Vec::new()));
                    }
                    if new.len() > 40 {
                        break;
                    }
                }
                let (pop, words) = step(&old, &new, &mut weave, &mut frames, &mut strands, keyed);
                if pop == usize::MAX {
                    stack.clear();
                } else {
                    stack.truncate(stack.len() - pop);
                }
                stack.extend(words);
                assert_eq!(stack, expected(&new), "round {round}, keyed {keyed}");
                old = new;
            }
        }
    }

    #[test]
    fn a_chain_is_compared_from_the_inside_as_far_as_it_is_wanted() {
        const FRAMES: usize = 12;
        let links = Links {
            previous: 0,
            instruction: WORD,
            instruction_mask: usize::MAX,
            code: 2 * WORD,
            code_mask: usize::MAX,
        };
        for (depth, changed) in (1..=FRAMES + 1).flat_map(|depth| (0..=FRAMES).map(move |changed| (depth, changed))) {
            let mut chain = vec![[0usize; 3]; FRAMES];
            let base = chain.as_mut_ptr();
            let frame = |index: usize| base.wrapping_add(index) as usize;
            for index in 0..FRAMES {
                let previous = if index == 0 { 0 } else { frame(index - 1) };
                // SAFETY: within the memory, through the pointer that the frames' addresses are made of; here and below.
                unsafe { *base.add(index) = [previous, 100 + index, 7] };
            }
            let strand = |index| {
                // SAFETY: as above.
                let strand = unsafe { links.read(frame(index)) };
                Strand {
                    outer: strand.previous,
                    ..strand
                }
            };
            let strands: Vec<Strand> = (0..FRAMES).map(strand).collect();
            if changed < FRAMES {
                // SAFETY: as above.
                unsafe { (*base.add(changed))[1] += 1 };
            }
            // SAFETY: as above.
            let standing = unsafe { Weave::standing(&strands, FRAMES, frame(FRAMES - 1), &links, depth) };
            let seen = changed < FRAMES && FRAMES - changed <= depth;
            assert_eq!(standing, if seen { changed } else { FRAMES }, "{depth} {changed}");
        }
    }

    #[test]
    fn a_chain_without_its_native_frames_is_still_whole() {
        let mut frames = vec![Frame::default(); 8];
        let mut strands = vec![Strand::default(); 8];
        frames[7] = Frame {
            slot: slot(0),
            pc: 0x10,
            fp: 0,
        };
        let capture = Capture {
            pop: 0,
            first: 7,
            reset: true,
            truncated: false,
            shared: 0,
            cacheable: true,
        };
        for key in [0, 64, slot(0) + 8] {
            let mut first = strands.len();
            for word in [3, 2] {
                push_outer(
                    &mut strands,
                    &mut first,
                    0,
                    Strand {
                        word,
                        key,
                        ..Strand::default()
                    },
                )
                .unwrap();
            }
            let fresh = Fresh { shared: 0, first };
            let natives = Natives {
                frames: &frames,
                capture,
            };
            let plan = Weave::default().plan(natives, &mut strands, fresh, 0, |_| false);
            let mut words: Vec<u64> = plan.words(&frames, &strands).collect();
            assert_eq!(words.len(), plan.push);
            words.sort_unstable();
            assert_eq!(words, [2, 3, 0x10]);
        }
    }
}
