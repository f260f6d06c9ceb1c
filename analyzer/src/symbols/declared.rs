//! The line at which a function is declared: with it a line of the function can be told from its beginning, wherever the function moves in its file.

use gimli::{AttributeValue, Reader, UnitOffset, UnitRef};

/// Links from an inlined copy to its original, from a definition to its declaration: more are no compiler's work.
const MOST_LINKS: usize = 4;

/// The line of the declaration that belongs to a function's entry in the debug information; 0 when that is not told, or told in another unit.
pub(super) fn line<R: Reader>(unit: UnitRef<'_, R>, entry: UnitOffset<R::Offset>) -> u32 {
    let mut at = entry;
    for _ in 0..=MOST_LINKS {
        let Ok(entry) = unit.entry(at) else { return 0 };
        if let Some(line) = entry
            .attr_value(gimli::DW_AT_decl_line)
            .and_then(|value| value.udata_value())
        {
            return u32::try_from(line).unwrap_or(0);
        }
        // A definition may stand apart from the declaration in its class, and then has a line of its own, found first.
        let link = entry
            .attr_value(gimli::DW_AT_abstract_origin)
            .or_else(|| entry.attr_value(gimli::DW_AT_specification));
        at = match link {
            Some(AttributeValue::UnitRef(original)) => original,
            _ => return 0,
        };
    }
    0
}
