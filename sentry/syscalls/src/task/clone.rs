//! clone(2), clone3(2), fork(2), vfork(2).

use std::sync::Arc;

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::task::{CloneRequest, clone_flags};
use sentry_kernel::{CurrentTask, SysResult, ThreadGroup};
use zerocopy::{FromBytes, Immutable, KnownLayout};

const SIGCHLD: u64 = 17;
/// CSIGNAL: the part of clone's flags that is the exit signal.
const SIGNAL_MASK: u64 = 0xff;

/// [clone(2)](https://man7.org/linux/man-pages/man2/clone.2.html); kernel/fork.c.
pub fn clone(task: &mut CurrentTask, flags: u64, stack: u64, parent_tid: UserAddr, child_tid: UserAddr, tls: u64) -> SysResult {
    let flags_only = flags & 0xffff_ffff & !SIGNAL_MASK;
    let pidfd = if flags_only & clone_flags::PIDFD != 0 { parent_tid } else { UserAddr::NULL };
    if flags_only & clone_flags::PIDFD != 0 && flags_only & clone_flags::PARENT_SETTID != 0 {
        return Err(Errno::EINVAL.into());
    }
    let request = CloneRequest {
        flags: flags_only,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal: if flags_only & (clone_flags::THREAD | clone_flags::PARENT) != 0 { 0 } else { flags & SIGNAL_MASK },
        stack_top: stack,
        tls,
        set_tid: 0,
    };
    run(task, &request)
}

/// [fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html).
pub fn fork(task: &mut CurrentTask) -> SysResult {
    run(task, &CloneRequest { exit_signal: SIGCHLD, ..CloneRequest::default() })
}

/// [vfork(2)](https://man7.org/linux/man-pages/man2/vfork.2.html).
pub fn vfork(task: &mut CurrentTask) -> SysResult {
    let flags = clone_flags::VFORK | clone_flags::VM;
    run(task, &CloneRequest { flags, exit_signal: SIGCHLD, ..CloneRequest::default() })
}

/// `struct clone_args`, version 2: 88 bytes.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const ARGS_VERSION_0: u64 = 64;

/// [clone3(2)](https://man7.org/linux/man-pages/man2/clone.2.html).
pub fn clone3(task: &mut CurrentTask, args: UserAddr, size: u64) -> SysResult {
    let known = size_of::<CloneArgs>() as u64;
    if size < ARGS_VERSION_0 {
        return Err(Errno::EINVAL.into());
    }
    if size > sentry_abi::PAGE_SIZE {
        return Err(Errno::E2BIG.into());
    }
    let bytes = task.mm().read_vec(args, size as usize)?;
    if size > known && bytes[known as usize..].iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG.into());
    }
    let mut fixed = [0u8; size_of::<CloneArgs>()];
    let n = fixed.len().min(bytes.len());
    fixed[..n].copy_from_slice(&bytes[..n]);
    let a = CloneArgs::read_from_bytes(&fixed).map_err(|_| Errno::EINVAL)?;
    let refused = clone_flags::DETACHED | SIGNAL_MASK;
    if a.flags & refused & !clone_flags::NEWTIME != 0 || a.flags >> 34 != 0 || a.flags & clone_flags::INTO_CGROUP != 0 {
        return Err(Errno::EINVAL.into());
    }
    if a.exit_signal & !SIGNAL_MASK != 0 || (a.stack == 0) != (a.stack_size == 0) {
        return Err(Errno::EINVAL.into());
    }
    if a.flags & (clone_flags::THREAD | clone_flags::PARENT) != 0 && a.exit_signal != 0 {
        return Err(Errno::EINVAL.into());
    }
    if a.set_tid_size != 0 || a.set_tid != 0 {
        return Err(Errno::EPERM.into());
    }
    let request = CloneRequest {
        flags: a.flags,
        pidfd: UserAddr(a.pidfd),
        child_tid: UserAddr(a.child_tid),
        parent_tid: UserAddr(a.parent_tid),
        exit_signal: a.exit_signal,
        stack_top: if a.stack == 0 { 0 } else { a.stack.checked_add(a.stack_size).ok_or(Errno::EINVAL)? },
        tls: a.tls,
        set_tid: 0,
    };
    run(task, &request)
}

fn run(task: &mut CurrentTask, request: &CloneRequest) -> SysResult {
    let at = request.pidfd;
    let open = |task: &mut CurrentTask, group: &Arc<ThreadGroup>| {
        // The address of the number is looked at before anything is made.
        task.mm().write(at, &(-1i32).to_le_bytes())?;
        let fd = super::pidfd::open_group(task, group, false)?;
        task.mm().write(at, &fd.to_le_bytes())?;
        Ok(fd)
    };
    task.clone(request, (request.flags & clone_flags::PIDFD != 0).then_some(&open))
}
