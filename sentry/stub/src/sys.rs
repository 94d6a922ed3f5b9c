//! Raw system calls and labels of the blob.

use core::arch::asm;

pub const MMAP: u64 = 9;
pub const MUNMAP: u64 = 11;
pub const RT_SIGACTION: u64 = 13;
pub const RT_SIGPROCMASK: u64 = 14;
pub const SCHED_YIELD: u64 = 24;
pub const MREMAP: u64 = 25;
pub const MADVISE: u64 = 28;
pub const MPROTECT: u64 = 10;
pub const SENDMSG: u64 = 46;
pub const CLONE: u64 = 56;
pub const EXIT: u64 = 60;
pub const SETPGID: u64 = 109;
pub const SIGALTSTACK: u64 = 131;
pub const PRCTL: u64 = 157;
pub const FUTEX: u64 = 202;
pub const CLOCK_GETTIME: u64 = 228;
pub const SECCOMP: u64 = 317;
pub const CLOSE_RANGE: u64 = 436;

pub const EFAULT: i64 = -14;
pub const EINVAL: i64 = -22;
pub const EAGAIN: i64 = -11;
pub const EINTR: i64 = -4;
pub const ENOSYS: i64 = -38;

/// All six arguments are always given: the notification thread compares all six registers.
#[inline(always)]
pub fn call(nr: u64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64 {
    let result: i64;
    // SAFETY: the caller answers for what the call does; registers are clobbered as the ABI says.
    unsafe {
        asm!("syscall", inlateout("rax") nr as i64 => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Address of a label of `entry.rs`, without a relocation.
#[macro_export]
macro_rules! label {
    ($name:literal) => {{
        let address: u64;
        // SAFETY: computes an address.
        unsafe { core::arch::asm!(concat!("lea {}, [rip + ", $name, "]"), out(reg) address, options(nomem, nostack, preserves_flags)) };
        address
    }};
}

pub fn pause() {
    // SAFETY: a hint.
    unsafe { asm!("pause", options(nomem, nostack, preserves_flags)) }
}

pub fn fs_base() -> u64 {
    let value: u64;
    // SAFETY: reads a register; FSGSBASE is part of the platform's floor.
    unsafe { asm!("rdfsbase {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

pub fn gs_base() -> u64 {
    let value: u64;
    // SAFETY: as above.
    unsafe { asm!("rdgsbase {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

pub fn set_bases(fs: u64, gs: u64) {
    // SAFETY: the stub uses neither register. A non-canonical value faults here and is reported as a violation; the sentry checks before.
    unsafe { asm!("wrfsbase {}", "wrgsbase {}", in(reg) fs, in(reg) gs, options(nomem, nostack, preserves_flags)) };
}

pub fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    (high as u64) << 32 | low as u64
}

pub fn cpu() -> u32 {
    let value: u32;
    // SAFETY: the kernel's per-CPU segment holds the CPU's number as its limit.
    unsafe { asm!("lsl {0:e}, {0:e}", inout(reg) 0x7bu32 => value, options(nomem, nostack)) };
    value & 0xfff
}
