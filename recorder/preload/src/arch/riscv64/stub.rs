//! The entries of the hooks, in assembly: they put the return address into memory, beside the frame pointer, and hand on where it lies as one more argument, and the frame
//! pointer as another.
#![allow(unsafe_code)]

/// The body of an entry.
macro_rules! entry {
    (0 $hook:path) => {
        core::arch::naked_asm!(".cfi_startproc", "tail {hook}", ".cfi_endproc", hook = sym $hook)
    };
    (1 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "a1", "a2") };
    (2 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "a2", "a3") };
    (3 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "a3", "a4") };
    (4 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "a4", "a5") };
    (6 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "a6", "a7") };
    (wide $hook:path) => { $crate::arch::stub::entry!(@ $hook, "a6", "a7") };
    // The hook says where to go on, with everything as it came.
    (pass $hook:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "addi sp, sp, -80",
            ".cfi_def_cfa_offset 80",
            "sd ra, 72(sp)",
            ".cfi_offset 1, -8",
            "sd a0, 64(sp)",
            "sd a1, 56(sp)",
            "sd a2, 48(sp)",
            "sd a3, 40(sp)",
            "sd a4, 32(sp)",
            "sd a5, 24(sp)",
            "sd a6, 16(sp)",
            "sd a7, 8(sp)",
            "call {hook}",
            "mv t1, a0",
            "ld a0, 64(sp)",
            "ld a1, 56(sp)",
            "ld a2, 48(sp)",
            "ld a3, 40(sp)",
            "ld a4, 32(sp)",
            "ld a5, 24(sp)",
            "ld a6, 16(sp)",
            "ld a7, 8(sp)",
            "ld ra, 72(sp)",
            ".cfi_restore 1",
            "addi sp, sp, 80",
            ".cfi_def_cfa_offset 0",
            "jr t1",
            ".cfi_endproc",
            hook = sym $hook,
        )
    };
    (@ $hook:path, $slot:literal, $fp:literal) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "addi sp, sp, -16",
            ".cfi_def_cfa_offset 16",
            "sd ra, 8(sp)",
            "sd s0, 0(sp)",
            ".cfi_offset 1, -8",
            ".cfi_offset 8, -16",
            concat!("addi ", $slot, ", sp, 8"),
            concat!("mv ", $fp, ", s0"),
            "addi s0, sp, 16",
            "call {hook}",
            "ld ra, 8(sp)",
            "ld s0, 0(sp)",
            ".cfi_restore 1",
            ".cfi_restore 8",
            "addi sp, sp, 16",
            ".cfi_def_cfa_offset 0",
            "ret",
            ".cfi_endproc",
            hook = sym $hook,
        )
    };
}

pub(crate) use entry;
