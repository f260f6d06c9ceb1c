//! Running on another stack.
#![allow(unsafe_code)]

/// Calls `function(argument)` on the stack that ends at `top`, or on this one if that is null; the place to go on from is left in `place`.
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
        ".fnstart",
        ".save {{r4-r11, lr}}",
        "push {{r4-r11, lr}}",
        ".pad #4",
        "sub sp, sp, #4",
        ".vsave {{d8-d15}}",
        "vpush {{d8-d15}}",
        ".setfp r11, sp",
        "mov r11, sp",
        "str sp, [r3]",
        "cmp r0, #0",
        "moveq r0, sp",
        "bic r0, r0, #7",
        "mov sp, r0",
        "mov r0, r2",
        "blx r1",
        "mov sp, r11",
        "vpop {{d8-d15}}",
        "add sp, sp, #4",
        "pop {{r4-r11, pc}}",
        ".fnend",
    )
}

/// Returns from the [`call_on_stack`] that has left this place.
///
/// # Safety
/// That call must not have returned.
#[unsafe(naked)]
pub unsafe extern "C" fn return_from(place: usize) -> ! {
    core::arch::naked_asm!("mov sp, r0", "vpop {{d8-d15}}", "add sp, sp, #4", "pop {{r4-r11, pc}}",)
}
