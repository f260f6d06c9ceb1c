//! The entries of the hooks, in assembly: they hand the address of the return address and the frame pointer on as two more arguments, since no
//! compiled function can say where its caller's frame was.
#![allow(unsafe_code)]

/// Defines exported functions that jump to a hook with the return address's slot and the frame pointer in the two argument registers after their own.
macro_rules! stubs {
    ($($name:ident/$count:tt => $hook:path;)*) => {
        $($crate::stub::stub!($name $count $hook);)*
    };
}

macro_rules! stub {
    ($name:ident 0 $hook:path) => {
        #[unsafe(naked)]
        #[no_mangle]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(".cfi_startproc", "jmp {hook}", ".cfi_endproc", hook = sym $hook)
        }
    };
    ($name:ident 1 $hook:path) => { $crate::stub::stub!(@ $name $hook, "mov rsi, rsp", "mov rdx, rbp"); };
    ($name:ident 2 $hook:path) => { $crate::stub::stub!(@ $name $hook, "mov rdx, rsp", "mov rcx, rbp"); };
    ($name:ident 3 $hook:path) => { $crate::stub::stub!(@ $name $hook, "mov rcx, rsp", "mov r8, rbp"); };
    ($name:ident 4 $hook:path) => { $crate::stub::stub!(@ $name $hook, "mov r8, rsp", "mov r9, rbp"); };
    // Five or six arguments leave no registers: ours go on the stack, as the seventh and the eighth.
    ($name:ident 6 $hook:path) => {
        #[unsafe(naked)]
        #[no_mangle]
        unsafe extern "C" fn $name() {
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
        }
    };
    // The hook says where to go on, with everything as it came: the callee starts another task on the arguments that lie on the stack.
    ($name:ident pass $hook:path) => {
        #[unsafe(naked)]
        #[no_mangle]
        unsafe extern "C" fn $name() {
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
        }
    };
    (@ $name:ident $hook:path, $slot:literal, $fp:literal) => {
        #[unsafe(naked)]
        #[no_mangle]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(".cfi_startproc", $slot, $fp, "jmp {hook}", ".cfi_endproc", hook = sym $hook)
        }
    };
}

pub(crate) use {stub, stubs};
