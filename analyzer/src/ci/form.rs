//! The forms that a verdict takes.

use super::{gitlab, junit, markdown, sarif, text, Verdict};
use crate::report;

/// The forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people
    #[default]
    Text,
    /// All of it
    Json,
    /// JUnit XML: a test case for each limit
    Junit,
    /// SARIF 2.1.0: results at the lines of the guilty sites
    Sarif,
    /// GitHub-flavoured markdown, for a job summary or a comment
    Markdown,
    /// GitLab's code quality report
    Gitlab,
}

impl Form {
    /// The verdict in this form. `flamegraph` is where a picture of the difference can be found, for markdown.
    ///
    /// # Errors
    /// One line, when a library refuses.
    pub fn write(self, verdict: &Verdict, notes: &[String], flamegraph: Option<&str>) -> Result<String, String> {
        match self {
            Form::Text => Ok(text::text(verdict)),
            Form::Json => report::json("check", verdict, notes).map_err(|error| error.to_string()),
            Form::Junit => junit::junit(verdict, notes),
            Form::Sarif => sarif::sarif(verdict).map_err(|error| error.to_string()),
            Form::Markdown => Ok(markdown::markdown(verdict, notes, flamegraph)),
            Form::Gitlab => gitlab::gitlab(verdict).map_err(|error| error.to_string()),
        }
    }
}
