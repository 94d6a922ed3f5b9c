//! Memory of other processes: process_vm_readv(2), process_vm_writev(2).

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};

/// Bytes that are moved in one step.
const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    FromOther,
    ToOther,
}

/// [process_vm_readv(2)](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html).
pub fn readv(
    task: &mut CurrentTask,
    pid: i32,
    local: UserAddr,
    local_count: u64,
    remote: UserAddr,
    remote_count: u64,
    flags: u64,
) -> SysResult {
    transfer(task, pid, (local, local_count), (remote, remote_count), flags, Direction::FromOther)
}

/// [process_vm_writev(2)](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html).
pub fn writev(
    task: &mut CurrentTask,
    pid: i32,
    local: UserAddr,
    local_count: u64,
    remote: UserAddr,
    remote_count: u64,
    flags: u64,
) -> SysResult {
    transfer(task, pid, (local, local_count), (remote, remote_count), flags, Direction::ToOther)
}

fn transfer(
    task: &mut CurrentTask,
    pid: i32,
    local: (UserAddr, u64),
    remote: (UserAddr, u64),
    flags: u64,
    direction: Direction,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let local = task.mm().read_iovecs(local.0, local.1)?;
    // The remote vector describes the other process's memory, but lies in ours.
    let remote: Vec<[u64; 2]> =
        if remote.1 > 1024 { return Err(Errno::EINVAL.into()) } else { task.mm().read_array(remote.0, remote.1 as usize)? };
    let target = task.kernel().processes.task(pid).ok_or(Errno::ESRCH)?;
    // Taken first, judged then: an execve(2) of a set-user-id program in between must not leave us with that program's memory.
    let other = target.mm();
    if !crate::task::pidfd::may_access(task, &target.group) {
        return Err(Errno::EPERM.into());
    }
    let mut done = 0u64;
    let total: u64 = local.iter().map(|v| v.len).sum();
    for [base, len] in remote {
        let mut at = base;
        let mut left = len.min(total - done);
        while left > 0 {
            let n = left.min(CHUNK as u64) as usize;
            let mut buffer = vec![0u8; n];
            let moved = match direction {
                Direction::FromOther => {
                    let got = other.read_partial(UserAddr(at), &mut buffer)?;
                    task.mm().write_vectored(&local, done, &buffer[..got])?
                }
                Direction::ToOther => {
                    let got = task.mm().read_vectored(&local, done, &mut buffer)?;
                    other.write_partial(UserAddr(at), &buffer[..got])?
                }
            };
            done += moved as u64;
            if moved < n {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT.into()) };
            }
            at = at.wrapping_add(n as u64);
            left -= n as u64;
        }
    }
    Ok(done)
}
