//! inotify(7). fs/notify/inotify/.
//!
//! A watch is a [`WatchSink`] on an inode's watches; it holds the inode, and is dropped when removed. Events are queued, equal neighbours made
//! one, and beyond [`MAX_QUEUED`] replaced by a single IN_Q_OVERFLOW.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use bitflags::bitflags;
use sentry_abi::{Errno, FileKind, Result, UserAddr};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_vfs::{Caller, FileOps, Inode, WatchEvent, WatchSink};

bitflags! {
    /// `IN_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct WatchMask: u32 {
        const ACCESS = 0x1;
        const MODIFY = 0x2;
        const ATTRIB = 0x4;
        const CLOSE_WRITE = 0x8;
        const CLOSE_NOWRITE = 0x10;
        const OPEN = 0x20;
        const MOVED_FROM = 0x40;
        const MOVED_TO = 0x80;
        const CREATE = 0x100;
        const DELETE = 0x200;
        const DELETE_SELF = 0x400;
        const MOVE_SELF = 0x800;
        const ALL_EVENTS = 0xfff;
        const UNMOUNT = 0x2000;
        const Q_OVERFLOW = 0x4000;
        const IGNORED = 0x8000;
        const ONLYDIR = 1 << 24;
        const DONT_FOLLOW = 1 << 25;
        const EXCL_UNLINK = 1 << 26;
        const MASK_CREATE = 1 << 28;
        const MASK_ADD = 1 << 29;
        const ISDIR = 1 << 30;
        const ONESHOT = 1 << 31;
    }
}

/// fs.inotify.max_queued_events.
const MAX_QUEUED: usize = 16384;
/// fs.inotify.max_user_watches, for one instance.
const MAX_WATCHES: usize = 65536;
/// `sizeof(struct inotify_event)`, also what names are padded to.
const HEADER: usize = 16;
const FIONREAD: u32 = 0x541b;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Record {
    fn size(&self) -> usize {
        HEADER + self.padded()
    }

    /// The name with its NUL, rounded up; nothing for no name.
    fn padded(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEADER) }
    }

    /// `dst` is exactly `size()` long.
    fn encode(&self, dst: &mut [u8]) {
        dst.fill(0);
        let len = self.padded() as u32;
        let words = [self.wd as u32, self.mask, self.cookie, len];
        for (slot, word) in dst.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        dst[HEADER..HEADER + self.name.len()].copy_from_slice(&self.name);
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Record>,
    watches: BTreeMap<i32, Arc<Watch>>,
    /// Watch descriptors by the address of the inode, which the watch keeps alive.
    by_inode: HashMap<usize, i32>,
    last_wd: i32,
}

impl State {
    fn push(&mut self, record: Record) {
        if self.queue.back() == Some(&record) {
            return;
        }
        if self.queue.len() < MAX_QUEUED {
            self.queue.push_back(record);
        } else if self.queue.len() == MAX_QUEUED {
            self.queue.push_back(Record { wd: -1, mask: WatchMask::Q_OVERFLOW.bits(), cookie: 0, name: Vec::new() });
        }
    }

    /// Takes a watch away and says so to the reader. The watch is dropped by the caller, unlocked.
    fn remove(&mut self, wd: i32) -> Option<Arc<Watch>> {
        let watch = self.watches.remove(&wd)?;
        self.by_inode.remove(&address(&watch.inode));
        self.push(Record { wd, mask: WatchMask::IGNORED.bits(), cookie: 0, name: Vec::new() });
        Some(watch)
    }

    fn new_wd(&mut self) -> i32 {
        loop {
            self.last_wd = if self.last_wd == i32::MAX { 1 } else { self.last_wd + 1 };
            if !self.watches.contains_key(&self.last_wd) {
                return self.last_wd;
            }
        }
    }
}

struct Shared {
    state: Mutex<State>,
    readers: WaitQueue,
}

/// One watch of one inode.
struct Watch {
    wd: i32,
    mask: AtomicU32,
    inode: Arc<dyn Inode>,
    shared: Weak<Shared>,
}

fn address(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode) as *const () as usize
}

impl WatchSink for Watch {
    fn event(&self, event: &WatchEvent<'_>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let wanted = WatchMask::from_bits_truncate(self.mask.load(Ordering::Relaxed));
        let happened = WatchMask::from_bits_truncate(event.mask);
        let told = happened & (wanted & WatchMask::ALL_EVENTS | WatchMask::UNMOUNT);
        // With a name it happened to a child.
        let ends = event.name.is_none() && happened.intersects(WatchMask::DELETE_SELF | WatchMask::UNMOUNT);
        let ends = ends || (!told.is_empty() && wanted.contains(WatchMask::ONESHOT));
        if told.is_empty() && !ends {
            return;
        }
        let removed = {
            let mut state = shared.state.lock();
            // Removed while the event was on its way.
            if !state.watches.contains_key(&self.wd) {
                return;
            }
            if !told.is_empty() {
                let mask = told | happened & WatchMask::ISDIR;
                let name = event.name.unwrap_or_default().to_vec();
                state.push(Record { wd: self.wd, mask: mask.bits(), cookie: event.cookie, name });
            }
            if ends { state.remove(self.wd) } else { None }
        };
        drop(removed);
        shared.readers.wake(Events::READ);
    }
}

pub struct Inotify {
    shared: Arc<Shared>,
}

impl Inotify {
    pub const NAME: &'static str = "anon_inode:inotify";

    pub fn new() -> Arc<Inotify> {
        let state = Mutex::new(Level::Epoll, State::default());
        Arc::new(Inotify { shared: Arc::new(Shared { state, readers: WaitQueue::new() }) })
    }

    /// inotify_add_watch(2) on a file that was looked up (with or without following links) and may be read by the caller. Returns the descriptor.
    pub fn add_watch(&self, inode: &Arc<dyn Inode>, mask: u32) -> Result<i32> {
        let mask = WatchMask::from_bits_truncate(mask);
        if !mask.intersects(WatchMask::ALL_EVENTS) || mask.contains(WatchMask::MASK_ADD | WatchMask::MASK_CREATE) {
            return Err(Errno::EINVAL);
        }
        if mask.contains(WatchMask::ONLYDIR) && inode.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let kept = mask & (WatchMask::ALL_EVENTS | WatchMask::ONESHOT | WatchMask::EXCL_UNLINK);
        let watch = {
            let mut state = self.shared.state.lock();
            if let Some(watch) = state.by_inode.get(&address(inode)).and_then(|wd| state.watches.get(wd)) {
                return change(watch, mask, kept);
            }
            if state.watches.len() >= MAX_WATCHES {
                return Err(Errno::ENOSPC);
            }
            let wd = state.new_wd();
            let shared = Arc::downgrade(&self.shared);
            let watch = Arc::new(Watch { wd, mask: AtomicU32::new(kept.bits()), inode: inode.clone(), shared });
            state.watches.insert(wd, watch.clone());
            state.by_inode.insert(address(inode), wd);
            watch
        };
        let sink: Arc<dyn WatchSink> = watch.clone();
        inode.state().watches.add(&sink);
        Ok(watch.wd)
    }

    /// inotify_rm_watch(2). `EINVAL`.
    pub fn remove_watch(&self, wd: i32) -> Result<()> {
        let removed = self.shared.state.lock().remove(wd);
        if removed.is_none() {
            return Err(Errno::EINVAL);
        }
        drop(removed);
        self.shared.readers.wake(Events::READ);
        Ok(())
    }
}

/// What adding a watch does to one that is there.
fn change(watch: &Watch, asked: WatchMask, kept: WatchMask) -> Result<i32> {
    if asked.contains(WatchMask::MASK_CREATE) {
        return Err(Errno::EEXIST);
    }
    if asked.contains(WatchMask::MASK_ADD) {
        watch.mask.fetch_or(kept.bits(), Ordering::Relaxed);
    } else {
        watch.mask.store(kept.bits(), Ordering::Relaxed);
    }
    Ok(watch.wd)
}

impl FileOps for Inotify {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ignores_lseek(&self) -> bool {
        true
    }

    fn read(&self, _: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        let mut state = self.shared.state.lock();
        let mut done = 0;
        while let Some(record) = state.queue.front() {
            let size = record.size();
            let Some(slot) = dst.get_mut(done..done + size) else {
                return if done == 0 { Err(Errno::EINVAL) } else { Ok(done) };
            };
            record.encode(slot);
            done += size;
            state.queue.pop_front();
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.shared.readers.add(waiter);
        }
        if self.shared.state.lock().queue.is_empty() { Events::empty() } else { want & Events::READ }
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.shared.state.lock().queue.iter().map(Record::size).sum();
        caller.copy_out(UserAddr(argument), &i32::try_from(bytes).unwrap_or(i32::MAX).to_ne_bytes())?;
        Ok(0)
    }

    fn fdinfo(&self) -> String {
        let watches: Vec<Arc<Watch>> = self.shared.state.lock().watches.values().rev().cloned().collect();
        let mut out = String::new();
        for watch in watches {
            let (ino, dev) = watch.inode.attr().map_or((0, 0), |a| (a.ino, a.dev));
            let mask = watch.mask.load(Ordering::Relaxed);
            out.push_str(&format!("inotify wd:{:x} ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0 \n", watch.wd));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnonFs;
    use crate::testing::{Count, Nobody};

    fn tell(inode: &Arc<dyn Inode>, mask: WatchMask, name: Option<&[u8]>) {
        inode.state().watches.notify(&WatchEvent { mask: mask.bits(), name, cookie: 0 });
    }

    fn events(fd: &Inotify) -> Vec<(i32, WatchMask, Vec<u8>)> {
        let mut buf = [0; 4096];
        let mut out = Vec::new();
        let Ok(n) = fd.read(&Nobody, 0, &mut buf) else { return out };
        let mut at = 0;
        while at < n {
            let word = |i: usize| u32::from_ne_bytes(buf[at + 4 * i..at + 4 * i + 4].try_into().unwrap());
            let len = word(3) as usize;
            let name = buf[at + 16..at + 16 + len].split(|b| *b == 0).next().unwrap_or_default().to_vec();
            out.push((word(0) as i32, WatchMask::from_bits_retain(word(1)), name));
            at += 16 + len;
        }
        out
    }

    fn inode() -> Arc<dyn Inode> {
        AnonFs::new(1).path("x").inode().clone()
    }

    #[test]
    fn events_are_filtered_named_and_coalesced() {
        let (fd, file) = (Inotify::new(), inode());
        let wd = fd.add_watch(&file, (WatchMask::CREATE | WatchMask::MODIFY).bits()).unwrap();
        let (waiter, count) = Count::waiter(Events::IN);
        assert!(fd.ready(Events::IN, Some(&waiter)).is_empty());
        tell(&file, WatchMask::OPEN, None);
        assert_eq!(count.get(), 0);
        tell(&file, WatchMask::CREATE | WatchMask::ISDIR, Some(b"sub"));
        tell(&file, WatchMask::MODIFY, None);
        tell(&file, WatchMask::MODIFY, None);
        assert_eq!(count.get(), 3);
        assert_eq!(fd.read(&Nobody, 0, &mut [0; 16]), Err(Errno::EINVAL));
        let expected = vec![(wd, WatchMask::CREATE | WatchMask::ISDIR, b"sub".to_vec()), (wd, WatchMask::MODIFY, Vec::new())];
        assert_eq!(events(&fd), expected);
        assert_eq!(fd.read(&Nobody, 0, &mut [0; 16]), Err(Errno::EAGAIN));
    }

    #[test]
    fn watches_change_and_end() {
        let (fd, file) = (Inotify::new(), inode());
        let wd = fd.add_watch(&file, WatchMask::CREATE.bits()).unwrap();
        assert_eq!(fd.add_watch(&file, (WatchMask::DELETE | WatchMask::MASK_ADD).bits()), Ok(wd));
        assert_eq!(fd.add_watch(&file, (WatchMask::DELETE | WatchMask::MASK_CREATE).bits()), Err(Errno::EEXIST));
        assert_eq!(fd.add_watch(&file, WatchMask::ONLYDIR.bits()), Err(Errno::EINVAL));
        assert_eq!(fd.add_watch(&file, (WatchMask::ONLYDIR | WatchMask::OPEN).bits()), Err(Errno::ENOTDIR));
        tell(&file, WatchMask::CREATE, Some(b"a"));
        tell(&file, WatchMask::DELETE, Some(b"a"));
        assert_eq!(events(&fd).len(), 2);
        fd.remove_watch(wd).unwrap();
        assert_eq!(fd.remove_watch(wd), Err(Errno::EINVAL));
        assert_eq!(events(&fd), vec![(wd, WatchMask::IGNORED, Vec::new())]);
        tell(&file, WatchMask::CREATE, Some(b"a"));
        assert!(events(&fd).is_empty());
        let wd = fd.add_watch(&file, (WatchMask::OPEN | WatchMask::ONESHOT).bits()).unwrap();
        tell(&file, WatchMask::OPEN, None);
        tell(&file, WatchMask::OPEN, None);
        assert_eq!(events(&fd), vec![(wd, WatchMask::OPEN, Vec::new()), (wd, WatchMask::IGNORED, Vec::new())]);
        let wd = fd.add_watch(&file, WatchMask::DELETE_SELF.bits()).unwrap();
        tell(&file, WatchMask::DELETE_SELF, None);
        assert_eq!(events(&fd).last(), Some(&(wd, WatchMask::IGNORED, Vec::new())));
    }

    #[test]
    fn overflow_is_told_once() {
        let (fd, file) = (Inotify::new(), inode());
        fd.add_watch(&file, WatchMask::ALL_EVENTS.bits()).unwrap();
        for n in 0..MAX_QUEUED + 100 {
            tell(&file, WatchMask::CREATE, Some(format!("{n}").as_bytes()));
        }
        assert_eq!(fd.shared.state.lock().queue.len(), MAX_QUEUED + 1);
        let mut last = Vec::new();
        loop {
            let got = events(&fd);
            if got.is_empty() {
                break;
            }
            last = got;
        }
        assert_eq!(last.last(), Some(&(-1, WatchMask::Q_OVERFLOW, Vec::new())));
    }
}
