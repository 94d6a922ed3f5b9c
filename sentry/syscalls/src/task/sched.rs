//! Scheduling: the host schedules; what is asked for is checked and remembered where it can be seen. sched(7).

use std::sync::atomic::Ordering;

use sentry_abi::{Errno, UserAddr};
use sentry_auth::Caps;
use sentry_kernel::{CurrentTask, SysResult, Task};

use crate::args::Flags;

const SCHED_OTHER: i32 = 0;
const SCHED_FIFO: i32 = 1;
const SCHED_RR: i32 = 2;
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;
const RESET_ON_FORK: i32 = 0x4000_0000;

fn find(task: &CurrentTask, pid: i32) -> Result<std::sync::Arc<Task>, Errno> {
    match pid {
        0 => Ok(task.task.clone()),
        p if p < 0 => Err(Errno::EINVAL),
        p => task.kernel().processes.task(p).ok_or(Errno::ESRCH),
    }
}

/// [sched_yield(2)](https://man7.org/linux/man-pages/man2/sched_yield.2.html). The platform does it natively; this serves those that cannot.
pub fn sched_yield(_task: &mut CurrentTask) -> SysResult {
    std::thread::yield_now();
    Ok(0)
}

/// [sched_getaffinity(2)](https://man7.org/linux/man-pages/man2/sched_getaffinity.2.html): answers the bytes of the mask.
pub fn sched_getaffinity(task: &mut CurrentTask, pid: i32, len: u64, mask: UserAddr) -> SysResult {
    let cpus = find(task, pid)?.affinity();
    if len < cpus.len() as u64 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    task.mm().write(mask, &cpus)?;
    Ok(cpus.len() as u64)
}

/// [sched_setaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html).
///
/// Differs: remembered and inherited, without effect on where the host runs it: guests float over the sandbox's CPUs.
pub fn sched_setaffinity(task: &mut CurrentTask, pid: i32, len: u64, mask: UserAddr) -> SysResult {
    let bytes = task.mm().read_vec(mask, len.min(1024) as usize)?;
    let target = find(task, pid)?;
    let (mine, theirs) = (task.creds(), target.credentials());
    if mine.euid != theirs.uid && mine.euid != theirs.euid && !mine.has(Caps::SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    if target.set_affinity(&bytes) { Ok(0) } else { Err(Errno::EINVAL.into()) }
}

/// [sched_getscheduler(2)](https://man7.org/linux/man-pages/man2/sched_getscheduler.2.html).
pub fn sched_getscheduler(task: &mut CurrentTask, pid: i32) -> SysResult {
    Ok(find(task, pid)?.policy.load(Ordering::Relaxed) as u64)
}

/// [sched_setscheduler(2)](https://man7.org/linux/man-pages/man2/sched_setscheduler.2.html).
pub fn sched_setscheduler(task: &mut CurrentTask, pid: i32, policy: i32, param: UserAddr) -> SysResult {
    let priority: i32 = task.mm().read_obj(param)?;
    let target = find(task, pid)?;
    check_policy(task, policy & !RESET_ON_FORK, priority)?;
    target.policy.store(policy, Ordering::Relaxed);
    Ok(0)
}

/// Real-time policies need CAP_SYS_NICE, and are then still refused: the host would not give them.
fn check_policy(task: &CurrentTask, policy: i32, priority: i32) -> Result<(), Errno> {
    match policy {
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE if priority == 0 => Ok(()),
        SCHED_FIFO | SCHED_RR if (1..=99).contains(&priority) => {
            let _ = task;
            Err(Errno::EPERM)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// [sched_getparam(2)](https://man7.org/linux/man-pages/man2/sched_getparam.2.html).
pub fn sched_getparam(task: &mut CurrentTask, pid: i32, param: UserAddr) -> SysResult {
    find(task, pid)?;
    task.mm().write_obj(param, &0i32)?;
    Ok(0)
}

/// [sched_setparam(2)](https://man7.org/linux/man-pages/man2/sched_setparam.2.html).
pub fn sched_setparam(task: &mut CurrentTask, pid: i32, param: UserAddr) -> SysResult {
    find(task, pid)?;
    let priority: i32 = task.mm().read_obj(param)?;
    if priority == 0 { Ok(0) } else { Err(Errno::EINVAL.into()) }
}

/// [sched_get_priority_max(2)](https://man7.org/linux/man-pages/man2/sched_get_priority_max.2.html).
pub fn sched_get_priority_max(_task: &mut CurrentTask, policy: i32) -> SysResult {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(99),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | 6 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// [sched_get_priority_min(2)](https://man7.org/linux/man-pages/man2/sched_get_priority_min.2.html).
pub fn sched_get_priority_min(task: &mut CurrentTask, policy: i32) -> SysResult {
    sched_get_priority_max(task, policy).map(|max| if max == 99 { 1 } else { 0 })
}

/// [sched_rr_get_interval(2)](https://man7.org/linux/man-pages/man2/sched_rr_get_interval.2.html).
pub fn sched_rr_get_interval(task: &mut CurrentTask, pid: i32, at: UserAddr) -> SysResult {
    find(task, pid)?;
    task.mm().write_obj(at, &sentry_abi::Timespec::new(0, 4_000_000))?;
    Ok(0)
}

/// `struct sched_attr`, version 0: 48 bytes.
const SCHED_ATTR_SIZE: u32 = 48;

/// [sched_getattr(2)](https://man7.org/linux/man-pages/man2/sched_setattr.2.html).
pub fn sched_getattr(task: &mut CurrentTask, pid: i32, at: UserAddr, size: u32, flags: Flags) -> SysResult {
    if flags.0 != 0 || size < SCHED_ATTR_SIZE || size as u64 > sentry_abi::PAGE_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let target = find(task, pid)?;
    let mut out = [0u8; SCHED_ATTR_SIZE as usize];
    out[..4].copy_from_slice(&SCHED_ATTR_SIZE.to_le_bytes());
    let policy = target.policy.load(Ordering::Relaxed);
    out[4..8].copy_from_slice(&(policy & !RESET_ON_FORK).to_le_bytes());
    // SCHED_FLAG_RESET_ON_FORK.
    out[8..16].copy_from_slice(&u64::from(policy & RESET_ON_FORK != 0).to_le_bytes());
    out[16..20].copy_from_slice(&target.nice.load(Ordering::Relaxed).to_le_bytes());
    task.mm().write(at, &out)?;
    Ok(0)
}

/// [sched_setattr(2)](https://man7.org/linux/man-pages/man2/sched_setattr.2.html).
pub fn sched_setattr(task: &mut CurrentTask, pid: i32, at: UserAddr, flags: Flags) -> SysResult {
    if flags.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = find(task, pid)?;
    let head: [u32; 6] = {
        let words: Vec<u32> = task.mm().read_array(at, 6)?;
        words.try_into().map_err(|_| Errno::EFAULT)?
    };
    if head[0] != 0 && head[0] < SCHED_ATTR_SIZE {
        return Err(Errno::EINVAL.into());
    }
    check_policy(task, head[1] as i32, head[5] as i32)?;
    set_nice(task, &target, head[4] as i32)?;
    target.policy.store(head[1] as i32 | if head[2] & 1 != 0 { RESET_ON_FORK } else { 0 }, Ordering::Relaxed);
    Ok(0)
}

fn set_nice(task: &CurrentTask, target: &Task, nice: i32) -> Result<(), Errno> {
    let nice = nice.clamp(-20, 19);
    let (mine, theirs) = (task.creds(), target.credentials());
    if mine.euid != theirs.uid && mine.euid != theirs.euid && !mine.has(Caps::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    if nice < target.nice.load(Ordering::Relaxed) && !task.creds().has(Caps::SYS_NICE) {
        return Err(Errno::EACCES);
    }
    target.nice.store(nice, Ordering::Relaxed);
    Ok(())
}

const PRIO_PROCESS: i32 = 0;
const PRIO_PGRP: i32 = 1;
const PRIO_USER: i32 = 2;

/// The tasks that getpriority(2) and setpriority(2) mean.
fn targets(task: &CurrentTask, which: i32, who: i32) -> Result<Vec<std::sync::Arc<Task>>, Errno> {
    let tree = &task.kernel().processes;
    let found = match which {
        PRIO_PROCESS => vec![find(task, who).map_err(|_| Errno::ESRCH)?],
        PRIO_PGRP => {
            let group = if who == 0 { tree.process_group(task.task.pid()).ok_or(Errno::ESRCH)? } else { who };
            tree.members(group).iter().flat_map(|g| g.tasks()).collect()
        }
        PRIO_USER => {
            let uid = if who == 0 { task.creds().uid } else { who as u32 };
            tree.groups().iter().flat_map(|g| g.tasks()).filter(|t| t.credentials().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}

/// [getpriority(2)](https://man7.org/linux/man-pages/man2/getpriority.2.html): the raw call answers 20 − nice.
pub fn getpriority(task: &mut CurrentTask, which: i32, who: i32) -> SysResult {
    let lowest = targets(task, which, who)?.iter().map(|t| t.nice.load(Ordering::Relaxed)).min().unwrap_or(0);
    Ok((20 - lowest) as u64)
}

/// [setpriority(2)](https://man7.org/linux/man-pages/man2/setpriority.2.html).
pub fn setpriority(task: &mut CurrentTask, which: i32, who: i32, nice: i32) -> SysResult {
    for target in targets(task, which, who)? {
        set_nice(task, &target, nice)?;
    }
    Ok(0)
}

/// [ioprio_get(2)](https://man7.org/linux/man-pages/man2/ioprio_set.2.html): best effort, level 4.
pub fn ioprio_get(_task: &mut CurrentTask, which: i32, _who: i32) -> SysResult {
    if (1..=3).contains(&which) { Ok(2 << 13 | 4) } else { Err(Errno::EINVAL.into()) }
}

/// [ioprio_set(2)](https://man7.org/linux/man-pages/man2/ioprio_set.2.html): accepted; the host decides.
pub fn ioprio_set(_task: &mut CurrentTask, which: i32, _who: i32, priority: i32) -> SysResult {
    if !(1..=3).contains(&which) || priority >> 13 > 3 {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}

/// [getcpu(2)](https://man7.org/linux/man-pages/man2/getcpu.2.html). The vDSO answers it natively; this one serves programs without it.
pub fn getcpu(task: &mut CurrentTask, cpu: UserAddr, node: UserAddr) -> SysResult {
    for at in [cpu, node] {
        if !at.is_null() {
            task.mm().write_obj(at, &0u32)?;
        }
    }
    Ok(0)
}
