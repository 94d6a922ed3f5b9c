//! The signal frame on the guest's stack and the way back from it (x86-64). arch/x86/kernel/signal_64.c, `struct rt_sigframe`.

use sentry_abi::{Errno, Result, SigInfo, SigSet, Signal, UserAddr};
use sentry_platform::Registers;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::action::{SigAction, sa};
use crate::task::CurrentTask;

pub const SS_ONSTACK: u32 = 1;
pub const SS_DISABLE: u32 = 2;
pub const SS_AUTODISARM: u32 = 1 << 31;
/// MINSIGSTKSZ of x86-64.
const MIN_STACK: u64 = 2048;
const RED_ZONE: u64 = 128;
/// Flags that sigreturn may set: AC OF DF TF SF ZF AF PF CF RF.
const RESTORABLE_FLAGS: u64 = 0x50dd5;
/// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS.
const UC_FLAGS: u64 = 7;
const UC_STRICT_RESTORE_SS: u64 = 4;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FXSAVE_SIZE: usize = 512;
/// Where the kernel's `struct _fpx_sw_bytes` lies in an FXSAVE image.
const SW_BYTES: usize = 464;
/// More than any processor's XSAVE area.
const MAX_FP_STATE: usize = 16 * 1024;
/// TF, RF and DF are cleared for a handler.
const HANDLER_FLAGS_CLEAR: u64 = 0x100 | 0x10000 | 0x400;

/// The thread's alternate stack: sigaltstack(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AltStack {
    pub base: u64,
    pub size: u64,
    /// SS_AUTODISARM or nothing.
    pub flags: u32,
    pub enabled: bool,
}

/// `stack_t`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UserStack {
    pub base: u64,
    pub flags: u32,
    pub pad: u32,
    pub size: u64,
}

/// `struct sigcontext`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct ucontext`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserContext {
    flags: u64,
    link: u64,
    stack: UserStack,
    context: SigContext,
    mask: SigSet,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    return_address: u64,
    context: UserContext,
    info: SigInfo,
}

const _: () = assert!(size_of::<Frame>() == 440);

impl AltStack {
    /// "On the stack" is a matter of rsp alone; never while AUTODISARM is set.
    pub fn contains(&self, rsp: u64) -> bool {
        self.enabled && self.flags & SS_AUTODISARM == 0 && rsp > self.base && rsp - self.base <= self.size
    }

    pub fn to_user(self, rsp: u64) -> UserStack {
        let state = match (self.enabled, self.contains(rsp)) {
            (false, _) => SS_DISABLE,
            (true, true) => SS_ONSTACK,
            (true, false) => 0,
        };
        UserStack { base: self.base, flags: state | self.flags, pad: 0, size: self.size }
    }
}

impl CurrentTask {
    pub fn alt_stack(&self) -> AltStack {
        self.alt_stack
    }

    /// execve(2), clone(2) with CLONE_VM but not CLONE_VFORK.
    pub fn reset_alt_stack(&mut self) {
        self.alt_stack = AltStack::default();
    }

    /// sigaltstack(2): `EPERM` on the stack itself, `ENOMEM` when too small, `EINVAL` for unknown flags.
    pub fn set_alt_stack(&mut self, new: &UserStack) -> Result<()> {
        let rsp = self.thread.registers().rsp;
        if self.alt_stack.contains(rsp) {
            return Err(Errno::EPERM);
        }
        let mode = new.flags & !SS_AUTODISARM;
        match mode {
            SS_DISABLE => self.alt_stack = AltStack { flags: new.flags & SS_AUTODISARM, ..AltStack::default() },
            0 | SS_ONSTACK => {
                if new.size < MIN_STACK {
                    return Err(Errno::ENOMEM);
                }
                self.alt_stack = AltStack { base: new.base, size: new.size, flags: new.flags & SS_AUTODISARM, enabled: true };
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Builds the frame for `signal`'s handler and points the registers at it. `EFAULT` when the stack cannot take it.
    pub(crate) fn push_frame(&mut self, signal: Signal, info: &SigInfo, action: &SigAction, old_mask: SigSet) -> Result<()> {
        if !action.has(sa::RESTORER) {
            return Err(Errno::EFAULT);
        }
        let before = *self.thread.registers();
        let fp_state = self.thread.fp_state();
        let on_alt = self.alt_stack.contains(before.rsp);
        let enters_alt = action.has(sa::ONSTACK) && self.alt_stack.enabled && !on_alt;
        let top = if enters_alt { self.alt_stack.base.wrapping_add(self.alt_stack.size) } else { before.rsp.wrapping_sub(RED_ZONE) };
        let fp_at = top.checked_sub(fp_state.len() as u64).ok_or(Errno::EFAULT)? & !63;
        let at = (fp_at.checked_sub(size_of::<Frame>() as u64).ok_or(Errno::EFAULT)? & !15).checked_sub(8).ok_or(Errno::EFAULT)?;
        if (on_alt || enters_alt) && at < self.alt_stack.base {
            return Err(Errno::EFAULT);
        }
        let context = UserContext {
            flags: UC_FLAGS,
            link: 0,
            stack: self.alt_stack.to_user(before.rsp),
            context: self.sig_context(&before, old_mask, fp_at),
            mask: old_mask,
        };
        let frame = Frame { return_address: action.restorer, context, info: *info };
        self.mm.write(UserAddr(fp_at), &fp_state)?;
        self.mm.write(UserAddr(at), frame.as_bytes())?;
        if self.alt_stack.flags & SS_AUTODISARM != 0 {
            self.reset_alt_stack();
        }
        self.last_fault = Default::default();
        let registers = self.thread.registers();
        registers.rip = action.handler;
        registers.rsp = at;
        registers.rdi = signal.number() as u64;
        registers.rsi = at + 8 + size_of::<UserContext>() as u64;
        registers.rdx = at + 8;
        registers.rax = 0;
        registers.orig_rax = u64::MAX;
        registers.cs = Registers::USER_CS;
        registers.ss = Registers::USER_SS;
        registers.eflags &= !HANDLER_FLAGS_CLEAR;
        self.thread.reset_fp_state();
        Ok(())
    }

    fn sig_context(&self, r: &Registers, mask: SigSet, fpstate: u64) -> SigContext {
        SigContext {
            r8: r.r8,
            r9: r.r9,
            r10: r.r10,
            r11: r.r11,
            r12: r.r12,
            r13: r.r13,
            r14: r.r14,
            r15: r.r15,
            rdi: r.rdi,
            rsi: r.rsi,
            rbp: r.rbp,
            rbx: r.rbx,
            rdx: r.rdx,
            rax: r.rax,
            rcx: r.rcx,
            rsp: r.rsp,
            rip: r.rip,
            eflags: r.eflags,
            cs: r.cs as u16,
            gs: 0,
            fs: 0,
            ss: r.ss as u16,
            err: self.last_fault.err,
            trapno: self.last_fault.trapno,
            oldmask: mask.0,
            cr2: self.last_fault.cr2,
            fpstate,
            reserved: [0; 8],
        }
    }

    /// rt_sigreturn(2). A frame that makes no sense ends in SIGSEGV.
    pub fn sigreturn(&mut self) {
        self.keep_registers();
        self.restart = None;
        if self.try_sigreturn().is_err() {
            self.force_signal(SigInfo::new(Signal::SIGSEGV, sentry_abi::signal::SI_KERNEL), None);
        }
    }

    fn try_sigreturn(&mut self) -> Result<()> {
        let rsp = self.thread.registers().rsp;
        let context: UserContext = self.mm.read_obj(UserAddr(rsp))?;
        let c = &context.context;
        if !matches!(c.cs as u64 | 3, Registers::USER_CS | 0x23) {
            return Err(Errno::EFAULT);
        }
        // The way back to user mode faults on any other stack segment. Without the flag, Linux repairs it.
        if context.flags & UC_STRICT_RESTORE_SS != 0 && c.ss as u64 | 3 != Registers::USER_SS {
            return Err(Errno::EFAULT);
        }
        self.restore_fp_state(c.fpstate)?;
        let registers = self.thread.registers();
        *registers = Registers {
            r15: c.r15,
            r14: c.r14,
            r13: c.r13,
            r12: c.r12,
            rbp: c.rbp,
            rbx: c.rbx,
            r11: c.r11,
            r10: c.r10,
            r9: c.r9,
            r8: c.r8,
            rax: c.rax,
            rcx: c.rcx,
            rdx: c.rdx,
            rsi: c.rsi,
            rdi: c.rdi,
            orig_rax: u64::MAX,
            rip: c.rip,
            cs: c.cs as u64 | 3,
            eflags: (registers.eflags & !RESTORABLE_FLAGS) | (c.eflags & RESTORABLE_FLAGS),
            rsp: c.rsp,
            ss: Registers::USER_SS,
            ..*registers
        };
        self.set_mask(context.mask);
        // As Linux, a stack that cannot be set is passed over.
        let _ = self.set_alt_stack(&UserStack { flags: context.stack.flags & !SS_ONSTACK, ..context.stack });
        Ok(())
    }

    fn restore_fp_state(&mut self, at: u64) -> Result<()> {
        if at == 0 {
            self.thread.reset_fp_state();
            return Ok(());
        }
        let mut legacy = [0u8; FXSAVE_SIZE];
        self.mm.read(UserAddr(at), &mut legacy)?;
        let word = |offset: usize| u32::from_le_bytes([legacy[offset], legacy[offset + 1], legacy[offset + 2], legacy[offset + 3]]);
        let extended = word(SW_BYTES + 4) as usize;
        if word(SW_BYTES) != FP_XSTATE_MAGIC1 || !(FXSAVE_SIZE..=MAX_FP_STATE).contains(&extended) {
            return self.thread.set_fp_state(&legacy);
        }
        let mut image = vec![0u8; extended];
        self.mm.read(UserAddr(at), &mut image)?;
        self.thread.set_fp_state(&image)
    }
}
