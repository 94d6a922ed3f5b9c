//! One thread that hears of the readiness of all host descriptors.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::{io, thread};

use rustix::event::epoll;
use sentry_sync::{Events, Level, Mutex, WaitQueue};

/// Edges of registered descriptors wake their queues. Its thread starts with the first registration and sleeps unless something happens.
pub struct Poller {
    epoll: OwnedFd,
    queues: Mutex<HashMap<u64, Weak<WaitQueue>>>,
    started: AtomicBool,
}

impl Poller {
    /// Makes the epoll descriptor, so before confinement where that call is not allowed.
    pub fn new() -> io::Result<Arc<Poller>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Arc::new(Poller { epoll, queues: Mutex::new(Level::Socket, HashMap::new()), started: AtomicBool::new(false) }))
    }

    /// From now on edges of `fd` wake `queue`. `key` is never used twice. Files that are always ready (regular ones) are refused: `false`.
    pub fn watch(self: &Arc<Self>, fd: BorrowedFd<'_>, key: u64, queue: &Arc<WaitQueue>) -> bool {
        self.queues.lock().insert(key, Arc::downgrade(queue));
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::PRI | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if epoll::add(&self.epoll, fd, epoll::EventData::new_u64(key), flags).is_err() {
            self.queues.lock().remove(&key);
            return false;
        }
        if !self.started.swap(true, Ordering::AcqRel) {
            let poller = Arc::clone(self);
            if let Err(error) = thread::Builder::new().name("hostfd".into()).stack_size(128 << 10).spawn(move || poller.run()) {
                tracing::error!(%error, "cannot start the thread that waits for host files");
                self.started.store(false, Ordering::Release);
                return false;
            }
        }
        true
    }

    /// Before `fd` is closed: others may hold the description, and then its edges would go on.
    pub fn forget(&self, fd: BorrowedFd<'_>, key: u64) {
        // Not registered is as good.
        let _ = epoll::delete(&self.epoll, fd);
        self.queues.lock().remove(&key);
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(16);
        loop {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return tracing::error!(%error, "cannot wait for host files"),
            }
            for event in events.drain(..) {
                let queue = self.queues.lock().get(&event.data.u64()).and_then(Weak::upgrade);
                if let Some(queue) = queue {
                    let flags = event.flags;
                    let told = Events::from_bits_truncate(flags.bits());
                    queue.wake(with_bands(told));
                }
            }
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// The normal band goes with the general event, as poll(2) tells both.
pub(crate) fn with_bands(mut events: Events) -> Events {
    if events.contains(Events::IN) {
        events |= Events::RDNORM;
    }
    if events.contains(Events::OUT) {
        events |= Events::WRNORM;
    }
    events
}
