//! Holding limits against what was measured.

use super::budget::Fit;
use super::nameless::Nameless;
use super::site::{location, narrow};
use super::verdict::{Finding, Guilty, Judged, Side};
use super::{
    Band, Budget, How, Limit, Matching, Metric, Outcome, Pair, Samples, Site, SpanAmount, SpanRule, SpanSite,
    SpanSummary, Summary, Verdict,
};
use crate::text::Text;
use globset::GlobMatcher;

/// Sites that are named for a broken limit.
const NAMED: usize = 5;
/// A site with less than this part of what the worst one has is not named beside it.
const SMALLEST: u64 = 100;
/// Changes that are listed.
const CHANGES: usize = 20;

/// Holds limits against measurements.
pub fn judge(new: &Summary, old: Option<&Summary>, budget: &Budget) -> Verdict {
    let matching = old.map(|old| Matching::of(&old.sites, &new.sites));
    let nameless = old.map_or(Nameless::default(), |old| Nameless::of(old, new));
    let judge = Judge {
        new,
        old,
        matching: matching.as_ref(),
        nameless: &nameless,
        band: Band {
            old_runs: old.map_or(1, |old| old.runs),
            new_runs: new.runs,
            limits: budget.limits().filter(|limit| limit.bound.is_relative()).count(),
        },
    };
    let mut limits: Vec<Judged> = budget.program.iter().map(|limit| judge.program(limit)).collect();
    for rule in &budget.sites {
        limits.extend(
            rule.limits
                .iter()
                .map(|limit| judge.sites(&rule.label, |site| rule.fit(site), limit)),
        );
    }
    for rule in &budget.spans {
        limits.extend(judge.spans(rule));
    }
    let side = |summary: &Summary| Side {
        program: summary.program.clone(),
        runs: summary.runs,
    };
    Verdict {
        new: side(new),
        old: old.map(side),
        outcome: limits
            .iter()
            .map(|judged| judged.outcome)
            .max()
            .unwrap_or(Outcome::Unjudged),
        limits,
        remarks: nameless.remarks(),
        changes: judge.changes(),
    }
}

struct Judge<'a> {
    new: &'a Summary,
    old: Option<&'a Summary>,
    matching: Option<&'a Matching>,
    nameless: &'a Nameless,
    band: Band,
}

/// The measure of a limit on a site.
fn of_site(metric: Metric, site: &Site) -> &Samples {
    match metric {
        Metric::Peak => &site.peak.size,
        Metric::End => &site.end.size,
        Metric::LeakedBlocks => &site.leaked.count,
        Metric::Allocations => &site.allocated.count,
        Metric::Allocated => &site.allocated.size,
        Metric::Temporary => &site.temporary,
        _ => &site.leaked.size,
    }
}

fn rounded(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

impl Judge<'_> {
    /// A limit on two measurements. `doubtful` is what may have to be added to the newer one.
    fn hold(&self, scope: &Text, limit: &Limit, new: &Samples, old: Option<&Samples>, doubtful: u64) -> Judged {
        let mut judged = Judged {
            scope: scope.clone(),
            limit: limit.to_string(),
            metric: limit.metric,
            outcome: Outcome::Holds,
            reason: None,
            measured: new.median(),
            allowed: 0,
            band: 0,
            baseline: old.map(|old| rounded(old.mean())),
            sites: Vec::new(),
        };
        let (measured, allowed) = match (limit.bound.is_relative(), old) {
            (false, _) => (new.median() as f64, limit.bound.allowed(new)),
            (true, Some(old)) => {
                judged.measured = rounded(new.mean());
                let width = self.band.width(old, new);
                judged.band = rounded(width);
                judged.allowed = rounded(limit.bound.allowed(old));
                (new.mean() - width, limit.bound.allowed(old))
            }
            (true, None) => {
                let reason = match self.old {
                    None => "the limit is relative, and no baseline was given",
                    Some(_) => "the baseline does not have it",
                };
                return unjudged(judged, reason);
            }
        };
        judged.allowed = rounded(allowed);
        if measured > allowed {
            judged.outcome = Outcome::Broken;
        } else if measured + doubtful as f64 > allowed {
            let reason = format!(
                "{} belong to sites without names, and would break the limit if they counted; give the files with symbols (--debug-dir, --sysroot)",
                limit.metric.format(doubtful)
            );
            return unjudged(judged, &reason);
        }
        judged
    }

    fn program(&self, limit: &Limit) -> Judged {
        let scope = Text::new("program");
        let pick = |summary: &Summary| -> Option<Samples> {
            let totals = &summary.totals;
            Some(match limit.metric {
                Metric::Peak => totals.peak.size.clone(),
                Metric::End => totals.end.size.clone(),
                Metric::LeakedBlocks => totals.leaked.count.clone(),
                Metric::Allocations => totals.allocated.count.clone(),
                Metric::Allocated => totals.allocated.size.clone(),
                Metric::Temporary => totals.temporary.clone(),
                Metric::Rss => totals.rss.clone()?,
                _ => totals.leaked.size.clone(),
            })
        };
        let old = self.old.and_then(pick);
        let Some(new) = pick(self.new) else {
            let none = self.hold(&scope, limit, &Samples::default(), old.as_ref(), 0);
            return unjudged(none, "the recording has no samples of the resident set");
        };
        let mut judged = self.hold(&scope, limit, &new, old.as_ref(), 0);
        if judged.outcome == Outcome::Broken && limit.metric != Metric::Rss {
            judged.sites = self.guilty(limit.metric, |_| true);
        }
        judged
    }

    fn sites(&self, scope: &Text, fit: impl Fn(&Site) -> Fit, limit: &Limit) -> Judged {
        let sum = |summary: &Summary, wanted: Fit| {
            let mut sum = vec![0u64; summary.runs];
            for site in summary.sites.iter().filter(|site| fit(site) == wanted) {
                let values = of_site(limit.metric, site).values(summary.runs);
                sum.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum = sum.saturating_add(value));
            }
            Samples::new(sum)
        };
        let new = sum(self.new, Fit::Yes);
        let old = self.old.map(|old| sum(old, Fit::Yes));
        let doubtful = sum(self.new, Fit::Unknown).highest();
        let mut judged = self.hold(scope, limit, &new, old.as_ref(), doubtful);
        if judged.outcome == Outcome::Holds && self.new.omitted_at_most > 0 {
            return unjudged(
                judged,
                "the summary leaves sites out; check the tape itself, or make the summary with --sites 0",
            );
        }
        if judged.outcome == Outcome::Broken {
            judged.sites = self.guilty(limit.metric, |site| fit(site) == Fit::Yes);
        }
        judged
    }

    fn spans(&self, rule: &SpanRule) -> Vec<Judged> {
        let mut judged = Vec::new();
        let spans: Vec<&SpanSummary> = self
            .new
            .spans
            .iter()
            .filter(|span| rule.is_about(span.name.as_str()))
            .collect();
        for span in &spans {
            let scope = Text::new(&format!("span {}", span.name));
            let old = self
                .old
                .and_then(|old| old.spans.iter().find(|old| old.name == span.name));
            // A pattern also meets spans that are new: there is nothing to compare them with.
            let is_comparable = |limit: &&Limit| old.is_some() || !rule.is_glob() || !limit.bound.is_relative();
            for limit in rule.limits.iter().filter(is_comparable) {
                judged.push(self.span(&scope, limit, span, old));
            }
            for (glob, matcher, limit) in &rule.types {
                judged.push(self.span_type(&scope, (glob, matcher), limit, span));
            }
        }
        if spans.is_empty() && !rule.is_glob() {
            let scope = Text::new(&format!("span {}", rule.name));
            let limits = rule.limits.iter().chain(rule.types.iter().map(|(_, _, limit)| limit));
            judged.extend(limits.map(|limit| {
                let none = self.hold(&scope, limit, &Samples::default(), None, 0);
                unjudged(none, "the recording has no span of this name that ended")
            }));
        }
        judged
    }

    fn span(&self, scope: &Text, limit: &Limit, span: &SpanSummary, old: Option<&SpanSummary>) -> Judged {
        let part = |span: &'_ SpanSummary| -> Option<SpanAmount> {
            Some(match limit.metric {
                Metric::Peak => span.peak.clone(),
                Metric::Allocations | Metric::Allocated => span.allocated.clone(),
                Metric::Growth | Metric::GrowthBlocks => span.growth.clone()?,
                _ => span.left.clone(),
            })
        };
        let samples = |part: &SpanAmount| match limit.metric {
            metric if metric.is_count() => part.amount.count.clone(),
            Metric::LeftPerSite => Samples::from(part.sites.first().map_or(0, |site| narrow(site.level.size))),
            _ => part.amount.size.clone(),
        };
        let old = old.and_then(part);
        let Some(new) = part(span) else {
            let none = self.hold(
                scope,
                limit,
                &Samples::default(),
                old.as_ref().map(&samples).as_ref(),
                0,
            );
            return unjudged(none, "growth needs three spans at least, beside those that warm up");
        };
        let mut judged = self.hold(scope, limit, &samples(&new), old.as_ref().map(samples).as_ref(), 0);
        if limit.metric == Metric::LeftPerSite && new.sites.is_empty() && new.amount.size.highest() > 0 {
            return unjudged(
                judged,
                "a summary does not keep the sites of spans; check the tape itself",
            );
        }
        if judged.outcome == Outcome::Broken {
            let old_sites = old.map(|old| old.sites);
            judged.sites = span_guilty(limit.metric, &new.sites, old_sites.as_deref());
        }
        judged
    }

    fn span_type(
        &self,
        scope: &Text,
        (glob, matcher): (&str, &GlobMatcher),
        limit: &Limit,
        span: &SpanSummary,
    ) -> Judged {
        let is_one = |site: &&SpanSite| {
            site.key
                .kind
                .as_ref()
                .is_some_and(|kind| matcher.is_match(kind.as_str()))
        };
        let sites: Vec<SpanSite> = span.left.sites.iter().filter(is_one).cloned().collect();
        let count: u64 = sites.iter().map(|site| site.level.count).sum();
        let mut judged = self.hold(scope, limit, &Samples::from(count), None, 0);
        judged.limit = format!("objects of {} {}", Text::new(glob), judged.limit);
        if span.left.sites.is_empty() && span.left.amount.size.highest() > 0 {
            return unjudged(
                judged,
                "a summary does not keep the sites of spans; check the tape itself",
            );
        }
        if judged.outcome == Outcome::Broken {
            judged.sites = span_guilty(limit.metric, &sites, None);
        }
        judged
    }

    /// The sites that account for a measure that is too high.
    fn guilty(&self, metric: Metric, is_wanted: impl Fn(&Site) -> bool) -> Vec<Guilty> {
        let (Some(old), Some(matching)) = (self.old, self.matching) else {
            let mut sites: Vec<&Site> = self.new.sites.iter().filter(|site| is_wanted(site)).collect();
            sites.sort_by(|a, b| {
                of_site(metric, b)
                    .median()
                    .cmp(&of_site(metric, a).median())
                    .then_with(|| a.key.cmp(&b.key))
            });
            let most = sites.first().map_or(0, |site| of_site(metric, site).median());
            let named = sites
                .into_iter()
                .filter(|site| of_site(metric, site).median() > most / SMALLEST)
                .take(NAMED);
            return named
                .map(|site| guilty(site, of_site(metric, site).median(), None, None, None))
                .collect();
        };
        let mut grown: Vec<(f64, bool, &Pair)> = Vec::new();
        for pair in &matching.pairs {
            if !pair.new.iter().any(|&site| is_wanted(&self.new.sites[site])) {
                continue;
            }
            let before = total(metric, old, &pair.old);
            let after = total(metric, self.new, &pair.new);
            let more = after.mean() - before.mean();
            if more > 0.0 {
                let is_sure = more > self.band.width(&before, &after) && !self.may_be_old(old, pair, more);
                grown.push((more, is_sure, pair));
            }
        }
        // What noise explains, or what the baseline may have had, is named only if there is nothing else.
        if grown.iter().any(|(_, is_sure, _)| *is_sure) {
            grown.retain(|(_, is_sure, _)| *is_sure);
        }
        grown.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2.new.cmp(&b.2.new)));
        let most = grown.first().map_or(0.0, |(more, _, _)| *more);
        grown.retain(|(more, _, _)| *more > most / SMALLEST as f64);
        let named = grown.into_iter().take(NAMED).map(|(more, _, pair)| {
            let heaviest = pair.new.iter().max_by(|&&a, &&b| {
                let value = |site: usize| of_site(metric, &self.new.sites[site]).mean();
                value(a).total_cmp(&value(b)).then(b.cmp(&a))
            });
            let site = &self.new.sites[heaviest.copied().unwrap_or_default()];
            let was = pair.old.first().map(|&site| &old.sites[site]);
            let was = was.filter(|_| !matches!(pair.how, How::Same | How::Shifted));
            let how = (!self.may_be_old(old, pair, more)).then_some(pair.how);
            guilty(
                site,
                rounded(total(metric, self.new, &pair.new).mean()),
                Some(more),
                how,
                was,
            )
        });
        named.collect()
    }

    /// Whether sites without a pair may only seem to be new: the baseline left such small ones out, or has no names for them.
    fn may_be_old(&self, old: &Summary, pair: &Pair, more: f64) -> bool {
        let is_omitted = old.omitted_sites > 0 && more <= old.omitted_at_most as f64;
        pair.how == How::New
            && (is_omitted
                || pair
                    .new
                    .iter()
                    .any(|&site| self.nameless.contains(&self.new.sites[site])))
    }

    fn changes(&self) -> Vec<Finding> {
        let (Some(old), Some(matching)) = (self.old, self.matching) else {
            return Vec::new();
        };
        let name = |site: &Site| Text::new(&format!("{} ({})", site.key.place.name(), site.location()));
        let sum = |summary: &Summary, sites: &[usize]| rounded(total(Metric::Allocated, summary, sites).mean());
        let moved = matching
            .pairs
            .iter()
            .filter(|pair| !matches!(pair.how, How::Same | How::Shifted))
            .filter(|pair| match (pair.how, &pair.old[..], &pair.new[..]) {
                (How::New, _, [site]) => !self.nameless.contains(&self.new.sites[*site]),
                (How::Gone, [site], _) => !self.nameless.contains(&old.sites[*site]),
                _ => true,
            });
        let found = moved.map(|pair| Finding {
            how: pair.how,
            old: pair.old.iter().map(|&site| name(&old.sites[site])).collect(),
            new: pair.new.iter().map(|&site| name(&self.new.sites[site])).collect(),
            allocated: [sum(old, &pair.old), sum(self.new, &pair.new)],
        });
        let is_omitted = |finding: &Finding| match finding.how {
            How::New => old.omitted_sites > 0 && finding.allocated[1] <= old.omitted_at_most,
            How::Gone => self.new.omitted_sites > 0 && finding.allocated[0] <= self.new.omitted_at_most,
            _ => false,
        };
        let mut found: Vec<Finding> = found.filter(|finding| !is_omitted(finding)).collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.allocated[0].max(finding.allocated[1])));
        found.truncate(CHANGES);
        found
    }
}

fn unjudged(judged: Judged, reason: &str) -> Judged {
    Judged {
        outcome: Outcome::Unjudged,
        reason: Some(reason.to_owned()),
        ..judged
    }
}

/// A measure of several sites together, run by run. Which run is which is not known of sites that vary, so they are added in the order of their values.
fn total(metric: Metric, summary: &Summary, sites: &[usize]) -> Samples {
    let mut sum = vec![0u64; summary.runs.max(1)];
    for &site in sites {
        let values = of_site(metric, &summary.sites[site]).values(summary.runs);
        sum.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum = sum.saturating_add(value));
    }
    Samples::new(sum)
}

fn guilty(site: &Site, value: u64, more: Option<f64>, how: Option<How>, was: Option<&Site>) -> Guilty {
    Guilty {
        function: Text::new(&site.key.place.name()),
        kind: site.key.kind.clone(),
        location: Text::new(&site.location()),
        file: site.key.place.file.clone(),
        line: site.line,
        value,
        more: more.map(|more| more.round() as i64),
        how,
        was: was.map(|site| Text::new(&format!("{} ({})", site.key.place.name(), site.location()))),
        stack: site.stack.iter().map(|place| Text::new(&place.to_string())).collect(),
    }
}

fn span_guilty(metric: Metric, new: &[SpanSite], old: Option<&[SpanSite]>) -> Vec<Guilty> {
    let value = |site: &SpanSite| match metric.is_count() {
        true => site.level.count,
        false => narrow(site.level.size),
    };
    let known = old.filter(|old| !old.is_empty());
    let mut grown: Vec<(i64, &SpanSite, bool)> = Vec::new();
    for site in new {
        let before = known.and_then(|old| old.iter().find(|old| old.key == site.key));
        let more = value(site) as i64 - before.map_or(0, value) as i64;
        if more > 0 {
            grown.push((more, site, before.is_none()));
        }
    }
    grown.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.key.cmp(&b.1.key)));
    let most = grown.first().map_or(0, |(more, _, _)| *more);
    grown.retain(|(more, _, _)| *more > most / SMALLEST as i64);
    let named = grown.into_iter().take(NAMED).map(|(more, site, is_new)| Guilty {
        function: Text::new(&site.key.place.name()),
        kind: site.key.kind.clone(),
        location: Text::new(&location(&site.key.place, site.line)),
        file: site.key.place.file.clone(),
        line: site.line,
        value: value(site),
        more: known.map(|_| more),
        how: known.map(|_| if is_new { How::New } else { How::Same }),
        was: None,
        stack: site.stack.iter().map(|place| Text::new(&place.to_string())).collect(),
    });
    named.collect()
}
