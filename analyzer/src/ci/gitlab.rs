//! A verdict as GitLab's code quality report: a list of issues at lines.

use super::text::{headline, site_line};
use super::{Outcome, Verdict};
use serde_json::{json, Value};

pub(super) fn gitlab(verdict: &Verdict) -> Result<String, serde_json::Error> {
    let mut issues: Vec<Value> = Vec::new();
    for judged in verdict.limits.iter().filter(|judged| judged.outcome != Outcome::Holds) {
        let severity = if judged.outcome == Outcome::Broken {
            "major"
        } else {
            "minor"
        };
        let issue = |about: &str, text: String, path: &str, line: u32| {
            let identity = format!("{} {} {about}", judged.scope, judged.limit);
            json!({
                "description": text,
                "check_name": format!("heaptape-{}", judged.metric.name()),
                "fingerprint": fingerprint(&identity),
                "severity": severity,
                "location": {"path": path, "lines": {"begin": line.max(1)}},
            })
        };
        if judged.sites.is_empty() {
            // The report must name a file; what is about the whole program is about the program.
            issues.push(issue("", headline(judged), verdict.new.program.as_str(), 1));
        }
        for site in &judged.sites {
            let path = site.file.as_ref().unwrap_or(&site.location);
            let text = format!("{}; {}", headline(judged), site_line(judged.metric, site));
            issues.push(issue(site.function.as_str(), text, path.as_str(), site.line));
        }
    }
    serde_json::to_string_pretty(&issues).map(|text| text + "\n")
}

/// The same for the same limit and site in every run: FNV-1a in 64 bits, twice for 32 digits.
fn fingerprint(identity: &str) -> String {
    let hash = |seed: u64| {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        identity.bytes().fold(seed, step)
    };
    format!(
        "{:016x}{:016x}",
        hash(0xcbf2_9ce4_8422_2325),
        hash(0x6c62_272e_07bb_0142)
    )
}
