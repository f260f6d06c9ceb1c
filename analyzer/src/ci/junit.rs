//! A verdict as JUnit XML: a test case for each limit.

use super::text::{headline, measured, site_line};
use super::{Outcome, Verdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::fmt::Write as _;

pub(super) fn junit(verdict: &Verdict, notes: &[String]) -> Result<String, String> {
    let mut suite = TestSuite::new(verdict.new.program.to_string());
    for judged in &verdict.limits {
        let status = match judged.outcome {
            Outcome::Holds => TestCaseStatus::success(),
            outcome => {
                let kind = if outcome == Outcome::Broken {
                    NonSuccessKind::Failure
                } else {
                    NonSuccessKind::Error
                };
                let mut status = TestCaseStatus::non_success(kind);
                let mut description = headline(judged);
                for site in &judged.sites {
                    let _ = write!(description, "\n{}", site_line(judged.metric, site));
                    for frame in site.stack.iter().skip(1) {
                        let _ = write!(description, "\n    from {frame}");
                    }
                }
                status
                    .set_message(measured(judged))
                    .set_type(judged.metric.name())
                    .set_description(description);
                status
            }
        };
        let mut case = TestCase::new(judged.limit.clone(), status);
        case.set_classname(judged.scope.to_string());
        suite.add_test_case(case);
    }
    if !notes.is_empty() {
        suite.set_system_err(notes.join("\n"));
    }
    let mut report = Report::new("heaptape check");
    report.add_test_suite(suite);
    let xml = report.to_string().map_err(|error| error.to_string())?;
    // The schema by which Jenkins reads has no number of skipped cases of the whole, only of a suite. None is ever skipped.
    Ok(xml.replacen(" skipped=\"0\"", "", 1))
}
