//! Suppressions as LeakSanitizer reads them: leaks that are known and not to be reported.

use crate::symbols::Place;
use crate::table::Level;
use crate::text::Text;
use serde::Serialize;

/// `leak:PATTERN`. The pattern is found anywhere in a name, `^` ties it to the beginning, `$` to the end, and `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suppression {
    pattern: String,
    line: usize,
}

impl Suppression {
    /// As `TemplateMatch` of the sanitizers' common code.
    fn matches(&self, name: &str) -> bool {
        let (tied, rest) = match self.pattern.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, self.pattern.as_str()),
        };
        let (rest, ends) = match rest.strip_suffix('$') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let parts: Vec<&str> = rest.split('*').collect();
        let mut at = 0;
        for (number, part) in parts.iter().enumerate() {
            let (is_first, is_last) = (number == 0, number + 1 == parts.len());
            if is_last && ends {
                // The last part lies at the end, and all that was found before it in front of that.
                let begins = match name.len().checked_sub(part.len()) {
                    Some(begins) if begins >= at => begins,
                    _ => return false,
                };
                return name.is_char_boundary(begins)
                    && name[begins..] == **part
                    && (begins == at || !(is_first && tied));
            }
            match name[at..].find(part) {
                Some(0) => at += part.len(),
                Some(found) if !(is_first && tied) => at += found + part.len(),
                _ => return false,
            }
        }
        true
    }

    fn matches_place(&self, place: &Place) -> bool {
        let names = [place.function.as_ref(), place.file.as_ref(), Some(&place.library)];
        names
            .into_iter()
            .flatten()
            .any(|name| !name.as_str().is_empty() && self.matches(name.as_str()))
    }
}

/// A file of suppressions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions(Vec<Suppression>);

impl Suppressions {
    /// Reads `leak:PATTERN` lines; empty ones and those that begin with `#` say nothing.
    ///
    /// ```
    /// use heaptape::query::Suppressions;
    /// assert!(Suppressions::parse("# known\nleak:^libfoo*init$\n").is_ok());
    /// assert!(Suppressions::parse("race:foo").is_err());
    /// ```
    ///
    /// # Errors
    /// The number of the line that is neither, and what was expected.
    pub fn parse(text: &str) -> Result<Suppressions, String> {
        let mut suppressions = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.strip_prefix("leak:") {
                Some(pattern) if !pattern.is_empty() => suppressions.push(Suppression {
                    pattern: pattern.to_owned(),
                    line: number,
                }),
                _ => {
                    let found = Text::new(line);
                    return Err(format!("line {number}: expected leak:PATTERN, found \"{found}\""));
                }
            }
        }
        Ok(Suppressions(suppressions))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a suppression kept from being reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuppressionUse {
    /// Its pattern.
    pub pattern: Text,
    /// Its line in the file.
    pub line: usize,
    /// What it matched; a block counts for the first suppression that matches.
    #[serde(flatten)]
    pub level: Level,
}

/// Suppressions at work.
pub(super) struct Suppressed<'a> {
    suppressions: &'a Suppressions,
    levels: Vec<Level>,
}

impl<'a> Suppressed<'a> {
    pub(super) fn new(suppressions: &'a Suppressions) -> Suppressed<'a> {
        Suppressed {
            levels: vec![Level::default(); suppressions.0.len()],
            suppressions,
        }
    }

    /// Whether blocks of a stack are not to be reported: a name of any of its frames matches.
    pub(super) fn matches<'p>(&mut self, places: impl Iterator<Item = &'p Place>, level: Level) -> bool {
        let places: Vec<&Place> = places.collect();
        let matches = |suppression: &Suppression| places.iter().any(|place| suppression.matches_place(place));
        let found = self.suppressions.0.iter().position(matches);
        if let Some(found) = found {
            self.levels[found].add(level);
        }
        found.is_some()
    }

    /// All of them, also those that matched nothing.
    pub(super) fn finish(self) -> Vec<SuppressionUse> {
        let uses = self.suppressions.0.iter().zip(self.levels);
        uses.map(|(suppression, level)| SuppressionUse {
            pattern: Text::new(&suppression.pattern),
            line: suppression.line,
            level,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_leak_sanitizer_matches_them() {
        // The table of the sanitizers' own test of `TemplateMatch`, and what it leaves open.
        for (pattern, name, expected) in [
            ("*aaaa*", "aaaa", true),
            ("aaaa", "baaaab", true),
            ("^aaaa", "aaaab", true),
            ("^aaaa", "baaaa", false),
            ("aaaa$", "baaaa", true),
            ("aaaa$", "aaaab", false),
            ("^aaaa$", "aaaa", true),
            ("^aaaa$", "aaaaaaaa", false),
            ("^*aaa", "baaa", true),
            ("aa*bb", "xaaxxbbx", true),
            ("aa*bb", "xbbxaax", false),
            ("^aa*bb$", "aabb", true),
            ("^aa*bb$", "aab", false),
            ("^aba*ba$", "aba", false),
            ("é$", "née", false),
            ("*", "", true),
        ] {
            let suppression = Suppression {
                pattern: pattern.into(),
                line: 1,
            };
            assert_eq!(suppression.matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_line_that_is_no_suppression_is_named() {
        assert!(Suppressions::parse("\n# x\n leak:a b \n").is_ok_and(|list| list.0[0].pattern == "a b"));
        assert!(Suppressions::parse("leak:a\nrace:b").is_err_and(|error| error.contains("line 2")));
        assert!(Suppressions::parse("leak:").is_err());
    }
}
