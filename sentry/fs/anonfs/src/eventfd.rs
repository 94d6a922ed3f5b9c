//! eventfd(2): a counter to wait on. fs/eventfd.c.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sentry_abi::{Errno, Result};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_vfs::{Caller, FileOps};

/// One more than the highest count that a write can reach.
const LIMIT: u64 = u64::MAX;

/// For fdinfo's `eventfd-id`.
static NEXT_ID: AtomicU32 = AtomicU32::new(0);

pub struct EventFd {
    count: Mutex<u64>,
    semaphore: bool,
    queue: WaitQueue,
    id: u32,
}

impl EventFd {
    pub const NAME: &'static str = "anon_inode:[eventfd]";

    pub fn new(initial: u32, semaphore: bool) -> Arc<EventFd> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Arc::new(EventFd { count: Mutex::new(Level::Epoll, initial as u64), semaphore, queue: WaitQueue::new(), id })
    }

    /// Adds to the counter from inside the sentry; too much shows as ERR.
    pub fn signal(&self, n: u64) {
        {
            let mut count = self.count.lock();
            *count = count.saturating_add(n);
        }
        self.queue.wake(Events::READ);
    }
}

impl FileOps for EventFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ignores_lseek(&self) -> bool {
        true
    }

    fn read(&self, _: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        let dst = dst.get_mut(..8).ok_or(Errno::EINVAL)?;
        let taken = {
            let mut count = self.count.lock();
            if *count == 0 {
                return Err(Errno::EAGAIN);
            }
            let taken = if self.semaphore { 1 } else { *count };
            *count -= taken;
            taken
        };
        dst.copy_from_slice(&taken.to_ne_bytes());
        self.queue.wake(Events::WRITE);
        Ok(8)
    }

    fn write(&self, _: &dyn Caller, _: u64, src: &[u8]) -> Result<usize> {
        let bytes: [u8; 8] = src.get(..8).and_then(|s| s.try_into().ok()).ok_or(Errno::EINVAL)?;
        let add = u64::from_ne_bytes(bytes);
        if add == u64::MAX {
            return Err(Errno::EINVAL);
        }
        {
            let mut count = self.count.lock();
            let sum = count.checked_add(add).filter(|sum| *sum < LIMIT).ok_or(Errno::EAGAIN)?;
            *count = sum;
        }
        self.queue.wake(Events::READ);
        Ok(8)
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.queue.add(waiter);
        }
        let count = *self.count.lock();
        let mut now = Events::empty();
        if count > 0 {
            now |= Events::READ;
        }
        if count < LIMIT - 1 {
            now |= Events::WRITE;
        }
        if count == LIMIT {
            now |= Events::ERR;
        }
        now & (want | Events::ERR)
    }

    fn fdinfo(&self) -> String {
        let count = *self.count.lock();
        format!("eventfd-count: {count:16x}\neventfd-id: {}\neventfd-semaphore: {}\n", self.id, self.semaphore as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Count, Nobody};

    fn add(fd: &EventFd, n: u64) -> Result<usize> {
        fd.write(&Nobody, 0, &n.to_ne_bytes())
    }

    fn take(fd: &EventFd) -> Result<u64> {
        let mut out = [0; 8];
        fd.read(&Nobody, 0, &mut out)?;
        Ok(u64::from_ne_bytes(out))
    }

    #[test]
    fn counts_and_overflows_as_linux_does() {
        let fd = EventFd::new(3, false);
        assert_eq!(take(&fd), Ok(3));
        assert_eq!(take(&fd), Err(Errno::EAGAIN));
        assert_eq!(add(&fd, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(add(&fd, u64::MAX - 1), Ok(8));
        assert_eq!(add(&fd, 1), Err(Errno::EAGAIN));
        assert_eq!(fd.ready(Events::IN | Events::OUT, None), Events::IN);
        assert_eq!(add(&fd, 0), Ok(8));
        assert_eq!(take(&fd), Ok(u64::MAX - 1));
        assert_eq!(fd.write(&Nobody, 0, &[0; 7]), Err(Errno::EINVAL));
        assert_eq!(fd.read(&Nobody, 0, &mut [0; 7]), Err(Errno::EINVAL));
    }

    #[test]
    fn semaphore_gives_ones_and_wakes() {
        let fd = EventFd::new(0, true);
        let (waiter, count) = Count::waiter(Events::IN);
        assert!(fd.ready(Events::IN, Some(&waiter)).is_empty());
        add(&fd, 2).unwrap();
        assert_eq!(count.get(), 1);
        assert_eq!((take(&fd), take(&fd), take(&fd)), (Ok(1), Ok(1), Err(Errno::EAGAIN)));
        fd.signal(u64::MAX);
        assert!(fd.ready(Events::empty(), None).contains(Events::ERR));
        assert!(fd.fdinfo().contains("eventfd-count: ffffffffffffffff"));
    }
}
