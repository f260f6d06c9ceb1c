//! The verified cached stack: the last stack of a thread, as (slot, program counter, frame pointer) from the outermost frame inwards.
//!
//! At the next event the slots are compared with memory from the outside in; the longest run that still holds what it held needs no unwinding.
//! Only the new inner frames are walked, until one of them *is* a cached frame: same slot, same program counter, same frame pointer. The frame
//! pointer matters: functions with `alloca` or variable-length arrays find their caller by it.
//!
//! The result is a difference: so many frames to pop, these to push.
//!
//! Where only some innermost frames are wanted, a list with more is compared from the inside out, until as many stand. Those further out are taken to be
//! as they were; if so many frames have gone that fewer are certain than are wanted, the rest is compared after all. So the innermost frames are always certain, and a
//! recursion costs no more the deeper it is.
//!
//! Limits: the list is only used while the stack pointer and all slots lie in the stack that the thread was born with, since a slot in the
//! stack of a fiber or a signal handler may be unmapped by the time it is compared. Elsewhere every event is walked in full.
#![allow(unsafe_code)]

use crate::arch::{address, step, SLOT_BELOW_CFA};
use crate::rule::Rule;
use crate::walk::{Frame, Regs, Step};

/// Changes from one stack to another within one walk (signal handlers on stacks of their own) before it is given up.
const MOST_CROSSINGS: u32 = 16;

/// The list does not fit into the memory given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// How a stack differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Innermost frames of the previous stack that are gone.
    pub pop: usize,
    /// Index of the first new frame in the memory given; the new frames reach to its end, outermost first.
    pub first: usize,
    /// The stack is given whole; `pop` is 0.
    pub reset: bool,
    /// Its outermost frame is not the end of the stack.
    pub truncated: bool,
    /// Outermost frames of the list that stay.
    pub shared: usize,
    /// The stack can be the list that the next one is compared with.
    pub cacheable: bool,
}

/// How the commonest stack differs from the one before; see [`StackCache::quick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick {
    /// Innermost frames of the previous stack that are gone.
    pub pop: usize,
    /// Index of the first new frame in the memory given; the new frames reach to its end, outermost first.
    pub first: usize,
    /// Outermost frames of the list that stay; not 0, unless no frames are wanted.
    pub shared: usize,
}

/// The list of one thread. The memory for the frames is handed in at each call, and must be the same as long as it is not [`StackCache::forget`]-ed.
#[derive(Clone, Copy, Debug)]
pub struct StackCache {
    count: usize,
    low: usize,
    high: usize,
    depth: usize,
}

/// Which frames of a list hold what they held.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Outermost frames that were not looked at.
    unseen: usize,
    /// Outermost frames that stand, the unseen ones taken to do so.
    count: usize,
}

impl Standing {
    /// Of a stack of the `join` outermost frames of the list and so many `fresh` ones, the `depth` innermost are certain.
    #[inline(always)]
    fn suffices(&self, join: usize, fresh: usize, depth: usize) -> bool {
        self.unseen == 0 || join.saturating_sub(self.unseen) + fresh >= depth
    }
}

impl StackCache {
    /// A list for a thread whose stack lies in `low..high`, of which so many innermost frames are wanted, perhaps none.
    pub const fn new(low: usize, high: usize, depth: usize) -> StackCache {
        StackCache {
            count: 0,
            low,
            high,
            depth,
        }
    }

    /// Innermost frames that are certain.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The thread's own stack.
    pub fn bounds(&self) -> core::ops::Range<usize> {
        self.low..self.high
    }

    /// Drops the list: the next stack is given whole.
    pub fn forget(&mut self) {
        self.count = 0;
    }

    /// Which frames of the list still stand.
    ///
    /// # Safety
    /// `slot` must lie in the thread's own stack, with everything above it readable.
    #[inline(always)]
    unsafe fn verified(&self, frames: &[Frame], slot: usize) -> Standing {
        let list = self.above(frames, slot);
        // SAFETY: the caller's promise.
        let gone = list.iter().position(|frame| !unsafe { stands(frame) });
        Standing {
            unseen: 0,
            count: gone.unwrap_or(list.len()),
        }
    }

    /// The same, looking only at as many of the innermost as are wanted, if those stand.
    ///
    /// # Safety
    /// As for `verified`.
    #[inline(never)]
    unsafe fn verified_near(&self, frames: &[Frame], slot: usize) -> Standing {
        let list = self.above(frames, slot);
        let (mut count, mut unseen) = (list.len(), list.len());
        while unseen > 0 && count - unseen < self.depth {
            unseen -= 1;
            // SAFETY: the caller's promise.
            if !unsafe { stands(&list[unseen]) } {
                count = unseen;
            }
        }
        Standing { unseen, count }
    }

    /// The frames of the list that lie above this slot.
    #[inline(always)]
    fn above<'a>(&self, frames: &'a [Frame], slot: usize) -> &'a [Frame] {
        let mut count = self.count.min(frames.len());
        while count > 0 && frames[count - 1].slot & !1 < slot {
            count -= 1;
        }
        &frames[..count]
    }

    /// Takes the stack whose innermost frame is given. `rule` finds the rule of an address that lies in an instruction.
    ///
    /// # Errors
    /// [`Overflow`] when `frames` is too small; nothing has changed then.
    ///
    /// # Safety
    /// `innermost` must be a live frame of the calling thread: `slot` holds the return address of a call whose caller has frame pointer `fp`.
    #[inline(always)]
    pub unsafe fn capture(
        &self,
        frames: &mut [Frame],
        innermost: Frame,
        mut rule: impl FnMut(usize) -> Rule,
    ) -> Result<Capture, Overflow> {
        let home = self.low <= innermost.slot && innermost.slot < self.high;
        let limit = if home { self.high } else { usize::MAX };
        let mut standing = match home {
            false => Standing { unseen: 0, count: 0 },
            // SAFETY: inside the thread's own stack.
            true if self.count > self.depth => unsafe { self.verified_near(frames, innermost.slot) },
            // SAFETY: as above.
            true => unsafe { self.verified(frames, innermost.slot) },
        };
        let mut join = standing.count;
        let mut first = frames.len();
        let mut frame = innermost;
        let mut regs = Regs::above(frame);
        let mut crossings = 0;
        let (shared, truncated) = loop {
            while join > 0 && frames[join - 1].slot < frame.slot {
                join -= 1;
            }
            if join > 0 && frames[join - 1] == frame {
                if standing.suffices(join, frames.len() - first, self.depth) {
                    break (join, false);
                }
                // SAFETY: as above; no frames of the list stand elsewhere.
                standing = unsafe { self.verified(frames, innermost.slot) };
                join = join.min(standing.count);
                continue;
            }
            // The list stays as it is, also what does not stand any more, in case that this stack does not become the list.
            if first <= self.count {
                return Err(Overflow);
            }
            first -= 1;
            frames[first] = frame;
            // SAFETY: `regs` are those of a live frame, as each step gives them.
            match unsafe { step(rule(regs.instruction()), regs, limit) } {
                Step::Outer {
                    frame: outer,
                    regs: found,
                } => {
                    if outer.slot & !1 <= frame.slot & !1 {
                        crossings += 1;
                        if crossings > MOST_CROSSINGS {
                            break (0, true);
                        }
                    }
                    frame = outer;
                    regs = found;
                }
                Step::End => break (0, false),
                Step::Lost => break (0, true),
            }
        };
        let cacheable = home && crossings == 0 && frame.slot < self.high;
        Ok(Capture {
            pop: if shared == 0 { 0 } else { self.count - shared },
            first,
            reset: shared == 0,
            truncated,
            shared,
            cacheable,
        })
    }

    /// [`StackCache::capture`] for the commonest stack: in the thread's own stack, with rules that are known, up to a frame of the list.
    /// `None` when it is another: only the memory behind the list has changed then.
    ///
    /// # Safety
    /// As for `capture`. `frames` must be the memory of the list, with `capacity` frames.
    #[inline(always)]
    pub unsafe fn quick(
        &self,
        frames: *mut Frame,
        capacity: usize,
        innermost: Frame,
        rule: impl Fn(usize) -> Option<Rule>,
    ) -> Option<Quick> {
        if innermost.slot < self.low || innermost.slot >= self.high {
            return None;
        }
        if self.count > self.depth {
            // SAFETY: the caller's promise.
            return unsafe { self.quick_near(frames, capacity, innermost, rule) };
        }
        let mut end = frames.wrapping_add(self.count);
        // SAFETY: the list has `count` frames, here and below.
        while end > frames && unsafe { (*end.sub(1)).slot & !1 } < innermost.slot {
            end = end.wrapping_sub(1);
        }
        let mut standing = frames;
        // SAFETY: the list reaches up to `end`, and its slots lie above `innermost.slot`.
        while standing != end && unsafe { stands(&*standing) } {
            standing = standing.wrapping_add(1);
        }
        // SAFETY: the caller's promise.
        unsafe { self.join(frames, standing, capacity, innermost, rule) }
    }

    /// [`StackCache::quick`] for a list with more frames than are wanted.
    ///
    /// # Safety
    /// As for `quick`, in the thread's own stack.
    #[inline(never)]
    unsafe fn quick_near(
        &self,
        frames: *mut Frame,
        capacity: usize,
        innermost: Frame,
        rule: impl Fn(usize) -> Option<Rule>,
    ) -> Option<Quick> {
        // SAFETY: the memory of the list, which nobody else uses meanwhile; the slot lies in the thread's own stack.
        let standing = unsafe { self.verified_near(core::slice::from_raw_parts(frames, capacity), innermost.slot) };
        // SAFETY: the caller's promise.
        let quick = unsafe { self.join(frames, frames.wrapping_add(standing.count), capacity, innermost, rule) }?;
        standing
            .suffices(quick.shared, capacity - quick.first, self.depth)
            .then_some(quick)
    }

    /// How the stack differs from a list that stands up to `standing`.
    ///
    /// # Safety
    /// As for `quick`.
    #[inline(always)]
    unsafe fn join(
        &self,
        frames: *mut Frame,
        standing: *mut Frame,
        capacity: usize,
        innermost: Frame,
        rule: impl Fn(usize) -> Option<Rule>,
    ) -> Option<Quick> {
        let behind = frames.wrapping_add(capacity);
        if standing == frames {
            // There is nothing to meet, unless nothing is wanted.
            return (self.depth == 0).then_some(Quick {
                pop: 0,
                first: capacity,
                shared: 0,
            });
        }
        // The same call in the same frame, once more.
        // SAFETY: as above.
        let (join, first) = if unsafe { *standing.sub(1) } == innermost {
            (standing, behind)
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.walk(frames, standing, behind, innermost, rule) }?
        };
        let index = |frame: *mut Frame| (frame as usize - frames as usize) / size_of::<Frame>();
        Some(Quick {
            pop: self.count - index(join),
            first: index(first),
            shared: index(join),
        })
    }

    /// Walks from `innermost` until it meets a frame of the list, which stands up to `standing`; new frames are put below `behind`, downwards.
    /// The end of what stays of the list, and the last frame put.
    #[inline(never)]
    unsafe fn walk(
        &self,
        frames: *mut Frame,
        standing: *mut Frame,
        behind: *mut Frame,
        innermost: Frame,
        rule: impl Fn(usize) -> Option<Rule>,
    ) -> Option<(*mut Frame, *mut Frame)> {
        let mut join = standing;
        let mut first = behind;
        let mut frame = innermost;
        let mut regs = Regs::above(frame);
        loop {
            // SAFETY (all reads of the list): it stands up to `standing`.
            // SAFETY: as above.
            while join > frames && unsafe { (*join.sub(1)).slot } < frame.slot {
                join = join.wrapping_sub(1);
            }
            if join == frames {
                return None;
            }
            // SAFETY: as above.
            if unsafe { *join.sub(1) } == frame {
                return Some((join, first));
            }
            // The whole list stays as it is, also what does not stand any more: whoever takes the stack after a `None` needs it.
            if first == frames.wrapping_add(self.count) {
                return None;
            }
            first = first.wrapping_sub(1);
            // SAFETY: within the memory, behind the list.
            unsafe { first.write(frame) };
            let rule = rule(frame.pc - 1)?;
            if SLOT_BELOW_CFA && rule.is_plain() {
                // The commonest case of `step`, with less to carry: the churn benchmark's `malloc` takes 660 instructions this way and 709 by `step`.
                let slot = frame.slot.wrapping_add_signed(rule.cfa_offset());
                if slot <= frame.slot || slot >= self.high || slot & 7 != 0 {
                    return None;
                }
                frame.slot = slot;
                // SAFETY: the return address of a live frame, as the rule says; in the thread's stack, and aligned.
                frame.pc = unsafe { (slot as *const usize).read_volatile() };
                if frame.pc < 4096 {
                    return None;
                }
                continue;
            }
            if SLOT_BELOW_CFA {
                regs = Regs::above(frame);
            }
            // SAFETY: `regs` are those of a live frame, as each step gives them.
            match unsafe { step(rule, regs, self.high) } {
                Step::Outer {
                    frame: outer,
                    regs: found,
                } if outer.slot & 1 == 0 && outer.slot > frame.slot => {
                    frame = outer;
                    regs = found;
                }
                _ => return None,
            }
        }
    }

    /// Makes a stack from [`StackCache::quick`] the list.
    ///
    /// # Safety
    /// With the same memory, and nothing in between.
    #[inline(always)]
    pub unsafe fn keep_quick(&mut self, frames: *mut Frame, capacity: usize, quick: Quick) {
        let fresh = capacity - quick.first;
        for index in 0..fresh {
            // SAFETY: both within the capacity.
            unsafe { *frames.add(quick.shared + index) = *frames.add(quick.first + index) };
        }
        self.count = quick.shared + fresh;
    }

    /// Makes the captured stack the list, once it is on its way to the collector.
    #[inline(always)]
    pub fn keep(&mut self, frames: &mut [Frame], capture: &Capture) {
        if !capture.cacheable {
            self.count = 0;
            return;
        }
        let fresh = frames.len() - capture.first;
        // Downwards in memory, so going upwards is right even where the two overlap; a loop, since there are a handful of frames.
        for index in 0..fresh {
            frames[capture.shared + index] = frames[capture.first + index];
        }
        self.count = capture.shared + fresh;
    }

    /// An empty list for the same thread.
    pub fn emptied(&self) -> StackCache {
        StackCache::new(self.low, self.high, self.depth)
    }

    /// The frames of the list, outermost first.
    pub fn list<'a>(&self, frames: &'a [Frame]) -> &'a [Frame] {
        &frames[..self.count.min(frames.len())]
    }
}

/// The frame's slot holds its return address.
///
/// # Safety
/// The slot must be readable: cached slots of a live stack are, and aligned.
#[inline(always)]
unsafe fn stands(frame: &Frame) -> bool {
    // SAFETY: the caller's promise.
    address(unsafe { ((frame.slot & !1) as *const usize).read_volatile() }) == frame.pc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Fp;
    use crate::rule::Kind;
    use crate::walk::WORD;
    use std::vec;
    use std::vec::Vec;

    /// A made-up stack: frames of 4 words, the return address in the last; every function has the rule CFA = sp + 32 - 8.
    struct Stack {
        words: Vec<usize>,
    }

    impl Stack {
        fn new(frames: usize) -> Stack {
            Stack {
                words: vec![0; frames * 4 + 4],
            }
        }
        fn base(&self) -> usize {
            self.words.as_ptr() as usize
        }
        fn high(&self) -> usize {
            self.base() + self.words.len() * WORD
        }
        /// Lays out return addresses, outermost first, growing down; gives the innermost frame.
        fn set(&mut self, addresses: &[usize]) -> Frame {
            let top = self.words.len();
            for (index, address) in addresses.iter().enumerate() {
                self.words[top - 4 * (index + 1) + 3] = *address;
            }
            let slot = self.base() + (top - 4 * addresses.len() + 3) * WORD;
            Frame {
                slot,
                pc: *addresses.last().unwrap(),
                fp: Fp::default(),
            }
        }
    }

    fn rule(pc: usize) -> Rule {
        // The outermost function ends the stack.
        if pc == 0x10000 - 1 {
            Rule::bare(Kind::End)
        } else {
            Rule::plain(4 * WORD as i32)
        }
    }

    fn take(cache: &mut StackCache, frames: &mut [Frame], innermost: Frame, walked: &mut usize) -> Capture {
        // SAFETY: as below.
        let quick = unsafe { cache.quick(frames.as_mut_ptr(), frames.len(), innermost, |pc| Some(rule(pc))) };
        // SAFETY: the frames are made of live memory, with the rules above.
        let capture = unsafe {
            cache.capture(frames, innermost, |pc| {
                *walked += 1;
                rule(pc)
            })
        }
        .unwrap();
        assert_eq!(
            quick.is_none(),
            capture.reset || capture.truncated || !capture.cacheable
        );
        if let Some(quick) = quick {
            assert_eq!(
                (quick.pop, quick.first, quick.shared),
                (capture.pop, capture.first, capture.shared)
            );
            // SAFETY: as above.
            unsafe { cache.keep_quick(frames.as_mut_ptr(), frames.len(), quick) };
        } else {
            cache.keep(frames, &capture);
        }
        capture
    }

    #[test]
    fn every_stack_equals_a_full_walk_and_unchanged_frames_are_not_walked() {
        let mut stack = Stack::new(64);
        let mut cache = StackCache::new(stack.base(), stack.high(), usize::MAX);
        let mut frames = vec![Frame::default(); 256];
        let mut addresses = vec![0x10000];
        let mut random = 1u64;
        let mut mirror: Vec<usize> = Vec::new();
        for _ in 0..if cfg!(miri) { 50 } else { 5000 } {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let keep = 1 + (random >> 33) as usize % addresses.len();
            addresses.truncate(keep);
            let grow = (random >> 50) as usize % 5;
            for step in 0..grow {
                if addresses.len() < 60 {
                    addresses.push(0x20000 + (random >> (step * 3 + 10)) as usize % 8 * 16);
                }
            }
            let innermost = stack.set(&addresses);
            let mut walked = 0;
            let capture = take(&mut cache, &mut frames, innermost, &mut walked);
            if capture.reset {
                mirror.clear();
            }
            mirror.truncate(mirror.len() - capture.pop);
            mirror.extend(cache.list(&frames)[mirror.len()..].iter().map(Frame::return_address));
            assert_eq!(mirror, addresses);
            assert!(walked <= addresses.len());
            let mut again = 0;
            let same = take(&mut cache, &mut frames, innermost, &mut again);
            assert_eq!((again, same.pop, same.first), (0, 0, frames.len()));
        }
    }

    #[test]
    fn a_quick_way_that_is_not_taken_leaves_the_list_as_it_was() {
        let mut stack = Stack::new(64);
        let mut cache = StackCache::new(stack.base(), stack.high(), usize::MAX);
        // Hardly more memory than the deepest stack needs.
        let mut frames = vec![Frame::default(); 66];
        let mut addresses = vec![0x10000];
        let mut random = 1u64;
        let mut refused = 0;
        for _ in 0..5000 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            addresses.truncate(1 + (random >> 33) as usize % addresses.len());
            for step in 0..(random >> 50) as usize % 12 {
                if addresses.len() < 60 {
                    addresses.push(0x20000 + (random >> (step + 10)) as usize % 8 * 16);
                }
            }
            let innermost = stack.set(&addresses);
            let before = cache.list(&frames).to_vec();
            let known = |pc| (pc != 0x20000 + 7 * 16 - 1).then(|| rule(pc));
            // SAFETY: the frames are made of live memory.
            let quick = unsafe { cache.quick(frames.as_mut_ptr(), frames.len(), innermost, known) };
            assert_eq!(cache.list(&frames), before);
            refused += u32::from(quick.is_none());
            // SAFETY: as above.
            let capture = unsafe { cache.capture(&mut frames, innermost, rule) };
            match capture {
                Ok(capture) => cache.keep(&mut frames, &capture),
                Err(Overflow) => cache.forget(),
            }
        }
        assert!((1000..4900).contains(&refused), "{refused}");
    }

    #[test]
    fn the_innermost_frames_are_certain_whatever_has_happened_further_out() {
        // Some functions take four times as much of the stack, so that what others left there can look like frames.
        let words = |pc: usize| if pc & 0x40 == 0 { 4 } else { 16 };
        let rule = |address: usize| match address + 1 {
            0x10000 => Rule::bare(Kind::End),
            pc => Rule::plain((words(pc) * WORD) as i32),
        };
        for depth in [1, 2, 5, 20] {
            let mut stack = Stack::new(256);
            let mut cache = StackCache::new(stack.base(), stack.high(), depth);
            let mut frames = vec![Frame::default(); 256];
            let mut addresses = vec![0x10000];
            let mut mirror: Vec<usize> = Vec::new();
            let (mut near, mut far, mut stale) = (0, 0, 0);
            let mut random = 1u64;
            let mut below = |limit: usize| {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (random >> 33) as usize % limit
            };
            for _ in 0..if cfg!(miri) { 50 } else { 5000 } {
                // Frames go, others come; sometimes all but one are made again just as they were.
                if addresses.len() > 1 && below(4) == 0 {
                    let changed = 1 + below(addresses.len() - 1);
                    addresses[changed] = 0x20000 + below(8) * 16;
                }
                if below(2) == 0 {
                    addresses.truncate(addresses.len().saturating_sub(below(8)).max(1));
                }
                if below(50) == 0 {
                    addresses.truncate(1);
                }
                for _ in 0..below(9).min(60 - addresses.len()) {
                    addresses.push(0x20000 + below(8) * 16);
                }
                let mut at = stack.words.len() - 1;
                stack.words[at] = addresses[0];
                for pc in &addresses[1..] {
                    at -= words(*pc);
                    stack.words[at] = *pc;
                }
                let innermost = Frame {
                    slot: stack.base() + at * WORD,
                    pc: addresses[addresses.len() - 1],
                    fp: Fp::default(),
                };
                // SAFETY: the frames are made of live memory, with the rules above.
                let quick = unsafe { cache.quick(frames.as_mut_ptr(), frames.len(), innermost, |pc| Some(rule(pc))) };
                // SAFETY: as above.
                let capture = unsafe { cache.capture(&mut frames, innermost, rule) }.unwrap();
                match quick {
                    Some(quick) => {
                        let found = (quick.pop, quick.first, quick.shared);
                        assert_eq!(found, (capture.pop, capture.first, capture.shared));
                        near += 1;
                    }
                    None => far += 1,
                }
                assert!(!capture.truncated && capture.cacheable);
                mirror.truncate(if capture.reset { 0 } else { mirror.len() - capture.pop });
                mirror.extend(frames[capture.first..].iter().map(Frame::return_address));
                cache.keep(&mut frames, &capture);
                let innermost = |stack: &[usize]| stack.iter().rev().take(depth).copied().collect::<Vec<_>>();
                assert_eq!(innermost(&mirror), innermost(&addresses));
                assert!(addresses.len() >= depth || mirror == addresses);
                stale += u32::from(mirror != addresses);
            }
            // All three happen; a single frame is always certain.
            let seen = near > 500 && (far > 10 || depth == 1) && stale > 100;
            assert!(cfg!(miri) || seen, "{depth}: {near} {far} {stale}");
        }
    }

    #[test]
    fn where_no_frames_are_wanted_every_stack_is_empty() {
        let mut stack = Stack::new(16);
        let mut cache = StackCache::new(stack.base(), stack.high(), 0);
        let mut frames = vec![Frame::default(); 8];
        for addresses in [&[0x10000, 0x20000][..], &[0x10000, 0x20000, 0x30000]] {
            let innermost = stack.set(addresses);
            let known = |_| unreachable!("no frame is walked");
            // SAFETY: the memory of the list.
            let quick = unsafe { cache.quick(frames.as_mut_ptr(), frames.len(), innermost, known) }.unwrap();
            assert_eq!((quick.pop, quick.first, quick.shared), (0, frames.len(), 0));
            // SAFETY: as above.
            unsafe { cache.keep_quick(frames.as_mut_ptr(), frames.len(), quick) };
            assert!(cache.list(&frames).is_empty());
        }
    }

    #[test]
    fn outside_its_own_stack_nothing_is_kept() {
        let mut stack = Stack::new(8);
        let mut cache = StackCache::new(4096, 8192, usize::MAX);
        let mut frames = vec![Frame::default(); 64];
        let innermost = stack.set(&[0x10000, 0x20000, 0x30000]);
        for _ in 0..2 {
            let capture = take(&mut cache, &mut frames, innermost, &mut 0);
            assert!(capture.reset && !capture.truncated);
            assert_eq!(frames.len() - capture.first, 3);
        }
    }

    #[test]
    fn too_little_memory_is_an_overflow_and_changes_nothing() {
        let mut stack = Stack::new(16);
        let cache = StackCache::new(stack.base(), stack.high(), usize::MAX);
        let mut frames = vec![Frame::default(); 4];
        let innermost = stack.set(&[0x10000, 2 << 16, 3 << 16, 4 << 16, 5 << 16, 6 << 16]);
        // SAFETY: as above.
        assert_eq!(unsafe { cache.capture(&mut frames, innermost, rule) }, Err(Overflow));
    }
}
