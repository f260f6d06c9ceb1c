//! The quick way ([`crate::quick`]) where there is an interpreter: its frames are those of the last event, or known code, and the object allocated before has a known type.
//!
//! As there, nothing is decided here, and nothing is changed before it is certain that the case is the one that this is made for.
#![allow(unsafe_code)]

use super::{frames, interpreter, types, Interpreter};
use crate::event::Site;
use crate::quick::{self, store, Writer, MOST_FRAMES};
use crate::stack::Rules;
use heaptape_shm::entry::{kind, Head};
use heaptape_stacks::weave::{Fresh, Natives};
use heaptape_stacks::Capture;

/// As [`quick::begin`], where there is an interpreter.
#[inline(always)]
fn begin<const SELECTED: bool>(site: Site) -> Option<(&'static Interpreter, Writer)> {
    Some((interpreter()?, quick::begin::<SELECTED>(site)?))
}

/// Records a new block. `holds`: the caller holds the interpreter's lock. `is_object`: it comes from the object domain. `false`: not done.
#[inline(always)]
pub fn allocated<const SELECTED: bool>(
    api: u8,
    block: u64,
    size: u64,
    site: Site,
    holds: bool,
    is_object: bool,
) -> bool {
    let Some((interpreter, mut writer)) = begin::<SELECTED>(site) else {
        return false;
    };
    let done = write(&mut writer, interpreter, api, block, size, site, holds, is_object).is_some();
    writer.end();
    done
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn write(
    writer: &mut Writer,
    interpreter: &Interpreter,
    api: u8,
    block: u64,
    size: u64,
    site: Site,
    holds: bool,
    is_object: bool,
) -> Option<()> {
    let innermost = site.frame();
    if holds && !writer.thread.view.is_held_by(interpreter.current()) {
        return None;
    }
    let settled = if is_object {
        types::look(writer.thread, interpreter)?
    } else {
        types::Settled::NOTHING
    };
    let thread: *mut _ = &mut *writer.thread;
    // SAFETY: this thread's own state, of which the parts used here are apart from each other.
    let mut own = unsafe { (*thread).woven() };
    let (list, capacity) = (own.frames.as_mut_ptr(), own.frames.len());
    let rules = Rules::now();
    // SAFETY: the site is the live frame of the hook's caller; the memory is the list's.
    let stack = unsafe {
        own.cache
            .quick(list, capacity, innermost, |address| rules.known(address))
    }?;
    let capture = Capture {
        pop: stack.pop,
        first: stack.first,
        reset: false,
        truncated: false,
        shared: stack.shared,
        cacheable: true,
    };
    let (fresh, same) = match own.cache.depth() {
        0 => (Fresh::none(own.strands), true),
        _ => frames::known(interpreter, &mut own, capture)?,
    };
    let before = own.cache.list(own.frames).len();
    let natives = Natives {
        frames: own.frames,
        capture,
    };
    let plan = if same {
        own.weave.plan_native(capacity, own.strands, capture, fresh, before)
    } else {
        own.weave
            .plan(natives, own.strands, fresh, before, |pc| interpreter.evaluates(pc))
    };
    if plan.push > MOST_FRAMES || plan.pop > Head::MOST_POPPED {
        return None;
    }
    let words = 4 + plan.push;
    let room = writer.thread.own.producer.at_hand(writer.slot, words)?;
    let head = Head {
        kind: kind::ALLOC,
        api,
        push: plan.push as u16,
        pop: plan.pop as u16,
        flags: settled.flags,
    };
    store(room, 0, head.pack());
    store(room, 1, writer.stamp());
    store(room, 2, block);
    store(room, 3, size);
    if same {
        for index in 0..plan.push {
            // SAFETY: within the memory of the list, of which they are the last.
            let frame = unsafe { *list.add(capacity - plan.push + index) };
            store(room, 4 + index, frame.return_address() as u64);
        }
    } else {
        for (index, word) in plan.words(own.frames, own.strands).take(plan.push).enumerate() {
            store(room, 4 + index, word);
        }
    }
    writer.thread.own.producer.publish(words);
    // SAFETY: the same memory.
    unsafe { own.cache.keep_quick(list, capacity, stack) };
    own.weave.keep(own.strands, plan.fresh);
    if is_object {
        types::settled(writer.thread, settled);
        types::born_here(writer.thread, block as usize, size as usize);
    }
    Some(())
}

/// Records that a block is about to be freed. `false`: not done.
#[inline(always)]
pub fn freeing<const SELECTED: bool>(block: u64, site: Site, is_object: bool) -> bool {
    let Some((interpreter, mut writer)) = begin::<SELECTED>(site) else {
        return false;
    };
    let done = write_end(&mut writer, interpreter, block, is_object).is_some();
    writer.end();
    done
}

#[inline(always)]
fn write_end(writer: &mut Writer, interpreter: &Interpreter, block: u64, is_object: bool) -> Option<()> {
    let settled = if is_object {
        types::look(writer.thread, interpreter)?
    } else {
        types::Settled::NOTHING
    };
    writer.free(block, settled.flags)?;
    if is_object {
        types::settled(writer.thread, settled);
    }
    Some(())
}
