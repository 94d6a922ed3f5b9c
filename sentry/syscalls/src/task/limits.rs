//! Limits and usage: getrlimit(2), prlimit(2), getrusage(2), times(2). kernel/sys.c.

use std::sync::Arc;

use sentry_abi::time::Timeval;
use sentry_abi::{Errno, UserAddr};
use sentry_auth::Caps;
use sentry_kernel::{CurrentTask, Limit, Resource, SysResult, ThreadGroup, Usage, mm_limits};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserLimit {
    soft: u64,
    hard: u64,
}

/// [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
pub fn getrlimit(task: &mut CurrentTask, resource: u32, at: UserAddr) -> SysResult {
    let limit = task.task.group.limits().get(Resource::from_number(resource as u64)?);
    task.mm().write_obj(at, &UserLimit { soft: limit.soft, hard: limit.hard })?;
    Ok(0)
}

/// [setrlimit(2)](https://man7.org/linux/man-pages/man2/setrlimit.2.html).
pub fn setrlimit(task: &mut CurrentTask, resource: u32, at: UserAddr) -> SysResult {
    let resource = Resource::from_number(resource as u64)?;
    let new: UserLimit = task.mm().read_obj(at)?;
    let group = task.task.group.clone();
    set(task, &group, resource, &new)?;
    Ok(0)
}

/// [prlimit(2)](https://man7.org/linux/man-pages/man2/prlimit.2.html).
pub fn prlimit64(task: &mut CurrentTask, pid: i32, resource: u32, new_at: UserAddr, old_at: UserAddr) -> SysResult {
    let resource = Resource::from_number(resource as u64)?;
    let group = match pid {
        0 => task.task.group.clone(),
        pid => {
            let target = task.kernel().processes.task(pid).ok_or(Errno::ESRCH)?;
            let (mine, theirs) = (task.creds(), target.credentials());
            let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == mine.uid)
                && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == mine.gid);
            if target.pid() != task.task.pid() && !same && !mine.has(Caps::SYS_RESOURCE) {
                return Err(Errno::EPERM.into());
            }
            target.group.clone()
        }
    };
    let new: Option<UserLimit> = if new_at.is_null() { None } else { Some(task.mm().read_obj(new_at)?) };
    let old = group.limits().get(resource);
    if let Some(new) = new {
        set(task, &group, resource, &new)?;
    }
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &UserLimit { soft: old.soft, hard: old.hard })?;
    }
    Ok(0)
}

fn set(task: &mut CurrentTask, group: &Arc<ThreadGroup>, resource: Resource, new: &UserLimit) -> Result<(), Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    if resource == Resource::Files && new.hard > 1 << 20 {
        return Err(Errno::EPERM);
    }
    let limits = {
        let mut limits = group.limits.lock();
        if new.hard > limits.get(resource).hard && !task.creds().has(Caps::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        limits.set(resource, Limit { soft: new.soft, hard: new.hard });
        *limits
    };
    if let Some(any) = group.any_task() {
        any.mm().set_limits(mm_limits(&limits));
    }
    if resource == Resource::Cpu {
        group.timers.watch_cpu_limit(task.kernel(), group);
    }
    if resource == Resource::Stack && group.id == task.task.pid() {
        let (mm, thread) = task.mm_and_thread();
        // A stack that cannot grow now keeps its size, as one on Linux whose way is blocked.
        let _ = mm.grow_stack(thread);
    }
    Ok(())
}

/// `struct rusage`: 144 bytes.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RUsage {
    user: Timeval,
    system: Timeval,
    max_rss: i64,
    rest: [i64; 13],
}

pub fn rusage(usage: &Usage) -> RUsage {
    RUsage {
        user: Timeval::from_ns(usage.user.as_nanos() as i64),
        system: Timeval::from_ns(usage.system.as_nanos() as i64),
        max_rss: usage.max_rss_kib as i64,
        rest: [0; 13],
    }
}

fn own_usage(task: &CurrentTask) -> Usage {
    task.task.note_system_time();
    let (user, system) = task.task.group.cpu_times();
    Usage { user, system, max_rss_kib: task.mm().usage().resident / 1024 }
}

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;

/// [getrusage(2)](https://man7.org/linux/man-pages/man2/getrusage.2.html).
pub fn getrusage(task: &mut CurrentTask, who: i32, at: UserAddr) -> SysResult {
    let usage = match who {
        RUSAGE_SELF => own_usage(task),
        RUSAGE_CHILDREN => task.task.group.state.lock().children_usage,
        RUSAGE_THREAD => {
            let (user, system) = (task.thread.cpu_time(), task.task.system_time());
            Usage { user, system, max_rss_kib: task.mm().usage().resident / 1024 }
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    task.mm().write_obj(at, &rusage(&usage))?;
    Ok(0)
}

/// [times(2)](https://man7.org/linux/man-pages/man2/times.2.html), in ticks of 10 ms.
pub fn times(task: &mut CurrentTask, at: UserAddr) -> SysResult {
    let own = own_usage(task);
    let children = task.task.group.state.lock().children_usage;
    if !at.is_null() {
        let ticks = |d: std::time::Duration| (d.as_millis() / 10) as i64;
        let values = [ticks(own.user), ticks(own.system), ticks(children.user), ticks(children.system)];
        task.mm().write_array(at, &values)?;
    }
    Ok((sentry_time::ClockId::Boottime.now_ns() / 10_000_000) as u64)
}
