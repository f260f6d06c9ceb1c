//! The way of most events: a thread that has recorded before, about the target's own business, whose stack is like its last one, with room at hand.
//!
//! Nothing here decides anything: each function does the same as its long form in [`crate::event`] for the case that it is made for, and says `false` before it has
//! changed anything when the case is another. One comparison stands for most of what the long form asks: [`Local::quick`] is set by a thread that has
//! written an event the long way, to a number that is the process's own and that a forked child reads as 0.
#![allow(unsafe_code)]

use crate::arch;
use crate::event::{bare_head, Site};
use crate::life;
use crate::modules;
use crate::python;
use crate::stack::Rules;
use crate::thread::{Doing, Local, Thread};
use core::sync::atomic::{compiler_fence, AtomicU64, Ordering};
use heaptape_shm::entry::{kind, Head};
use heaptape_shm::slot::{BUSY, IDLE};
use heaptape_shm::ThreadSlot;

/// Frames that an entry of this way may push.
pub const MOST_FRAMES: usize = 64;

/// A thread for which the quick way is open.
pub struct Writer {
    local: &'static Local,
    /// Its state.
    pub thread: &'static mut Thread,
    /// Its slot.
    pub slot: &'static ThreadSlot,
    /// Other threads record too, so the order between threads matters.
    several: bool,
}

/// Begins an event. `None`: not this way.
#[inline(always)]
pub fn begin<const SELECTED: bool>(site: Site) -> Option<Writer> {
    let local = arch::local();
    let (several, recording) = life::quick::<SELECTED>(local.quick.get())?;
    if local.doing.get() != Doing::Nothing || modules::is_loader(site.caller()) || modules::changed() || !recording {
        return None;
    }
    // SAFETY: whoever has set `Local::quick` has a state, which is this thread's as long as the slot is.
    let thread = unsafe { &mut *local.thread.get() };
    let slot = thread.slot(0)?;
    local.sites[0].set(site.mark());
    local.doing.set(Doing::Writing);
    slot.inflight.store(BUSY, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    Some(Writer {
        local,
        thread,
        slot,
        several,
    })
}

impl Writer {
    /// Ends the event.
    #[inline(always)]
    pub fn end(&self) {
        compiler_fence(Ordering::SeqCst);
        self.slot.inflight.store(IDLE, Ordering::Release);
        self.local.doing.set(Doing::Nothing);
    }

    /// As [`crate::event::Writer`] stamps.
    #[inline(always)]
    pub fn stamp(&self) -> u64 {
        if self.several {
            arch::stamp_after()
        } else {
            arch::stamp()
        }
    }

    /// Writes that a block is about to be freed. `None`: there is no room at hand.
    #[inline(always)]
    pub fn free(&mut self, block: u64, flags: u16) -> Option<()> {
        let room = self.thread.own.producer.at_hand(self.slot, 3)?;
        store(room, 0, bare_head(kind::FREE, 0, flags).pack());
        store(room, 1, self.stamp());
        store(room, 2, block);
        self.thread.own.producer.publish(3);
        Some(())
    }
}

/// Stores a word of the entry at hand; `at` is less than what was asked for.
#[inline(always)]
pub fn store(room: &[AtomicU64], at: usize, word: u64) {
    // SAFETY: callers have as much room as they asked for.
    unsafe { room.get_unchecked(at) }.store(word, Ordering::Relaxed);
}

/// Records a new block. `false`: not done.
#[inline(always)]
pub fn allocated<const SELECTED: bool>(api: u8, block: u64, size: u64, site: Site) -> bool {
    if python::interpreter().is_some() {
        return python::quick::allocated::<SELECTED>(api, block, size, site, false, false);
    }
    let Some(mut writer) = begin::<SELECTED>(site) else {
        return false;
    };
    let done = write_allocation(&mut writer, api, block, size, site).is_some();
    writer.end();
    done
}

#[inline(always)]
fn write_allocation(writer: &mut Writer, api: u8, block: u64, size: u64, site: Site) -> Option<()> {
    let innermost = site.frame();
    let (cache, frames) = writer.thread.stack();
    let (frames, capacity) = (frames.as_mut_ptr(), frames.len());
    let rules = Rules::now();
    // SAFETY: the site is the live frame of the hook's caller; the memory is the list's.
    let stack = unsafe { cache.quick(frames, capacity, innermost, |address| rules.known(address)) }?;
    let push = capacity - stack.first;
    if push > MOST_FRAMES || stack.pop > Head::MOST_POPPED {
        return None;
    }
    let words = 4 + push;
    let room = writer.thread.own.producer.at_hand(writer.slot, words)?;
    let head = Head {
        kind: kind::ALLOC,
        api,
        push: push as u16,
        pop: stack.pop as u16,
        flags: 0,
    };
    store(room, 0, head.pack());
    store(room, 1, writer.stamp());
    store(room, 2, block);
    store(room, 3, size);
    for index in 0..push {
        // SAFETY: within the memory of the list.
        let frame = unsafe { *frames.add(stack.first + index) };
        store(room, 4 + index, frame.return_address() as u64);
    }
    writer.thread.own.producer.publish(words);
    // SAFETY: the same memory.
    unsafe { writer.thread.stack().0.keep_quick(frames, capacity, stack) };
    Some(())
}

/// Records that a block is about to be freed. `false`: not done.
#[inline(always)]
pub fn freeing<const SELECTED: bool>(block: u64, site: Site) -> bool {
    let Some(mut writer) = begin::<SELECTED>(site) else {
        return false;
    };
    let done = writer.free(block, 0).is_some();
    writer.end();
    done
}
