//! The rules found so far: program counter -> rule, shared by all threads of a process without locks.
//!
//! Each entry is two words, `key ^ rule` and `rule`. A reader that sees two halves of different writes gets a key that does not match and takes the entry for
//! empty (the technique is known from the transposition tables of chess programs, R. Hyatt and T. Mann, 2002). When a bucket is full an entry is replaced.

use crate::rule::Rule;
use core::sync::atomic::{AtomicU64, Ordering};

/// Entries of a bucket: one cache line.
const WAYS: usize = 4;

/// A table over borrowed memory.
#[derive(Clone, Copy)]
pub struct RuleTable<'a> {
    /// A power of two of them, or none.
    buckets: &'a [[AtomicU64; 2 * WAYS]],
}

impl<'a> RuleTable<'a> {
    /// A table in `words`, which must be zeroed at first and hold a power of two of words, at least 8. A slice of another length gives a table that finds nothing.
    #[inline(always)]
    pub const fn new(words: &'a [AtomicU64]) -> RuleTable<'a> {
        let (buckets, _) = words.as_chunks::<{ 2 * WAYS }>();
        if !words.len().is_power_of_two() {
            return RuleTable { buckets: &[] };
        }
        RuleTable { buckets }
    }

    /// The bucket of a key (Fibonacci hashing).
    #[inline(always)]
    fn bucket(&self, key: u64) -> Option<&'a [AtomicU64; 2 * WAYS]> {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.buckets.get(hash as usize & self.buckets.len().wrapping_sub(1))
    }

    /// The rule stored for `key`.
    #[inline(always)]
    pub fn get(&self, key: u64) -> Option<Rule> {
        let (pairs, _) = self.bucket(key)?.as_chunks::<2>();
        for [first, second] in pairs {
            let rule = second.load(Ordering::Relaxed);
            if first.load(Ordering::Relaxed) ^ rule == key && rule != 0 {
                return Some(Rule::stored(rule));
            }
        }
        None
    }

    /// Stores the rule for `key`.
    pub fn put(&self, key: u64, rule: Rule) {
        let Some(bucket) = self.bucket(key) else { return };
        let (pairs, _) = bucket.as_chunks::<2>();
        let way = pairs
            .iter()
            .position(|[_, second]| second.load(Ordering::Relaxed) == 0)
            .unwrap_or((key >> 5) as usize % WAYS);
        pairs[way][0].store(key ^ rule.word(), Ordering::Relaxed);
        pairs[way][1].store(rule.word(), Ordering::Relaxed);
    }
}

impl RuleTable<'_> {
    /// Forgets all rules, but for those that others store meanwhile.
    pub fn clear(&self) {
        for bucket in self.buckets {
            let (pairs, _) = bucket.as_chunks::<2>();
            for [first, second] in pairs {
                // What was never stored to stays memory that nobody has touched.
                if second.load(Ordering::Relaxed) != 0 {
                    second.store(0, Ordering::Relaxed);
                    first.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const STEPS: u64 = if cfg!(miri) { 1_000 } else { 100_000 };

    fn rule(offset: i32) -> Rule {
        Rule::plain(offset)
    }

    #[test]
    fn what_is_found_is_what_was_stored() {
        let words: Vec<AtomicU64> = (0..256).map(|_| AtomicU64::new(0)).collect();
        let table = RuleTable::new(&words);
        for key in 1..STEPS / 10 {
            table.put(key * 7, rule(key as i32));
            assert_eq!(table.get(key * 7), Some(rule(key as i32)));
        }
        for key in 1..STEPS / 10 {
            assert!(table.get(key * 7).is_none_or(|found| found == rule(key as i32)));
        }
        table.clear();
        assert!((1..STEPS / 10).all(|key| table.get(key * 7).is_none()));
        table.put(7, rule(1));
        assert_eq!(table.get(7), Some(rule(1)));
    }

    #[test]
    fn concurrent_writers_never_give_a_reader_a_foreign_rule() {
        let words: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
        let table = RuleTable::new(&words);
        std::thread::scope(|scope| {
            for thread in 0..2u64 {
                scope.spawn(move || {
                    for step in 0..STEPS {
                        let key = 1 + (step * 2 + thread) % 31;
                        table.put(key, rule(key as i32));
                    }
                });
            }
            for step in 0..2 * STEPS {
                let key = 1 + step % 31;
                assert!(table.get(key).is_none_or(|found| found == rule(key as i32)));
            }
        });
    }
}
