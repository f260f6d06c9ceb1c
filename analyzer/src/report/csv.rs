//! Statistics as comma-separated values (RFC 4180), sizes in bytes.

use crate::query::Statistics;
use std::fmt::Write;

/// Quotes a field that needs it. A spreadsheet takes a field that begins with `=`, `+`, `-` or `@` for a formula, which a hostile name
/// could use; such a field gets an apostrophe in front.
fn field(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@']) {
        "'"
    } else {
        ""
    };
    if text.contains(['"', ',', '\n', '\r']) || !guard.is_empty() {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A snapshot or leaks, one line a row.
pub fn csv_statistics(report: &Statistics) -> String {
    let mut text = String::from("key,function,size,count,unknown_size,unknown_count\r\n");
    for row in &report.rows {
        let function = row.function.as_ref().map_or("", |name| name.as_str());
        let _ = write!(
            text,
            "{},{},{},{},{},{}\r\n",
            field(&row.key.to_string()),
            field(function),
            row.size,
            row.count,
            row.unknown_after_gap.size,
            row.unknown_after_gap.count
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_quoted_and_are_never_formulas() {
        assert_eq!(field("a.c:12"), "a.c:12");
        assert_eq!(field("f(int, char)"), "\"f(int, char)\"");
        assert_eq!(field("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(field("=cmd|x"), "\"'=cmd|x\"");
    }
}
