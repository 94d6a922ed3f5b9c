//! Who watches an inode (inotify(7)). The file operations tell; `anonfs`'s inotify listens.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use sentry_abi::FileKind;
use sentry_sync::{Level, Mutex};

use crate::path::Path;

/// `IN_*` of inotify(7).
pub mod event {
    pub const ACCESS: u32 = 0x1;
    pub const MODIFY: u32 = 0x2;
    pub const ATTRIB: u32 = 0x4;
    pub const CLOSE_WRITE: u32 = 0x8;
    pub const CLOSE_NOWRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    pub const ISDIR: u32 = 0x4000_0000;
}

/// Something happened to the file at `path`: tells who watches it, and who watches its directory.
pub fn notify(path: &Path, mask: u32) {
    let isdir = if path.inode().kind() == FileKind::Directory { event::ISDIR } else { 0 };
    path.inode().state().watches.notify(&WatchEvent { mask: mask | isdir, name: None, cookie: 0 });
    if let Some(parent) = path.dentry.parent()
        && !path.dentry.is_deleted()
    {
        let watches = &parent.inode().state().watches;
        if !watches.is_empty() {
            watches.notify(&WatchEvent { mask: mask | isdir, name: Some(&path.dentry.name()), cookie: 0 });
        }
    }
}

/// Ties the two halves of a rename together; never 0.
pub(crate) fn next_cookie() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).max(1)
}

/// The last description of the file at `path` is gone. If its last name went before, the file ends only now.
pub(crate) fn notify_last_close(path: &Path) {
    let inode = path.inode();
    if !path.dentry.is_deleted() || inode.state().watches.is_empty() {
        return;
    }
    // A directory that has vanished may have no attributes any more.
    if inode.attr().map_or(true, |attr| attr.nlink == 0 || attr.kind == FileKind::Directory) {
        inode.state().watches.notify(&WatchEvent { mask: event::DELETE_SELF, name: None, cookie: 0 });
    }
}

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

/// Made at the first watch: most files never have one, and every read and write asks.
#[derive(Default)]
pub struct Watches {
    sinks: OnceLock<Box<Sinks>>,
}

type Sinks = Mutex<Vec<Weak<dyn WatchSink>>>;

impl Watches {
    /// Listens until the sink is dropped.
    pub fn add(&self, sink: &Arc<dyn WatchSink>) {
        let mut sinks = self.sinks.get_or_init(|| Box::new(Mutex::new(Level::InodeState, Vec::new()))).lock();
        sinks.retain(|s| s.strong_count() != 0);
        sinks.push(Arc::downgrade(sink));
    }

    pub fn notify(&self, event: &WatchEvent<'_>) {
        let Some(sinks) = self.sinks.get() else { return };
        let sinks: Vec<Arc<dyn WatchSink>> = {
            let sinks = sinks.lock();
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
        self.sinks.get().is_none_or(|sinks| sinks.lock().is_empty())
    }
}
