//! The stack of an event, as a difference to the one before it in the same ring.
#![allow(unsafe_code)]

use crate::arch;
use crate::event::{fill, Site, Writer};
use crate::modules;
use crate::python::{self, frames, Interpreter};
use crate::stack::{self, Loan, Rules};
use crate::thread::Thread;
use core::sync::atomic::{AtomicU64, Ordering};
use heaptape_shm::control::StackMode;
use heaptape_shm::entry::{flag, kind, note, Head};
use heaptape_stacks::cache::Overflow;
use heaptape_stacks::rule::Kind;
use heaptape_stacks::weave::Plan;
use heaptape_stacks::{Capture, Frame, Rule};

/// Frames that go into one entry; deeper changes are sent ahead.
const MOST_INLINE: usize = 256;

/// The stack of an event that is about to be written.
pub struct Stack {
    /// First of the frames to push, in the thread's memory or on loan.
    first: *const Frame,
    /// Frames to push.
    pub push: u16,
    pop: u16,
    flags: u16,
    /// What to do once the event is written.
    after: After,
}

enum After {
    /// The list of the thread is to become what was written.
    Keep(Capture),
    /// Likewise, and the frames of its interpreter; what is pushed comes from both.
    Weave(Plan),
    /// The stack was walked in borrowed memory, which is to be given back. The list, if there was one, is forgotten.
    GiveBack { _loan: Loan },
    /// Nothing.
    Leave,
}

impl Stack {
    const NONE: Stack = Stack {
        first: core::ptr::null(),
        push: 0,
        pop: 0,
        flags: 0,
        after: After::Leave,
    };

    /// Takes the stack of the hook's caller.
    #[inline(always)]
    pub fn take(writer: Writer, site: Site) -> Stack {
        arch::guarded(|| Stack::walk(writer, site)).unwrap_or(Stack::NONE)
    }

    #[inline(always)]
    fn walk(writer: Writer, site: Site) -> Stack {
        #[cfg(heaptape_panic = "here")]
        crate::panic_on_purpose();
        if modules::changed() && !modules::note_caller(site.caller()) {
            writer.refresh_modules();
        }
        if writer.recording.options.stack_mode == StackMode::None {
            return Stack::NONE;
        }
        let innermost = site.frame();
        if writer.recording.options.check_stacks {
            writer.check_quick(innermost);
        }
        // SAFETY: this thread's own state; looking up a rule touches only its rings.
        let (cache, frames) = unsafe { (*writer.thread).stack() };
        if writer.level == 0 && !frames.is_empty() {
            let rules = Rules::now();
            let rule = |address: usize| match rules.known(address) {
                Some(rule) => rule,
                None => writer.find_rule(address),
            };
            // SAFETY: the site is the live frame of the hook's caller.
            if let Ok(capture) = unsafe { cache.capture(frames, innermost, rule) } {
                if let Some(interpreter) = python::interpreter() {
                    return writer.take_woven(interpreter, capture, innermost);
                }
                return writer.take_native(capture, innermost);
            }
        }
        writer.take_otherwise(innermost)
    }

    /// First word of the event's entry.
    #[inline(always)]
    pub fn head(&self, kind: u8, api: u8) -> Head {
        Head {
            kind,
            api,
            push: self.push,
            pop: self.pop,
            flags: self.flags,
        }
    }

    /// The native frames to push, outermost first, when there are no others.
    #[inline(always)]
    pub fn fresh(&self) -> &[Frame] {
        if self.first.is_null() {
            return &[];
        }
        // SAFETY: in the thread's own memory, or on loan until `done`.
        unsafe { core::slice::from_raw_parts(self.first, self.push as usize) }
    }

    /// Stores the frames to push, outermost first, when there are not only native ones.
    #[inline(always)]
    pub fn fill_woven(&self, writer: Writer, room: &[AtomicU64]) {
        if let (After::Weave(plan), true) = (&self.after, self.first.is_null()) {
            arch::guarded(|| {
                // SAFETY: this thread's own state.
                let own = unsafe { (*writer.thread).woven() };
                for (place, word) in room.iter().zip(plan.words(own.frames, own.strands)) {
                    place.store(word, Ordering::Relaxed);
                }
            });
        }
    }

    /// After the event: if it was `written`, its stack is the one that the next event differs from.
    #[inline(always)]
    pub fn done(self, writer: Writer, written: bool) {
        arch::guarded(|| match self.after {
            After::Keep(capture) if written => {
                // SAFETY: this thread's own state.
                let (cache, frames) = unsafe { (*writer.thread).stack() };
                cache.keep(frames, &capture);
            }
            After::Weave(plan) if written => {
                // SAFETY: as above.
                let own = unsafe { (*writer.thread).woven() };
                own.cache.keep(own.frames, &plan.native);
                own.weave.keep(own.strands, plan.fresh);
            }
            _ => {}
        });
    }
}

impl Writer {
    fn own<'a>(self) -> &'a mut Thread {
        // SAFETY: this thread's own state; who borrows it here lets go before the next borrows it.
        unsafe { &mut *self.thread }
    }

    fn rule(self, address: usize) -> Rule {
        Rules::now().known(address).unwrap_or_else(|| self.find_rule(address))
    }

    /// Adds the frames of the interpreter to a captured stack.
    #[inline(always)]
    fn take_woven(self, interpreter: &Interpreter, capture: Capture, innermost: Frame) -> Stack {
        match frames::take(self, interpreter, capture) {
            Ok(None) => self.take_native(capture, innermost),
            Ok(Some(plan)) => {
                let own = self.own().woven();
                let usual = plan.push <= MOST_INLINE && plan.pop <= Head::MOST_POPPED;
                if !usual || capture.truncated || self.recording.options.check_stacks {
                    return self.unusual_woven(plan, innermost);
                }
                let natives = plan.natives(own.strands.len()).filter(|_| plan.push > 0);
                Stack {
                    first: natives.map_or(core::ptr::null(), |first| own.frames.as_ptr().wrapping_add(first)),
                    push: plan.push as u16,
                    pop: plan.pop as u16,
                    flags: if capture.reset { flag::RESET } else { 0 },
                    after: After::Weave(plan),
                }
            }
            Err(Overflow) => self.take_with_more_strands(innermost),
        }
    }

    /// The interpreter's stack is deeper than ever: everything is taken anew, in more memory.
    #[cold]
    #[inline(never)]
    fn take_with_more_strands(self, innermost: Frame) -> Stack {
        if !self.own().grow_strands() {
            return self.no_stack();
        }
        self.take_otherwise(innermost)
    }

    /// A captured stack without frames of an interpreter.
    #[inline(always)]
    fn take_native(self, capture: Capture, innermost: Frame) -> Stack {
        let frames = self.own().stack().1;
        let push = frames.len() - capture.first;
        let usual = push <= MOST_INLINE && capture.pop <= Head::MOST_POPPED;
        if !usual || capture.truncated || self.recording.options.check_stacks {
            return self.unusual(capture, innermost);
        }
        Stack {
            first: match push {
                0 => core::ptr::null(),
                _ => frames.as_ptr().wrapping_add(capture.first),
            },
            push: push as u16,
            pop: capture.pop as u16,
            flags: if capture.reset { flag::RESET } else { 0 },
            after: After::Keep(capture),
        }
    }

    /// A woven stack that is long, cut short, or to be checked.
    #[cold]
    #[inline(never)]
    fn unusual_woven(self, plan: Plan, innermost: Frame) -> Stack {
        if self.recording.options.check_stacks {
            self.check(&plan.native, innermost);
            let found = python::interpreter().is_none_or(|interpreter| frames::is_whole(self, interpreter, plan.fresh));
            if !found {
                self.count_mismatch();
            }
        }
        let flags = self.flags(&plan.native);
        if plan.push <= MOST_INLINE && plan.pop <= Head::MOST_POPPED {
            return Stack {
                first: core::ptr::null(),
                push: plan.push as u16,
                pop: plan.pop as u16,
                flags,
                after: After::Weave(plan),
            };
        }
        let own = self.own().woven();
        let words = plan.words(own.frames, own.strands);
        if self.send_ahead(plan.pop, flags, plan.push, words) {
            own.cache.keep(own.frames, &plan.native);
            own.weave.keep(own.strands, plan.fresh);
        } else {
            own.cache.forget();
        }
        Stack::NONE
    }

    /// A captured stack that is long, cut short, or to be checked.
    #[cold]
    #[inline(never)]
    fn unusual(self, capture: Capture, innermost: Frame) -> Stack {
        if self.recording.options.check_stacks {
            self.check(&capture, innermost);
        }
        let (cache, frames) = self.own().stack();
        let flags = self.flags(&capture);
        let fresh = &frames[capture.first..];
        if fresh.len() <= MOST_INLINE && capture.pop <= Head::MOST_POPPED {
            let (push, pop) = (fresh.len() as u16, capture.pop as u16);
            return Stack {
                first: fresh.as_ptr(),
                push,
                pop,
                flags,
                after: After::Keep(capture),
            };
        }
        let words = fresh.iter().map(|frame| frame.return_address() as u64);
        if self.send_ahead(capture.pop, flags, fresh.len(), words) {
            cache.keep(frames, &capture);
        } else {
            cache.forget();
        }
        Stack::NONE
    }

    /// The thread has no memory of its own, a handler has interrupted it, or the stack is deeper than ever.
    #[cold]
    #[inline(never)]
    fn take_otherwise(self, innermost: Frame) -> Stack {
        let nested = self.level > 0;
        if nested || self.own().stack().1.is_empty() {
            let Some(mut loan) = Loan::take() else {
                return self.no_stack();
            };
            let cache = self.own().stack().0.emptied();
            // SAFETY: the site is the live frame of the hook's caller.
            if let Ok(capture) = unsafe { cache.capture(loan.frames(), innermost, |address| self.rule(address)) } {
                let flags = self.flags(&capture);
                let fresh = &loan.frames()[capture.first..];
                if fresh.len() > MOST_INLINE {
                    let words = fresh.iter().map(|frame| frame.return_address() as u64);
                    self.send_ahead(capture.pop, flags, fresh.len(), words);
                    return Stack::NONE;
                }
                let (first, push) = (fresh.as_ptr(), fresh.len() as u16);
                return Stack {
                    first,
                    push,
                    pop: 0,
                    flags,
                    after: After::GiveBack { _loan: loan },
                };
            }
            if nested {
                return self.no_stack();
            }
        }
        while self.own().grow_frames() {
            let (cache, frames) = self.own().stack();
            // SAFETY: as above.
            if let Ok(capture) = unsafe { cache.capture(frames, innermost, |address| self.rule(address)) } {
                return match python::interpreter() {
                    Some(interpreter) => self.take_woven(interpreter, capture, innermost),
                    None => self.unusual(capture, innermost),
                };
            }
        }
        self.no_stack()
    }

    /// Nothing could be had: the stack is empty and says that it was cut.
    fn no_stack(self) -> Stack {
        if self.level == 0 {
            self.own().stack().0.forget();
        }
        self.count_truncated();
        Stack {
            flags: flag::RESET | flag::TRUNCATED,
            ..Stack::NONE
        }
    }

    fn flags(self, capture: &Capture) -> u16 {
        if capture.truncated {
            self.count_truncated();
        }
        u16::from(capture.reset) * flag::RESET + u16::from(capture.truncated) * flag::TRUNCATED
    }

    /// Sends a long stack in entries of its own. `false` when not all of it could be sent.
    fn send_ahead(self, mut pop: usize, mut flags: u16, push: usize, mut frames: impl Iterator<Item = u64>) -> bool {
        let mut sent = 0;
        while pop > 0 || sent < push {
            let part = pop.min(Head::MOST_POPPED);
            pop -= part;
            let count = if pop > 0 { 0 } else { MOST_INLINE.min(push - sent) };
            let Some(room) = self.room(2 + count) else { return false };
            let head = Head {
                kind: kind::STACK,
                api: 0,
                push: count as u16,
                pop: part as u16,
                flags,
            };
            fill(room, head, arch::stamp(), &[], &[]);
            for (place, word) in room[2..2 + count].iter().zip(&mut frames) {
                place.store(word, Ordering::Relaxed);
            }
            self.publish(2 + count);
            sent += count;
            flags = 0;
        }
        true
    }

    #[cold]
    #[inline(never)]
    fn find_rule(self, address: usize) -> Rule {
        let guess = self.recording.options.stack_mode == StackMode::FramePointers;
        self.muted(|| stack::find(address, guess, &mut |kind, bytes| self.module_note(kind, bytes)))
            .unwrap_or(Rule::bare(Kind::Unknown))
    }

    #[cold]
    #[inline(never)]
    fn refresh_modules(self) {
        self.muted(|| modules::refresh(&mut |kind, bytes| self.module_note(kind, bytes)));
    }

    /// Walks the whole stack, and counts a mismatch if the capture says something else.
    fn check(self, capture: &Capture, innermost: Frame) {
        self.compare(capture.shared, capture.first, innermost);
    }

    /// Takes the stack the way that [`crate::quick`] takes it, and compares that with the whole one. What it puts behind the list is put there again by whoever
    /// takes the stack after this.
    #[cold]
    #[inline(never)]
    fn check_quick(self, innermost: Frame) {
        if self.level > 0 {
            return;
        }
        let (cache, frames) = self.own().stack();
        let (memory, capacity) = (frames.as_mut_ptr(), frames.len());
        let rules = Rules::now();
        // SAFETY: the live frame of the hook's caller; the memory is the list's.
        if let Some(quick) = unsafe { cache.quick(memory, capacity, innermost, |address| rules.known(address)) } {
            self.compare(quick.shared, quick.first, innermost);
        }
    }

    /// Walks the whole stack, and counts a mismatch if its innermost frames, as many as are wanted, are not those of the list up to `shared` with what lies from `first` on.
    fn compare(self, shared: usize, first: usize, innermost: Frame) {
        let Some(mut loan) = Loan::take() else { return };
        let whole = self.own().stack().0.emptied();
        // SAFETY: the live frame of the hook's caller.
        let Ok(full) = (unsafe { whole.capture(loan.frames(), innermost, |address| self.rule(address)) }) else {
            return;
        };
        let depth = self.recording.options.depth();
        let expected = loan.frames()[full.first..].iter().map(Frame::return_address);
        let frames = self.own().stack().1;
        let got = frames[..shared]
            .iter()
            .chain(&frames[first..])
            .map(Frame::return_address);
        if !expected.rev().take(depth).eq(got.rev().take(depth)) {
            self.count_mismatch();
        }
    }

    fn count_mismatch(self) {
        if let Some(process) = self.recording.process_slot() {
            process.mismatches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells of the modules that every stack leads to, while that can still be done at leisure. Must run on a stack of ours.
    pub fn announce_usual(self) {
        for address in modules::usual() {
            if let Some(located) = modules::locate(address) {
                modules::announce(&located, &mut |kind, bytes| self.module_note(kind, bytes));
            }
        }
    }

    fn module_note(self, kind: modules::Note, bytes: &[u8]) -> bool {
        self.note(
            match kind {
                modules::Note::Here => note::MODULE,
                modules::Note::Gone => note::MODULE_GONE,
                modules::Note::Runtime => note::RUNTIME,
            },
            bytes,
        )
    }

    #[cold]
    fn count_truncated(self) {
        if let Some(process) = self.recording.process_slot() {
            process.truncated.fetch_add(1, Ordering::Relaxed);
        }
    }
}
