//! `diff`.

use super::args::{DiffArgs, ReadingArgs};
use super::load::{check, load, parse, resolve, resolver, trust};
use super::output::print_difference;
use super::stats::{check_question, find_sources, layout, print_json, query_of};
use super::Failure;
use crate::query::{self, TapeTime, TimeSpec};
use crate::report::text_diff;
use crate::table::{Heap, Moment};
use crate::tape::is_tape;
use std::path::Path;

/// Two states, of one tape or two.
pub(super) struct Pair {
    old: Heap,
    /// `None`: the same as `old`.
    new: Option<Heap>,
    moments: [Moment; 2],
}

impl Pair {
    /// Loads two states. The newer may be `@TIME` alone, of the older one's tape.
    pub(super) fn load(old: &str, new: &str, reading: &ReadingArgs) -> Result<Pair, Failure> {
        let old = parse(old)?;
        let new = match new.strip_prefix('@') {
            Some(time) if !is_tape(Path::new(new)) => TapeTime {
                file: old.file.clone(),
                time: Some(time.parse()?),
            },
            _ => parse(new)?,
        };
        let is_one_tape = old.file == new.file;
        if is_one_tape && old.time.is_none() && new.time.is_none() {
            return Err(Failure::Usage(format!(
                "{}: both states are the end of this tape; name two instants, for example {0}@10s {0}@60s",
                old.file.display()
            )));
        }
        let old_heap = load(&old.file, &reading.place())?;
        let new_heap = if is_one_tape {
            None
        } else {
            Some(load(&new.file, &reading.place())?)
        };
        let moments = [
            resolve(&old.time.unwrap_or(TimeSpec::End), &old_heap)?,
            resolve(
                &new.time.unwrap_or(TimeSpec::End),
                new_heap.as_ref().unwrap_or(&old_heap),
            )?,
        ];
        Ok(Pair {
            old: old_heap,
            new: new_heap,
            moments,
        })
    }

    pub(super) fn older(&self) -> (&Heap, &Moment) {
        (&self.old, &self.moments[0])
    }

    pub(super) fn newer(&self) -> (&Heap, &Moment) {
        (self.new.as_ref().unwrap_or(&self.old), &self.moments[1])
    }

    /// As [`trust`] for both tapes.
    pub(super) fn trust(&self) -> Result<(), Failure> {
        trust(&self.old)?;
        self.new.as_ref().map_or(Ok(()), trust)
    }

    /// As [`check`] for both tapes.
    pub(super) fn check(&self, strict: &ReadingArgs) -> Result<Vec<String>, Failure> {
        let mut notes = check(&self.old, strict)?;
        if let Some(new) = &self.new {
            notes.extend(check(new, strict)?);
        }
        Ok(notes)
    }
}

pub(super) fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let query = query_of(&args.query)?;
    let pair = Pair::load(&args.old, &args.new, &args.query.scope.reading)?;
    let notes = pair.check(&args.query.scope.reading)?;
    for (heap, _) in [pair.older(), pair.newer()] {
        check_question(&query, heap)?;
    }
    let mut report = query::diff(pair.older(), pair.newer(), &query, &*resolver(&args.query.scope)?);
    pair.trust()?;
    find_sources(&args.query, &report.by, report.rows.iter_mut().map(|row| &mut row.key));
    if args.query.json {
        print_json("diff", &report, &notes)
    } else {
        print_difference(&text_diff(&report, layout(&args.query)))
    }
}
