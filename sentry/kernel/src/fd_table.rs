//! Descriptors: small numbers that name open files, shared by tasks that were cloned with CLONE_FILES.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, RwLock};
use sentry_vfs::FileDescription;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

#[derive(Clone)]
struct Slot {
    file: Arc<FileDescription>,
    close_on_exec: bool,
}

#[derive(Default)]
struct Slots {
    list: Vec<Option<Slot>>,
    /// No free slot lies below.
    lowest_free: usize,
}

pub struct FdTable {
    /// Owner of the record locks that were set through this table.
    pub id: u64,
    slots: RwLock<Slots>,
}

impl Default for FdTable {
    fn default() -> FdTable {
        FdTable { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), slots: RwLock::new(Level::FdTable, Slots::default()) }
    }
}

impl FdTable {
    /// The file behind `fd`; `EBADF`.
    pub fn get(&self, fd: i32) -> Result<Arc<FileDescription>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.slots.read().list.get(index).and_then(|s| s.as_ref()).map(|s| s.file.clone()).ok_or(Errno::EBADF)
    }

    /// Like [`FdTable::get`], refusing O_PATH descriptors, which most calls do.
    pub fn get_open(&self, fd: i32) -> Result<Arc<FileDescription>> {
        let file = self.get(fd)?;
        if file.path_only { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// Installs at the lowest free number that is at least `from`, below `limit` (RLIMIT_NOFILE); `EMFILE`.
    pub fn install(&self, file: Arc<FileDescription>, close_on_exec: bool, from: i32, limit: u64) -> Result<i32> {
        let from = usize::try_from(from).map_err(|_| Errno::EINVAL)?;
        let mut slots = self.slots.write();
        let mut index = from.max(slots.lowest_free);
        while slots.list.get(index).is_some_and(Option::is_some) {
            index += 1;
        }
        if index as u64 >= limit || index > i32::MAX as usize {
            return Err(Errno::EMFILE);
        }
        if slots.list.len() <= index {
            slots.list.resize(index + 1, None);
        }
        slots.list[index] = Some(Slot { file, close_on_exec });
        if from <= slots.lowest_free {
            slots.lowest_free = index + 1;
        }
        Ok(index as i32)
    }

    /// Installs at `fd`, replacing what is there (dup2(2)); the replaced file is returned so that it is let go without a lock.
    pub fn replace(&self, fd: i32, file: Arc<FileDescription>, close_on_exec: bool, limit: u64) -> Result<Option<Arc<FileDescription>>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit {
            return Err(Errno::EBADF);
        }
        let old = {
            let mut slots = self.slots.write();
            if slots.list.len() <= index {
                slots.list.resize(index + 1, None);
            }
            slots.list[index].replace(Slot { file, close_on_exec }).map(|s| s.file)
        };
        if let Some(old) = &old {
            self.release_locks(old);
        }
        Ok(old)
    }

    /// Takes a descriptor out; the caller lets the file go.
    pub fn remove(&self, fd: i32) -> Result<Arc<FileDescription>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = {
            let mut slots = self.slots.write();
            let slot = slots.list.get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)?;
            slots.lowest_free = slots.lowest_free.min(index);
            slot
        };
        self.release_locks(&slot.file);
        Ok(slot.file)
    }

    /// close_range(2): takes out, or marks, all in `first..=last`.
    pub fn remove_range(&self, first: u32, last: u32) {
        for fd in self.numbers() {
            if (first..=last).contains(&(fd as u32)) {
                drop(self.remove(fd));
            }
        }
    }

    pub fn mark_range(&self, first: u32, last: u32) {
        let mut slots = self.slots.write();
        for (index, slot) in slots.list.iter_mut().enumerate() {
            if let Some(slot) = slot
                && u32::try_from(index).is_ok_and(|i| (first..=last).contains(&i))
            {
                slot.close_on_exec = true;
            }
        }
    }

    pub fn close_on_exec(&self, fd: i32) -> Result<bool> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.slots.read().list.get(index).and_then(|s| s.as_ref()).map(|s| s.close_on_exec).ok_or(Errno::EBADF)
    }

    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        let slot = slots.list.get_mut(index).and_then(|s| s.as_mut()).ok_or(Errno::EBADF)?;
        slot.close_on_exec = on;
        Ok(())
    }

    /// A copy for fork(2) and unshare(CLONE_FILES).
    pub fn fork(&self) -> FdTable {
        let slots = self.slots.read();
        let copy = Slots { list: slots.list.clone(), lowest_free: slots.lowest_free };
        FdTable { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), slots: RwLock::new(Level::FdTable, copy) }
    }

    /// execve(2).
    pub fn close_marked(&self) {
        let marked: Vec<i32> = {
            let slots = self.slots.read();
            let list = slots.list.iter().enumerate();
            list.filter(|(_, s)| s.as_ref().is_some_and(|s| s.close_on_exec)).map(|(i, _)| i as i32).collect()
        };
        for fd in marked {
            drop(self.remove(fd));
        }
    }

    /// The numbers in use, rising.
    pub fn numbers(&self) -> Vec<i32> {
        self.slots.read().list.iter().enumerate().filter(|(_, s)| s.is_some()).map(|(i, _)| i as i32).collect()
    }

    /// A process drops its record locks on a file when it closes any descriptor of it.
    fn release_locks(&self, file: &FileDescription) {
        if !file.path_only {
            file.path.inode().state().locks.release_process(self.id);
        }
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        let list = std::mem::take(&mut self.slots.write().list);
        for slot in list.into_iter().flatten() {
            self.release_locks(&slot.file);
        }
    }
}
