//! From a row of the unwind table to a rule.

use super::Saved;
use crate::arch::MACHINE;
use crate::cfi::{by_table, Row};
use crate::module::Tables;
use crate::rule::{Kind, Rule};
use gimli::{CfaRule, Register, RegisterRule};

/// The rule for `pc`, which lies in this module.
///
/// [`Kind::Guess`] when the tables say nothing about `pc`, [`Kind::Unknown`] when they say what cannot be followed.
pub fn rule_for(tables: &Tables<'_>, pc: usize) -> Rule {
    by_table(tables, pc, pack)
}

fn pack(row: &Row<'_, '_>) -> Option<Rule> {
    let return_address = match row.rules.register(row.return_address) {
        Some(RegisterRule::Offset(offset)) => Some(below(offset)?),
        Some(RegisterRule::Undefined) => return Some(Rule::bare(Kind::End)),
        Some(RegisterRule::SameValue) | None => None,
        _ => return None,
    };
    let frame_pointer = match row.rules.register(Register(MACHINE.fp)) {
        Some(RegisterRule::Offset(offset)) => Some(below(offset)?),
        // Only start code says that it is undefined; the value does not matter further out, and unchanged is as good as any.
        Some(RegisterRule::SameValue | RegisterRule::Undefined) | None => None,
        _ => return None,
    };
    let saved = match (return_address, frame_pointer) {
        (None, None) => Saved::Nothing,
        (None, Some(_)) => return None,
        (Some(address), None) => Saved::Alone(address),
        (Some(address), Some(pointer)) if pointer == address + size_of::<usize>() => Saved::Pair(address),
        (Some(address), Some(pointer)) => Saved::Apart(address, pointer),
    };
    let CfaRule::RegisterAndOffset { register, offset } = row.rules.cfa() else {
        return None;
    };
    let kind = match register.0 {
        number if number == MACHINE.sp => Kind::Sp,
        number if number == MACHINE.fp => Kind::Fp,
        _ => return None,
    };
    Rule::new(kind, i32::try_from(*offset).ok()?, saved)
}

/// A saved register's offset from the CFA, counted downwards.
fn below(offset: i64) -> Option<usize> {
    usize::try_from(-offset).ok().filter(|offset| *offset > 0)
}
