//! The stub's seccomp filter (LAWS sections 1 to 3, DESIGN 2.3): architecture, exact number, instruction pointer, arguments, in this order.
//!
//! From guest text everything traps to the stub's handler. From the stub's text (no boundary: a guest can jump there) pass the calls that
//! are harmless with any arguments; memory calls and clone go to the sentry, which compares all six registers.

use sentry_stub::layout::{AREA_LEN, AREA_OFFSET};

const ARCH_X86_64: u32 = 0xc000_003e;
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

const TRAP: u32 = 0x0003_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const ALLOW: u32 = 0x7fff_0000;

const NR: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;
const fn arg_low(n: u32) -> u32 {
    16 + 8 * n
}
const fn arg_high(n: u32) -> u32 {
    arg_low(n) + 4
}

const NR_CLOSE: u32 = 3;
const NR_RECVMSG: u32 = 47;
const NR_MMAP: u32 = 9;
const NR_MPROTECT: u32 = 10;
const NR_MUNMAP: u32 = 11;
const NR_SCHED_YIELD: u32 = 24;
const NR_MREMAP: u32 = 25;
const NR_MADVISE: u32 = 28;
const NR_CLONE: u32 = 56;
const NR_EXIT: u32 = 60;
const NR_SIGALTSTACK: u32 = 131;
const NR_FUTEX: u32 = 202;
const NR_RESTART_SYSCALL: u32 = 219;
const NR_CLOCK_GETTIME: u32 = 228;
const NR_MEMBARRIER: u32 = 324;

const FUTEX_FLAGS: u32 = 128 | 256;
const MADV_DONTFORK: u32 = 10;

/// Instructions as the kernel's `struct sock_filter`, one a 64-bit word.
#[derive(Default)]
struct Program(Vec<u64>);

impl Program {
    fn push(&mut self, code: u16, yes: u8, no: u8, k: u32) {
        self.0.push(u64::from(code) | u64::from(yes) << 16 | u64::from(no) << 24 | u64::from(k) << 32);
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD, 0, 0, offset);
    }

    fn ret(&mut self, action: u32) {
        self.push(RETURN, 0, 0, action);
    }

    /// `body` runs if the loaded word equals `k`; it must end in a return, or go on with what follows.
    fn if_equal(&mut self, k: u32, body: impl FnOnce(&mut Program)) {
        let at = self.0.len();
        self.push(JUMP_EQUAL, 0, 0, k);
        body(self);
        let skip = (self.0.len() - at - 1) as u64;
        debug_assert!(skip < 256);
        if let Some(jump) = self.0.get_mut(at) {
            *jump |= skip << 24;
        }
    }

    /// Traps unless the word at `offset` equals `k`.
    fn require(&mut self, offset: u32, k: u32) {
        self.load(offset);
        self.push(JUMP_EQUAL, 1, 0, k);
        self.ret(TRAP);
    }
}

/// Who decides about memory calls and clone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judge {
    /// The listener.
    Listener,
    /// The tracer, which also has files received and closed. Without a tracer such a call is refused.
    Tracer,
}

/// The program for a blob of `len` bytes at `base`.
pub fn build(base: u64, len: u64, judge: Judge) -> Vec<u64> {
    let mut p = Program::default();
    p.require(ARCH, ARCH_X86_64);
    // It can only resume a call of this thread that was allowed before (freezer, SIGSTOP); comes from any address.
    p.load(NR);
    p.if_equal(NR_RESTART_SYSCALL, |p| p.ret(ALLOW));
    // The address is the one after the instruction.
    p.require(IP_HIGH, (base >> 32) as u32);
    p.load(IP_LOW);
    p.push(JUMP_GREATER_EQUAL, 1, 0, base as u32);
    p.ret(TRAP);
    p.push(JUMP_GREATER_EQUAL, 0, 1, (base + len) as u32);
    p.ret(TRAP);
    p.load(NR);
    p.if_equal(NR_FUTEX, |p| {
        p.load(arg_low(1));
        p.push(AND, 0, 0, !FUTEX_FLAGS);
        for op in [0, 1, 9, 10] {
            p.if_equal(op, |p| p.ret(ALLOW));
        }
        if judge == Judge::Tracer {
            // WAKE_OP, which systrap's stub does with an instruction of its own.
            p.if_equal(5, |p| p.ret(ALLOW));
        }
        p.ret(TRAP);
    });
    for nr in [NR_SCHED_YIELD, NR_SIGALTSTACK, NR_EXIT] {
        p.if_equal(nr, |p| p.ret(ALLOW));
    }
    // Reading a clock writes only the caller's own memory; no clock behind a descriptor.
    p.if_equal(NR_CLOCK_GETTIME, |p| {
        p.load(arg_low(0));
        p.push(JUMP_GREATER_EQUAL, 0, 1, 4);
        p.ret(TRAP);
        p.ret(ALLOW);
    });
    let asked = [NR_MMAP, NR_MUNMAP, NR_MPROTECT, NR_MREMAP, NR_CLONE, NR_MEMBARRIER];
    match judge {
        Judge::Listener => {
            p.if_equal(NR_MADVISE, |p| own_area(p, base + AREA_OFFSET));
            for nr in asked {
                p.if_equal(nr, |p| p.ret(NOTIFY));
            }
        }
        Judge::Tracer => {
            for nr in asked.into_iter().chain([NR_MADVISE, NR_RECVMSG, NR_CLOSE]) {
                p.if_equal(nr, |p| p.ret(TRACE));
            }
        }
    }
    p.ret(TRAP);
    p.0
}

/// A new process keeps its area from its children: exactly that call needs no approval.
fn own_area(p: &mut Program, area: u64) {
    p.load(arg_low(0));
    p.if_equal(area as u32, |p| {
        p.load(arg_high(0));
        p.if_equal((area >> 32) as u32, |p| {
            p.load(arg_low(1));
            p.if_equal(AREA_LEN as u32, |p| {
                p.load(arg_high(1));
                p.if_equal(0, |p| {
                    p.load(arg_low(2));
                    p.if_equal(MADV_DONTFORK, |p| p.ret(ALLOW));
                });
            });
        });
    });
    p.ret(NOTIFY);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Data {
        nr: u32,
        arch: u32,
        ip: u64,
        args: [u64; 6],
    }

    fn run(program: &[u64], d: &Data) -> u32 {
        let word = |offset: u32| match offset {
            NR => d.nr,
            ARCH => d.arch,
            IP_LOW => d.ip as u32,
            IP_HIGH => (d.ip >> 32) as u32,
            _ => (d.args[(offset as usize - 16) / 8] >> ((offset % 8) * 8)) as u32,
        };
        let (mut pc, mut a) = (0usize, 0u32);
        loop {
            let i = program[pc];
            let (code, yes, no, k) = (i as u16, (i >> 16) as u8, (i >> 24) as u8, (i >> 32) as u32);
            pc += 1;
            match code {
                LOAD => a = word(k),
                AND => a &= k,
                JUMP_EQUAL => pc += usize::from(if a == k { yes } else { no }),
                JUMP_GREATER_EQUAL => pc += usize::from(if a >= k { yes } else { no }),
                RETURN => return k,
                _ => unreachable!(),
            }
        }
    }

    #[test]
    fn decides() {
        let base = 0x7ffd_1020_0000;
        let p = build(base, 0x1800, Judge::Listener);
        assert!(p.len() <= sentry_stub::layout::FILTER_MAX);
        let inside = base + 0x100;
        let area = base + AREA_OFFSET;
        let check = |nr, arch, ip, args, expected| {
            assert_eq!(run(&p, &Data { nr, arch, ip, args }), expected, "{nr} {arch:x} {ip:x} {args:x?}");
        };
        let none = [0; 6];
        check(NR_EXIT, ARCH_X86_64, inside, none, ALLOW);
        check(NR_EXIT, 0x4000_0003, inside, none, TRAP);
        check(NR_EXIT, ARCH_X86_64, base - 1, none, TRAP);
        check(NR_EXIT, ARCH_X86_64, base + 0x1800, none, TRAP);
        check(NR_EXIT, ARCH_X86_64, inside + (1 << 32), none, TRAP);
        check(NR_EXIT | 0x4000_0000, ARCH_X86_64, inside, none, TRAP);
        check(NR_RESTART_SYSCALL, ARCH_X86_64, 0x40_0000, none, ALLOW);
        check(NR_FUTEX, ARCH_X86_64, inside, [0, 128, 0, 0, 0, 0], ALLOW);
        check(NR_FUTEX, ARCH_X86_64, inside, [0, 9 | 256, 0, 0, 0, 0], ALLOW);
        check(NR_FUTEX, ARCH_X86_64, inside, [0, 3, 0, 0, 0, 0], TRAP);
        check(NR_FUTEX, ARCH_X86_64, 0x40_0000, [0; 6], TRAP);
        check(NR_MMAP, ARCH_X86_64, inside, none, NOTIFY);
        check(NR_CLONE, ARCH_X86_64, inside, none, NOTIFY);
        check(NR_MADVISE, ARCH_X86_64, inside, none, NOTIFY);
        check(NR_MADVISE, ARCH_X86_64, inside, [area, AREA_LEN, 10, 0, 0, 0], ALLOW);
        check(NR_MADVISE, ARCH_X86_64, inside, [area, AREA_LEN, 11, 0, 0, 0], NOTIFY);
        check(NR_MADVISE, ARCH_X86_64, inside, [area + 4096, AREA_LEN, 10, 0, 0, 0], NOTIFY);
        check(NR_CLOCK_GETTIME, ARCH_X86_64, inside, [2, 0, 0, 0, 0, 0], ALLOW);
        check(NR_CLOCK_GETTIME, ARCH_X86_64, inside, [0xffff_fff6, 0, 0, 0, 0, 0], TRAP);
        for nr in [0, 1, 2, 13, 14, 15, 59, 231, 317, 435] {
            check(nr, ARCH_X86_64, inside, none, TRAP);
        }
    }
}
