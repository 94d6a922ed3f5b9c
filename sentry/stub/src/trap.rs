//! What a host signal means, by signal number and instruction pointer.

use core::sync::atomic::Ordering::Relaxed;

use crate::layout::{SLOT_SIZE, STACK, ThreadArea, event, uc};
use crate::{direct, futex, handoff, label, sys};

const SIGSYS: u32 = 31;
const SIGUSR1: u32 = 10;
const SIGILL: u32 = 4;
const SYS_SECCOMP: i32 = 1;
const ARCH_X86_64: u32 = 0xc000_003e;

/// Where the handler goes: mode 0 resumes the guest from the ucontext `value`, 1 returns into the stub from it, 2 hands over again with the
/// stack pointer `value`.
#[repr(C)]
pub struct Next {
    value: u64,
    mode: u64,
}

impl Next {
    fn resume(frame: u64) -> Next {
        Next { value: frame, mode: 0 }
    }

    fn into_stub(nested: u64) -> Next {
        Next { value: nested, mode: 1 }
    }
}

/// A word of a ucontext. SAFETY of all callers: `frame` is a ucontext that the kernel wrote, or the sentry, in this slot.
pub unsafe fn get(frame: u64, offset: usize) -> u64 {
    // SAFETY: see above.
    unsafe { ((frame + offset as u64) as *const u64).read_volatile() }
}

pub unsafe fn put(frame: u64, offset: usize, value: u64) {
    // SAFETY: see above.
    unsafe { ((frame + offset as u64) as *mut u64).write_volatile(value) }
}

/// Called by `signal_entry`.
pub unsafe extern "C" fn trap(signal: u32, frame: u64, area: *mut ThreadArea) -> Next {
    // SAFETY: the kernel's own frame.
    let ip = unsafe { get(frame, uc::RIP) };
    let (text, end) = (label!("blob_start"), label!("blob_end"));
    if ip.wrapping_sub(text) < end - text {
        // SAFETY: as above.
        return unsafe { in_stub(signal, ip, frame, area) };
    }
    // SAFETY: `area` is the slot that the stack lies in; its fields are plain memory of this process.
    unsafe {
        let offset = (frame - area as u64) as u32;
        (*area).frame.store(offset, Relaxed);
        (*area).info.store(offset, Relaxed);
        let code = get(frame, uc::SI_CODE) as i32;
        let kind = match signal {
            SIGSYS if code == SYS_SECCOMP => {
                let arch = (get(frame, uc::SI_SYSCALL) >> 32) as u32;
                (*area).event.store(event::SYSCALL, Relaxed);
                // Sets another event if a wait was interrupted.
                if arch == ARCH_X86_64 && answered(area, frame) {
                    return Next::resume(frame);
                }
                return Next::resume(handoff::hand_over(area));
            }
            SIGUSR1 | SIGSYS => event::INTERRUPTED,
            _ if code <= 0 => event::INTERRUPTED,
            _ => event::FAULT,
        };
        if kind == event::INTERRUPTED {
            (*area).intr.store(0, Relaxed);
        }
        (*area).event.store(kind, Relaxed);
        Next::resume(handoff::hand_over(area))
    }
}

/// Executes what the stub may answer itself. Else `false`; an interrupted wait has set its event.
unsafe fn answered(area: *mut ThreadArea, frame: u64) -> bool {
    // SAFETY: the kernel's own frame.
    let nr = unsafe { get(frame, uc::RAX) } & 0xffff_ffff;
    let result = match nr {
        // SAFETY: as above.
        sys::FUTEX => unsafe { futex::guest_call(area, frame) },
        // SAFETY: as above.
        sys::MMAP | sys::MUNMAP | sys::MPROTECT | sys::MADVISE if unsafe { (&raw const (*area).direct).read_volatile() } != 0 => unsafe {
            direct::guest_call(area, frame, nr)
        },
        sys::SCHED_YIELD => futex::Outcome::Done(sys::call(sys::SCHED_YIELD, 0, 0, 0, 0, 0, 0)),
        _ => futex::Outcome::HandOver,
    };
    // SAFETY: as above.
    unsafe {
        match result {
            futex::Outcome::Done(value) => {
                put(frame, uc::RAX, value as u64);
                return true;
            }
            futex::Outcome::HandOver => {}
            futex::Outcome::Interrupted => handoff::wait_interrupted(area),
        }
    }
    false
}

unsafe fn in_stub(signal: u32, ip: u64, frame: u64, area: *mut ThreadArea) -> Next {
    let resuming = ip >= label!("resume_start") && ip < label!("resume_end");
    // SAFETY: `area` and `frame` as in `trap`.
    unsafe {
        // A signal that somebody sent (code <= 0), whichever: an interrupt.
        let sent = signal == SIGUSR1 || get(frame, uc::SI_CODE) as i32 <= 0;
        if sent {
            if resuming {
                (*area).intr.store(0, Relaxed);
                (*area).event.store(event::INTERRUPTED, Relaxed);
                return Next { value: stack_below(area), mode: 2 };
            }
            if ip >= label!("futex_start") && ip < label!("futex_end") {
                put(frame, uc::RIP, label!("futex_abort"));
            } else {
                (*area).intr.store(1, Relaxed);
            }
            return Next::into_stub(frame);
        }
        let fixed = if signal == SIGSYS || signal == SIGILL { 0 } else { fixup(ip) };
        if fixed != 0 {
            put(frame, uc::RIP, fixed);
            return Next::into_stub(frame);
        }
        (*area).info.store((frame - area as u64) as u32, Relaxed);
        // The guest's state could not be loaded (bad selector, vector image, address): its fault.
        let kind = if resuming && signal != SIGSYS { event::FAULT } else { event::VIOLATION };
        (*area).event.store(kind, Relaxed);
        Next::resume(handoff::hand_over(area))
    }
}

fn fixup(ip: u64) -> u64 {
    if ip == label!("copy_insn") {
        label!("copy_fix")
    } else if ip == label!("load32_insn") || ip == label!("cas32_insn") {
        label!("word_fix")
    } else if ip == label!("store32_insn") {
        label!("store32_fix")
    } else {
        0
    }
}

/// Free stack below the guest's frame: whatever was nested there is given up.
unsafe fn stack_below(area: *mut ThreadArea) -> u64 {
    // SAFETY: as in `trap`.
    let frame = unsafe { (*area).frame.load(Relaxed) } as u64 & (SLOT_SIZE as u64 - 1);
    if frame >= STACK as u64 { area as u64 + frame - 128 } else { area as u64 + SLOT_SIZE as u64 - crate::entry::STACK_GAP as u64 }
}
