//! What signals do and which are blocked: rt_sigaction(2), rt_sigprocmask(2), sigaltstack(2), rt_sigreturn(2).

use sentry_abi::{Errno, SigSet, Signal, UserAddr};
use sentry_kernel::signal::{SigAction, UserStack};
use sentry_kernel::{CurrentTask, SysResult};

/// sizeof(sigset_t) of the kernel.
pub const SIGSET_SIZE: u64 = 8;

/// [rt_sigaction(2)](https://man7.org/linux/man-pages/man2/sigaction.2.html); kernel/signal.c.
pub fn rt_sigaction(task: &mut CurrentTask, signal: i32, new_at: UserAddr, old_at: UserAddr, size: u64) -> SysResult {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let new: Option<SigAction> = if new_at.is_null() { None } else { Some(task.mm().read_obj(new_at)?) };
    let signal = u64::try_from(signal).ok().and_then(Signal::new).ok_or(Errno::EINVAL)?;
    let handlers = task.task.group.handlers();
    let old = match new {
        Some(mut action) => {
            if SigSet::UNBLOCKABLE.contains(signal) {
                return Err(Errno::EINVAL.into());
            }
            action.mask = action.mask.without(SigSet::UNBLOCKABLE);
            let old = handlers.set(signal, action);
            if handlers.ignores(signal) {
                task.task.discard_pending(signal);
            }
            old
        }
        None => handlers.get(signal),
    };
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &old)?;
    }
    Ok(0)
}

const SIG_BLOCK: i32 = 0;
const SIG_UNBLOCK: i32 = 1;
const SIG_SETMASK: i32 = 2;

/// [rt_sigprocmask(2)](https://man7.org/linux/man-pages/man2/sigprocmask.2.html).
pub fn rt_sigprocmask(task: &mut CurrentTask, how: i32, new_at: UserAddr, old_at: UserAddr, size: u64) -> SysResult {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let old = task.task.mask();
    if !new_at.is_null() {
        let set: SigSet = task.mm().read_obj(new_at)?;
        let mask = match how {
            SIG_BLOCK => old.union(set),
            SIG_UNBLOCK => old.without(set),
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL.into()),
        };
        task.set_mask(mask);
    }
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &old)?;
    }
    Ok(0)
}

/// [rt_sigpending(2)](https://man7.org/linux/man-pages/man2/sigpending.2.html).
pub fn rt_sigpending(task: &mut CurrentTask, at: UserAddr, size: u64) -> SysResult {
    if size > SIGSET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let pending = task.task.pending_set().union(task.task.group.pending_set()).intersect(task.task.mask());
    task.mm().write(at, &pending.0.to_le_bytes()[..size as usize])?;
    Ok(0)
}

/// [sigaltstack(2)](https://man7.org/linux/man-pages/man2/sigaltstack.2.html).
pub fn sigaltstack(task: &mut CurrentTask, new_at: UserAddr, old_at: UserAddr) -> SysResult {
    let rsp = task.thread.registers().rsp;
    let old = task.alt_stack().to_user(rsp);
    if !new_at.is_null() {
        let new: UserStack = task.mm().read_obj(new_at)?;
        task.set_alt_stack(&new)?;
    }
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &old)?;
    }
    Ok(0)
}

/// [rt_sigreturn(2)](https://man7.org/linux/man-pages/man2/sigreturn.2.html).
pub fn rt_sigreturn(task: &mut CurrentTask) -> SysResult {
    task.sigreturn();
    Ok(0)
}
