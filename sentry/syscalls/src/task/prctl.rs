//! prctl(2), arch_prctl(2), personality(2). kernel/sys.c.

use std::sync::atomic::Ordering;

use sentry_abi::{Errno, Signal, UserAddr};
use sentry_auth::{Caps, Credentials, LAST_CAP, secure};
use sentry_kernel::{CurrentTask, SysResult};

const PR_SET_PDEATHSIG: i32 = 1;
const PR_GET_PDEATHSIG: i32 = 2;
const PR_GET_DUMPABLE: i32 = 3;
const PR_SET_DUMPABLE: i32 = 4;
const PR_GET_KEEPCAPS: i32 = 7;
const PR_SET_KEEPCAPS: i32 = 8;
const PR_GET_TIMING: i32 = 13;
const PR_SET_TIMING: i32 = 14;
const PR_SET_NAME: i32 = 15;
const PR_GET_NAME: i32 = 16;
const PR_GET_SECCOMP: i32 = 21;
const PR_CAPBSET_READ: i32 = 23;
const PR_CAPBSET_DROP: i32 = 24;
const PR_GET_TSC: i32 = 25;
const PR_GET_SECUREBITS: i32 = 27;
const PR_SET_SECUREBITS: i32 = 28;
const PR_SET_TIMERSLACK: i32 = 29;
const PR_GET_TIMERSLACK: i32 = 30;
const PR_SET_CHILD_SUBREAPER: i32 = 36;
const PR_GET_CHILD_SUBREAPER: i32 = 37;
const PR_SET_NO_NEW_PRIVS: i32 = 38;
const PR_GET_NO_NEW_PRIVS: i32 = 39;
const PR_GET_TID_ADDRESS: i32 = 40;
const PR_SET_THP_DISABLE: i32 = 41;
const PR_GET_THP_DISABLE: i32 = 42;
const PR_CAP_AMBIENT: i32 = 47;
const PR_SET_VMA: i32 = 0x5356_4d41;

/// [prctl(2)](https://man7.org/linux/man-pages/man2/prctl.2.html).
pub fn prctl(task: &mut CurrentTask, option: i32, arg2: u64, arg3: u64, arg4: u64, arg5: u64) -> SysResult {
    let t = task.task.clone();
    let none = |rest: &[u64]| if rest.iter().any(|a| *a != 0) { Err(Errno::EINVAL) } else { Ok(()) };
    match option {
        PR_SET_PDEATHSIG => {
            if arg2 != 0 && Signal::new(arg2).is_none() {
                return Err(Errno::EINVAL.into());
            }
            t.parent_death_signal.store(arg2 as i32, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_PDEATHSIG => put(task, arg2, &t.parent_death_signal.load(Ordering::Relaxed).to_le_bytes()),
        PR_GET_DUMPABLE => Ok(t.group.dumpable.load(Ordering::Relaxed) as u64),
        PR_SET_DUMPABLE => {
            if arg2 > 1 {
                return Err(Errno::EINVAL.into());
            }
            t.group.dumpable.store(arg2 == 1, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_TIMING => Ok(0),
        PR_SET_TIMING => {
            if arg2 == 0 {
                Ok(0)
            } else {
                Err(Errno::EINVAL.into())
            }
        }
        PR_SET_NAME => {
            let name = read_name(task, UserAddr(arg2))?;
            t.set_comm(&name);
            Ok(0)
        }
        PR_GET_NAME => {
            let mut name = t.comm();
            name.resize(16, 0);
            put(task, arg2, &name)
        }
        PR_GET_SECCOMP => Ok(0),
        PR_GET_TSC => put(task, arg2, &1i32.to_le_bytes()),
        PR_SET_TIMERSLACK => {
            let slack = if arg2 == 0 { 50_000 } else { arg2 };
            t.timer_slack_ns.store(slack, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_TIMERSLACK => Ok(t.timer_slack_ns.load(Ordering::Relaxed)),
        PR_SET_CHILD_SUBREAPER => {
            t.group.child_subreaper.store(arg2 != 0, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => put(task, arg2, &(t.group.child_subreaper.load(Ordering::Relaxed) as i32).to_le_bytes()),
        PR_GET_TID_ADDRESS => put(task, arg2, &t.clear_child_tid.load(Ordering::Relaxed).to_le_bytes()),
        PR_SET_THP_DISABLE => {
            none(&[arg3, arg4, arg5])?;
            Ok(0)
        }
        PR_GET_THP_DISABLE => {
            none(&[arg2, arg3, arg4, arg5])?;
            Ok(0)
        }
        PR_SET_VMA => set_vma(task, arg2, arg3, arg4, arg5),
        _ => capabilities(task, option, [arg2, arg3, arg4, arg5]),
    }
}

/// The options that look at or change credentials.
fn capabilities(task: &mut CurrentTask, option: i32, [arg2, arg3, arg4, arg5]: [u64; 4]) -> SysResult {
    let old = task.creds();
    let store = |new: Credentials| {
        task.task.set_credentials(new);
        Ok(0)
    };
    match option {
        PR_GET_KEEPCAPS => Ok(old.keep_caps as u64),
        PR_SET_KEEPCAPS if arg2 <= 1 && old.is_secure(secure::KEEP_CAPS_LOCKED) => Err(Errno::EPERM.into()),
        PR_SET_KEEPCAPS if arg2 <= 1 => store(Credentials { keep_caps: arg2 == 1, ..(*old).clone() }),
        PR_CAPBSET_READ => Ok(old.bounding.contains(capability(arg2)?) as u64),
        PR_CAPBSET_DROP => {
            old.require(Caps::SETPCAP)?;
            store(Credentials { bounding: old.bounding - capability(arg2)?, ..(*old).clone() })
        }
        PR_GET_SECUREBITS => Ok(old.securebits as u64),
        PR_SET_SECUREBITS => {
            old.require(Caps::SETPCAP)?;
            let new = u32::try_from(arg2).ok().filter(|bits| bits & !secure::ALL == 0).ok_or(Errno::EPERM)?;
            let locks = old.securebits & secure::ALL_LOCKS;
            // What is locked stays as it is, and so does the lock.
            if (locks >> 1) & (old.securebits ^ new) != 0 || locks & !new != 0 {
                return Err(Errno::EPERM.into());
            }
            store(Credentials { securebits: arg2 as u32, keep_caps: arg2 & 0x10 != 0, ..(*old).clone() })
        }
        PR_SET_NO_NEW_PRIVS if [arg2, arg3, arg4, arg5] == [1, 0, 0, 0] => store(Credentials { no_new_privs: true, ..(*old).clone() }),
        PR_GET_NO_NEW_PRIVS if [arg2, arg3, arg4, arg5] == [0; 4] => Ok(old.no_new_privs as u64),
        PR_CAP_AMBIENT => ambient(task, &old, arg2, arg3),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn ambient(task: &CurrentTask, old: &Credentials, operation: u64, cap: u64) -> SysResult {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    let ambient = match operation {
        CLEAR_ALL if cap == 0 => Caps::empty(),
        IS_SET => return Ok(old.ambient.contains(capability(cap)?) as u64),
        RAISE => {
            let cap = capability(cap)?;
            if !old.permitted.contains(cap) || !old.inheritable.contains(cap) || old.is_secure(secure::NO_CAP_AMBIENT_RAISE) {
                return Err(Errno::EPERM.into());
            }
            old.ambient | cap
        }
        LOWER => old.ambient - capability(cap)?,
        _ => return Err(Errno::EINVAL.into()),
    };
    task.task.set_credentials(Credentials { ambient, ..old.clone() });
    Ok(0)
}

fn capability(number: u64) -> Result<Caps, Errno> {
    if number > LAST_CAP as u64 { Err(Errno::EINVAL) } else { Ok(Caps::from_bits_retain(1 << number)) }
}

fn put(task: &CurrentTask, at: u64, bytes: &[u8]) -> SysResult {
    task.mm().write(UserAddr(at), bytes)?;
    Ok(0)
}

/// A name of at most 15 bytes; a longer one is cut, not refused.
fn read_name(task: &CurrentTask, at: UserAddr) -> Result<Vec<u8>, Errno> {
    let mut name = Vec::new();
    for i in 0..15 {
        let byte: u8 = task.mm().read_obj(at.offset(i)?)?;
        if byte == 0 {
            break;
        }
        name.push(byte);
    }
    Ok(name)
}

fn set_vma(task: &CurrentTask, what: u64, at: u64, len: u64, name: u64) -> SysResult {
    const ANON_NAME: u64 = 0;
    if what != ANON_NAME {
        return Err(Errno::EINVAL.into());
    }
    let name = if name == 0 {
        None
    } else {
        Some(task.mm().read_cstring(UserAddr(name), 80).map_err(|e| if e == Errno::ENAMETOOLONG { Errno::EINVAL } else { e })?)
    };
    task.mm().set_anon_name(UserAddr(at), len, name.as_deref())?;
    Ok(0)
}

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;
const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;
const ARCH_GET_XCOMP_SUPP: i32 = 0x1021;
const ARCH_GET_XCOMP_PERM: i32 = 0x1022;
const ARCH_REQ_XCOMP_PERM: i32 = 0x1023;
/// x87, SSE, AVX, AVX-512: what needs no permission. AMX (bits 17, 18) stays out (LAWS 7.6).
const XCOMP_DEFAULT: u64 = 0xe7;

/// [arch_prctl(2)](https://man7.org/linux/man-pages/man2/arch_prctl.2.html).
pub fn arch_prctl(task: &mut CurrentTask, code: i32, address: u64) -> SysResult {
    match code {
        ARCH_SET_FS | ARCH_SET_GS => {
            if address >= sentry_abi::user::ADDRESS_LIMIT {
                return Err(Errno::EPERM.into());
            }
            let registers = task.thread.registers();
            if code == ARCH_SET_FS {
                registers.fs_base = address;
            } else {
                registers.gs_base = address;
            }
            Ok(0)
        }
        ARCH_GET_FS => {
            let base = task.thread.registers().fs_base;
            put(task, address, &base.to_le_bytes())
        }
        ARCH_GET_GS => {
            let base = task.thread.registers().gs_base;
            put(task, address, &base.to_le_bytes())
        }
        ARCH_GET_CPUID => Ok(1),
        ARCH_SET_CPUID => Err(Errno::ENODEV.into()),
        ARCH_GET_XCOMP_SUPP | ARCH_GET_XCOMP_PERM => put(task, address, &XCOMP_DEFAULT.to_le_bytes()),
        ARCH_REQ_XCOMP_PERM => Err(Errno::EOPNOTSUPP.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// [personality(2)](https://man7.org/linux/man-pages/man2/personality.2.html).
pub fn personality(task: &mut CurrentTask, persona: u32) -> SysResult {
    let current = &task.task.group.personality;
    let old = current.load(Ordering::Relaxed);
    if persona != u32::MAX {
        if persona & 0xff != 0 && persona & 0xff != 8 {
            return Err(Errno::EINVAL.into());
        }
        current.store(persona, Ordering::Relaxed);
    }
    Ok(old as u64)
}
