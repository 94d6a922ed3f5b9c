//! poll(2), ppoll(2). fs/select.c.

use std::sync::Arc;

use sentry_abi::file::PollFd;
use sentry_abi::{Errno, Result, SigSet, Timespec, UserAddr};
use sentry_kernel::{BlockError, CurrentTask, Resource, Restart, Stop, SysResult};
use sentry_sync::{Events, Waiter};
use sentry_vfs::FileDescription;

use super::wait_time::Limit;

/// One file to look at; no file for a number that is not open.
pub(super) struct Interest {
    pub file: Option<Arc<FileDescription>>,
    pub want: Events,
}

impl Interest {
    fn of(task: &CurrentTask, fd: i32, events: Events) -> Interest {
        Interest { file: task.file(fd).ok(), want: events | Events::ERR | Events::HUP }
    }

    pub fn look(&self, waiter: Option<&Waiter>) -> Events {
        match &self.file {
            Some(file) => file.ops.ready(self.want, waiter) & self.want,
            None => Events::NVAL,
        }
    }
}

/// Looks at all until one is ready: what each is ready for. All empty when time is up.
pub(super) fn wait(task: &CurrentTask, interests: &[Interest], limit: Limit) -> Result<Vec<Events>, BlockError> {
    let look = |waiter: Option<&Waiter>| {
        let found: Vec<Events> = interests.iter().map(|i| i.look(waiter)).collect();
        found.iter().any(|e| !e.is_empty()).then_some(found)
    };
    let nothing = || vec![Events::empty(); interests.len()];
    if limit == Limit::Now {
        return Ok(look(None).unwrap_or_else(nothing));
    }
    let mask = interests.iter().fold(Events::empty(), |all, i| all | i.want);
    match task.block_until(mask, limit.deadline(), look) {
        Err(BlockError::TimedOut) => Ok(nothing()),
        other => other,
    }
}

/// [poll(2)](https://man7.org/linux/man-pages/man2/poll.2.html).
pub fn poll(task: &mut CurrentTask, fds: UserAddr, nfds: u32, timeout: i32) -> SysResult {
    poll_until(task, fds, nfds, Limit::after_ms(timeout))
}

fn poll_until(task: &mut CurrentTask, fds: UserAddr, nfds: u32, limit: Limit) -> SysResult {
    match poll_files(task, fds, nfds, limit)? {
        Some(count) => Ok(count),
        None => {
            // restart_syscall(2) goes on with the same deadline.
            task.set_restart(Box::new(move |task| poll_until(task, fds, nfds, limit)));
            Err(Stop::Restart(Restart::Block))
        }
    }
}

/// The number of files with events, written back; nothing when a signal came first.
fn poll_files(task: &CurrentTask, fds: UserAddr, nfds: u32, limit: Limit) -> Result<Option<u64>> {
    if nfds as u64 > task.limit(Resource::Files) {
        return Err(Errno::EINVAL);
    }
    let mut list: Vec<PollFd> = task.mm().read_array(fds, nfds as usize)?;
    let watched: Vec<usize> = (0..list.len()).filter(|i| list[*i].fd >= 0).collect();
    let interest = |i: &usize| Interest::of(task, list[*i].fd, Events::from_bits_truncate(list[*i].events as u32));
    let interests: Vec<Interest> = watched.iter().map(interest).collect();
    let Ok(found) = wait(task, &interests, limit) else { return Ok(None) };
    for one in &mut list {
        one.revents = 0;
    }
    let mut count = 0;
    for (index, events) in watched.into_iter().zip(found) {
        list[index].revents = events.bits() as u16;
        count += u64::from(!events.is_empty());
    }
    write_back(task, fds, &list)?;
    Ok(Some(count))
}

/// Linux writes `revents` alone, since another thread may be changing the rest; for long lists that is too dear here.
fn write_back(task: &CurrentTask, fds: UserAddr, list: &[PollFd]) -> Result<()> {
    const FEW: usize = 4;
    if list.len() > FEW {
        return task.mm().write_array(fds, list);
    }
    for (index, one) in list.iter().enumerate() {
        let at = fds.offset((index * size_of::<PollFd>() + 6) as u64)?;
        task.mm().write_obj(at, &one.revents)?;
    }
    Ok(())
}

/// [ppoll(2)](https://man7.org/linux/man-pages/man2/ppoll.2.html).
pub fn ppoll(task: &mut CurrentTask, fds: UserAddr, nfds: u32, tmo: UserAddr, sigmask: UserAddr, sigsetsize: u64) -> SysResult {
    let limit = Limit::read_timespec(task, tmo)?;
    set_mask(task, sigmask, sigsetsize)?;
    let result = poll_files(task, fds, nfds, limit);
    finish(task, tmo, limit, result, Unit::Nanoseconds)
}

/// Takes the mask of ppoll(2), pselect(2), epoll_pwait(2) for the time of the call; NULL leaves it.
pub(super) fn set_mask(task: &mut CurrentTask, at: UserAddr, size: u64) -> Result<()> {
    if at.is_null() {
        return Ok(());
    }
    if size != size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL);
    }
    let mask: SigSet = task.mm().read_obj(at)?;
    task.set_temporary_mask(mask);
    Ok(())
}

/// The unit of a time that is written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Nanoseconds,
    Microseconds,
}

/// The end of ppoll(2), pselect(2), select(2): the mask goes back unless a signal is to be delivered under it, and the time that is left is told.
pub(super) fn finish(task: &mut CurrentTask, at: UserAddr, limit: Limit, result: Result<Option<u64>>, unit: Unit) -> SysResult {
    let interrupted = matches!(result, Ok(None));
    if !interrupted {
        task.restore_mask();
    }
    let told = tell_left(task, at, limit, unit);
    match result {
        Ok(Some(count)) => Ok(count),
        // A call that cannot tell how long it has waited must not wait again from the start.
        Ok(None) if told.is_err() => Err(Errno::EINTR.into()),
        Ok(None) => Err(Stop::Restart(Restart::WithoutHandler)),
        Err(errno) => Err(errno.into()),
    }
}

fn tell_left(task: &CurrentTask, at: UserAddr, limit: Limit, unit: Unit) -> Result<()> {
    if at.is_null() {
        return Ok(());
    }
    let Some(left) = limit.left() else { return Ok(()) };
    let second = if unit == Unit::Microseconds { left.nsec / 1000 } else { left.nsec };
    task.mm().write_obj(at, &Timespec::new(left.sec, second))
}
