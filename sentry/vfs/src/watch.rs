//! Who watches an inode (inotify(7)). The file operations tell; `anonfs`'s inotify listens.

use std::sync::{Arc, Weak};

use sentry_sync::{Level, Mutex};

/// What happened, `IN_*` bits of inotify(7), and to which name of a watched directory.
#[derive(Clone, Debug)]
pub struct WatchEvent<'a> {
    pub mask: u32,
    pub name: Option<&'a [u8]>,
    pub cookie: u32,
}

pub trait WatchSink: Send + Sync {
    fn event(&self, event: &WatchEvent<'_>);
}

pub struct Watches {
    sinks: Mutex<Vec<Weak<dyn WatchSink>>>,
}

impl Default for Watches {
    fn default() -> Watches {
        Watches { sinks: Mutex::new(Level::InodeState, Vec::new()) }
    }
}

impl Watches {
    /// Listens until the sink is dropped.
    pub fn add(&self, sink: &Arc<dyn WatchSink>) {
        let mut sinks = self.sinks.lock();
        sinks.retain(|s| s.strong_count() != 0);
        sinks.push(Arc::downgrade(sink));
    }

    pub fn notify(&self, event: &WatchEvent<'_>) {
        let sinks: Vec<Arc<dyn WatchSink>> = {
            let sinks = self.sinks.lock();
            if sinks.is_empty() {
                return;
            }
            sinks.iter().filter_map(Weak::upgrade).collect()
        };
        for sink in sinks {
            sink.event(event);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sinks.lock().is_empty()
    }
}
