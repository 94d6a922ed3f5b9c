//! All terminals of a sandbox by key, and what they need of the process tree.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result, Signal};
use sentry_sync::{Level, Mutex};
use sentry_time::TimerQueue;
use sentry_vfs::{Caller, FileOps};

use crate::terminal::Terminal;

/// Sends signals that come from a terminal rather than from a task. The kernel implements it; ids are kernel-global. Called with no lock held.
pub trait Groups: Send + Sync + 'static {
    fn signal_group(&self, group: i32, signal: Signal);
    /// The terminal of `session` is hung up: no process of it has a controlling terminal any more, its leader gets SIGHUP and SIGCONT, and so
    /// does `foreground` (unless 0) when the leader exits.
    fn hang_up_session(&self, session: i32, foreground: i32);
    /// Another session took the terminal (TIOCSCTTY with 1): no process of `session` has a controlling terminal any more.
    fn take_terminal_from(&self, session: i32);
}

pub struct Terminals {
    groups: Arc<dyn Groups>,
    timers: Arc<TimerQueue>,
    by_key: Mutex<HashMap<u64, Weak<Terminal>>>,
}

impl Terminals {
    pub fn new(groups: Arc<dyn Groups>, timers: Arc<TimerQueue>) -> Arc<Terminals> {
        Arc::new(Terminals { groups, timers, by_key: Mutex::new(Level::Leaf, HashMap::new()) })
    }

    pub fn get(&self, key: u64) -> Option<Arc<Terminal>> {
        self.by_key.lock().get(&key)?.upgrade()
    }

    /// /dev/tty: a new open file of the caller's controlling terminal. `ENXIO` without one, or when it is not one of these.
    pub fn open_controlling(&self, caller: &dyn Caller, nonblocking: bool) -> Result<Arc<dyn FileOps>> {
        let key = caller.job_control().controlling_terminal().ok_or(Errno::ENXIO)?;
        self.get(key).ok_or(Errno::ENXIO)?.open_slave(nonblocking, caller)
    }

    pub(crate) fn groups(&self) -> &dyn Groups {
        &*self.groups
    }

    pub(crate) fn timers(&self) -> &Arc<TimerQueue> {
        &self.timers
    }

    pub(crate) fn add(&self, terminal: &Arc<Terminal>) {
        self.by_key.lock().insert(terminal.key(), Arc::downgrade(terminal));
    }

    pub(crate) fn forget(&self, key: u64) {
        self.by_key.lock().remove(&key);
    }
}
