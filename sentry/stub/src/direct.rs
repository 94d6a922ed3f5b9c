//! Anonymous memory calls that the stub makes on its own: the notification is the request (DESIGN 2.3, "direct").
//!
//! Only plain requests go this way; the sentry checks them again and answers ENOSYS to those it wants to see as ordinary calls.

use core::sync::atomic::Ordering::Relaxed;

use crate::futex::Outcome;
use crate::layout::{GUEST_START, REGION_START, ThreadArea, uc};
use crate::sys;
use crate::trap::get;

const PAGE: u64 = 4096;
const MAP_PRIVATE: u64 = 2;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_NORESERVE: u64 = 0x4000;
const MAP_STACK: u64 = 0x2_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const PROT_ALL: u64 = 7;
const EEXIST: i64 = -17;

/// SAFETY: `frame` is the kernel's frame of a SIGSYS for one of the four calls.
pub unsafe fn guest_call(area: *mut ThreadArea, frame: u64, nr: u64) -> Outcome {
    // SAFETY: see above.
    let (at, len, third, flags) = unsafe { (get(frame, uc::RDI), get(frame, uc::RSI), get(frame, uc::RDX), get(frame, uc::R8 + 16)) };
    let len = if len > REGION_START { 0 } else { (len + PAGE - 1) & !(PAGE - 1) };
    if len == 0 {
        return Outcome::HandOver;
    }
    let result = if nr == sys::MMAP {
        let extra = flags & (MAP_NORESERVE | MAP_STACK);
        if at != 0 || flags & 0xffff_ffff != MAP_PRIVATE | MAP_ANONYMOUS | extra || third & !PROT_ALL != 0 {
            return Outcome::HandOver;
        }
        // SAFETY: this thread's slot.
        let hint = unsafe { take_hint(area, len) };
        if hint == 0 {
            return Outcome::HandOver;
        }
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | (flags & MAP_NORESERVE);
        // SAFETY: as above.
        unsafe { tracked(area, nr, [hint, len, third, flags, u64::MAX]) }
    } else {
        if at & (PAGE - 1) != 0 || at < GUEST_START || at > REGION_START || len > REGION_START - at {
            return Outcome::HandOver;
        }
        let third = match nr {
            sys::MUNMAP => 0,
            sys::MPROTECT if third & !PROT_ALL != 0 => return Outcome::HandOver,
            _ => third & 0xffff_ffff,
        };
        // SAFETY: as above.
        unsafe { tracked(area, nr, [at, len, third, 0, 0]) }
    };
    if result == sys::ENOSYS || (nr == sys::MMAP && result == EEXIST) { Outcome::HandOver } else { Outcome::Done(result) }
}

unsafe fn take_hint(area: *mut ThreadArea, len: u64) -> u64 {
    // SAFETY: this thread's slot.
    unsafe {
        let hint = (&raw const (*area).hint_at).read_volatile();
        if (&raw const (*area).hint_len).read_volatile() != len {
            return 0;
        }
        (&raw mut (*area).hint_at).write_volatile(0);
        hint
    }
}

unsafe fn tracked(area: *mut ThreadArea, nr: u64, a: [u64; 5]) -> i64 {
    // SAFETY: this thread's slot.
    unsafe {
        (*area).direct_begun.fetch_add(1, Relaxed);
        let result = sys::call(nr, a[0], a[1], a[2], a[3], a[4], 0);
        (*area).direct_done.store((*area).direct_begun.load(Relaxed), Relaxed);
        result
    }
}
