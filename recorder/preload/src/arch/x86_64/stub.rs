//! The entries of the hooks, in assembly: they hand the address of the return address and the frame pointer on as two more arguments, since no
//! compiled function can say where its caller's frame was.
#![allow(unsafe_code)]

/// The body of an entry.
macro_rules! entry {
    (0 $hook:path) => {
        core::arch::naked_asm!(".cfi_startproc", "jmp {hook}", ".cfi_endproc", hook = sym $hook)
    };
    (1 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "mov rsi, rsp", "mov rdx, rbp") };
    (2 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "mov rdx, rsp", "mov rcx, rbp") };
    (3 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "mov rcx, rsp", "mov r8, rbp") };
    (4 $hook:path) => { $crate::arch::stub::entry!(@ $hook, "mov r8, rsp", "mov r9, rbp") };
    // Five or six arguments leave no registers: ours go on the stack, as the seventh and the eighth.
    (6 $hook:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "lea rax, [rsp]",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "push rbp",
            ".cfi_adjust_cfa_offset 8",
            "push rax",
            ".cfi_adjust_cfa_offset 8",
            "call {hook}",
            "add rsp, 24",
            ".cfi_adjust_cfa_offset -24",
            "ret",
            ".cfi_endproc",
            hook = sym $hook,
        )
    };
    (wide $hook:path) => { $crate::arch::stub::entry!(6 $hook) };
    // The hook says where to go on, with everything as it came: the callee starts another task on the arguments that lie on the stack.
    (pass $hook:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "push rdi",
            "push rsi",
            "push rdx",
            "push rcx",
            "push r8",
            "push r9",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 56",
            "call {hook}",
            "add rsp, 8",
            "pop r9",
            "pop r8",
            "pop rcx",
            "pop rdx",
            "pop rsi",
            "pop rdi",
            ".cfi_adjust_cfa_offset -56",
            "jmp rax",
            ".cfi_endproc",
            hook = sym $hook,
        )
    };
    (@ $hook:path, $slot:literal, $fp:literal) => {
        core::arch::naked_asm!(".cfi_startproc", $slot, $fp, "jmp {hook}", ".cfi_endproc", hook = sym $hook)
    };
}

pub(crate) use entry;
