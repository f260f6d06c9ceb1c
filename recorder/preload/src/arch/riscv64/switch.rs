//! Running on another stack.
#![allow(unsafe_code)]

/// Calls `function(argument)` on the stack that ends at `top`, or on this one if that is null; the place to go on from is left in `place`. Its unwind table holds
/// throughout: a signal handler may come at any instruction, and want a stack.
///
/// # Safety
/// Below `top` there must be enough writable memory that nobody else uses meanwhile. `function` must not unwind.
#[unsafe(naked)]
pub unsafe extern "C" fn call_on_stack(
    top: *mut u8,
    function: unsafe extern "C" fn(*mut u8),
    argument: *mut u8,
    place: *mut usize,
) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "addi sp, sp, -208",
        ".cfi_def_cfa_offset 208",
        "sd ra, 200(sp)",
        "sd s0, 192(sp)",
        ".cfi_offset 1, -8",
        ".cfi_offset 8, -16",
        "addi s0, sp, 208",
        ".cfi_def_cfa 8, 0",
        "sd s1, 184(sp)",
        "sd s2, 176(sp)",
        "sd s3, 168(sp)",
        "sd s4, 160(sp)",
        "sd s5, 152(sp)",
        "sd s6, 144(sp)",
        "sd s7, 136(sp)",
        "sd s8, 128(sp)",
        "sd s9, 120(sp)",
        "sd s10, 112(sp)",
        "sd s11, 104(sp)",
        ".option push",
        ".option arch, +d",
        "fsd fs0, 96(sp)",
        "fsd fs1, 88(sp)",
        "fsd fs2, 80(sp)",
        "fsd fs3, 72(sp)",
        "fsd fs4, 64(sp)",
        "fsd fs5, 56(sp)",
        "fsd fs6, 48(sp)",
        "fsd fs7, 40(sp)",
        "fsd fs8, 32(sp)",
        "fsd fs9, 24(sp)",
        "fsd fs10, 16(sp)",
        "fsd fs11, 8(sp)",
        ".option pop",
        "sd sp, 0(a3)",
        "mv t0, a1",
        "beqz a0, 2f",
        "andi sp, a0, -16",
        "2:",
        "mv a0, a2",
        "jalr t0",
        "addi sp, s0, -208",
        // The others were kept by the callee.
        "ld s0, 192(sp)",
        "ld ra, 200(sp)",
        ".cfi_restore 1",
        ".cfi_restore 8",
        "addi sp, sp, 208",
        ".cfi_def_cfa 2, 0",
        "ret",
        ".cfi_endproc",
    )
}

/// Returns from the [`call_on_stack`] that has left this place.
///
/// # Safety
/// That call must not have returned.
#[unsafe(naked)]
pub unsafe extern "C" fn return_from(place: usize) -> ! {
    core::arch::naked_asm!(
        "mv sp, a0",
        "ld s1, 184(sp)",
        "ld s2, 176(sp)",
        "ld s3, 168(sp)",
        "ld s4, 160(sp)",
        "ld s5, 152(sp)",
        "ld s6, 144(sp)",
        "ld s7, 136(sp)",
        "ld s8, 128(sp)",
        "ld s9, 120(sp)",
        "ld s10, 112(sp)",
        "ld s11, 104(sp)",
        ".option push",
        ".option arch, +d",
        "fld fs0, 96(sp)",
        "fld fs1, 88(sp)",
        "fld fs2, 80(sp)",
        "fld fs3, 72(sp)",
        "fld fs4, 64(sp)",
        "fld fs5, 56(sp)",
        "fld fs6, 48(sp)",
        "fld fs7, 40(sp)",
        "fld fs8, 32(sp)",
        "fld fs9, 24(sp)",
        "fld fs10, 16(sp)",
        "fld fs11, 8(sp)",
        ".option pop",
        "ld s0, 192(sp)",
        "ld ra, 200(sp)",
        "addi sp, sp, 208",
        "ret",
    )
}
