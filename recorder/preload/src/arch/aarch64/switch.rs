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
        "stp x29, x30, [sp, #-160]!",
        ".cfi_def_cfa_offset 160",
        ".cfi_offset 29, -160",
        ".cfi_offset 30, -152",
        "mov x29, sp",
        ".cfi_def_cfa_register 29",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "str x29, [x3]",
        "cmp x0, #0",
        "csel x0, x29, x0, eq",
        "and x0, x0, #-16",
        "mov sp, x0",
        "mov x0, x2",
        "blr x1",
        "mov sp, x29",
        // The others were kept by the callee.
        "ldp x29, x30, [sp], #160",
        ".cfi_def_cfa 31, 0",
        ".cfi_restore 29",
        ".cfi_restore 30",
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
        "mov sp, x0",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
    )
}
