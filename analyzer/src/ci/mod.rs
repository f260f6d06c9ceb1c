//! The heap in continuous integration: what a run came to, small enough to keep, and a verdict on whether a later run is worse.
//!
//! | noun | what it is |
//! |---|---|
//! | [`Summary`] | what is kept of one run or of several: totals, sites, spans, threads |
//! | [`Samples`] | one number, measured once in each run, and the band that noise explains |
//! | [`Place`] | where a site lies, without anything that a rebuild or another machine changes |
//! | [`Matching`] | which site of one build is which of another |
//! | [`Budget`] | the limits that a run has to keep |
//! | [`Verdict`] | limits held against measurements, with the sites that account for what is broken |
//!
//! Nothing here reads files or knows a terminal; the forms that a verdict takes have a file each.

mod band;
mod budget;
mod by_site;
mod form;
mod gitlab;
mod judge;
mod junit;
mod left_out;
mod limit;
mod markdown;
mod matching;
mod measure;
mod merge;
mod nameless;
mod naming;
mod paths;
mod picture;
mod place;
mod rss;
mod samples;
mod sarif;
mod similarity;
mod site;
mod span;
mod stretch;
mod summary;
mod text;
mod verdict;

pub use band::Band;
pub use budget::{BadBudget, Budget, SiteRule, SpanRule};
pub use form::Form;
pub use judge::judge;
pub use limit::{Bound, Limit, Metric};
pub use matching::{How, Matching, Pair};
pub use measure::{measure, Wanted};
pub use merge::{merge, DifferentPrograms};
pub use paths::Paths;
pub use picture::picture;
pub use place::{Frame, Place};
pub use samples::Samples;
pub use site::{Amount, Site, SiteKey};
pub use span::{SpanAmount, SpanSite, SpanSummary};
pub use summary::{NotASummary, Summary, ThreadSummary, Totals, VERSION};
pub use verdict::{Finding, Guilty, Judged, Outcome, Side, Verdict};
