//! futex(2) of the guest, executed by the host on the guest's own memory.
//!
//! WAIT, WAKE and their bitset forms go to the host as they are (relative time-outs become deadlines, so that a wait can be resumed).
//! REQUEUE and CMP_REQUEUE become a wake of all: waiters re-check, and a queue cannot be kept for words that threads wait on natively.
//! WAKE_OP is done with an atomic operation here. Priority inheritance crosses to the sentry.

use crate::entry::{ABORTED, cas32, copy, futex_wait, load32};
use crate::layout::{ThreadArea, uc};
use crate::sys;
use crate::trap::get;

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const PRIVATE: u64 = 128;
const CLOCK_REALTIME: u64 = 256;
const CLOCK_MONOTONIC: u64 = 1;
const SECOND: i64 = 1_000_000_000;

pub enum Outcome {
    Done(i64),
    HandOver,
    /// A wait was interrupted; it stands in the area.
    Interrupted,
}

struct Args {
    addr: u64,
    op: u64,
    val: u64,
    val2: u64,
    addr2: u64,
    val3: u64,
}

/// SAFETY: `frame` is the kernel's frame of a SIGSYS for futex.
pub unsafe fn guest_call(area: *mut ThreadArea, frame: u64) -> Outcome {
    // SAFETY: see above.
    let args = unsafe {
        Args {
            addr: get(frame, uc::RDI),
            op: get(frame, uc::RSI) & 0xffff_ffff,
            val: get(frame, uc::RDX) & 0xffff_ffff,
            val2: get(frame, uc::R8 + 16),
            addr2: get(frame, uc::R8),
            val3: get(frame, uc::R8 + 8) & 0xffff_ffff,
        }
    };
    let private = args.op & PRIVATE;
    match args.op & !(PRIVATE | CLOCK_REALTIME) {
        // SAFETY: as above.
        WAIT | WAIT_BITSET => unsafe { guest_wait(area, &args) },
        WAKE if args.op & CLOCK_REALTIME == 0 => Outcome::Done(wake(args.addr, private, args.val)),
        WAKE_BITSET if args.op & CLOCK_REALTIME == 0 => {
            Outcome::Done(sys::call(sys::FUTEX, args.addr, WAKE_BITSET | private, args.val, 0, 0, args.val3))
        }
        REQUEUE if args.op & CLOCK_REALTIME == 0 => Outcome::Done(requeue(&args, private)),
        CMP_REQUEUE if args.op & CLOCK_REALTIME == 0 => {
            // SAFETY: faults are fixed up.
            let word = unsafe { load32(args.addr) };
            Outcome::Done(if args.addr & 3 != 0 {
                sys::EINVAL
            } else if word.fault != 0 {
                sys::EFAULT
            } else if word.value & 0xffff_ffff != args.val3 {
                sys::EAGAIN
            } else {
                requeue(&args, private)
            })
        }
        WAKE_OP if args.op & CLOCK_REALTIME == 0 => Outcome::Done(wake_op(&args, private)),
        _ => Outcome::HandOver,
    }
}

pub fn wake(addr: u64, private: u64, count: u64) -> i64 {
    sys::call(sys::FUTEX, addr, WAKE | private, count, 0, 0, 0)
}

fn requeue(args: &Args, private: u64) -> i64 {
    let (wakes, moves) = (args.val as u32 as i32, args.val2 as u32 as i32);
    if wakes < 0 || moves < 0 || args.addr2 & 3 != 0 {
        return sys::EINVAL;
    }
    wake(args.addr, private, wakes.saturating_add(moves) as u64)
}

fn wake_op(args: &Args, private: u64) -> i64 {
    let code = args.val3 as u32;
    let (op, cmp) = ((code >> 28) & 7, (code >> 24) & 15);
    let mut operand = sign_extend_12(code >> 12);
    let compare = sign_extend_12(code);
    if code >> 31 != 0 {
        operand = 1i32.wrapping_shl(operand as u32 & 31);
    }
    if args.addr2 & 3 != 0 {
        return sys::EINVAL;
    }
    if op > 4 {
        return sys::ENOSYS;
    }
    let old = loop {
        // SAFETY: faults are fixed up.
        let word = unsafe { load32(args.addr2) };
        let old = word.value as u32 as i32;
        let new = match op {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            _ => old ^ operand,
        };
        // SAFETY: faults are fixed up.
        let seen = unsafe { cas32(args.addr2, old as u32, new as u32) };
        if word.fault != 0 || seen.fault != 0 {
            return sys::EFAULT;
        }
        if seen.value as u32 == old as u32 {
            break old;
        }
    };
    let woken = wake(args.addr, private, args.val);
    let hit = match cmp {
        0 => old == compare,
        1 => old != compare,
        2 => old < compare,
        3 => old <= compare,
        4 => old > compare,
        5 => old >= compare,
        _ => return sys::ENOSYS,
    };
    if woken < 0 || !hit {
        return woken;
    }
    let second = wake(args.addr2, private, args.val2 & 0xffff_ffff);
    if second < 0 { second } else { woken + second }
}

fn sign_extend_12(value: u32) -> i32 {
    ((value << 20) as i32) >> 20
}

/// SAFETY: `area` is this thread's slot.
unsafe fn guest_wait(area: *mut ThreadArea, args: &Args) -> Outcome {
    let mut deadline = [0i64; 2];
    let mut op = args.op;
    let mut bitset = args.val3;
    let relative = op & !(PRIVATE | CLOCK_REALTIME) == WAIT;
    if args.val2 != 0 {
        // SAFETY: faults of the source are fixed up.
        if unsafe { copy(deadline.as_mut_ptr() as u64, args.val2, 16) } != 0 {
            return Outcome::Done(sys::EFAULT);
        }
        if deadline[0] < 0 || deadline[1] < 0 || deadline[1] >= SECOND {
            return Outcome::Done(sys::EINVAL);
        }
        if relative {
            let mut now = [0i64; 2];
            sys::call(sys::CLOCK_GETTIME, CLOCK_MONOTONIC, now.as_mut_ptr() as u64, 0, 0, 0, 0);
            deadline[0] = deadline[0].saturating_add(now[0]);
            deadline[1] += now[1];
            if deadline[1] >= SECOND {
                deadline[0] = deadline[0].saturating_add(1);
                deadline[1] -= SECOND;
            }
        }
    }
    if relative {
        op = WAIT_BITSET | (op & PRIVATE);
        bitset = 0xffff_ffff;
    }
    // SAFETY: see above.
    unsafe {
        let wait = &mut (*area).wait;
        wait.addr = args.addr;
        wait.op = op;
        wait.val = args.val;
        wait.bitset = bitset;
        wait.has_deadline = (args.val2 != 0) as u64;
        wait.deadline = deadline;
        go_on(area)
    }
}

/// Waits as the area says. SAFETY: `area` is this thread's slot.
pub unsafe fn go_on(area: *mut ThreadArea) -> Outcome {
    // SAFETY: see above.
    let result = unsafe { futex_wait(area, &raw const (*area).wait) };
    if result == ABORTED || result == sys::EINTR { Outcome::Interrupted } else { Outcome::Done(result) }
}
