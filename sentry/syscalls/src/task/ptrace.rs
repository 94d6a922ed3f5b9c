//! ptrace(2): what [`sentry_kernel`]'s tracing offers, which says what is absent.

use std::sync::Arc;

use sentry_abi::{Errno, SigInfo, Signal, UserAddr};
use sentry_kernel::{CurrentTask, SysResult, Task, TraceStop};
use sentry_mm::Mm;
use sentry_platform::Registers;

use super::pidfd::may_access;

const TRACEME: i64 = 0;
const PEEKTEXT: i64 = 1;
const PEEKDATA: i64 = 2;
const POKETEXT: i64 = 4;
const POKEDATA: i64 = 5;
const CONT: i64 = 7;
const KILL: i64 = 8;
const GETREGS: i64 = 12;
const SETREGS: i64 = 13;
const ATTACH: i64 = 16;
const DETACH: i64 = 17;
const SETOPTIONS: i64 = 0x4200;
const GETSIGINFO: i64 = 0x4202;
const SETSIGINFO: i64 = 0x4203;
const GETREGSET: i64 = 0x4204;
const SETREGSET: i64 = 0x4205;

const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
/// Length of the FXSAVE part of an XSAVE image.
const FXSAVE_LEN: usize = 512;
/// The mark that follows the image in a signal frame.
const FRAME_MARK_LEN: usize = 4;

/// `struct user_regs_struct`.
type UserRegs = [u64; 27];

/// [ptrace(2)](https://man7.org/linux/man-pages/man2/ptrace.2.html); kernel/ptrace.c.
pub fn ptrace(task: &mut CurrentTask, request: i64, pid: i32, addr: UserAddr, data: u64) -> SysResult {
    if request == TRACEME {
        let processes = &task.kernel().processes;
        let parent = processes.group(processes.parent(task.task.pid())).ok_or(Errno::EPERM)?;
        task.task.trace_by(&parent)?;
        return Ok(0);
    }
    let other = task.kernel().processes.task(pid).ok_or(Errno::ESRCH)?;
    if request == ATTACH {
        if Arc::ptr_eq(&other.group, &task.task.group) || !may_access(task, &other.group) {
            return Err(Errno::EPERM.into());
        }
        other.attach(&task.task.group)?;
        // Asked again: an execve(2) of a set-user-id program in between has seen no tracer.
        if !may_access(task, &other.group) {
            other.untrace();
            return Err(Errno::EPERM.into());
        }
        return Ok(0);
    }
    if other.tracer().is_none_or(|tracer| !Arc::ptr_eq(&tracer, &task.task.group)) {
        return Err(Errno::ESRCH.into());
    }
    if request == KILL {
        other.group.send(Signal::SIGKILL, SigInfo::new(Signal::SIGKILL, sentry_abi::signal::SI_KERNEL))?;
        return Ok(0);
    }
    of_stopped(task, &other, request, addr, UserAddr(data))
}

/// Requests that want the tracee to be stopped.
fn of_stopped(task: &mut CurrentTask, other: &Arc<Task>, request: i64, addr: UserAddr, data: UserAddr) -> SysResult {
    let group = task.task.group.clone();
    // ESRCH comes before all else.
    let (registers, info) = other.with_trace_stop(&group, |stop| (stop.registers, stop.info))?;
    match request {
        PEEKTEXT | PEEKDATA => {
            let mm = readable_memory(task, other)?;
            let word: u64 = mm.read_obj(addr).map_err(|_| Errno::EIO)?;
            task.mm().write_obj(data, &word)?;
        }
        POKETEXT | POKEDATA => readable_memory(task, other)?.write_obj(addr, &data.0).map_err(|_| Errno::EIO)?,
        CONT => other.resume_traced(&group, signal(data)?)?,
        DETACH => {
            other.resume_traced(&group, signal(data)?)?;
            other.untrace();
        }
        GETREGS => task.mm().write_obj(data, &to_user(&registers))?,
        SETREGS => {
            let wanted: UserRegs = task.mm().read_obj(data)?;
            other.with_trace_stop(&group, |stop| set_registers(stop, &wanted))??;
        }
        GETREGSET => get_set(task, other, addr.0, data)?,
        SETREGSET => set_set(task, other, addr.0, data)?,
        // No event is supported but the end of the tracer, which lets its tracees go.
        SETOPTIONS if data.is_null() => {}
        SETOPTIONS => return Err(Errno::EINVAL.into()),
        GETSIGINFO => task.mm().write_obj(data, &info)?,
        SETSIGINFO => {
            let info: SigInfo = task.mm().read_obj(data)?;
            other.with_trace_stop(&group, |stop| stop.set_info(info))??;
        }
        _ => return Err(Errno::EIO.into()),
    }
    Ok(0)
}

/// ptrace_access_vm(): a tracer does not see what a program holds that it may not read (EIO), though it traced the process before.
fn readable_memory(task: &CurrentTask, other: &Task) -> Result<Arc<Mm>, Errno> {
    let mm = other.mm();
    if may_access(task, &other.group) { Ok(mm) } else { Err(Errno::EIO) }
}

fn signal(data: UserAddr) -> Result<Option<Signal>, Errno> {
    if data.is_null() {
        return Ok(None);
    }
    Signal::new(data.0).map(Some).ok_or(Errno::EIO)
}

/// As much of a register set as the caller's buffer takes.
fn get_set(task: &mut CurrentTask, other: &Task, kind: u64, at: UserAddr) -> Result<(), Errno> {
    let [base, len]: [u64; 2] = task.mm().read_obj(at)?;
    let set = other.with_trace_stop(&task.task.group, |stop| {
        let xsave = stop.fp_state.len().saturating_sub(FRAME_MARK_LEN);
        Some(match kind {
            NT_PRSTATUS => to_user(&stop.registers).iter().flat_map(|word| word.to_ne_bytes()).collect(),
            NT_PRFPREG => stop.fp_state[..xsave.min(FXSAVE_LEN)].to_vec(),
            NT_X86_XSTATE => stop.fp_state[..xsave].to_vec(),
            _ => return None,
        })
    })?;
    let set: Vec<u8> = set.ok_or(Errno::EINVAL)?;
    let n = set.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    task.mm().write(UserAddr(base), &set[..n])?;
    task.mm().write_obj(at.offset(8)?, &(n as u64))
}

fn set_set(task: &mut CurrentTask, other: &Task, kind: u64, at: UserAddr) -> Result<(), Errno> {
    if kind != NT_PRSTATUS {
        return Err(Errno::EINVAL);
    }
    let [base, len]: [u64; 2] = task.mm().read_obj(at)?;
    if len % 8 != 0 {
        return Err(Errno::EINVAL);
    }
    let words = usize::try_from(len / 8).unwrap_or(usize::MAX).min(size_of::<UserRegs>() / 8);
    let given: Vec<u64> = task.mm().read_array(UserAddr(base), words)?;
    other.with_trace_stop(&task.task.group, |stop| {
        let mut wanted = to_user(&stop.registers);
        wanted[..words].copy_from_slice(&given);
        set_registers(stop, &wanted)
    })??;
    task.mm().write_obj(at.offset(8)?, &(words as u64 * 8))
}

fn to_user(r: &Registers) -> UserRegs {
    [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx, r.rsi, r.rdi, r.orig_rax, r.rip, r.cs,
        r.eflags, r.rsp, r.ss, r.fs_base, r.gs_base, r.ds, r.es, r.fs, r.gs,
    ]
}

/// The flags that a tracer may change (arch/x86/kernel/ptrace.c FLAG_MASK).
const FLAG_MASK: u64 = 0x50dd5;

/// Selectors stay as they are; bases must be user addresses.
fn set_registers(stop: &mut TraceStop, wanted: &UserRegs) -> Result<(), Errno> {
    let user = |base: u64| base < 1 << 47;
    if !user(wanted[21]) || !user(wanted[22]) {
        return Err(Errno::EIO);
    }
    let r = &mut stop.registers;
    let general = [
        &mut r.r15,
        &mut r.r14,
        &mut r.r13,
        &mut r.r12,
        &mut r.rbp,
        &mut r.rbx,
        &mut r.r11,
        &mut r.r10,
        &mut r.r9,
        &mut r.r8,
        &mut r.rax,
        &mut r.rcx,
        &mut r.rdx,
        &mut r.rsi,
        &mut r.rdi,
        &mut r.orig_rax,
        &mut r.rip,
    ];
    for (register, value) in general.into_iter().zip(wanted) {
        *register = *value;
    }
    r.eflags = r.eflags & !FLAG_MASK | wanted[18] & FLAG_MASK;
    r.rsp = wanted[19];
    r.fs_base = wanted[21];
    r.gs_base = wanted[22];
    Ok(())
}
