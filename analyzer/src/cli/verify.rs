//! `verify`: every block read, all damage listed.

use super::args::VerifyArgs;
use super::load::{load, Reading};
use super::output::print;
use super::stats::print_json;
use super::Failure;
use crate::table::Heap;
use crate::text::Text;
use heaptape_format::Ending;
use serde::Serialize;
use std::fmt::Write;

/// What `verify` found.
#[derive(Debug, Serialize)]
struct Verdict {
    tape: Text,
    /// Whether nothing at all is wrong.
    sound: bool,
    /// Whether the writer ended the tape.
    ended_cleanly: bool,
    ending: String,
    bytes: u64,
    /// Events as shown in totals.
    events: u64,
    /// Events that are missing because of damage, as far as that is known.
    lost_events: u64,
    damage: Vec<DamageEntry>,
    stacks_incomplete: bool,
    /// Contradictions inside an undamaged tape.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct DamageEntry {
    offset: u64,
    length: u64,
    what: String,
    lost_events: Option<u64>,
    events_at: Option<u64>,
}

pub(super) fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let heap = load(&args.tape, &Reading::replayed())?;
    let verdict = judge(&heap);
    if args.json {
        print_json("verify", &verdict, &[])?;
    } else {
        print(&text(&verdict))?;
    }
    if verdict.sound {
        Ok(())
    } else {
        Err(Failure::Silent(1))
    }
}

fn judge(heap: &Heap) -> Verdict {
    let mut problems = Vec::new();
    let counters = &heap.counters;
    if let Ending::Clean(end) = &heap.ending {
        if heap.damage.is_empty() && end.events != counters.events {
            problems.push(format!(
                "its end counts {} events, {} were read",
                end.events, counters.events
            ));
        }
    }
    if counters.unknown_threads > 0 {
        problems.push(format!(
            "{} event(s) of threads that it does not describe",
            counters.unknown_threads
        ));
    }
    if counters.unknown_types > 0 {
        problems.push(format!(
            "{} event(s) that name types of objects that it does not describe",
            counters.unknown_types
        ));
    }
    let code = heap.catalog.unknown_code_frames();
    if code > 0 {
        problems.push(format!("{code} frame(s) of code that it does not describe"));
    }
    Verdict {
        tape: heap.name.clone(),
        sound: !heap.is_damaged() && heap.ended_cleanly() && problems.is_empty(),
        ended_cleanly: heap.ended_cleanly(),
        ending: ending(&heap.ending),
        bytes: heap.file_length,
        events: counters.events,
        lost_events: heap
            .damage
            .iter()
            .filter_map(|damage| damage.lost_events)
            .fold(0, u64::saturating_add),
        damage: heap
            .damage
            .iter()
            .map(|damage| DamageEntry {
                offset: damage.offset,
                length: damage.length,
                what: Text::new(&damage.to_string()).to_string(),
                lost_events: damage.lost_events,
                events_at: damage.events_at.map(|event| event.get()),
            })
            .collect(),
        stacks_incomplete: heap.catalog.stacks_incomplete,
        problems,
    }
}

/// How a tape ends, in words.
pub(super) fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Clean(_) => "ended properly".to_owned(),
        Ending::Unclean { whole, partial: 0, .. } => {
            format!("not ended: it stops after a whole block at byte {whole} (still being written, or its writer was killed)")
        }
        Ending::Unclean {
            whole,
            partial,
            pending_events,
        } => {
            let pending = match pending_events {
                Some(events) => format!(", which announces {events} event(s)"),
                None => String::new(),
            };
            format!(
                "not ended: it stops {partial} byte(s) into a block at byte {whole}{pending} \
                 (still being written, its writer was killed, or the file was cut)"
            )
        }
    }
}

fn text(verdict: &Verdict) -> String {
    let mut text = format!(
        "{}: {} bytes, {} events read\n",
        verdict.tape, verdict.bytes, verdict.events
    );
    let _ = writeln!(text, "ending: {}", verdict.ending);
    for damage in &verdict.damage {
        let _ = writeln!(text, "damage {}", damage.what);
    }
    if verdict.stacks_incomplete {
        text.push_str("damage to stacks: some events have lost theirs\n");
    }
    for problem in &verdict.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    let _ = writeln!(
        text,
        "{}",
        if verdict.sound {
            "sound: every block was read and checked".to_owned()
        } else if verdict.damage.is_empty() && verdict.problems.is_empty() && !verdict.stacks_incomplete {
            "not ended properly; everything up to there is sound".to_owned()
        } else {
            format!(
                "NOT sound: {} damage(s), at least {} event(s) lost",
                verdict.damage.len(),
                verdict.lost_events
            )
        }
    );
    text
}
