//! A verdict as a picture: a flame graph of the sites of a run, coloured by what they have more or less than in the baseline.
//!
//! It is drawn from summaries, in which every site has the stack that allocated most of it, so it needs neither the older tape nor the older program.

use super::{Amount, Matching, Metric, Outcome, Site, Summary, Verdict};
use crate::query::{Flame, FlameLine, Measure};
use crate::report::FlameOptions;
use crate::table::Level;
use std::collections::BTreeMap;

/// The stacks of a run with what is drawn on them: the measure of the first broken limit, the peak when none is.
pub fn picture(new: &Summary, old: Option<&Summary>, verdict: &Verdict) -> (Flame, FlameOptions) {
    let broken = verdict.limits.iter().filter(|judged| judged.outcome == Outcome::Broken);
    let metric = broken.map(|judged| judged.metric).find(|metric| of(*metric).is_some());
    let metric = metric.unwrap_or(Metric::Peak);
    let (what, pick) = of(metric).unwrap_or(PEAK);
    let mut lines: BTreeMap<Vec<String>, (Level, Level)> = BTreeMap::new();
    match old {
        None => {
            for site in &new.sites {
                lines.entry(frames(site)).or_default().1.add(level(pick(site), 1.0));
            }
        }
        Some(old) => {
            for pair in Matching::of(&old.sites, &new.sites).pairs {
                let (before, after) = (
                    pair.old.iter().map(|&site| &old.sites[site]),
                    pair.new.iter().map(|&site| &new.sites[site]),
                );
                let all: f64 = after.clone().map(|site| pick(site).size.mean()).sum();
                if after.len() == 0 {
                    before.for_each(|site| lines.entry(frames(site)).or_default().0.add(level(pick(site), 1.0)));
                    continue;
                }
                for site in after.clone() {
                    let sides = lines.entry(frames(site)).or_default();
                    sides.1.add(level(pick(site), 1.0));
                    // What one site had is shared out among those that it became.
                    let share = match all > 0.0 {
                        true => pick(site).size.mean() / all,
                        false => 1.0 / after.len() as f64,
                    };
                    before.clone().for_each(|site| sides.0.add(level(pick(site), share)));
                }
            }
        }
    }
    let lines = lines
        .into_iter()
        .map(|(frames, (old, new))| FlameLine { frames, old, new });
    let options = FlameOptions {
        title: format!("{}: {what}", new.program),
        subtitle: match old {
            Some(_) => "red grew, blue shrank since the baseline".to_owned(),
            None => "by site".to_owned(),
        },
        measure: if metric.is_count() {
            Measure::Blocks
        } else {
            Measure::Bytes
        },
        is_diff: old.is_some(),
    };
    (Flame { lines: lines.collect() }, options)
}

type Pick = fn(&Site) -> &Amount;

const PEAK: (&str, Pick) = ("alive at the peak", |site| &site.peak);

/// What a metric looks at in a site, and what that is called; of spans and of the resident set there is nothing.
fn of(metric: Metric) -> Option<(&'static str, Pick)> {
    match metric {
        Metric::Peak => Some(PEAK),
        Metric::End => Some(("alive at the end", |site| &site.end)),
        Metric::Leaked | Metric::LeakedBlocks => Some(("never freed", |site| &site.leaked)),
        Metric::Allocations | Metric::Allocated | Metric::Temporary => Some(("allocated", |site| &site.allocated)),
        _ => None,
    }
}

fn level(amount: &Amount, share: f64) -> Level {
    Level {
        size: (amount.size.mean() * share).round() as u128,
        count: (amount.count.mean() * share).round() as u64,
    }
}

/// Outermost first.
fn frames(site: &Site) -> Vec<String> {
    let mut frames: Vec<String> = site.stack.iter().map(|frame| frame.place.name()).collect();
    if frames.is_empty() {
        frames.push(site.key.place.name());
    }
    frames.reverse();
    frames
}
