//! What is kept of one run of a program or of several: a small file for a repository or an archive.

use super::site::one_line;
use super::{Amount, Samples, Site, SpanSummary};
use crate::text::Text;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the file format. It rises when a field changes its meaning or goes; readers ignore fields that they do not know.
pub const VERSION: u32 = 1;

/// What the whole program came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Alive at the highest number of live bytes.
    #[serde(serialize_with = "one_line")]
    pub peak: Amount,
    /// Alive at the end of the recording.
    #[serde(serialize_with = "one_line")]
    pub end: Amount,
    /// Never freed.
    #[serde(serialize_with = "one_line")]
    pub leaked: Amount,
    /// Everything that was allocated.
    #[serde(serialize_with = "one_line")]
    pub allocated: Amount,
    /// Blocks that were freed before their thread allocated again.
    pub temporary: Samples,
    /// The highest resident set of all processes together, if the recorder took samples of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss: Option<Samples>,
}

/// What all threads of one name came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSummary {
    /// Their name.
    pub name: Text,
    /// Everything that they allocated.
    #[serde(serialize_with = "one_line")]
    pub allocated: Amount,
    /// What of it was never freed.
    #[serde(serialize_with = "one_line")]
    pub leaked: Amount,
}

/// What is kept of some runs of one program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// See [`VERSION`].
    pub version: u32,
    /// Always `heaptape summary`.
    pub kind: String,
    /// The program: its file name, and the script's if it is an interpreter.
    pub program: Text,
    /// Patterns: what has a frame in its stack that matches one was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<Text>,
    /// How many runs it is made of.
    pub runs: usize,
    /// Why the numbers may not be the truth, without the tapes' names; empty when the tapes are sound.
    #[serde(default)]
    pub notes: Vec<Text>,
    /// Of the whole program.
    pub totals: Totals,
    /// The sites that matter, by place and type.
    pub sites: Vec<Site>,
    /// Sites that were left out.
    #[serde(default)]
    pub omitted_sites: u64,
    /// None of these held more live or leaked bytes than this, or allocated more.
    #[serde(default)]
    pub omitted_at_most: u64,
    /// By name.
    #[serde(default)]
    pub spans: Vec<SpanSummary>,
    /// By name.
    #[serde(default)]
    pub threads: Vec<ThreadSummary>,
}

const KIND: &str = "heaptape summary";

/// A file that is no summary, or none that this version understands.
#[derive(Debug)]
pub struct NotASummary(String);

impl fmt::Display for NotASummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotASummary {}

impl Summary {
    /// A summary of nothing yet.
    pub(super) fn empty(program: Text, runs: usize) -> Summary {
        Summary {
            version: VERSION,
            kind: KIND.to_owned(),
            program,
            excluded: Vec::new(),
            runs,
            notes: Vec::new(),
            totals: Totals::default(),
            sites: Vec::new(),
            omitted_sites: 0,
            omitted_at_most: 0,
            spans: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// Whether bytes look like a summary rather than a tape.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
    }

    /// Reads a summary.
    ///
    /// # Errors
    /// Bytes that are no JSON, not of this kind, of a later version, or that contradict themselves.
    pub fn read(bytes: &[u8]) -> Result<Summary, NotASummary> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            kind: String,
        }
        let not_json =
            |error: serde_json::Error| NotASummary(format!("expected a summary of heaptape, found: {error}"));
        let head: Head = serde_json::from_slice(bytes).map_err(not_json)?;
        if head.kind != KIND {
            return Err(NotASummary(format!(
                "expected kind \"{KIND}\", found \"{}\"; make one with heaptape summarize",
                head.kind
            )));
        }
        if head.version != VERSION {
            return Err(NotASummary(format!(
                "expected version {VERSION}, found {}; make it again with this heaptape",
                head.version
            )));
        }
        let mut summary: Summary = serde_json::from_slice(bytes).map_err(not_json)?;
        let runs = summary.runs;
        let mut fits = runs > 0;
        summary.each_samples(|samples| fits &= samples.fits(runs));
        if fits {
            Ok(summary)
        } else {
            Err(NotASummary(format!(
                "expected as many values each as there are runs ({runs}), found others"
            )))
        }
    }

    /// Writes it: by lines, in a stable order.
    ///
    /// # Errors
    /// None that a summary could cause.
    pub fn write(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Leaves out all but the `most` sites that matter most; 0 keeps all.
    pub fn keep(&mut self, most: usize) {
        if most == 0 || self.sites.len() <= most {
            return;
        }
        self.sites
            .sort_by(|a, b| b.weight().cmp(&a.weight()).then_with(|| a.key.cmp(&b.key)));
        let left_out = self.sites.split_off(most);
        self.omitted_sites += left_out.len() as u64;
        let highest = left_out.iter().map(|site| site.weight().0.max(site.weight().1)).max();
        self.omitted_at_most = self.omitted_at_most.max(highest.unwrap_or(0));
        self.sites.sort_by(|a, b| a.key.cmp(&b.key));
    }

    fn each_samples(&mut self, mut visit: impl FnMut(&mut Samples)) {
        let mut amount = |amount: &mut Amount| {
            visit(&mut amount.size);
            visit(&mut amount.count);
        };
        let totals = &mut self.totals;
        for each in [
            &mut totals.peak,
            &mut totals.end,
            &mut totals.leaked,
            &mut totals.allocated,
        ] {
            amount(each);
        }
        for site in &mut self.sites {
            for each in [&mut site.allocated, &mut site.peak, &mut site.end, &mut site.leaked] {
                amount(each);
            }
        }
        for thread in &mut self.threads {
            amount(&mut thread.allocated);
            amount(&mut thread.leaked);
        }
        for span in &mut self.spans {
            span.amounts().into_iter().for_each(&mut amount);
        }
        visit(&mut totals.temporary);
        totals.rss.iter_mut().for_each(&mut visit);
        self.sites.iter_mut().for_each(|site| visit(&mut site.temporary));
        self.spans.iter_mut().for_each(|span| visit(&mut span.times));
    }
}
