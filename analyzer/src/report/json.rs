//! Reports as JSON. The shapes are those of the report types; `docs/QUERIES.md` describes them.

use serde::Serialize;

/// Version of the JSON formats. It rises when a field changes its meaning or goes; new fields may come at any time.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Envelope<'a, R> {
    version: u32,
    kind: &'a str,
    /// What is missing from the tapes, in words; empty when they are sound.
    notes: &'a [String],
    #[serde(flatten)]
    report: &'a R,
}

/// One JSON object with `version`, `kind`, `notes` and the report's own fields.
///
/// # Errors
/// Only for report types whose map keys are not strings, of which there are none here.
pub fn json<R: Serialize>(kind: &str, report: &R, notes: &[String]) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&Envelope {
        version: VERSION,
        kind,
        notes,
        report,
    })?;
    text.push('\n');
    Ok(text)
}
