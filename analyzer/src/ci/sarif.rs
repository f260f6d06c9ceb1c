//! A verdict as SARIF 2.1.0: a result at each guilty site, so that a review shows it at its line.

use super::text::{headline, measured, site_line};
use super::verdict::{Guilty, Judged};
use super::{Metric, Outcome, Verdict};
use serde_json::{json, Value};
use std::collections::BTreeMap;

pub(super) fn sarif(verdict: &Verdict) -> Result<String, serde_json::Error> {
    let mut rules: BTreeMap<&str, Metric> = BTreeMap::new();
    let mut results = Vec::new();
    for judged in verdict.limits.iter().filter(|judged| judged.outcome == Outcome::Broken) {
        rules.insert(judged.metric.name(), judged.metric);
        if judged.sites.is_empty() {
            results.push(result(judged, None));
        }
        results.extend(judged.sites.iter().map(|site| result(judged, Some(site))));
    }
    let unjudged: Vec<Value> = verdict
        .limits
        .iter()
        .filter(|judged| judged.outcome == Outcome::Unjudged)
        .map(|judged| json!({"level": "error", "message": {"text": headline(judged)}}))
        .collect();
    let rules: Vec<Value> = rules
        .keys()
        .map(|name| json!({"id": name, "shortDescription": {"text": format!("A limit on {name} is broken")}}))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "heaptape",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{
                "executionSuccessful": verdict.outcome != Outcome::Unjudged,
                "toolExecutionNotifications": unjudged,
            }],
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&log).map(|text| text + "\n")
}

fn result(judged: &Judged, site: Option<&Guilty>) -> Value {
    let text = match site {
        None => format!("{}: {}: {}", judged.scope, judged.limit, measured(judged)),
        Some(site) => format!(
            "{}: {}: {}; {}",
            judged.scope,
            judged.limit,
            measured(judged),
            site_line(judged.metric, site)
        ),
    };
    let mut result = json!({
        "ruleId": judged.metric.name(),
        "level": "error",
        "message": {"text": text},
    });
    let Some(site) = site else { return result };
    result["partialFingerprints"] = json!({
        "heaptapeSite/v1": format!("{} {} {}", judged.scope, judged.metric.name(), site.function),
    });
    if let Some(file) = &site.file {
        let mut place = json!({"artifactLocation": {"uri": uri(file.as_str())}});
        if site.line > 0 {
            place["region"] = json!({"startLine": site.line});
        }
        result["locations"] = json!([{"physicalLocation": place}]);
    }
    let frames: Vec<Value> = site
        .stack
        .iter()
        .map(|frame| json!({"location": {"message": {"text": frame.as_str()}}}))
        .collect();
    if !frames.is_empty() {
        result["stacks"] =
            json!([{"message": {"text": "Where most of it is allocated, innermost frame first"}, "frames": frames}]);
    }
    result
}

/// A path as a URI reference: bytes that such a reference may not hold are written as `%20`.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' | b'+' => uri.push(byte as char),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn a_path_with_blanks_is_a_sound_uri() {
        assert_eq!(uri("src/a b.c"), "src/a%20b.c");
        assert_eq!(uri("/x/\u{e9}.c"), "file:///x/%C3%A9.c");
    }
}
