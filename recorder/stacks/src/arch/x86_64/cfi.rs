//! From a row of the unwind table to a rule. System V psABI for x86_64: register numbers.

use super::SavedFp;
use crate::cfi::{by_table, Row};
use crate::module::Tables;
use crate::rule::{Kind, Rule};
use gimli::{CfaRule, EndianSlice, NativeEndian, Operation, Register, RegisterRule};

const RBP: Register = Register(6);
const RSP: Register = Register(7);
const RETURN_ADDRESS: Register = Register(16);

/// The rule for `pc`, which lies in this module.
///
/// [`Kind::Guess`] when the tables say nothing about `pc`, [`Kind::Unknown`] when they say what cannot be followed.
pub fn rule_for(tables: &Tables<'_>, pc: usize) -> Rule {
    by_table(tables, pc, |row| pack(row, pc))
}

fn pack(row: &Row<'_, '_>, pc: usize) -> Option<Rule> {
    match row.rules.register(RETURN_ADDRESS) {
        Some(RegisterRule::Offset(-8)) => {}
        Some(RegisterRule::Undefined) | None => return Some(Rule::bare(Kind::End)),
        _ => return None,
    }
    let (saved, fp_offset) = match row.rules.register(RBP) {
        None | Some(RegisterRule::SameValue) => (SavedFp::Same, 0),
        // Only crt code says so; the value does not matter further out, and unchanged is as good as any.
        Some(RegisterRule::Undefined) => (SavedFp::Same, 0),
        Some(RegisterRule::Offset(offset)) => (SavedFp::AtCfa, i16::try_from(offset).ok()?),
        Some(RegisterRule::Expression(expression)) => {
            let mut operations = expression.get(row.section).ok()?.operations(row.encoding);
            let Operation::RegisterOffset {
                register: RBP, offset, ..
            } = operations.next().ok()??
            else {
                return None;
            };
            if operations.next().ok()?.is_some() {
                return None;
            }
            (SavedFp::AtFp, i16::try_from(offset).ok()?)
        }
        _ => return None,
    };
    let (kind, cfa_offset) = match row.rules.cfa() {
        CfaRule::RegisterAndOffset { register: RSP, offset } => (Kind::Sp, *offset),
        CfaRule::RegisterAndOffset { register: RBP, offset } => (Kind::Fp, *offset),
        CfaRule::RegisterAndOffset { .. } => return None,
        CfaRule::Expression(expression) => cfa_by_expression(expression.get(row.section).ok()?, row.encoding, pc)?,
    };
    Some(Rule::new(kind, i32::try_from(cfa_offset).ok()?, saved, fp_offset))
}

/// The two expressions that compilers and linkers really emit for the CFA.
fn cfa_by_expression(
    expression: gimli::Expression<EndianSlice<'_, NativeEndian>>,
    encoding: gimli::Encoding,
    pc: usize,
) -> Option<(Kind, i64)> {
    let mut operations = expression.operations(encoding);
    match operations.next().ok()?? {
        // Realigned stacks: the old stack pointer was saved below the frame pointer.
        Operation::RegisterOffset {
            register: RBP, offset, ..
        } => match operations.next().ok()?? {
            Operation::Deref { .. } if operations.next().ok()?.is_none() => Some((Kind::FpDeref, offset)),
            _ => None,
        },
        // Entries of the procedure linkage table: rsp + 8, and 8 more once the entry has pushed its index (its last 5 of 16 bytes).
        Operation::RegisterOffset {
            register: RSP,
            offset: 8,
            ..
        } => {
            let pushed = if pc & 15 >= 11 { 8 } else { 0 };
            Some((Kind::Sp, 8 + pushed))
        }
        _ => None,
    }
}
