//! pidfd_open(2): a process to wait on. kernel/fork.c, fs/pidfs.c.

use std::any::Any;
use std::sync::Arc;

use sentry_sync::{Events, Waiter};
use sentry_vfs::FileOps;

/// The process (or thread) that a pidfd stands for. The kernel implements it.
pub trait PidTarget: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;
    /// Has it ended (zombies too)?
    fn exited(&self) -> bool;
    /// Has it been waited for?
    fn reaped(&self) -> bool {
        false
    }
    /// `waiter` is to be told, by IN, when `exited` becomes true, and by HUP when `reaped` does.
    fn register(&self, waiter: &Waiter);
    /// The lines of /proc/pid/fdinfo: "Pid:\t1\nNSpid:\t1\n".
    fn fdinfo(&self) -> String;
}

pub struct PidFd {
    target: Arc<dyn PidTarget>,
}

impl PidFd {
    pub const NAME: &'static str = "anon_inode:[pidfd]";

    pub fn new(target: Arc<dyn PidTarget>) -> Arc<PidFd> {
        Arc::new(PidFd { target })
    }

    pub fn target(&self) -> &Arc<dyn PidTarget> {
        &self.target
    }
}

impl FileOps for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.target.register(waiter);
        }
        let mut now = Events::empty();
        if self.target.exited() {
            now |= Events::READ;
        }
        if self.target.reaped() {
            now |= Events::HUP | Events::READ;
        }
        now & (want | Events::HUP)
    }

    fn fdinfo(&self) -> String {
        self.target.fdinfo()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use sentry_abi::Errno;
    use sentry_sync::WaitQueue;

    use super::*;
    use crate::testing::{Count, Nobody};

    #[derive(Default)]
    struct Process {
        dead: AtomicBool,
        queue: WaitQueue,
    }

    impl PidTarget for Process {
        fn as_any(&self) -> &dyn Any {
            self
        }

        fn exited(&self) -> bool {
            self.dead.load(Ordering::SeqCst)
        }

        fn register(&self, waiter: &Waiter) {
            self.queue.add(waiter);
        }

        fn fdinfo(&self) -> String {
            "Pid:\t7\nNSpid:\t7\n".into()
        }
    }

    #[test]
    fn becomes_readable_at_exit() {
        let process = Arc::new(Process::default());
        let fd = PidFd::new(process.clone());
        let (waiter, count) = Count::waiter(Events::IN);
        assert!(fd.ready(Events::IN, Some(&waiter)).is_empty());
        process.dead.store(true, Ordering::SeqCst);
        process.queue.wake(Events::READ);
        assert_eq!((count.get(), fd.ready(Events::IN, None)), (1, Events::IN));
        assert_eq!(fd.read(&Nobody, 0, &mut [0; 8]), Err(Errno::EINVAL));
    }
}
