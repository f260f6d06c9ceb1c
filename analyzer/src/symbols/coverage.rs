//! What was found of a module, and what was refused.

use super::locate::{hex, FoundBy};
use super::names::Place;
use crate::tape::{KeptModule, ModuleInfo};
use crate::text::Text;
use serde::Serialize;

/// Whether a module can be named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Symbols are there.
    Found,
    /// The file is there, but stripped: it names what it exports and nothing else.
    Stripped,
    /// Files are there, all of other builds.
    Mismatched,
    /// No file is there.
    #[default]
    Missing,
}

impl State {
    /// In one word.
    pub fn text(self) -> &'static str {
        match self {
            State::Found => "found",
            State::Stripped => "stripped",
            State::Mismatched => "mismatched",
            State::Missing => "missing",
        }
    }
}

/// A file that is not the one looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Where it is.
    pub file: Text,
    /// What it would have to be: a build-id, the CRC of a debug link.
    pub expected: Text,
    /// What it is.
    pub found: Text,
}

impl Refused {
    /// As a message.
    pub fn message(&self) -> String {
        format!(
            "{}: its {}, expected was {}; refused (use the recorded build, or --sysroot, --debug-dir)",
            self.file, self.found, self.expected
        )
    }
}

/// What could be found of a module.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// The module as the tape names it.
    pub module: Text,
    /// The recorded build-id in hexadecimal; empty when there was none.
    pub build_id: String,
    /// Whether it can be named.
    pub state: State,
    /// The file that is used for symbols.
    pub file: Option<Text>,
    /// How that was found.
    pub found_by: Option<FoundBy>,
    /// The file that is used for lines and inlined functions.
    pub debug_file: Option<Text>,
    /// How that was found.
    pub debug_found_by: Option<FoundBy>,
    /// What else belongs to it: the alternate file of dwz, the package of split debug information.
    pub supplements: Vec<Text>,
    /// Files that are not of this build.
    pub refused: Vec<Refused>,
    /// Why there is nothing, or less than there could be.
    pub problem: Option<Text>,
    /// The names are those in the tape; the files are where they came from.
    pub is_frozen: bool,
    /// Frames that were asked for.
    pub frames: u64,
    /// Of these, frames whose function was found.
    pub with_function: u64,
    /// Of these, frames whose line was found.
    pub with_line: u64,
}

impl Coverage {
    /// What was known of a module when its names were frozen into the tape.
    pub(super) fn frozen(info: &ModuleInfo, kept: &KeptModule) -> Coverage {
        let states = [State::Found, State::Stripped, State::Mismatched, State::Missing];
        let state = states.into_iter().find(|state| state.text() == kept.state.as_str());
        Coverage {
            module: info.path.clone(),
            build_id: hex(&info.raw.build_id),
            state: state.unwrap_or_default(),
            file: kept.file.clone(),
            debug_file: kept.debug_file.clone(),
            problem: kept.problem.clone(),
            is_frozen: true,
            ..Coverage::default()
        }
    }

    /// Counts a frame that was looked up.
    pub(super) fn count(&mut self, places: &[Place]) {
        self.frames += 1;
        self.with_function += u64::from(places.iter().any(|place| place.function.is_some()));
        self.with_line += u64::from(places.iter().any(|place| place.line > 0));
    }
}
