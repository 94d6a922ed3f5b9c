//! eventfd(2), signalfd(2).

use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result, SigInfo, SigSet, UserAddr};
use sentry_fs_anonfs::{EventFd, SignalFd, SignalSource};
use sentry_kernel::task::current_ids;
use sentry_kernel::{CurrentTask, Kernel, SysResult, Task};
use sentry_sync::Waiter;
use sentry_vfs::{FileOps, StatusFlags};

use super::fd::{O_CLOEXEC, O_NONBLOCK};
use crate::args::Flags;

const EFD_SEMAPHORE: u32 = 1;

/// [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html): the old call has no flags.
pub fn eventfd(task: &mut CurrentTask, initval: u32) -> SysResult {
    eventfd2(task, initval, Flags(0))
}

/// [eventfd2(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html).
pub fn eventfd2(task: &mut CurrentTask, initval: u32, flags: Flags) -> SysResult {
    if flags.0 & !(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let ops = EventFd::new(initval, flags.0 & EFD_SEMAPHORE != 0);
    let file = task.kernel().anon.file(ops, EventFd::NAME, StatusFlags::from_bits_truncate(flags.0 & O_NONBLOCK));
    Ok(task.install(file, flags.0 & O_CLOEXEC != 0)? as u64)
}

/// Signals of whoever reads: of the task that this sentry thread runs, or else of the one that made the signalfd.
struct Signals {
    kernel: Weak<Kernel>,
    maker: Weak<Task>,
}

impl Signals {
    fn task(&self) -> Option<Arc<Task>> {
        let running = current_ids().and_then(|(_, tid)| self.kernel.upgrade()?.processes.task(tid));
        running.or_else(|| self.maker.upgrade())
    }
}

impl SignalSource for Signals {
    fn take(&self, mask: SigSet) -> Option<SigInfo> {
        self.task()?.take_signal(mask)
    }

    fn pending(&self, mask: SigSet) -> bool {
        let Some(task) = self.task() else { return false };
        !task.pending_set().union(task.group.pending_set()).intersect(mask).is_empty()
    }

    fn register(&self, waiter: &Waiter) {
        if let Some(task) = self.task() {
            task.group.signal_queued.add(waiter);
        }
    }
}

/// [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html): the old call has no flags.
pub fn signalfd(task: &mut CurrentTask, fd: i32, mask: UserAddr, sizemask: u64) -> SysResult {
    signalfd4(task, fd, mask, sizemask, Flags(0))
}

/// [signalfd4(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html). −1 makes a new descriptor, others get a new mask.
pub fn signalfd4(task: &mut CurrentTask, fd: i32, mask: UserAddr, sizemask: u64, flags: Flags) -> SysResult {
    if sizemask != size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let mask: SigSet = task.mm().read_obj(mask)?;
    if flags.0 & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if fd != -1 {
        change(task, fd, mask)?;
        return Ok(fd as u64);
    }
    let source = Arc::new(Signals { kernel: Arc::downgrade(task.kernel()), maker: Arc::downgrade(&task.task) });
    let ops = SignalFd::new(mask, source);
    let file = task.kernel().anon.file(ops, SignalFd::NAME, StatusFlags::from_bits_truncate(flags.0 & O_NONBLOCK));
    Ok(task.install(file, flags.0 & O_CLOEXEC != 0)? as u64)
}

fn change(task: &CurrentTask, fd: i32, mask: SigSet) -> Result<()> {
    let file = task.file(fd)?;
    let ops: &dyn FileOps = file.ops.as_ref();
    ops.as_any().downcast_ref::<SignalFd>().ok_or(Errno::EINVAL)?.set_mask(mask);
    Ok(())
}
