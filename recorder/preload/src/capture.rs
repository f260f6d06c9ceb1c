//! The stack of an event, as a difference to the one before it in the same ring.
#![allow(unsafe_code)]

use crate::arch;
use crate::event::{fill, Site, Writer};
use crate::modules;
use crate::stack::{self, Loan, Rules};
use crate::thread::{Doing, Thread};
use core::sync::atomic::Ordering;
use heaptape_shm::control::StackMode;
use heaptape_shm::entry::{flag, kind, note, Head};
use heaptape_stacks::rule::Kind;
use heaptape_stacks::{Capture, Frame, Rule};

/// Frames that go into one entry; deeper changes are sent ahead.
const MOST_INLINE: usize = 256;

/// The stack of an event: in the thread's own memory with its cache, or in borrowed memory without.
pub enum Stack {
    None,
    Own(Capture, *mut Thread),
    Borrowed(Capture, Loan),
    /// Nothing could be had: the stack is empty and says that it was cut.
    Lost,
}

impl Stack {
    #[inline(always)]
    pub fn take(writer: &mut Writer, site: Site) -> Stack {
        let mode = writer.recording.options.stack_mode;
        if mode == StackMode::None {
            return Stack::None;
        }
        if modules::changed() && !modules::note_caller(site.caller()) {
            writer.refresh_modules();
        }
        let innermost = Frame {
            slot: site.slot as usize,
            pc: site.caller(),
            fp: site.fp,
        };
        let rules = Rules::now();
        let raw: *mut Writer = writer;
        let rule = |address: usize| {
            if mode == StackMode::FramePointers {
                return Rule::bare(Kind::Guess);
            }
            match rules.known(address) {
                Some(rule) => rule,
                // SAFETY: the writer outlives this closure, and nothing else uses it while a rule is looked up.
                None => unsafe { (*raw).find_rule(address) },
            }
        };
        let thread = writer.thread;
        // SAFETY: this thread's own state; the closure above touches only its producers.
        let own = unsafe { &mut *thread };
        if writer.level == 0 && !own.frames().is_empty() {
            let cache = own.cache;
            // SAFETY: the site is the live frame of the hook's caller.
            if let Ok(capture) = unsafe { cache.capture(own.frames(), innermost, rule) } {
                if writer.recording.options.check_stacks {
                    writer.check(&capture, innermost);
                }
                return Stack::Own(capture, thread);
            }
        }
        Stack::take_otherwise(writer, innermost)
    }

    /// No memory of its own, a level above the first, or a stack deeper than ever.
    #[cold]
    #[inline(never)]
    fn take_otherwise(writer: &mut Writer, innermost: Frame) -> Stack {
        let (thread, nested) = (writer.thread, writer.level > 0);
        let mut rule = |address: usize| match Rules::now().known(address) {
            _ if writer.recording.options.stack_mode == StackMode::FramePointers => Rule::bare(Kind::Guess),
            Some(rule) => rule,
            None => writer.find_rule(address),
        };
        // SAFETY: this thread's own state; the closure above touches only its producers.
        let own = unsafe { &mut *thread };
        let mut whole = own.cache;
        whole.forget();
        if nested || own.frames().is_empty() {
            let Some(mut loan) = Loan::take() else {
                return Stack::Lost;
            };
            // SAFETY: the site is the live frame of the hook's caller.
            if let Ok(capture) = unsafe { whole.capture(loan.frames(), innermost, &mut rule) } {
                return Stack::Borrowed(capture, loan);
            }
            if nested {
                return Stack::Lost;
            }
        }
        while own.grow_frames() {
            let cache = own.cache;
            // SAFETY: as above.
            if let Ok(capture) = unsafe { cache.capture(own.frames(), innermost, &mut rule) } {
                return Stack::Own(capture, thread);
            }
        }
        Stack::Lost
    }

    /// Sends a long stack ahead. What is left for the event's own entry: frames to push, frames to pop, flags.
    #[inline(always)]
    pub fn prepare(&mut self, writer: &mut Writer) -> (u16, u16, u16) {
        let capture = match self {
            Stack::None => return (0, 0, 0),
            Stack::Lost => {
                // SAFETY: this thread's own state.
                unsafe { (*writer.thread).cache.forget() };
                writer.count_truncated();
                return (0, 0, flag::RESET | flag::TRUNCATED);
            }
            Stack::Own(capture, _) | Stack::Borrowed(capture, _) => *capture,
        };
        if capture.truncated {
            writer.count_truncated();
        }
        let push = self.fresh().len();
        let flags =
            (if capture.reset { flag::RESET } else { 0 }) | (if capture.truncated { flag::TRUNCATED } else { 0 });
        if push > MOST_INLINE || capture.pop > u16::MAX as usize {
            self.send_ahead(writer, &capture, flags);
            return (0, 0, 0);
        }
        (push as u16, capture.pop as u16, flags)
    }

    #[cold]
    #[inline(never)]
    fn send_ahead(&mut self, writer: &mut Writer, capture: &Capture, mut flags: u16) {
        let mut pop = capture.pop;
        let mut sent = 0;
        let mut complete = true;
        while complete && (pop > 0 || sent < self.fresh().len()) {
            let fresh = self.fresh();
            let part = pop.min(u16::MAX as usize);
            pop -= part;
            let frames = if pop > 0 {
                &[][..]
            } else {
                &fresh[sent..fresh.len().min(sent + MOST_INLINE)]
            };
            let words = 2 + frames.len();
            let Some(room) = writer.room(words) else {
                complete = false;
                break;
            };
            let head = Head {
                kind: kind::STACK,
                api: 0,
                push: frames.len() as u16,
                pop: part as u16,
                flags,
            };
            fill(room, head, arch::stamp(), &[], frames);
            sent += frames.len();
            writer.publish(words);
            flags = 0;
        }
        match self {
            Stack::Own(capture, thread) if complete => {
                // SAFETY: this thread's own state.
                let own = unsafe { &mut **thread };
                let mut cache = own.cache;
                cache.keep(own.frames(), capture);
                own.cache = cache;
            }
            // SAFETY: as above.
            _ => unsafe { (*writer.thread).cache.forget() },
        }
        *self = Stack::None;
    }

    /// The frames to push, outermost first.
    #[inline(always)]
    pub fn fresh(&mut self) -> &[Frame] {
        match self {
            Stack::None | Stack::Lost => &[],
            // SAFETY: this thread's own state.
            Stack::Own(capture, thread) => unsafe { &(&mut **thread).frames()[capture.first..] },
            Stack::Borrowed(capture, loan) => &loan.frames()[capture.first..],
        }
    }

    /// The event is published: its stack is the one that the next event differs from.
    #[inline(always)]
    pub fn keep(&mut self, writer: &mut Writer) {
        match self {
            Stack::None | Stack::Lost => {}
            Stack::Own(capture, thread) => {
                // SAFETY: this thread's own state.
                let own = unsafe { &mut **thread };
                let mut cache = own.cache;
                cache.keep(own.frames(), capture);
                own.cache = cache;
            }
            // Each level has a slot of its own, whose stack at the collector is the last one that was sent there; the next is sent whole again.
            // SAFETY: as above.
            Stack::Borrowed(..) if writer.level == 0 => unsafe { (*writer.thread).cache.forget() },
            Stack::Borrowed(..) => {}
        }
    }
}

impl Writer {
    #[cold]
    #[inline(never)]
    fn find_rule(&mut self, address: usize) -> Rule {
        self.muted(|writer| stack::find(address, &mut |kind, bytes| writer.module_note(kind, bytes)))
            .unwrap_or(Rule::bare(Kind::Unknown))
    }

    #[cold]
    #[inline(never)]
    fn refresh_modules(&mut self) {
        self.muted(|writer| modules::refresh(&mut |kind, bytes| writer.module_note(kind, bytes)));
    }

    /// Runs what may call libc, on a stack of ours.
    fn muted<T>(&mut self, run: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        stack::on_cold_stack(|| {
            self.local.doing.set(Doing::Muted);
            let result = run(self);
            self.local.doing.set(Doing::Writing);
            result
        })
    }

    /// Walks the whole stack, and counts a mismatch if the capture says something else.
    #[cold]
    #[inline(never)]
    fn check(&mut self, capture: &Capture, innermost: Frame) {
        let Some(mut loan) = Loan::take() else { return };
        let thread = self.thread;
        let mut rule = |address: usize| match Rules::now().known(address) {
            _ if self.recording.options.stack_mode == StackMode::FramePointers => Rule::bare(Kind::Guess),
            Some(rule) => rule,
            None => self.find_rule(address),
        };
        // SAFETY: this thread's own state; the closure above touches only its producers.
        let own = unsafe { &mut *thread };
        let mut whole = own.cache;
        whole.forget();
        // SAFETY: the live frame of the hook's caller.
        let Ok(full) = (unsafe { whole.capture(loan.frames(), innermost, &mut rule) }) else {
            return;
        };
        let expected = loan.frames()[full.first..].iter().map(Frame::return_address);
        let frames = own.frames();
        let got = frames[..capture.shared]
            .iter()
            .chain(&frames[capture.first..])
            .map(Frame::return_address);
        if !expected.eq(got) {
            if let Some(process) = self
                .recording
                .segment
                .processes()
                .get(self.recording.process() as usize)
            {
                process.mismatches.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn module_note(&mut self, kind: modules::Note, bytes: &[u8]) -> bool {
        self.note(
            if kind == modules::Note::Gone {
                note::MODULE_GONE
            } else {
                note::MODULE
            },
            bytes,
        )
    }

    #[cold]
    fn count_truncated(&self) {
        if let Some(process) = self
            .recording
            .segment
            .processes()
            .get(self.recording.process() as usize)
        {
            process.truncated.fetch_add(1, Ordering::Relaxed);
        }
    }
}
