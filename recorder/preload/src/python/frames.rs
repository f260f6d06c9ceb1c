//! The chain of frames of the calling thread, woven into its native stack.
//!
//! The chain is read as it lies in memory; nothing of the interpreter is called. That is safe for a thread that holds the interpreter's lock, and for one that has let go of
//! it: its own chain stays as it is until it takes it again.
#![allow(unsafe_code)]

use super::layout::{self, Chain, Layout, OWNED_BY_C_STACK, OWNED_BY_GENERATOR};
use super::watch;
use super::{code, domains, Interpreter};
use crate::event::Writer;
use crate::thread::Woven;
use heaptape_shm::entry::python::{FRAME, NO_OFFSET};
use heaptape_stacks::cache::Overflow;
use heaptape_stacks::weave::{push_outer, Fresh, Natives, Plan, MOST_FRAMES};
use heaptape_stacks::{Capture, Strand, Weave};

/// What a thread knows of its interpreter.
#[derive(Clone, Copy, Default)]
pub struct View {
    /// Its thread state, and the number of that; 0 when it has none, or is not known to have one.
    state: usize,
    number: u32,
    /// Epochs in which that, and the list of strands, were taken.
    states_epoch: u32,
    frames_epoch: u32,
}

impl View {
    /// The thread has held the lock with this state before, and no state has died since.
    #[inline(always)]
    pub fn is_held_by(&self, state: usize) -> bool {
        self.state == state && self.states_epoch == watch::epochs().1
    }

    /// The thread holds the interpreter's lock, with this thread state.
    #[inline(always)]
    pub fn holds(&mut self, state: usize) {
        if self.state() != state {
            self.meet(state);
        }
    }

    #[cold]
    fn meet(&mut self, state: usize) {
        self.state = state;
        if state != 0 {
            domains::settled();
            // SAFETY: the thread's own state.
            let interpreter = unsafe { word(state + layout::STATE_INTERPRETER) };
            self.number = watch::meet_state(state, interpreter);
            // Making it known may have raised it.
            self.states_epoch = watch::epochs().1;
        }
    }

    /// The thread's state, if it has one and that lives.
    #[inline(always)]
    fn state(&mut self) -> usize {
        let (_, epoch) = watch::epochs();
        if self.states_epoch != epoch {
            self.look_again(epoch);
        }
        self.state
    }

    /// A state has died: was it this thread's?
    #[cold]
    fn look_again(&mut self, epoch: u32) {
        if !watch::is_state_alive(self.state, self.number) {
            self.state = 0;
        }
        self.states_epoch = epoch;
    }
}

/// Adds the frames of the interpreter to a captured native stack. `None`: there are none, and were none.
///
/// # Errors
/// [`Overflow`] when the thread's memory for strands is too small.
#[inline(always)]
pub fn take(writer: Writer, interpreter: &Interpreter, capture: Capture) -> Result<Option<Plan>, Overflow> {
    // SAFETY: this thread's own state.
    let own = unsafe { (*writer.thread).woven() };
    let (frames_epoch, _) = watch::epochs();
    let state = own.view.state();
    let list = own.weave.list(own.strands).len();
    if state == 0 && list == 0 {
        return Ok(None);
    }
    let layout = &interpreter.layout;
    let natives = Natives {
        frames: own.frames,
        capture,
    };
    let within = match own.view.frames_epoch == frames_epoch && !capture.reset {
        true => own.weave.within(own.strands, &natives, |pc| interpreter.evaluates(pc)),
        false => 0,
    };
    own.view.frames_epoch = frames_epoch;
    let walk = Walk::begin(layout, state);
    // SAFETY: the chain of this thread.
    let standing = unsafe { Weave::standing(own.strands, within, walk.frame, &layout.links, own.cache.depth()) };
    let mut fresh = Fresh {
        shared: standing,
        first: own.strands.len(),
    };
    let joins = standing.checked_sub(1).map_or(0, |index| own.strands[index].frame);
    if walk.frame != joins {
        let joined = standing
            .checked_sub(1)
            .and_then(|index| own.strands.get(index).copied());
        let number = |code| Some(code::number(writer, layout, code));
        walk.collect(number, interpreter, own.strands, &mut fresh, list, joined)
            .ok_or(Overflow)?;
    }
    let before = own.cache.list(own.frames).len();
    let plan = own
        .weave
        .plan(natives, own.strands, fresh, before, |pc| interpreter.evaluates(pc));
    Ok(Some(plan))
}

/// As [`take`], where nothing is new, or only frames whose code is known. `None`: something else is, or the memory does not suffice; nothing has changed then. Also says
/// whether no frame is new.
#[inline(always)]
pub fn known(interpreter: &Interpreter, own: &mut Woven<'_>, capture: Capture) -> Option<(Fresh, bool)> {
    let (frames_epoch, states_epoch) = watch::epochs();
    if own.view.frames_epoch != frames_epoch || own.view.states_epoch != states_epoch {
        return None;
    }
    let layout = &interpreter.layout;
    let natives = Natives {
        frames: own.frames,
        capture,
    };
    let within = own.weave.within(own.strands, &natives, |pc| interpreter.evaluates(pc));
    let walk = Walk::begin(layout, own.view.state);
    // SAFETY: the chain of this thread.
    let shared = unsafe { Weave::standing(own.strands, within, walk.frame, &layout.links, own.cache.depth()) };
    let joined = shared.checked_sub(1).and_then(|index| own.strands.get(index));
    let joins = joined.map_or(0, |strand| strand.frame);
    let mut fresh = Fresh {
        shared,
        first: own.strands.len(),
    };
    if walk.frame == joins {
        return Some((fresh, shared == within));
    }
    let list = own.weave.list(own.strands).len();
    let joined = shared.checked_sub(1).and_then(|index| own.strands.get(index).copied());
    let number = |code| watch::find(code, watch::Kind::Code);
    walk.collect(number, interpreter, own.strands, &mut fresh, list, joined)?;
    Some((fresh, false))
}

/// Walks the whole chain: whether it is what the list is about to become, in as many of its innermost frames as are wanted.
#[cold]
pub fn is_whole(writer: Writer, interpreter: &Interpreter, fresh: Fresh) -> bool {
    // SAFETY: this thread's own state.
    let own = unsafe { (*writer.thread).woven() };
    let expected = own.strands[..fresh.shared].iter().chain(&own.strands[fresh.first..]);
    let depth = own.cache.depth();
    let mut expected = expected.rev().take(depth);
    let mut seen = 0;
    let layout = &interpreter.layout;
    let mut frame = Walk::begin(layout, own.view.state()).frame;
    for _ in 0..MOST_FRAMES {
        if frame == 0 || seen == depth {
            break;
        }
        // SAFETY: a frame of this thread's chain.
        let (strand, owner) = unsafe { (layout.links.read(frame), layout.owner(frame)) };
        let shim = owner >= OWNED_BY_C_STACK && layout.chain != Chain::EntryFlags;
        if !shim && interpreter.offset(&strand, owner).is_some() {
            let same = expected.next().is_some_and(|other| {
                (other.frame, other.code, other.instruction) == (frame, strand.code, strand.instruction)
            });
            if !same {
                return false;
            }
            seen += 1;
        }
        frame = strand.previous;
    }
    expected.next().is_none()
}

/// Walking the chain outwards.
struct Walk<'a> {
    layout: &'a Layout,
    frame: usize,
    /// The record on the C stack, before 3.13.
    record: usize,
}

impl<'a> Walk<'a> {
    #[inline(always)]
    fn begin(layout: &'a Layout, state: usize) -> Walk<'a> {
        let mut walk = Walk {
            layout,
            frame: 0,
            record: 0,
        };
        if state != 0 {
            // SAFETY: a live thread state, and its record.
            unsafe {
                walk.frame = word(state + layout.state_frame);
                if matches!(layout.chain, Chain::EntryFlags | Chain::EntryFramesByRecord) {
                    walk.record = walk.frame;
                    walk.frame = match walk.record {
                        0 => 0,
                        record => word(record + layout.record.0),
                    };
                }
            }
        }
        walk
    }

    /// Reads the frames that are new, from the innermost outwards, until one that stands is reached. `number` gives the numbers of their code. `None`: it has not, or the
    /// memory does not suffice.
    #[inline(never)]
    fn collect(
        mut self,
        mut number: impl FnMut(usize) -> Option<u32>,
        interpreter: &Interpreter,
        strands: &mut [Strand],
        fresh: &mut Fresh,
        list: usize,
        joined: Option<Strand>,
    ) -> Option<()> {
        let layout = self.layout;
        // The latest strand, whose caller is yet to be met, and where those of its call begin, whose key is not known yet.
        let mut waiting: Option<usize> = None;
        let mut keyless = fresh.first;
        for _ in 0..MOST_FRAMES {
            let reached = joined.is_some_and(|joined| joined.frame == self.frame);
            if self.frame == 0 || reached {
                break;
            }
            let frame = self.frame;
            // SAFETY: a frame of the chain.
            let mut strand = unsafe { layout.links.read(frame) };
            strand.outer = strand.previous;
            // SAFETY: as above.
            let owner = unsafe { layout.owner(frame) };
            let shim = owner >= OWNED_BY_C_STACK && layout.chain != Chain::EntryFlags;
            if shim {
                for inner in strands.get_mut(fresh.first..keyless).unwrap_or_default() {
                    inner.key = frame;
                }
                keyless = fresh.first;
                if let Some(inner) = waiting.take().and_then(|index| strands.get_mut(index)) {
                    if inner.previous == frame {
                        inner.outer = strand.previous;
                    }
                }
            } else if let Some(offset) = interpreter.offset(&strand, owner) {
                strand.word = FRAME | u64::from(number(strand.code)?) << 32 | u64::from(offset);
                strand.key = self.record;
                push_outer(strands, &mut fresh.first, list, strand).ok()?;
                waiting = Some(fresh.first);
            }
            if layout.chain == Chain::EntryFlags && self.record != 0 {
                // SAFETY: as above; the record is that of the call which this frame is the outermost of.
                unsafe {
                    if byte(frame + layout.entry) != 0 {
                        self.record = word(self.record + layout.record.1);
                    }
                }
            }
            self.frame = strand.previous;
        }
        let key = joined.map_or(0, |joined| joined.key);
        if matches!(layout.chain, Chain::EntryFramesByRecord | Chain::EntryFrames) {
            for inner in strands.get_mut(fresh.first..keyless).unwrap_or_default() {
                inner.key = key;
            }
        }
        Some(())
    }
}

impl Layout {
    /// Who owns a frame.
    ///
    /// # Safety
    /// `frame` must be a live frame.
    #[inline(always)]
    unsafe fn owner(&self, frame: usize) -> u8 {
        match self.chain {
            Chain::Objects => 0,
            // SAFETY: the caller's promise.
            _ => unsafe { byte(frame + self.owner) },
        }
    }
}

impl Interpreter {
    /// Where in its bytecode a frame is, in bytes; `None` for a frame that is to be left out: it runs no code, or has not begun.
    #[inline(always)]
    fn offset(&self, strand: &Strand, owner: u8) -> Option<u32> {
        let layout = &self.layout;
        if strand.code == 0 {
            return None;
        }
        if layout.chain == Chain::Objects {
            let number = strand.instruction as u32;
            return Some(match number {
                u32::MAX => NO_OFFSET,
                number => number.wrapping_mul(layout.unit as u32),
            });
        }
        // SAFETY: an object that a live frame names.
        if layout.chain == Chain::EntryFrames && unsafe { word(strand.code + layout::TYPE) } != self.code_type {
            return None;
        }
        let offset = strand.instruction.wrapping_sub(strand.code + layout.code_start) as isize as i64;
        // SAFETY: a code object that a live frame names.
        let traceable = unsafe { ((strand.code + layout.code_traceable) as *const i32).read_volatile() };
        if owner != OWNED_BY_GENERATOR && offset < i64::from(traceable) * 2 {
            return None;
        }
        Some(u32::try_from(offset).unwrap_or(NO_OFFSET))
    }
}

/// # Safety
/// `address` must be readable.
#[inline(always)]
unsafe fn word(address: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { (address as *const usize).read_volatile() }
}

/// # Safety
/// `address` must be readable.
#[inline(always)]
unsafe fn byte(address: usize) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { (address as *const u8).read_volatile() }
}
