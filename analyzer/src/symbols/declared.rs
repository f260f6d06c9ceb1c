//! The line at which a function is declared: with it a line of the function can be told from its beginning, wherever the function moves in its file.

use gimli::{AttributeValue, DebugInfoOffset, Reader, UnitOffset, UnitRef};

/// Links from an inlined copy to its original, from a definition to its declaration: more are no compiler's work.
const MOST_LINKS: usize = 4;

/// The line of the declaration that belongs to a function's entry in the debug information; 0 when that is not told.
pub(super) fn line<R: Reader>(unit: UnitRef<'_, R>, entry: UnitOffset<R::Offset>) -> u32 {
    follow(unit, entry, MOST_LINKS).unwrap_or(0)
}

fn follow<R: Reader>(unit: UnitRef<'_, R>, at: UnitOffset<R::Offset>, links: usize) -> Option<u32> {
    let entry = unit.entry(at).ok()?;
    let line = entry.attr_value(gimli::DW_AT_decl_line);
    if let Some(line) = line.and_then(|value| value.udata_value()) {
        return u32::try_from(line).ok();
    }
    // A definition may stand apart from the declaration in its class, and then has a line of its own, found first.
    let link = entry
        .attr_value(gimli::DW_AT_abstract_origin)
        .or_else(|| entry.attr_value(gimli::DW_AT_specification));
    let links = links.checked_sub(1)?;
    match link? {
        AttributeValue::UnitRef(original) => follow(unit, original, links),
        AttributeValue::DebugInfoRef(original) => elsewhere(unit, original, links),
        _ => None,
    }
}

/// What was inlined across units, as link-time optimization does it, has its original in another one.
fn elsewhere<R: Reader>(from: UnitRef<'_, R>, at: DebugInfoOffset<R::Offset>, links: usize) -> Option<u32> {
    let mut units = from.dwarf.units();
    while let Ok(Some(header)) = units.next() {
        if let Some(entry) = at.to_unit_offset(&header) {
            let unit = from.dwarf.unit(header).ok()?;
            return follow(UnitRef::new(from.dwarf, &unit), entry, links);
        }
    }
    None
}
