//! A site: the blocks of one place in the program, of one type.

use super::{Frame, Place, Samples};
use crate::table::Level;
use crate::text::Text;
use serde::{Deserialize, Serialize, Serializer};

/// Bytes and blocks, measured in each run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Bytes.
    pub size: Samples,
    /// Blocks.
    pub count: Samples,
}

impl From<Level> for Amount {
    fn from(level: Level) -> Amount {
        Amount {
            size: Samples::from(narrow(level.size)),
            count: Samples::from(level.count),
        }
    }
}

/// Bytes as a summary holds them; more than 64 bits can say is the most that they can.
pub(super) fn narrow(size: u128) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// What tells one site from another within a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteKey {
    /// Where the blocks are asked for.
    #[serde(flatten)]
    pub place: Place,
    /// The type of the objects in them, if they have one.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text>,
}

/// A site with what it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Which.
    #[serde(flatten)]
    pub key: SiteKey,
    /// Its line in the file, for messages: nothing is compared by it. 0 when not known.
    #[serde(default)]
    pub line: u32,
    /// All that it allocated.
    #[serde(serialize_with = "one_line")]
    pub allocated: Amount,
    /// What of it was alive at the program's peak.
    #[serde(serialize_with = "one_line")]
    pub peak: Amount,
    /// What of it was alive at the end.
    #[serde(serialize_with = "one_line")]
    pub end: Amount,
    /// What of it was never freed.
    #[serde(serialize_with = "one_line")]
    pub leaked: Amount,
    /// Blocks that were freed before their thread allocated again.
    pub temporary: Samples,
    /// The stack that allocated most of it, from the site outwards; the first is the site itself.
    #[serde(serialize_with = "one_line_each")]
    pub stack: Vec<Frame>,
}

impl Site {
    /// How much it matters: more than another site of the same program when this is greater.
    pub(super) fn weight(&self) -> (u64, u64, u64) {
        let most = self.peak.size.highest().max(self.leaked.size.highest());
        (most, self.allocated.size.highest(), self.allocated.count.highest())
    }

    /// `src/a.c:112`, or what is known instead.
    pub fn location(&self) -> String {
        location(&self.key.place, self.line)
    }
}

pub(super) fn location(place: &Place, line: u32) -> String {
    match (&place.file, line) {
        (Some(file), 1..) => format!("{file}:{line}"),
        (Some(file), 0) => file.to_string(),
        (None, _) if place.library.as_str().is_empty() => place.name(),
        (None, _) => place.library.to_string(),
    }
}

/// Writes a value on one line where the rest is spread over many.
pub(super) fn one_line<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = serde_json::value::to_raw_value(value).map_err(serde::ser::Error::custom)?;
    raw.serialize(serializer)
}

fn one_line_each<T: Serialize, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let lines: Result<Vec<_>, _> = values.iter().map(serde_json::value::to_raw_value).collect();
    lines.map_err(serde::ser::Error::custom)?.serialize(serializer)
}
