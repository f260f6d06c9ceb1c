//! A verdict for people.

use super::verdict::{Finding, Guilty, Judged};
use super::{How, Metric, Outcome, Verdict};
use crate::report::{format_size, Units};
use std::fmt::Write as _;

pub(super) fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    for judged in &verdict.limits {
        let _ = writeln!(text, "{}", headline(judged));
        for site in &judged.sites {
            let _ = writeln!(text, "  {}", site_line(judged.metric, site));
            for frame in site.stack.iter().skip(1) {
                let _ = writeln!(text, "      from {frame}");
            }
        }
    }
    if !verdict.changes.is_empty() {
        let _ = writeln!(text, "sites that are not where they were:");
        for change in &verdict.changes {
            let _ = writeln!(text, "  {}", change_line(change));
        }
    }
    for remark in &verdict.remarks {
        let _ = writeln!(text, "note: {remark}");
    }
    text.push_str(&conclusion(verdict));
    text.push('\n');
    text
}

/// `BROKEN  program: peak at most 24.0 MiB: measured 25.0 MiB`.
pub(super) fn headline(judged: &Judged) -> String {
    let word = match judged.outcome {
        Outcome::Holds => "holds ",
        Outcome::Broken => "BROKEN",
        Outcome::Unjudged => "CANNOT JUDGE",
    };
    format!("{word} {}: {}: {}", judged.scope, judged.limit, measured(judged))
}

/// What was measured, or why nothing can be said.
pub(super) fn measured(judged: &Judged) -> String {
    if let Some(reason) = &judged.reason {
        return reason.clone();
    }
    let format = |value: u64| judged.metric.format(value);
    let mut text = format!("measured {}", format(judged.measured));
    if let Some(baseline) = judged.baseline {
        let change = i128::from(judged.measured) - i128::from(baseline);
        let _ = write!(
            text,
            ", baseline {} ({})",
            format(baseline),
            signed(judged.metric, change)
        );
    }
    if judged.band > 0 {
        let _ = write!(text, ", noise up to {}", format(judged.band));
    }
    text
}

/// `+1.5 KiB`, `-3 block(s)`.
pub(super) fn signed(metric: Metric, change: i128) -> String {
    let sign = if change < 0 { '-' } else { '+' };
    let size = u64::try_from(change.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{sign}{}", metric.format(size))
}

/// `src/a.c:12 parse: 1.5 KiB (+1.5 KiB), new`.
pub(super) fn site_line(metric: Metric, site: &Guilty) -> String {
    let mut text = format!("{} {}", site.location, site.function);
    if let Some(kind) = &site.kind {
        let _ = write!(text, " [{kind}]");
    }
    let _ = write!(text, ": {}", metric.format(site.value));
    if let Some(more) = site.more {
        let _ = write!(text, " ({})", signed(metric, i128::from(more)));
    }
    match (site.how, &site.was) {
        (Some(How::Same | How::Shifted) | None, _) => {}
        (Some(how), None) => drop(write!(text, ", {}", word(how))),
        (Some(how), Some(was)) => drop(write!(text, ", {} from {was}", word(how))),
    }
    text
}

pub(super) fn word(how: How) -> &'static str {
    match how {
        How::Same => "same",
        How::Shifted => "shifted",
        How::Moved => "moved",
        How::Renamed => "renamed",
        How::Split => "split",
        How::Merged => "merged",
        How::Inlined => "inlined",
        How::Outlined => "no longer inlined",
        How::New => "new",
        How::Gone => "gone",
    }
}

pub(super) fn change_line(change: &Finding) -> String {
    let names = |names: &[crate::text::Text]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" and ");
    let size = |size: u64| format_size(u128::from(size), Units::Binary);
    let [before, after] = change.allocated;
    match change.how {
        How::New => format!("new: {}, allocated {}", names(&change.new), size(after)),
        How::Gone => format!("gone: {}, allocated {}", names(&change.old), size(before)),
        how => format!(
            "{}: {} is now {}, allocated {} before and {} now",
            word(how),
            names(&change.old),
            names(&change.new),
            size(before),
            size(after)
        ),
    }
}

/// One line about the whole.
pub(super) fn conclusion(verdict: &Verdict) -> String {
    let count = |outcome| verdict.limits.iter().filter(|judged| judged.outcome == outcome).count();
    let (broken, unjudged) = (count(Outcome::Broken), count(Outcome::Unjudged));
    let against = match &verdict.old {
        None => String::new(),
        Some(old) if old.runs == 1 && verdict.new.runs == 1 => " (one run a side: no noise is allowed for)".to_owned(),
        Some(old) => format!(" ({} run(s) against {})", verdict.new.runs, old.runs),
    };
    let all = verdict.limits.len();
    let what = match verdict.outcome {
        Outcome::Holds => format!("all {all} limit(s) hold"),
        Outcome::Broken => format!("{broken} of {all} limit(s) broken"),
        Outcome::Unjudged => format!("{unjudged} of {all} limit(s) cannot be judged"),
    };
    format!("{}: {what}{against}", verdict.new.program)
}
