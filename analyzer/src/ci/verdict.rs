//! The verdict on a run: each limit with what came of it, and the sites that account for what is broken.

use super::{How, Metric};
use crate::text::Text;
use serde::Serialize;

/// How a limit or a whole check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Kept.
    Holds,
    /// It cannot be said.
    Unjudged,
    /// Broken.
    Broken,
}

/// What a side is called, and how many runs it has.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The program.
    pub program: Text,
    /// Runs.
    pub runs: usize,
}

/// A site that has part in a broken limit.
#[derive(Clone, Debug, Serialize)]
pub struct Guilty {
    /// Its function, or the address of code without a name.
    pub function: Text,
    /// The type of its objects.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text>,
    /// `file:line`, or what is known instead.
    pub location: Text,
    /// Its file.
    pub file: Option<Text>,
    /// Its line; 0 when not known.
    pub line: u32,
    /// What it has, in the limit's measure.
    pub value: u64,
    /// How much more than in the baseline; without one, `null`.
    pub more: Option<i64>,
    /// How it was recognised in the baseline.
    pub how: Option<How>,
    /// What it was in the baseline, if it was something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<Text>,
    /// The stack that allocated most of it, from the site outwards.
    pub stack: Vec<Text>,
}

/// One limit with what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// What it is about: `program`, a rule on sites, a span.
    pub scope: Text,
    /// The limit in words.
    pub limit: String,
    /// What is measured.
    pub metric: Metric,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was measured: the mean of the runs against a baseline, else their median.
    pub measured: u64,
    /// What is allowed.
    pub allowed: u64,
    /// What noise is allowed beyond that.
    pub band: u64,
    /// What the baseline has.
    pub baseline: Option<u64>,
    /// The sites that account for it, the worst first; only of a broken limit.
    pub sites: Vec<Guilty>,
}

/// What became of sites that are not where they were.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How they are the same.
    pub how: How,
    /// What they were.
    pub old: Vec<Text>,
    /// What they are.
    pub new: Vec<Text>,
    /// Bytes that they allocated before and now.
    pub allocated: [u64; 2],
}

/// The verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What was judged.
    pub new: Side,
    /// The baseline.
    pub old: Option<Side>,
    /// What came of it: the worst of all limits.
    pub outcome: Outcome,
    /// Each limit.
    pub limits: Vec<Judged>,
    /// What keeps sites of the two sides from being compared.
    pub remarks: Vec<String>,
    /// Sites that were recognised elsewhere, are new or gone: those that matter most first.
    pub changes: Vec<Finding>,
}
