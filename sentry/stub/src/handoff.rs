//! Handing over to the sentry, and executing its orders.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::entry::{clone_process, clone_thread, copy, store32};
use crate::layout::{self, AREA_LEN, BUFFER, BUFFER_LEN, SLOT_SIZE, STACK, STACK_LEN, ThreadArea, event, order, uc};
use crate::trap::put;
use crate::{futex, sys};

/// Reports the event that stands in the area and obeys orders until one resumes guest code; returns the ucontext to resume from.
pub unsafe extern "C" fn hand_over(area: *mut ThreadArea) -> u64 {
    // SAFETY: `area` is this thread's slot, as for all functions here.
    unsafe {
        report(area);
        obey(area)
    }
}

/// The interrupt flag was found set on the way back.
pub unsafe extern "C" fn interrupted(area: *mut ThreadArea) -> u64 {
    // SAFETY: see `hand_over`.
    unsafe {
        (*area).intr.store(0, Relaxed);
        (*area).event.store(event::INTERRUPTED, Relaxed);
        hand_over(area)
    }
}

pub unsafe fn wait_interrupted(area: *mut ThreadArea) {
    // SAFETY: see `hand_over`.
    unsafe {
        (*area).intr.store(0, Relaxed);
        (*area).timed.store((*area).wait.has_deadline as u32, Relaxed);
        (*area).event.store(event::INTERRUPTED_WAIT, Relaxed);
    }
}

/// First code of a CLONE_VM child: it has no alternate stack yet.
pub unsafe extern "C" fn thread_born(area: *mut ThreadArea) -> u64 {
    // SAFETY: see `hand_over`.
    unsafe {
        set_alternate_stack(area);
        (*area).cpu.store(sys::cpu() + 1, Relaxed);
        let token = (&raw const (*area).token).read_volatile();
        sys::call(sys::MPROTECT, token, layout::HELLO_LENGTH, layout::HELLO_PROT, 0, 0, 0);
        obey(area)
    }
}

/// First code of a forked child once its own area is mapped.
pub unsafe extern "C" fn process_born(area: *mut ThreadArea) -> u64 {
    // SAFETY: see `hand_over`.
    unsafe {
        (*area).cpu.store(sys::cpu() + 1, Relaxed);
        obey(area)
    }
}

pub unsafe fn set_alternate_stack(area: *mut ThreadArea) {
    let stack = [area as u64 + STACK as u64, 0, STACK_LEN as u64];
    sys::call(sys::SIGALTSTACK, stack.as_ptr() as u64, 0, 0, 0, 0, 0);
}

unsafe fn report(area: *mut ThreadArea) {
    // SAFETY: see `hand_over`.
    unsafe {
        (&raw mut (*area).fs_base).write_volatile(sys::fs_base());
        (&raw mut (*area).gs_base).write_volatile(sys::gs_base());
        (&raw mut (*area).tsc_over).write_volatile(sys::time_stamp());
        (*area).cpu.store(sys::cpu() + 1, Relaxed);
        (*area).to_sentry.fetch_add(1, SeqCst);
        if (*area).sentry_sleeping.load(SeqCst) != 0 {
            futex::wake((&raw const (*area).to_sentry) as u64, 0, 1);
        }
    }
}

unsafe fn done(area: *mut ThreadArea, result: i64) {
    // SAFETY: see `hand_over`.
    unsafe {
        (&raw mut (*area).result).write_volatile(result);
        (*area).event.store(event::DONE, Relaxed);
        report(area);
    }
}

unsafe fn next_order(area: *mut ThreadArea, after_order: bool) -> u32 {
    // SAFETY: see `hand_over`.
    unsafe {
        let seen = (&raw const (*area).seen).read_volatile();
        let more_to_come = after_order && (&raw const (*area).sentry_cpu).read_volatile() != sys::cpu() + 1;
        let budget = if more_to_come { layout::ORDER_SPIN } else { (&raw const (*area).spin).read_volatile() as u64 };
        let start = if budget == 0 { 0 } else { sys::time_stamp() };
        let mut spinning = budget != 0;
        loop {
            let posted = (*area).to_stub.load(SeqCst);
            if posted != seen {
                (*area).stub_sleeping.store(0, Relaxed);
                (&raw mut (*area).seen).write_volatile(posted);
                return (&raw const (*area).order).read_volatile();
            }
            if spinning {
                sys::pause();
                spinning = sys::time_stamp().wrapping_sub(start) < budget;
                continue;
            }
            (*area).stub_sleeping.store(1, SeqCst);
            sys::call(sys::FUTEX, (&raw const (*area).to_stub) as u64, 0, seen as u64, 0, 0, 0);
        }
    }
}

unsafe fn arg(area: *mut ThreadArea, n: usize) -> u64 {
    // SAFETY: see `hand_over`; n is below 7.
    unsafe { (&raw const (*area).args).cast::<u64>().add(n).read_volatile() }
}

unsafe fn obey(area: *mut ThreadArea) -> u64 {
    // SAFETY: see `hand_over`.
    unsafe {
        let mut after_order = false;
        loop {
            match next_order(area, after_order) {
                order::RESUME => {
                    (&raw mut (*area).tsc_resumed).write_volatile(sys::time_stamp());
                    if (&raw const (*area).set_bases).read_volatile() != 0 {
                        sys::set_bases((&raw const (*area).new_fs_base).read_volatile(), (&raw const (*area).new_gs_base).read_volatile());
                    }
                    return frame(area);
                }
                order::RESUME_WAIT => match futex::go_on(area) {
                    futex::Outcome::Done(value) => {
                        put(frame(area), uc::RAX, value as u64);
                        return frame(area);
                    }
                    _ => {
                        wait_interrupted(area);
                        report(area);
                    }
                },
                order::EXIT => leave(area),
                other => {
                    let result = execute(area, other);
                    done(area, result);
                    after_order = true;
                }
            }
        }
    }
}

unsafe fn frame(area: *mut ThreadArea) -> u64 {
    // SAFETY: see `hand_over`.
    area as u64 + unsafe { (*area).frame.load(Relaxed) } as u64
}

unsafe fn execute(area: *mut ThreadArea, what: u32) -> i64 {
    // SAFETY: see `hand_over`; every call that is not harmless is approved by the sentry, register for register.
    unsafe {
        let (a, b) = (arg(area, 0), arg(area, 1));
        match what {
            order::SYSCALL => sys::call(arg(area, 6), a, b, arg(area, 2), arg(area, 3), arg(area, 4), arg(area, 5)),
            order::CLONE_THREAD => {
                let stack = b + SLOT_SIZE as u64 - crate::entry::STACK_GAP as u64;
                clone_thread(a, stack, b + core::mem::offset_of!(ThreadArea, host_tid) as u64)
            }
            order::CLONE_PROCESS => clone_process(a, area_base(), b),
            order::COPY_FROM_GUEST if b <= BUFFER_LEN as u64 => (b - copy(area as u64 + BUFFER as u64, a, b)) as i64,
            order::COPY_TO_GUEST if b <= BUFFER_LEN as u64 => (b - copy(a, area as u64 + BUFFER as u64, b)) as i64,
            order::CPU_CLOCK => sys::call(sys::CLOCK_GETTIME, a, area as u64 + BUFFER as u64, 0, 0, 0, 0),
            _ => sys::ENOSYS,
        }
    }
}

/// The area lies at a fixed distance from the blob.
pub fn area_base() -> u64 {
    const { assert!(AREA_LEN < 0x8000_0000) };
    crate::label!("blob_start") + layout::AREA_OFFSET
}

unsafe fn leave(area: *mut ThreadArea) -> ! {
    // SAFETY: see `hand_over`.
    unsafe {
        let clear = arg(area, 0);
        if clear != 0 && store32(clear, 0) == 0 {
            futex::wake(clear, 0, 1);
        }
        loop {
            sys::call(sys::EXIT, 0, 0, 0, 0, 0, 0);
        }
    }
}
