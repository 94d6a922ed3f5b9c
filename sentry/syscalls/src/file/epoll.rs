//! epoll_create(2), epoll_ctl(2), epoll_wait(2). fs/eventpoll.c.

use std::sync::Arc;

use sentry_abi::file::EpollEvent;
use sentry_abi::{Errno, Result, UserAddr};
use sentry_fs_anonfs::{Epoll, EpollEvents, EpollOp};
use sentry_kernel::{BlockError, CurrentTask, SysResult};
use sentry_sync::Events;
use sentry_vfs::{FileDescription, FileOps, StatusFlags};

use super::fd::O_CLOEXEC;
use super::poll::set_mask;
use super::wait_time::Limit;
use crate::args::Flags;

/// `EP_MAX_EVENTS`.
const MAX_EVENTS: i32 = i32::MAX / size_of::<EpollEvent>() as i32;

/// [epoll_create(2)](https://man7.org/linux/man-pages/man2/epoll_create.2.html): the size has to be positive and means nothing.
pub fn epoll_create(task: &mut CurrentTask, size: i32) -> SysResult {
    if size <= 0 {
        return Err(Errno::EINVAL.into());
    }
    epoll_create1(task, Flags(0))
}

/// [epoll_create1(2)](https://man7.org/linux/man-pages/man2/epoll_create1.2.html).
pub fn epoll_create1(task: &mut CurrentTask, flags: Flags) -> SysResult {
    if flags.0 & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.kernel().anon.file(Epoll::new(), Epoll::NAME, StatusFlags::empty());
    Ok(task.install(file, flags.0 & O_CLOEXEC != 0)? as u64)
}

fn epoll_of(file: &FileDescription) -> Result<&Epoll> {
    let ops: &dyn FileOps = file.ops.as_ref();
    ops.as_any().downcast_ref::<Epoll>().ok_or(Errno::EINVAL)
}

/// [epoll_ctl(2)](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html).
pub fn epoll_ctl(task: &mut CurrentTask, epfd: i32, op: i32, fd: i32, event: UserAddr) -> SysResult {
    const DEL: i32 = 2;
    let event = if op == DEL { EpollEvent::default() } else { task.mm().read_obj(event)? };
    let file = task.file(epfd)?;
    let target = task.file(fd)?;
    if !target.ops.pollable() {
        return Err(Errno::EPERM.into());
    }
    let epoll = epoll_of(&file)?;
    let op = EpollOp::from_raw(op)?;
    epoll.ctl(op, fd, &target, EpollEvents::from_bits_retain(event.events), event.data())?;
    Ok(0)
}

/// [epoll_wait(2)](https://man7.org/linux/man-pages/man2/epoll_wait.2.html).
pub fn epoll_wait(task: &mut CurrentTask, epfd: i32, events: UserAddr, maxevents: i32, timeout: i32) -> SysResult {
    wait(task, epfd, events, maxevents, Limit::after_ms(timeout))
}

/// [epoll_pwait(2)](https://man7.org/linux/man-pages/man2/epoll_pwait.2.html).
pub fn epoll_pwait(
    task: &mut CurrentTask,
    epfd: i32,
    events: UserAddr,
    maxevents: i32,
    timeout: i32,
    sigmask: UserAddr,
    sigsetsize: u64,
) -> SysResult {
    set_mask(task, sigmask, sigsetsize)?;
    let result = wait(task, epfd, events, maxevents, Limit::after_ms(timeout));
    unmask(task, result)
}

/// [epoll_pwait2(2)](https://man7.org/linux/man-pages/man2/epoll_pwait2.2.html).
pub fn epoll_pwait2(
    task: &mut CurrentTask,
    epfd: i32,
    events: UserAddr,
    maxevents: i32,
    timeout: UserAddr,
    sigmask: UserAddr,
    sigsetsize: u64,
) -> SysResult {
    let limit = Limit::read_timespec(task, timeout)?;
    set_mask(task, sigmask, sigsetsize)?;
    let result = wait(task, epfd, events, maxevents, limit);
    unmask(task, result)
}

/// The mask goes back, unless a signal is to be delivered under it.
fn unmask(task: &mut CurrentTask, result: SysResult) -> SysResult {
    if result != Err(Errno::EINTR.into()) {
        task.restore_mask();
    }
    result
}

fn wait(task: &CurrentTask, epfd: i32, events: UserAddr, maxevents: i32, limit: Limit) -> SysResult {
    if maxevents <= 0 || maxevents > MAX_EVENTS {
        return Err(Errno::EINVAL.into());
    }
    let max = maxevents as usize;
    if !task.mm().access_ok(events, (max * size_of::<EpollEvent>()) as u64) {
        return Err(Errno::EFAULT.into());
    }
    let file: Arc<FileDescription> = task.file(epfd)?;
    let epoll = epoll_of(&file)?;
    let ready = collect(task, epoll, max, limit)?;
    let list: Vec<EpollEvent> = ready.into_iter().map(|(events, data)| EpollEvent::new(events.bits(), data)).collect();
    task.mm().write_array(events, &list)?;
    Ok(list.len() as u64)
}

/// `EINTR` when a signal comes first: epoll_wait(2) is never restarted (signal(7)).
fn collect(task: &CurrentTask, epoll: &Epoll, max: usize, limit: Limit) -> Result<Vec<(EpollEvents, u64)>> {
    if limit == Limit::Now {
        return Ok(epoll.collect(max, None));
    }
    let ready =
        task.block_until(Events::READ, limit.deadline(), |waiter| Some(epoll.collect(max, waiter)).filter(|ready| !ready.is_empty()));
    match ready {
        Ok(ready) => Ok(ready),
        Err(BlockError::TimedOut) => Ok(Vec::new()),
        Err(BlockError::Interrupted) => Err(Errno::EINTR),
    }
}
