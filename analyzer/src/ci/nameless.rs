//! Modules whose code has names on one side only: a tape that is read after its program was built again finds no names for what it saw.

use super::{Site, Summary};
use crate::text::Text;
use std::collections::BTreeMap;

/// A side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Baseline,
    Run,
}

/// Modules in which sites of one side cannot be found again on the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nameless(BTreeMap<Text, Of>);

impl Nameless {
    /// Those of which one side has names and no code without, and the other code without.
    pub fn of(old: &Summary, new: &Summary) -> Nameless {
        let (before, after) = (modules(old), modules(new));
        let found = before.iter().filter_map(|(module, &(named, bare))| {
            let &(named_now, bare_now) = after.get(module)?;
            let side = match (named, bare, named_now, bare_now) {
                (_, 1.., 1.., 0) => Of::Baseline,
                (1.., 0, _, 1..) => Of::Run,
                _ => return None,
            };
            Some((module.clone(), side))
        });
        Nameless(found.collect())
    }

    /// Whether a site lies in one.
    pub fn contains(&self, site: &Site) -> bool {
        self.0.contains_key(&site.key.place.library)
    }

    /// One line for each.
    pub fn remarks(&self) -> Vec<String> {
        let line = |(module, side): (&Text, &Of)| {
            let (side, what) = match side {
                Of::Baseline => (
                    "the baseline",
                    "make its summary while the program that was recorded is still there",
                ),
                Of::Run => ("the run", "give the files with symbols (--debug-dir, --sysroot)"),
            };
            format!("{side} has no names in {module}, so its sites there cannot be told from new ones; {what}")
        };
        self.0.iter().map(line).collect()
    }
}

/// Sites by module: with names, and without.
fn modules(summary: &Summary) -> BTreeMap<Text, (usize, usize)> {
    let mut modules: BTreeMap<Text, (usize, usize)> = BTreeMap::new();
    for site in &summary.sites {
        let place = &site.key.place;
        let found = modules.entry(place.library.clone()).or_default();
        if place.is_named() {
            found.0 += 1;
        } else {
            found.1 += 1;
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ci::{Place, SiteKey};

    fn summary(functions: &[Option<&str>]) -> Summary {
        let mut summary = Summary::empty(Text::new("app"), 1);
        let site = |name: &Option<&str>| Site {
            key: SiteKey {
                place: Place {
                    function: name.map(Text::new),
                    library: Text::new("app"),
                    ..Place::default()
                },
                kind: None,
            },
            ..Site::default()
        };
        summary.sites = functions.iter().map(site).collect();
        summary
    }

    #[test]
    fn names_that_one_side_alone_has_are_told_and_a_few_bare_places_on_both_are_not() {
        let (named, bare) = (summary(&[Some("a"), Some("b")]), summary(&[None]));
        assert!(Nameless::of(&bare, &named).remarks()[0].starts_with("the baseline has no names in app"));
        assert!(Nameless::of(&named, &bare).remarks()[0].starts_with("the run has no names in app"));
        let mixed = summary(&[Some("a"), None]);
        assert_eq!(Nameless::of(&mixed, &mixed), Nameless::default());
        assert_eq!(Nameless::of(&named, &named), Nameless::default());
    }
}
