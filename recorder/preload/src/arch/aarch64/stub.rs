//! The entries of the hooks, in assembly: they put the return address into memory, beside the frame pointer, and hand on where it lies as one more argument, and the frame
//! pointer as another.
#![allow(unsafe_code)]

/// The body of an entry.
macro_rules! entry {
    (0 $hook:path) => {
        core::arch::naked_asm!(".cfi_startproc", "b {hook}", ".cfi_endproc", hook = sym $hook)
    };
    (1 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "x1", "x2") };
    (2 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "x2", "x3") };
    (3 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "x3", "x4") };
    (4 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "x4", "x5") };
    (6 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "x6", "x7") };
    (wide $hook:path) => { $crate::arch::stub::entry!(@ $hook, "x6", "x7") };
    // The hook says where to go on, with everything as it came.
    (pass $hook:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "stp x29, x30, [sp, #-80]!",
            ".cfi_def_cfa_offset 80",
            ".cfi_offset 29, -80",
            ".cfi_offset 30, -72",
            "mov x29, sp",
            "stp x0, x1, [sp, #16]",
            "stp x2, x3, [sp, #32]",
            "stp x4, x5, [sp, #48]",
            "stp x6, x7, [sp, #64]",
            "bl {hook}",
            "mov x16, x0",
            "ldp x0, x1, [sp, #16]",
            "ldp x2, x3, [sp, #32]",
            "ldp x4, x5, [sp, #48]",
            "ldp x6, x7, [sp, #64]",
            "ldp x29, x30, [sp], #80",
            ".cfi_def_cfa_offset 0",
            ".cfi_restore 29",
            ".cfi_restore 30",
            "br x16",
            ".cfi_endproc",
            hook = sym $hook,
        )
    };
    (@ $hook:path, $slot:literal, $fp:literal) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "stp x29, x30, [sp, #-16]!",
            ".cfi_def_cfa_offset 16",
            ".cfi_offset 29, -16",
            ".cfi_offset 30, -8",
            concat!("add ", $slot, ", sp, #8"),
            concat!("mov ", $fp, ", x29"),
            "mov x29, sp",
            "bl {hook}",
            "ldp x29, x30, [sp], #16",
            ".cfi_def_cfa_offset 0",
            ".cfi_restore 29",
            ".cfi_restore 30",
            "ret",
            ".cfi_endproc",
            hook = sym $hook,
        )
    };
}

pub(crate) use entry;
