//! Crate root of the stub blob. Cargo never builds this file: `build.rs` does.
//!
//! Rules here: no statics with pointers, no panics with messages, no indexing, no floating point. A stack always lies in the thread's
//! slot, so the slot is found by masking the stack pointer.
#![no_std]
#![no_main]

mod boot;
mod direct;
mod entry;
mod futex;
mod handoff;
mod layout;
mod sys;
mod trap;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process by an illegal instruction; the handler reports it as a violation.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// The compiler asks for these by name. `rep` forms, so that no vector register is touched.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's contract is memcpy's.
    unsafe {
        core::arch::asm!("rep movsb", inout("rdi") dst => _, inout("rsi") src => _, inout("rcx") len => _, options(nostack));
    }
    dst
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(dst: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's contract is memset's.
    unsafe {
        core::arch::asm!("rep stosb", inout("rdi") dst => _, in("al") byte as u8, inout("rcx") len => _, options(nostack));
    }
    dst
}
