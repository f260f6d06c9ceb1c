//! The entries of the hooks, in assembly: they put the return address into memory, above the two frame pointers, and hand on where it lies as one more argument; another
//! one, which is the frame pointer on other processors, is not used.
#![allow(unsafe_code)]

/// The body of an entry.
macro_rules! entry {
    (0 $hook:path) => {
        core::arch::naked_asm!(".fnstart", "b {hook}", ".fnend", hook = sym $hook)
    };
    (1 $hook:path) => { $crate::arch::stub::entry!(@ $hook, 0, ["add r1, sp, #12"]) };
    (2 $hook:path) => { $crate::arch::stub::entry!(@ $hook, 0, ["add r2, sp, #12"]) };
    (3 $hook:path) => { $crate::arch::stub::entry!(@ $hook, 8, ["add r3, sp, #20"]) };
    (4 $hook:path) => {
        $crate::arch::stub::entry!(@ $hook, 8, ["add r12, sp, #20", "str r12, [sp]"])
    };
    // The fifth and the sixth argument came on the stack; all that is there is 4 words above what was pushed.
    (6 $hook:path) => {
        $crate::arch::stub::entry!(@ $hook, 16, [
            "ldr r12, [sp, #32]", "str r12, [sp]",
            "ldr r12, [sp, #36]", "str r12, [sp, #4]",
            "add r12, sp, #28", "str r12, [sp, #8]",
        ])
    };
    // The sixth has two words, the first of them at a multiple of 8.
    (wide $hook:path) => {
        $crate::arch::stub::entry!(@ $hook, 24, [
            "ldr r12, [sp, #40]", "str r12, [sp]",
            "ldr r12, [sp, #48]", "str r12, [sp, #8]",
            "ldr r12, [sp, #52]", "str r12, [sp, #12]",
            "add r12, sp, #36", "str r12, [sp, #16]",
        ])
    };
    // The hook says where to go on, with everything as it came.
    (pass $hook:path) => {
        core::arch::naked_asm!(
            ".fnstart",
            ".save {{r0-r4, lr}}",
            "push {{r0-r4, lr}}",
            "bl {hook}",
            "mov r12, r0",
            "pop {{r0-r4, lr}}",
            "bx r12",
            ".fnend",
            hook = sym $hook,
        )
    };
    (@ $hook:path, $room:literal, [$($line:literal),* $(,)?]) => {
        core::arch::naked_asm!(
            ".fnstart",
            ".save {{r4, r7, r11, lr}}",
            "push {{r4, r7, r11, lr}}",
            concat!(".pad #", $room),
            concat!("sub sp, sp, #", $room),
            $($line,)*
            "bl {hook}",
            concat!("add sp, sp, #", $room),
            "pop {{r4, r7, r11, pc}}",
            ".fnend",
            hook = sym $hook,
        )
    };
}

pub(crate) use entry;
