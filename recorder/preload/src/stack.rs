//! Stacks of this process: the rules found so far, the slow way to find more, and memory to borrow for both.
#![allow(unsafe_code)]

use crate::thread::{Local, LEVELS};
use crate::{arch, modules, sys};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use heaptape_stacks::arch::{rule_for, FRAME_POINTERS_ARE_BELIEVED, TRAMPOLINES};
use heaptape_stacks::rule::Kind;
use heaptape_stacks::{Frame, Rule, RuleTable};

/// Words of the rule table: 32,768 rules, 512 KiB, touched as it fills.
const RULE_WORDS: usize = 65536;
static RULES: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
/// Epochs that keys tell apart.
const EPOCHS: usize = 256;
/// Raised when a module has gone: older rules are found no more.
static EPOCH: AtomicUsize = AtomicUsize::new(0);

/// Stacks to run the slow path on: the target's may be tiny (a signal stack of 2 KiB).
const COLD_STACKS: usize = 4;
const COLD_STACK_BYTES: usize = 64 << 10;
static COLD: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static COLD_TAKEN: [AtomicUsize; COLD_STACKS] = [const { AtomicUsize::new(NOBODY) }; COLD_STACKS];

/// Frame memory for threads (and handlers) that have none of their own.
const LOANS: usize = 8;
const LOAN_FRAMES: usize = 4096;
static LOAN: AtomicPtr<Frame> = AtomicPtr::new(core::ptr::null_mut());
static LOAN_TAKEN: [AtomicUsize; LOANS] = [const { AtomicUsize::new(NOBODY) }; LOANS];

/// Who holds a thing when nobody does.
const NOBODY: usize = 0;

/// Who asks: the calling thread, by the address of its thread-local block, and the level of the event that it writes.
pub fn asker() -> usize {
    let local = arch::local();
    (local as *const Local as usize) + local.level.get() as usize % LEVELS
}
const _: () = assert!(LEVELS <= 16, "thread-local blocks are 16-byte aligned");

/// Maps the memory (touched only as it is used). `false` when there is none.
pub fn prepare(no_stacks: bool) -> bool {
    let cold = sys::memory(COLD_STACKS * COLD_STACK_BYTES);
    COLD.store(cold, Ordering::Release);
    if cold.is_null() || no_stacks {
        return !cold.is_null();
    }
    let rules = sys::memory(RULE_WORDS * 8);
    RULES.store(rules as *mut AtomicU64, Ordering::Release);
    let loans = sys::memory(LOANS * LOAN_FRAMES * core::mem::size_of::<Frame>());
    LOAN.store(loans as *mut Frame, Ordering::Release);
    !rules.is_null() && !loans.is_null()
}

/// In a forked child: what other threads of the parent had borrowed is nobody's.
pub fn forget_parent() {
    for taken in COLD_TAKEN.iter().chain(&LOAN_TAKEN) {
        taken.store(NOBODY, Ordering::Release);
    }
}

/// Takes back what the calling thread has borrowed for events from `level` inwards: it jumped out of them, and will not come back.
pub fn abandon(level: usize) {
    let block = arch::local() as *const Local as usize;
    let abandoned = block + level..block + LEVELS;
    for taken in COLD_TAKEN.iter().chain(&LOAN_TAKEN) {
        // Only this thread gives its own back, so there is nobody to race with.
        if abandoned.contains(&taken.load(Ordering::Relaxed)) {
            taken.store(NOBODY, Ordering::Release);
        }
    }
    modules::abandon(&abandoned);
}

/// Does this address lie in one of the cold stacks?
pub fn is_cold(address: usize) -> bool {
    let base = COLD.load(Ordering::Relaxed) as usize;
    address.wrapping_sub(base) < COLD_STACKS * COLD_STACK_BYTES
}

/// No rule found so far is valid any more.
pub fn forget_rules() {
    let epoch = EPOCH.fetch_add(1, Ordering::Relaxed) + 1;
    // No epoch comes again while there are rules of it; half way is for whoever is about to store one of the epoch before.
    if epoch.is_multiple_of(EPOCHS / 2) {
        table().clear();
    }
}

fn table() -> RuleTable<'static> {
    let words = RULES.load(Ordering::Relaxed);
    if words.is_null() {
        return RuleTable::new(&[]);
    }
    // SAFETY: mapped zeroed memory of this size, never unmapped, only used as atomics.
    RuleTable::new(unsafe { core::slice::from_raw_parts(words, RULE_WORDS) })
}

/// Key of an address in the present epoch. User addresses have at most 56 bits.
#[inline(always)]
fn key(address: usize) -> u64 {
    address as u64 ^ (EPOCH.load(Ordering::Relaxed) as u64) << 56
}

/// The rules of this process at one event.
pub struct Rules {
    table: RuleTable<'static>,
}

impl Rules {
    /// The rules as they stand.
    #[inline(always)]
    pub fn now() -> Rules {
        Rules { table: table() }
    }

    /// The rule of an address, if it is known already.
    #[inline(always)]
    pub fn known(&self, address: usize) -> Option<Rule> {
        self.table.get(key(address))
    }
}

/// Finds the rule of an address that is met for the first time; `guess`: by frame pointers only. Must run where there is stack enough ([`on_cold_stack`]).
pub fn find(address: usize, guess: bool, write: &mut dyn FnMut(modules::Note, &[u8]) -> bool) -> Rule {
    #[cfg(heaptape_panic = "cold")]
    crate::panic_on_purpose();
    // The epoch before the look-up: a module that goes meanwhile takes this rule with it.
    let key = key(address);
    let rule = rule_at(address, guess, write);
    table().put(key, rule);
    rule
}

fn rule_at(address: usize, guess: bool, write: &mut dyn FnMut(modules::Note, &[u8]) -> bool) -> Rule {
    let located = modules::locate(address);
    if let Some(located) = &located {
        modules::announce(located, write);
    }
    // The address is the one before the instruction that a handler returns to.
    if let Some(rule) = trampoline(address + 1) {
        return rule;
    }
    let Some(located) = located else {
        return Rule::bare(Kind::Guess);
    };
    if guess {
        return Rule::bare(Kind::Guess);
    }
    let tables = located.tables();
    match tables.as_ref().map(|tables| rule_for(tables, address)) {
        // A handler has interrupted what runs on a stack of ours: the target's own may lie below it.
        Some(rule) if rule.kind() == Kind::Fp && arch::switches_stacks(address) => rule.crossing(),
        Some(rule) if rule.kind() != Kind::Guess => rule,
        // The entry of the loader, the beginning of a context made by `makecontext`: nobody called them.
        Some(_) if modules::is_start(&located, address) => Rule::bare(Kind::End),
        _ if FRAME_POINTERS_ARE_BELIEVED => Rule::bare(Kind::Guess),
        _ if modules::is_entry(&located, address) => Rule::bare(Kind::End),
        _ => Rule::bare(Kind::Unknown),
    }
}

/// The rule of an address where the two instructions stand by which a signal handler goes back. The place may not even be mapped.
fn trampoline(address: usize) -> Option<Rule> {
    let stand = |[first, second]: [u32; 2]| sys::holds(address, first) && sys::holds(address + 4, second);
    let (_, rule) = TRAMPOLINES
        .into_iter()
        .find(|(words, _)| address.is_multiple_of(4) && stand(*words))?;
    Some(rule)
}

/// Tries between two looks whether waiting is of any use.
const TRIES: usize = 10_000;
/// Looks, about a millisecond apart, before a thread goes without.
const LOOKS: usize = 200;

fn take(taken: &[AtomicUsize]) -> Option<usize> {
    let asker = asker();
    let block = arch::local() as *const Local as usize;
    // Nobody ever wakes who waits here.
    let never = AtomicU32::new(0);
    for _ in 0..LOOKS {
        // Whoever holds one needs microseconds, unless it was preempted, or is the one that we interrupted.
        for _ in 0..TRIES {
            if let Some(index) = taken.iter().position(|taken| {
                taken.load(Ordering::Relaxed) == NOBODY
                    && taken
                        .compare_exchange(NOBODY, asker, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
            }) {
                return Some(index);
            }
            core::hint::spin_loop();
        }
        let are_ours = |taken: &AtomicUsize| taken.load(Ordering::Relaxed).wrapping_sub(block) < LEVELS;
        if taken.iter().all(are_ours) {
            return None;
        }
        sys::wait(&never, 0, 1);
    }
    None
}

/// Runs something on a stack of ours. `None` when there is none free, or when it panicked (which has ended the recording then).
pub fn on_cold_stack<T>(run: impl FnOnce() -> T) -> Option<T> {
    let base = COLD.load(Ordering::Acquire);
    if base.is_null() {
        return None;
    }
    let index = take(&COLD_TAKEN)?;
    // SAFETY: this stack is ours until given back.
    let result = unsafe { arch::run_on(base.add((index + 1) * COLD_STACK_BYTES), run) };
    if let Some(taken) = COLD_TAKEN.get(index) {
        taken.store(NOBODY, Ordering::Release);
    }
    result
}

/// Borrowed frame memory.
pub struct Loan(usize);

impl Loan {
    /// Borrows; `None` when everything is out.
    pub fn take() -> Option<Loan> {
        if LOAN.load(Ordering::Acquire).is_null() {
            return None;
        }
        take(&LOAN_TAKEN).map(Loan)
    }

    /// The memory.
    pub fn frames(&mut self) -> &mut [Frame] {
        // SAFETY: mapped zeroed memory of this size, nobody else's until given back.
        unsafe { core::slice::from_raw_parts_mut(LOAN.load(Ordering::Acquire).add(self.0 * LOAN_FRAMES), LOAN_FRAMES) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(taken) = LOAN_TAKEN.get(self.0) {
            taken.store(NOBODY, Ordering::Release);
        }
    }
}
