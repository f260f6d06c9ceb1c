//! The row of a module's `.eh_frame` for one program counter. The slow path: some microseconds, once per call site.
//!
//! Sources: DWARF 5 section 6.4, LSB 5.0 (`.eh_frame`, `.eh_frame_hdr`). What a row means for the processor stands in [`crate::arch`].

use crate::module::Tables;
use crate::rule::{Kind, Rule};
use gimli::{
    BaseAddresses, EhFrame, EhFrameHdr, EndianSlice, NativeEndian, Pointer, Register, RegisterRule, UnwindContext,
    UnwindContextStorage, UnwindSection, UnwindTableRow,
};

/// Room for the rules of one row without a heap: far more than compilers emit.
pub struct Fixed;
impl UnwindContextStorage<usize> for Fixed {
    type Rules = [(Register, RegisterRule<usize>); 40];
    type Stack = [UnwindTableRow<usize, Self>; 3];
}

/// The section.
pub type Section<'a> = EhFrame<EndianSlice<'a, NativeEndian>>;

/// The row that holds at a program counter.
pub struct Row<'r, 'a> {
    /// Where its expressions lie.
    pub section: &'r Section<'a>,
    /// And how they are coded.
    pub encoding: gimli::Encoding,
    /// The register that stands for the return address.
    pub return_address: Register,
    /// What is found where.
    pub rules: &'r UnwindTableRow<usize, Fixed>,
}

/// The rule that `pack` makes of the row for `pc`, which lies in this module.
///
/// [`Kind::Guess`] when the tables say nothing about `pc`, [`Kind::Unknown`] when they say what cannot be followed.
pub fn by_table(tables: &Tables<'_>, pc: usize, pack: impl FnOnce(&Row<'_, '_>) -> Option<Rule>) -> Rule {
    find(tables, pc, pack).unwrap_or(Rule::bare(Kind::Guess))
}

fn find(tables: &Tables<'_>, pc: usize, pack: impl FnOnce(&Row<'_, '_>) -> Option<Rule>) -> Option<Rule> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(tables.header_address as u64);
    let header = EhFrameHdr::new(tables.header, NativeEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(eh_frame_address) = header.eh_frame_ptr() else {
        return None;
    };
    let offset = (eh_frame_address as usize).checked_sub(tables.start)?;
    let mut eh_frame = EhFrame::new(tables.module.get(offset..)?, NativeEndian);
    // Signed return addresses have an instruction of their own, whose number means something else elsewhere.
    eh_frame.set_vendor(if cfg!(target_arch = "aarch64") {
        gimli::Vendor::AArch64
    } else {
        gimli::Vendor::Default
    });
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
    let row = Row {
        section: &eh_frame,
        encoding: fde.cie().encoding(),
        return_address: fde.cie().return_address_register(),
        rules: row,
    };
    Some(pack(&row).unwrap_or(Rule::bare(Kind::Unknown)))
}
