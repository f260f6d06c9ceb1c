//! A budget: the limits of a program, of sites, of spans, as a team keeps them in `heaptape.toml`.

use super::limit::WrittenBounds;
use super::{Bound, Limit, Metric, Site, SiteKey};
use crate::text::Text;
use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use std::fmt;

/// Limits on all sites together that fit a pattern.
#[derive(Clone, Debug)]
pub struct SiteRule {
    /// What the rule is called in a verdict.
    pub label: Text,
    function: Option<GlobMatcher>,
    file: Option<GlobMatcher>,
    library: Option<GlobMatcher>,
    kind: Option<GlobMatcher>,
    /// What is allowed.
    pub limits: Vec<Limit>,
}

/// Limits on the spans of a name.
#[derive(Clone, Debug)]
pub struct SpanRule {
    /// The name, or the glob as it is written.
    pub name: String,
    glob: Option<GlobMatcher>,
    /// How many spans at the beginning do not count.
    pub warmup: Option<u64>,
    /// What is allowed.
    pub limits: Vec<Limit>,
    /// Types of objects of which a span may leave only so many behind.
    pub types: Vec<(String, GlobMatcher, Limit)>,
}

/// All limits.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// On the whole program.
    pub program: Vec<Limit>,
    /// On sites.
    pub sites: Vec<SiteRule>,
    /// On spans.
    pub spans: Vec<SpanRule>,
}

/// A file that is no budget.
#[derive(Debug)]
pub struct BadBudget(String);

impl fmt::Display for BadBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for BadBudget {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    limits: ProgramTable,
    #[serde(default)]
    site: Vec<SiteTable>,
    #[serde(default)]
    span: Vec<SpanTable>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProgramTable {
    peak: WrittenBounds,
    end: WrittenBounds,
    leaked: WrittenBounds,
    leaked_blocks: WrittenBounds,
    allocations: WrittenBounds,
    allocated: WrittenBounds,
    temporary: WrittenBounds,
    rss: WrittenBounds,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SiteTable {
    label: Option<Text>,
    function: Option<String>,
    file: Option<String>,
    library: Option<String>,
    r#type: Option<String>,
    peak: WrittenBounds,
    end: WrittenBounds,
    leaked: WrittenBounds,
    leaked_blocks: WrittenBounds,
    allocations: WrittenBounds,
    allocated: WrittenBounds,
    temporary: WrittenBounds,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpanTable {
    name: Option<String>,
    glob: Option<String>,
    warmup: Option<u64>,
    peak: WrittenBounds,
    left: WrittenBounds,
    left_blocks: WrittenBounds,
    left_per_site: WrittenBounds,
    growth: WrittenBounds,
    growth_blocks: WrittenBounds,
    allocations: WrittenBounds,
    allocated: WrittenBounds,
    types: std::collections::BTreeMap<String, WrittenBounds>,
}

fn limits<const N: usize>(table: [(Metric, WrittenBounds); N]) -> Result<Vec<Limit>, BadBudget> {
    let mut limits = Vec::new();
    for (metric, WrittenBounds(bounds)) in table {
        for written in bounds {
            if metric.is_count() && written.has_unit {
                return Err(BadBudget(format!(
                    "{}: expected a number of blocks, found a number of bytes",
                    metric.name()
                )));
            }
            limits.push(Limit {
                metric,
                bound: written.bound,
            });
        }
    }
    Ok(limits)
}

fn matcher(glob: &str) -> Result<GlobMatcher, BadBudget> {
    match Glob::new(glob) {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(BadBudget(error.to_string())),
    }
}

fn optional(glob: Option<&String>) -> Result<Option<GlobMatcher>, BadBudget> {
    glob.map(|glob| matcher(glob)).transpose()
}

impl Budget {
    /// Reads a budget.
    ///
    /// # Errors
    /// What is no TOML, has other keys than a budget, limits that make no sense, rules that limit nothing.
    pub fn read(text: &str) -> Result<Budget, BadBudget> {
        let written: Written = toml::from_str(text).map_err(|error| BadBudget(error.to_string()))?;
        let program = written.limits;
        let budget = Budget {
            program: limits([
                (Metric::Peak, program.peak),
                (Metric::End, program.end),
                (Metric::Leaked, program.leaked),
                (Metric::LeakedBlocks, program.leaked_blocks),
                (Metric::Allocations, program.allocations),
                (Metric::Allocated, program.allocated),
                (Metric::Temporary, program.temporary),
                (Metric::Rss, program.rss),
            ])?,
            sites: written.site.into_iter().map(site_rule).collect::<Result<_, _>>()?,
            spans: written.span.into_iter().map(span_rule).collect::<Result<_, _>>()?,
        };
        if budget.limits().next().is_none() {
            return Err(BadBudget(
                "expected at least one limit, found none; see docs/CI.md".to_owned(),
            ));
        }
        Ok(budget)
    }

    /// What holds against a baseline when no budget says otherwise: nothing may become more.
    pub fn no_worse() -> Budget {
        let metrics = [Metric::Peak, Metric::Leaked, Metric::LeakedBlocks, Metric::Allocations];
        let limit = |metric| Limit {
            metric,
            bound: Bound::Above(0),
        };
        Budget {
            program: metrics.map(limit).to_vec(),
            ..Budget::default()
        }
    }

    /// All limits.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        let sites = self.sites.iter().flat_map(|rule| &rule.limits);
        let spans = self
            .spans
            .iter()
            .flat_map(|rule| rule.limits.iter().chain(rule.types.iter().map(|(_, _, limit)| limit)));
        self.program.iter().chain(sites).chain(spans)
    }
}

fn site_rule(table: SiteTable) -> Result<SiteRule, BadBudget> {
    let globs = [
        ("function", &table.function),
        ("file", &table.file),
        ("library", &table.library),
        ("type", &table.r#type),
    ];
    let said: Vec<String> = globs
        .iter()
        .filter_map(|(name, glob)| glob.as_ref().map(|glob| format!("{name} {glob}")))
        .collect();
    if said.is_empty() {
        return Err(BadBudget(
            "a [[site]] expects at least one of function, file, library, type; found none".to_owned(),
        ));
    }
    Ok(SiteRule {
        label: table.label.unwrap_or_else(|| Text::new(&said.join(", "))),
        function: optional(table.function.as_ref())?,
        file: optional(table.file.as_ref())?,
        library: optional(table.library.as_ref())?,
        kind: optional(table.r#type.as_ref())?,
        limits: limits([
            (Metric::Peak, table.peak),
            (Metric::End, table.end),
            (Metric::Leaked, table.leaked),
            (Metric::LeakedBlocks, table.leaked_blocks),
            (Metric::Allocations, table.allocations),
            (Metric::Allocated, table.allocated),
            (Metric::Temporary, table.temporary),
        ])?,
    })
}

fn span_rule(table: SpanTable) -> Result<SpanRule, BadBudget> {
    let (name, glob) = match (table.name, table.glob) {
        (Some(name), None) => (name, None),
        (None, Some(glob)) => {
            let matcher = matcher(&glob)?;
            (glob, Some(matcher))
        }
        _ => return Err(BadBudget("a [[span]] expects either a name or a glob".to_owned())),
    };
    let mut types = Vec::new();
    for (kind, bounds) in table.types {
        for limit in limits([(Metric::LeftBlocks, bounds)])? {
            types.push((kind.clone(), matcher(&kind)?, limit));
        }
    }
    Ok(SpanRule {
        name,
        glob,
        warmup: table.warmup,
        limits: limits([
            (Metric::Peak, table.peak),
            (Metric::Left, table.left),
            (Metric::LeftBlocks, table.left_blocks),
            (Metric::LeftPerSite, table.left_per_site),
            (Metric::Growth, table.growth),
            (Metric::GrowthBlocks, table.growth_blocks),
            (Metric::Allocations, table.allocations),
            (Metric::Allocated, table.allocated),
        ])?,
        types,
    })
}

/// What a rule says of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    /// The rule asks for a name that is not known of the site.
    Unknown,
}

impl SiteRule {
    pub(super) fn fit(&self, site: &Site) -> Fit {
        let SiteKey { place, kind } = &site.key;
        let path = |glob: &GlobMatcher, path: &Text| glob.is_match(path.as_str()) || glob.is_match(path.basename());
        if self.library.as_ref().is_some_and(|glob| !path(glob, &place.library)) {
            return Fit::No;
        }
        // A block without a type is of no type, not of an unknown one.
        if let Some(glob) = &self.kind {
            if !kind.as_ref().is_some_and(|kind| glob.is_match(kind.as_str())) {
                return Fit::No;
            }
        }
        let named = |glob: &Option<GlobMatcher>, name: &Option<Text>| match (glob, name) {
            (None, _) => Fit::Yes,
            (Some(_), None) => Fit::Unknown,
            (Some(glob), Some(name)) if path(glob, name) => Fit::Yes,
            (Some(_), Some(_)) => Fit::No,
        };
        match (named(&self.function, &place.function), named(&self.file, &place.file)) {
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            (Fit::Unknown, _) | (_, Fit::Unknown) => Fit::Unknown,
            (Fit::Yes, Fit::Yes) => Fit::Yes,
        }
    }
}

impl SpanRule {
    /// Whether it is about the spans of a name.
    pub fn is_about(&self, name: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(name),
            None => self.name == name,
        }
    }

    /// Whether it names its spans by a pattern, so that there may be none.
    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_reads_as_it_is_documented() {
        let budget = Budget::read(
            r#"
            [limits]
            peak = ["24 MB", "+5 %"]
            allocations = 100_000
            [[site]]
            function = "parse_*"
            leaked = 0
            [[span]]
            name = "test_x[a]"
            warmup = 2
            left = "1 MB"
            types = { "app.Session" = 0 }
            "#,
        )
        .unwrap();
        assert_eq!(budget.limits().count(), 6);
        assert!(budget.spans[0].is_about("test_x[a]") && !budget.spans[0].is_about("test_xa"));
        assert_eq!(budget.sites[0].label.as_str(), "function parse_*");
    }

    #[test]
    fn what_is_no_budget_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "at least one limit"),
            ("[limits]\npeek = 1", "line 2"),
            ("[limits]\npeak = -1", "a number, \"24 MB\""),
            ("[limits]\nallocations = \"1 MB\"", "number of blocks"),
            ("[[site]]\nleaked = 0", "function, file, library, type"),
            ("[[span]]\nleft = 0", "name or a glob"),
            ("[[site]]\nfunction = \"[\"\nleaked = 0", "unclosed"),
        ] {
            let error = Budget::read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
