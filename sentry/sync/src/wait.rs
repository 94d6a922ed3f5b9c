//! Waiting: objects have a [`WaitQueue`]; whoever wants to hear of a change registers a [`Waiter`]; a sentry thread sleeps on its [`Parker`].
//!
//! Order that loses no wake-up: register, then look at the state, then park. A registration lasts until the [`Waiter`] is dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::Instant;

use bitflags::bitflags;

use crate::level::Level;
use crate::lock::Mutex;

bitflags! {
    /// Readiness, as poll(2) and epoll(7) number it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Events: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const NVAL = 0x20;
        const RDNORM = 0x40;
        const RDBAND = 0x80;
        const WRNORM = 0x100;
        const WRBAND = 0x200;
        const MSG = 0x400;
        const RDHUP = 0x2000;
        const READ = Self::IN.bits() | Self::RDNORM.bits();
        const WRITE = Self::OUT.bits() | Self::WRNORM.bits();
    }
}

/// Called when a queue is woken, without any lock of the queue held. Must be quick and must not block.
pub trait Notify: Send + Sync {
    fn notify(&self, events: Events);
}

struct Entry {
    id: u64,
    mask: Events,
    target: Arc<dyn Notify>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    list: Vec<Entry>,
}

struct QueueInner {
    entries: Mutex<Entries>,
    /// Lets `wake` skip the lock when nobody waits.
    waiting: AtomicU64,
}

/// The list of those who wait for an object to change.
pub struct WaitQueue(Arc<QueueInner>);

impl Default for WaitQueue {
    fn default() -> WaitQueue {
        WaitQueue::new()
    }
}

impl WaitQueue {
    pub fn new() -> WaitQueue {
        WaitQueue(Arc::new(QueueInner { entries: Mutex::new(Level::WaitQueue, Entries::default()), waiting: AtomicU64::new(0) }))
    }

    /// Registers `waiter`; it is told of wake-ups whose events meet its mask. ERR and HUP always do.
    pub fn add(&self, waiter: &Waiter) {
        let id = {
            let mut entries = self.0.entries.lock();
            entries.next += 1;
            let id = entries.next;
            let mask = waiter.mask | Events::ERR | Events::HUP;
            entries.list.push(Entry { id, mask, target: waiter.target.clone() });
            self.0.waiting.store(entries.list.len() as u64, Ordering::SeqCst);
            id
        };
        waiter.registrations.lock().push((Arc::downgrade(&self.0), id));
    }

    /// Tells all waiters that wait for any of `events`.
    pub fn wake(&self, events: Events) {
        // The state change came before; pairs with the store in `add`, after which the waiter looks at the state.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let targets: Vec<Arc<dyn Notify>> = {
            let entries = self.0.entries.lock();
            entries.list.iter().filter(|e| e.mask.intersects(events)).map(|e| e.target.clone()).collect()
        };
        for target in targets {
            target.notify(events);
        }
    }

    pub fn wake_all(&self) {
        self.wake(Events::all());
    }

    pub fn has_waiters(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) != 0
    }
}

/// A registration on any number of queues; leaves them all when dropped.
pub struct Waiter {
    target: Arc<dyn Notify>,
    mask: Events,
    registrations: Mutex<Vec<(Weak<QueueInner>, u64)>>,
}

impl Waiter {
    pub fn new(target: Arc<dyn Notify>, mask: Events) -> Waiter {
        Waiter { target, mask, registrations: Mutex::new(Level::Leaf, Vec::new()) }
    }

    pub fn mask(&self) -> Events {
        self.mask
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let registrations = std::mem::take(&mut *self.registrations.lock());
        for (queue, id) in registrations {
            let Some(queue) = queue.upgrade() else { continue };
            let removed = {
                let mut entries = queue.entries.lock();
                let index = entries.list.iter().position(|e| e.id == id);
                let removed = index.map(|i| entries.list.swap_remove(i));
                queue.waiting.store(entries.list.len() as u64, Ordering::SeqCst);
                removed
            };
            // The target may own what owns this queue: let it go only with the queue unlocked.
            drop(removed);
        }
    }
}

/// Puts its own sentry thread to sleep; anyone may wake it. A wake-up before the sleep makes the sleep return at once.
pub struct Parker {
    thread: Thread,
}

impl Parker {
    /// Of the calling thread.
    pub fn current() -> Parker {
        Parker { thread: std::thread::current() }
    }

    /// Sleeps until woken, or until `deadline`. May return early; the caller looks at its state and calls again.
    pub fn park(deadline: Option<Instant>) {
        match deadline {
            None => std::thread::park(),
            Some(at) => {
                let now = Instant::now();
                if at > now {
                    std::thread::park_timeout(at - now);
                }
            }
        }
    }

    pub fn unpark(&self) {
        self.thread.unpark();
    }
}

impl Notify for Parker {
    fn notify(&self, _: Events) {
        self.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    struct Count(AtomicU32);

    impl Notify for Count {
        fn notify(&self, _: Events) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_the_mask_is_told_and_only_while_registered() {
        let queue = WaitQueue::new();
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waiter = Waiter::new(count.clone(), Events::IN);
        queue.add(&waiter);
        queue.wake(Events::OUT);
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        queue.wake(Events::IN);
        queue.wake(Events::HUP);
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        drop(waiter);
        queue.wake_all();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert!(!queue.has_waiters());
    }
}
