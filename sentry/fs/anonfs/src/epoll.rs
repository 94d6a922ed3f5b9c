//! epoll(7). fs/eventpoll.c.
//!
//! Each registration ([`Entry`]) has a waiter on its file; a wake-up puts it on the ready list. [`Epoll::collect`] asks only files on that list,
//! so idle files cost nothing. A file is never asked with the lock held: an entry is looked at, asked, and then taken off or moved to the end
//! of the list if no new wake-up came meanwhile (`wakeups`). Nested epolls are bounded in depth and number of paths by [`nest`].

mod nest;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use bitflags::bitflags;
use sentry_abi::{Errno, Result};
use sentry_sync::{Events, Level, Mutex, Notify, WaitQueue, Waiter};
use sentry_vfs::{FileDescription, FileOps};

bitflags! {
    /// The `events` of `struct epoll_event`: readiness, and how to watch.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct EpollEvents: u32 {
        const IN = 0x1;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const EXCLUSIVE = 1 << 28;
        const WAKEUP = 1 << 29;
        const ONESHOT = 1 << 30;
        const EDGE = 1 << 31;
        const _ = !0;
    }
}

const HOW: u32 = 0xf << 28;

impl EpollEvents {
    fn readiness(self) -> Events {
        Events::from_bits_truncate(self.bits() & !HOW)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpollOp {
    Add,
    Modify,
    Delete,
}

impl EpollOp {
    /// `EINVAL`.
    pub fn from_raw(op: i32) -> Result<EpollOp> {
        match op {
            1 => Ok(EpollOp::Add),
            2 => Ok(EpollOp::Delete),
            3 => Ok(EpollOp::Modify),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// A registration is known by descriptor number and description.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    fd: i32,
    description: u64,
}

struct Entry {
    key: Key,
    file: Weak<FileDescription>,
    events: EpollEvents,
    data: u64,
    /// Delivered as ONESHOT: silent until modified.
    spent: bool,
    /// Place on the ready list.
    place: Option<u64>,
    /// Counts wake-ups, so that one that comes while the file is asked is not lost.
    wakeups: u64,
    waiter: Option<Waiter>,
}

#[derive(Default)]
struct State {
    ids: HashMap<Key, u64>,
    entries: HashMap<u64, Entry>,
    /// By place: entry ids.
    ready: BTreeMap<u64, u64>,
    next_id: u64,
    next_place: u64,
    /// At this many entries those of closed files are looked for.
    purge_at: usize,
    /// Epolls that watch this one.
    parents: Vec<Weak<Shared>>,
}

impl State {
    fn enqueue(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.wakeups += 1;
        if entry.place.is_none() {
            self.next_place += 1;
            entry.place = Some(self.next_place);
            self.ready.insert(self.next_place, id);
        }
    }

    fn dequeue(&mut self, id: u64) {
        if let Some(place) = self.entries.get_mut(&id).and_then(|e| e.place.take()) {
            self.ready.remove(&place);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        self.dequeue(id);
        let entry = self.entries.remove(&id)?;
        self.ids.remove(&entry.key);
        Some(entry)
    }
}

struct Shared {
    state: Mutex<State>,
    queue: WaitQueue,
}

/// What an entry's waiter calls.
struct Hook {
    epoll: Weak<Shared>,
    id: u64,
}

impl Notify for Hook {
    fn notify(&self, events: Events) {
        let Some(epoll) = self.epoll.upgrade() else { return };
        {
            let mut state = epoll.state.lock();
            let Some(entry) = state.entries.get(&self.id) else { return };
            let interest = entry.events.readiness() | Events::ERR | Events::HUP;
            if entry.spent || !interest.intersects(events) {
                return;
            }
            state.enqueue(self.id);
        }
        epoll.queue.wake(Events::READ);
    }
}

/// An entry of the ready list, to be asked with the lock released.
struct Candidate {
    id: u64,
    file: Option<Arc<FileDescription>>,
    want: Events,
    wakeups: u64,
}

pub struct Epoll {
    shared: Arc<Shared>,
}

impl Epoll {
    pub const NAME: &'static str = "anon_inode:[eventpoll]";

    pub fn new() -> Arc<Epoll> {
        let state = State { purge_at: 64, ..State::default() };
        Arc::new(Epoll { shared: Arc::new(Shared { state: Mutex::new(Level::Epoll, state), queue: WaitQueue::new() }) })
    }

    /// epoll_ctl(2). `file` is what descriptor `fd` stands for; `events` and `data` mean nothing to Delete.
    pub fn ctl(&self, op: EpollOp, fd: i32, file: &Arc<FileDescription>, events: EpollEvents, data: u64) -> Result<()> {
        if !file.ops.pollable() {
            return Err(Errno::EPERM);
        }
        let target = nested(&file.ops);
        if target.is_some_and(|t| Arc::ptr_eq(&t.shared, &self.shared)) {
            return Err(Errno::EINVAL);
        }
        if events.contains(EpollEvents::EXCLUSIVE) && op != EpollOp::Delete {
            check_exclusive(op, events, target.is_some())?;
        }
        let key = Key { fd, description: file.id };
        let events = events - EpollEvents::WAKEUP;
        match op {
            EpollOp::Add => self.add(key, file, events, data),
            EpollOp::Modify => self.modify(key, file, events, data),
            EpollOp::Delete => self.delete(key, target),
        }
    }

    fn add(&self, key: Key, file: &Arc<FileDescription>, events: EpollEvents, data: u64) -> Result<()> {
        let mut closed = Vec::new();
        let id = {
            let mut state = self.shared.state.lock();
            if state.ids.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            if state.entries.len() >= state.purge_at {
                closed = purge(&mut state);
            }
            state.next_id += 1;
            let id = state.next_id;
            let file = Arc::downgrade(file);
            let entry = Entry { key, file, events, data, spent: false, place: None, wakeups: 0, waiter: None };
            state.entries.insert(id, entry);
            state.ids.insert(key, id);
            id
        };
        drop(closed);
        // The edge is in the graph, and silent, while it is checked: of two epolls that add each other at once, one at least sees the loop.
        if let Some(target) = nested(&file.ops) {
            target.shared.state.lock().parents.push(Arc::downgrade(&self.shared));
            if let Err(errno) = nest::check(&self.shared, &target.shared) {
                let removed = self.shared.state.lock().remove(id);
                drop(removed);
                nest::forget_parent(&target.shared, &self.shared);
                return Err(errno);
            }
        }
        self.watch(id, file, events);
        Ok(())
    }

    fn modify(&self, key: Key, file: &Arc<FileDescription>, events: EpollEvents, data: u64) -> Result<()> {
        let (id, old) = {
            let mut state = self.shared.state.lock();
            let id = *state.ids.get(&key).ok_or(Errno::ENOENT)?;
            let entry = state.entries.get_mut(&id).ok_or(Errno::ENOENT)?;
            if entry.events.contains(EpollEvents::EXCLUSIVE) {
                return Err(Errno::EINVAL);
            }
            entry.events = events;
            entry.data = data;
            entry.spent = false;
            (id, entry.waiter.take())
        };
        drop(old);
        self.watch(id, file, events);
        Ok(())
    }

    fn delete(&self, key: Key, target: Option<&Epoll>) -> Result<()> {
        let removed = {
            let mut state = self.shared.state.lock();
            let id = *state.ids.get(&key).ok_or(Errno::ENOENT)?;
            state.remove(id)
        };
        drop(removed);
        if let Some(target) = target {
            nest::forget_parent(&target.shared, &self.shared);
        }
        Ok(())
    }

    /// Registers with the file and looks whether it is ready already.
    fn watch(&self, id: u64, file: &Arc<FileDescription>, events: EpollEvents) {
        let hook = Arc::new(Hook { epoll: Arc::downgrade(&self.shared), id });
        let waiter = Waiter::new(hook, events.readiness());
        let now = file.ops.ready(events.readiness(), Some(&waiter));
        let (old, is_ready) = {
            let mut state = self.shared.state.lock();
            match state.entries.get_mut(&id) {
                // Deleted by another thread meanwhile.
                None => (Some(waiter), false),
                Some(entry) => {
                    let old = entry.waiter.replace(waiter);
                    let is_ready = now.intersects(events.readiness() | Events::ERR | Events::HUP);
                    if is_ready {
                        state.enqueue(id);
                    }
                    (old, is_ready)
                }
            }
        };
        drop(old);
        if is_ready {
            self.shared.queue.wake(Events::READ);
        }
    }

    /// Takes at most `max` events, as epoll_wait(2) returns them; empty when nothing is ready. Registers `waiter`, if given, before looking.
    pub fn collect(&self, max: usize, waiter: Option<&Waiter>) -> Vec<(EpollEvents, u64)> {
        if let Some(waiter) = waiter {
            self.shared.queue.add(waiter);
        }
        let mut out = Vec::new();
        // Entries that were on the list when we came are looked at once; what comes later is for the next call.
        let last = self.shared.state.lock().next_place;
        let mut from = 0;
        while out.len() < max {
            let candidates = self.candidates(from, last, (max - out.len()).min(64));
            let Some((place, _)) = candidates.last() else { break };
            from = place + 1;
            for (_, candidate) in candidates {
                out.extend(self.take(candidate));
            }
        }
        out
    }

    fn candidates(&self, from: u64, last: u64, count: usize) -> Vec<(u64, Candidate)> {
        let state = self.shared.state.lock();
        if from > last {
            return Vec::new();
        }
        let chosen = state.ready.range(from..=last).take(count);
        chosen.filter_map(|(place, id)| state.candidate(*id).map(|c| (*place, c))).collect()
    }

    /// Asks the file; what it says is reported, and the entry's place on the list settled.
    fn take(&self, candidate: Candidate) -> Option<(EpollEvents, u64)> {
        let Candidate { id, file, want, wakeups } = candidate;
        let now = match &file {
            Some(file) => file.ops.ready(want, None) & (want | Events::ERR | Events::HUP),
            None => Events::empty(),
        };
        let mut removed = None;
        let mut state = self.shared.state.lock();
        let quiet = state.entries.get(&id)?.wakeups == wakeups;
        let result = if file.is_none() {
            removed = state.remove(id);
            None
        } else if now.is_empty() {
            if quiet {
                state.dequeue(id);
            }
            None
        } else {
            state.deliver(id, now, quiet)
        };
        drop(state);
        drop(removed);
        result
    }

    /// Is there something for `collect`?
    fn any_ready(&self) -> bool {
        loop {
            let found = {
                let state = self.shared.state.lock();
                let Some(id) = state.ready.values().next().copied() else { return false };
                state.candidate(id)
            };
            let Some(Candidate { id, file, want, wakeups }) = found else { return false };
            let now = file.as_ref().map_or(Events::empty(), |f| f.ops.ready(want, None));
            if now.intersects(want | Events::ERR | Events::HUP) {
                return true;
            }
            let removed = {
                let mut state = self.shared.state.lock();
                match state.entries.get(&id) {
                    Some(_) if file.is_none() => state.remove(id),
                    Some(entry) if entry.wakeups == wakeups => {
                        state.dequeue(id);
                        None
                    }
                    _ => None,
                }
            };
            drop(removed);
        }
    }
}

impl State {
    fn candidate(&self, id: u64) -> Option<Candidate> {
        let entry = self.entries.get(&id)?;
        Some(Candidate { id, file: entry.file.upgrade(), want: entry.events.readiness(), wakeups: entry.wakeups })
    }

    /// Reports an entry: a level-triggered one goes to the end of the list, others leave it unless woken again (`quiet` is false).
    fn deliver(&mut self, id: u64, now: Events, quiet: bool) -> Option<(EpollEvents, u64)> {
        let entry = self.entries.get_mut(&id)?;
        // Another thread took it first, or it was modified.
        if entry.spent || entry.place.is_none() {
            return None;
        }
        let now = now & (entry.events.readiness() | Events::ERR | Events::HUP);
        if now.is_empty() {
            return None;
        }
        let (data, how) = (entry.data, entry.events);
        if how.contains(EpollEvents::ONESHOT) {
            entry.spent = true;
            self.dequeue(id);
        } else if how.contains(EpollEvents::EDGE) {
            if quiet {
                self.dequeue(id);
            }
        } else {
            self.dequeue(id);
            self.enqueue(id);
        }
        Some((EpollEvents::from_bits_retain(now.bits()), data))
    }
}

/// Takes out the entries whose files are closed; they are dropped by the caller, with the lock released.
fn purge(state: &mut State) -> Vec<Option<Entry>> {
    let dead: Vec<u64> = state.entries.iter().filter(|(_, e)| e.file.strong_count() == 0).map(|(id, _)| *id).collect();
    let removed = dead.into_iter().map(|id| state.remove(id)).collect();
    state.purge_at = (state.entries.len() * 2).max(64);
    removed
}

fn nested(ops: &Arc<dyn FileOps>) -> Option<&Epoll> {
    ops.as_any().downcast_ref::<Epoll>()
}

fn check_exclusive(op: EpollOp, events: EpollEvents, is_epoll: bool) -> Result<()> {
    let allowed = EpollEvents::IN
        | EpollEvents::OUT
        | EpollEvents::ERR
        | EpollEvents::HUP
        | EpollEvents::WAKEUP
        | EpollEvents::EDGE
        | EpollEvents::EXCLUSIVE;
    if op == EpollOp::Modify || is_epoll || !allowed.contains(events) { Err(Errno::EINVAL) } else { Ok(()) }
}

impl FileOps for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ignores_lseek(&self) -> bool {
        true
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.shared.queue.add(waiter);
        }
        if self.any_ready() { want & Events::READ } else { Events::empty() }
    }

    fn fdinfo(&self) -> String {
        let mut files = Vec::new();
        {
            let state = self.shared.state.lock();
            for entry in state.entries.values() {
                if let Some(file) = entry.file.upgrade() {
                    files.push((entry.key.fd, entry.events.bits(), entry.data, file));
                }
            }
        }
        files.sort_by_key(|(fd, ..)| *fd);
        let mut out = String::new();
        for (fd, events, data, file) in files {
            let pos = *file.offset.lock();
            let (ino, dev) = file.attr().map_or((0, 0), |a| (a.ino, a.dev));
            out.push_str(&format!("tfd: {fd:8} events: {events:8x} data: {data:16x}  pos:{pos} ino:{ino:x} sdev:{dev:x}\n"));
        }
        out
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let entries = {
            let mut state = self.shared.state.lock();
            state.ids.clear();
            state.ready.clear();
            std::mem::take(&mut state.entries)
        };
        drop(entries);
    }
}

#[cfg(test)]
mod tests;
