//! From the unwind tables of a module to the rule for one program counter. The slow path: some microseconds, once per call site.
//!
//! Sources: DWARF 5 section 6.4, LSB 5.0 (`.eh_frame`, `.eh_frame_hdr`), System V psABI for x86_64 (register numbers).

use crate::rule::{Kind, Rule, SavedFp};
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, NativeEndian, Operation, Pointer, Register, RegisterRule,
    UnwindContext, UnwindContextStorage, UnwindSection, UnwindTableRow,
};

const RBP: Register = Register(6);
const RSP: Register = Register(7);
const RETURN_ADDRESS: Register = Register(16);

/// Room for the rules of one row without a heap: far more than compilers emit.
struct Fixed;
impl UnwindContextStorage<usize> for Fixed {
    type Rules = [(Register, RegisterRule<usize>); 40];
    type Stack = [UnwindTableRow<usize, Self>; 3];
}

/// The tables of one loaded module, as memory.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// Address of `header`.
    pub header_address: usize,
    /// The bytes from `.eh_frame_hdr` to the end of the module's mapping.
    pub header: &'a [u8],
    /// Lowest address of the module.
    pub start: usize,
    /// The bytes of the module from `start` on.
    pub module: &'a [u8],
}

/// The rule for `pc`, which lies in this module.
///
/// [`Kind::Guess`] when the tables say nothing about `pc`, [`Kind::Unknown`] when they say what cannot be followed.
pub fn rule_for(tables: &Tables<'_>, pc: usize) -> Rule {
    find(tables, pc).unwrap_or(Rule::bare(Kind::Guess))
}

fn find(tables: &Tables<'_>, pc: usize) -> Option<Rule> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(tables.header_address as u64);
    let header = EhFrameHdr::new(tables.header, NativeEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(eh_frame_address) = header.eh_frame_ptr() else {
        return None;
    };
    let offset = (eh_frame_address as usize).checked_sub(tables.start)?;
    let eh_frame = EhFrame::new(tables.module.get(offset..)?, NativeEndian);
    let bases = bases.set_eh_frame(eh_frame_address);
    let fde = header
        .table()?
        .fde_for_address(&eh_frame, &bases, pc as u64, |section, bases, offset| {
            section.cie_from_offset(bases, offset)
        })
        .ok()?;
    if fde.cie().is_signal_trampoline() {
        return Some(Rule::bare(Kind::Signal));
    }
    let mut context = UnwindContext::<usize, Fixed>::new_in();
    let row = match fde.unwind_info_for_address(&eh_frame, &bases, &mut context, pc as u64) {
        Ok(row) => row,
        Err(_) => return Some(Rule::bare(Kind::Unknown)),
    };
    Some(pack(&eh_frame, fde.cie().encoding(), row, pc).unwrap_or(Rule::bare(Kind::Unknown)))
}

type Section<'a> = EhFrame<EndianSlice<'a, NativeEndian>>;

fn pack(
    section: &Section<'_>,
    encoding: gimli::Encoding,
    row: &UnwindTableRow<usize, Fixed>,
    pc: usize,
) -> Option<Rule> {
    match row.register(RETURN_ADDRESS) {
        Some(RegisterRule::Offset(-8)) => {}
        Some(RegisterRule::Undefined) | None => return Some(Rule::bare(Kind::End)),
        _ => return None,
    }
    let (saved, fp_offset) = match row.register(RBP) {
        None | Some(RegisterRule::SameValue) => (SavedFp::Same, 0),
        // Only crt code says so; the value does not matter further out, and unchanged is as good as any.
        Some(RegisterRule::Undefined) => (SavedFp::Same, 0),
        Some(RegisterRule::Offset(offset)) => (SavedFp::AtCfa, i16::try_from(offset).ok()?),
        Some(RegisterRule::Expression(expression)) => {
            let mut operations = expression.get(section).ok()?.operations(encoding);
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
    let (kind, cfa_offset) = match row.cfa() {
        CfaRule::RegisterAndOffset { register: RSP, offset } => (Kind::Sp, *offset),
        CfaRule::RegisterAndOffset { register: RBP, offset } => (Kind::Fp, *offset),
        CfaRule::RegisterAndOffset { .. } => return None,
        CfaRule::Expression(expression) => cfa_by_expression(expression.get(section).ok()?, encoding, pc)?,
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
