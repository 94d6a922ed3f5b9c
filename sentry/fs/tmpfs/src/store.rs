//! What all files of one tmpfs share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::Timespec;
use sentry_memory::FileSource;
use sentry_sync::{Level, Mutex};

use crate::limits::Limits;

/// CLOCK_REALTIME, for time stamps.
pub type Clock = Arc<dyn Fn() -> Timespec + Send + Sync>;

pub struct Store {
    pub device: u64,
    pub(crate) source: Arc<dyn FileSource>,
    clock: Clock,
    pub(crate) limits: Limits,
    next_ino: AtomicU64,
    /// Held over every change of the tree.
    pub(crate) surgery: Mutex<()>,
}

impl Store {
    /// `pages` and `inodes` are limits, `None` for none; inode numbers count up from `first_ino`.
    pub fn new(
        device: u64,
        first_ino: u64,
        pages: Option<u64>,
        inodes: Option<u64>,
        source: Arc<dyn FileSource>,
        clock: Clock,
    ) -> Arc<Store> {
        Arc::new(Store {
            device,
            source,
            clock,
            limits: Limits::new(pages, inodes),
            next_ino: AtomicU64::new(first_ino),
            surgery: Mutex::new(Level::Rename, ()),
        })
    }

    pub fn now(&self) -> Timespec {
        (self.clock)()
    }

    pub fn next_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    /// (most, used), `u64::MAX` for no limit.
    pub fn pages(&self) -> (u64, u64) {
        self.limits.pages()
    }

    pub fn inodes(&self) -> (u64, u64) {
        self.limits.inodes()
    }
}
