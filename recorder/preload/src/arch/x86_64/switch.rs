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
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        ".cfi_def_cfa_offset 56",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov qword ptr [rcx], rsp",
        "test rdi, rdi",
        "cmovz rdi, rsp",
        "mov rsp, rdi",
        "and rsp, -16",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
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
        "mov rsp, rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
