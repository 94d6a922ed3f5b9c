//! Advisory locks of one inode: flock(2) by open file description, record locks by process or description (fcntl(2) F_SETLK, F_OFD_SETLK).

use std::sync::OnceLock;

use sentry_abi::{Errno, Result};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    Shared,
    Exclusive,
}

/// Who holds a record lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LockOwner {
    /// A table of descriptors (a process, as a rule), with the pid to tell by F_GETLK (kernel-global).
    Process { table: u64, pid: i32 },
    /// Open file description.
    Description(u64),
}

impl LockOwner {
    fn same(self, other: LockOwner) -> bool {
        match (self, other) {
            (LockOwner::Process { table: a, .. }, LockOwner::Process { table: b, .. }) => a == b,
            (LockOwner::Description(a), LockOwner::Description(b)) => a == b,
            _ => false,
        }
    }
}

/// Bytes `start..end`; `end == u64::MAX` is "to the end, however far".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockRange {
    pub start: u64,
    pub end: u64,
}

impl LockRange {
    fn overlaps(self, other: LockRange) -> bool {
        self.start < other.end && other.start < self.end
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PosixLock {
    pub owner: LockOwner,
    pub kind: LockKind,
    pub range: LockRange,
}

#[derive(Default)]
struct Held {
    whole: Vec<(u64, LockKind)>,
    records: Vec<PosixLock>,
}

/// Made at the first lock: most files never have one.
#[derive(Default)]
pub struct FileLocks {
    table: OnceLock<Box<Table>>,
}

struct Table {
    held: Mutex<Held>,
    queue: WaitQueue,
}

impl FileLocks {
    fn table(&self) -> &Table {
        self.table.get_or_init(|| Box::new(Table { held: Mutex::new(Level::InodeState, Held::default()), queue: WaitQueue::new() }))
    }

    /// Registers for "something was unlocked".
    pub fn watch(&self, waiter: &Waiter) {
        self.table().queue.add(waiter);
    }

    /// flock(2). `EAGAIN` when another description is in the way. A conversion first gives up the old lock, as Linux does.
    pub fn flock(&self, description: u64, kind: Option<LockKind>) -> Result<()> {
        let table = self.table();
        let result = {
            let mut held = table.held.lock();
            let before = held.whole.iter().find(|(id, _)| *id == description).map(|(_, k)| *k);
            if before == kind {
                return Ok(());
            }
            held.whole.retain(|(id, _)| *id != description);
            match kind {
                None => Ok(()),
                Some(kind) => {
                    let blocked = held.whole.iter().any(|(_, other)| kind == LockKind::Exclusive || *other == LockKind::Exclusive);
                    if blocked {
                        Err(Errno::EAGAIN)
                    } else {
                        held.whole.push((description, kind));
                        Ok(())
                    }
                }
            }
        };
        table.queue.wake(Events::all());
        result
    }

    /// F_SETLK: sets or (with `None`) clears; `EAGAIN` when another owner is in the way.
    pub fn set_record(&self, owner: LockOwner, kind: Option<LockKind>, range: LockRange) -> Result<()> {
        let table = self.table();
        {
            let mut held = table.held.lock();
            if let Some(kind) = kind
                && held.conflict(owner, kind, range).is_some()
            {
                return Err(Errno::EAGAIN);
            }
            held.carve(owner, range);
            if let Some(kind) = kind {
                held.insert(PosixLock { owner, kind, range });
            }
        }
        table.queue.wake(Events::all());
        Ok(())
    }

    /// F_GETLK: the lock that is in the way.
    pub fn test_record(&self, owner: LockOwner, kind: LockKind, range: LockRange) -> Option<PosixLock> {
        self.table.get()?.held.lock().conflict(owner, kind, range)
    }

    /// close(2) of any descriptor of the file by a process drops all of the process's record locks on it.
    pub fn release_process(&self, table: u64) {
        let Some(locks) = self.table.get() else { return };
        let changed = {
            let mut held = locks.held.lock();
            let before = held.records.len();
            held.records.retain(|l| !matches!(l.owner, LockOwner::Process { table: t, .. } if t == table));
            held.records.len() != before
        };
        if changed {
            locks.queue.wake(Events::all());
        }
    }

    /// The last reference to an open file description is gone.
    pub fn release_description(&self, id: u64) {
        let Some(locks) = self.table.get() else { return };
        let changed = {
            let mut held = locks.held.lock();
            let before = held.records.len() + held.whole.len();
            held.whole.retain(|(other, _)| *other != id);
            held.records.retain(|l| l.owner != LockOwner::Description(id));
            held.records.len() + held.whole.len() != before
        };
        if changed {
            locks.queue.wake(Events::all());
        }
    }

    /// Whole-file and record locks, for /proc/locks.
    pub fn list(&self) -> (Vec<(u64, LockKind)>, Vec<PosixLock>) {
        let Some(table) = self.table.get() else { return (Vec::new(), Vec::new()) };
        let held = table.held.lock();
        (held.whole.clone(), held.records.clone())
    }
}

impl Held {
    fn conflict(&self, owner: LockOwner, kind: LockKind, range: LockRange) -> Option<PosixLock> {
        let in_way = |l: &&PosixLock| {
            !l.owner.same(owner) && l.range.overlaps(range) && (kind == LockKind::Exclusive || l.kind == LockKind::Exclusive)
        };
        self.records.iter().find(in_way).copied()
    }

    /// Removes `range` from all of the owner's locks.
    fn carve(&mut self, owner: LockOwner, range: LockRange) {
        let mut kept = Vec::with_capacity(self.records.len() + 1);
        for lock in self.records.drain(..) {
            if !lock.owner.same(owner) || !lock.range.overlaps(range) {
                kept.push(lock);
                continue;
            }
            if lock.range.start < range.start {
                kept.push(PosixLock { range: LockRange { start: lock.range.start, end: range.start }, ..lock });
            }
            if lock.range.end > range.end {
                kept.push(PosixLock { range: LockRange { start: range.end, end: lock.range.end }, ..lock });
            }
        }
        self.records = kept;
    }

    /// Adds a lock whose range is free of the owner's others, joining neighbours of the same kind.
    fn insert(&mut self, mut new: PosixLock) {
        self.records.retain(|l| {
            let joins = l.owner.same(new.owner) && l.kind == new.kind && l.range.start <= new.range.end && new.range.start <= l.range.end;
            if joins {
                new.range.start = new.range.start.min(l.range.start);
                new.range.end = new.range.end.max(l.range.end);
            }
            !joins
        });
        self.records.push(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LockOwner = LockOwner::Process { table: 1, pid: 1 };
    const B: LockOwner = LockOwner::Process { table: 2, pid: 2 };

    #[test]
    fn unlocking_the_middle_splits() {
        let locks = FileLocks::default();
        locks.set_record(A, Some(LockKind::Exclusive), LockRange { start: 0, end: 100 }).unwrap();
        locks.set_record(A, None, LockRange { start: 40, end: 60 }).unwrap();
        assert_eq!(locks.set_record(B, Some(LockKind::Shared), LockRange { start: 40, end: 60 }), Ok(()));
        assert_eq!(locks.set_record(B, Some(LockKind::Shared), LockRange { start: 39, end: 41 }), Err(Errno::EAGAIN));
        assert_eq!(locks.test_record(B, LockKind::Exclusive, LockRange { start: 60, end: u64::MAX }).map(|l| l.range.start), Some(60));
    }

    #[test]
    fn flock_conflicts_by_description() {
        let locks = FileLocks::default();
        locks.flock(1, Some(LockKind::Shared)).unwrap();
        locks.flock(2, Some(LockKind::Shared)).unwrap();
        assert_eq!(locks.flock(1, Some(LockKind::Exclusive)), Err(Errno::EAGAIN));
        locks.release_description(2);
        assert_eq!(locks.flock(1, Some(LockKind::Exclusive)), Ok(()));
    }
}
