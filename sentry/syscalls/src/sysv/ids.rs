//! Keys, identifiers and permissions, the same for all three kinds of objects. ipc/util.c.

use std::collections::BTreeMap;
use std::sync::Arc;

use sentry_abi::{Errno, Mode, Result};
use sentry_auth::{Access, Caps, Credentials};
use sentry_sync::{Level, Mutex};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const IPC_PRIVATE: i32 = 0;
pub const IPC_CREAT: i32 = 0o1000;
pub const IPC_EXCL: i32 = 0o2000;
pub const IPC_NOWAIT: i32 = 0o4000;
pub const IPC_RMID: i32 = 0;
pub const IPC_SET: i32 = 1;
pub const IPC_STAT: i32 = 2;
pub const IPC_INFO: i32 = 3;

/// Identifiers are sequence << 15 | index, so that a stale one is not taken for a new object.
const INDEX_BITS: i32 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub creator_uid: u32,
    pub creator_gid: u32,
    pub mode: Mode,
    pub sequence: u16,
}

/// `struct ipc64_perm` of x86-64: 48 bytes.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UserPermissions {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub creator_uid: u32,
    pub creator_gid: u32,
    pub mode: u32,
    pub sequence: u16,
    pub pad: [u16; 3],
    pub unused: [u64; 2],
}

impl Permissions {
    pub fn to_user(self, extra_mode: u32) -> UserPermissions {
        UserPermissions {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            creator_uid: self.creator_uid,
            creator_gid: self.creator_gid,
            mode: self.mode.0 as u32 | extra_mode,
            sequence: self.sequence,
            pad: [0; 3],
            unused: [0; 2],
        }
    }

    /// ipcperms(): `EACCES`.
    pub fn check(&self, who: &Credentials, want: Access) -> Result<()> {
        let shift = if who.euid == self.uid || who.euid == self.creator_uid {
            6
        } else if who.in_group(self.gid) || who.in_group(self.creator_gid) {
            3
        } else {
            0
        };
        let granted = Access::from_bits_truncate((self.mode.0 >> shift & 7) as u8);
        if granted.contains(want) || who.has(Caps::IPC_OWNER) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// May `who` change or remove the object? `EPERM`.
    pub fn check_owner(&self, who: &Credentials) -> Result<()> {
        if who.euid == self.uid || who.euid == self.creator_uid || who.has(Caps::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// What is kept in a table.
pub trait IpcObject: Send + Sync {
    fn permissions(&self) -> Permissions;
}

struct Slots<T> {
    by_index: BTreeMap<i32, (i32, Arc<T>)>,
    sequence: u16,
}

/// Objects of one kind by identifier and key.
pub struct IpcTable<T> {
    slots: Mutex<Slots<T>>,
    limit: usize,
}

/// What `get` asks a maker for.
pub struct NewObject {
    pub permissions: Permissions,
}

impl<T: IpcObject> IpcTable<T> {
    pub fn new(limit: usize) -> IpcTable<T> {
        IpcTable { slots: Mutex::new(Level::Control, Slots { by_index: BTreeMap::new(), sequence: 0 }), limit }
    }

    /// shmget(2), semget(2), msgget(2): finds by key (then `check` judges what is there) or makes. Returns the identifier.
    pub fn get(
        &self,
        who: &Credentials,
        key: i32,
        flags: i32,
        check: impl Fn(&T) -> Result<()>,
        make: impl FnOnce(&NewObject) -> Result<T>,
    ) -> Result<i32> {
        let mut slots = self.slots.lock();
        if key != IPC_PRIVATE {
            let found = slots.by_index.iter().find(|(_, (_, o))| o.permissions().key == key).map(|(_, (id, o))| (*id, o.clone()));
            match found {
                Some(_) if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 => return Err(Errno::EEXIST),
                Some((id, object)) => {
                    check(&object)?;
                    let want = Access::from_bits_truncate(((flags >> 6 | flags >> 3 | flags) & 7) as u8);
                    object.permissions().check(who, want)?;
                    return Ok(id);
                }
                None if flags & IPC_CREAT == 0 => return Err(Errno::ENOENT),
                None => {}
            }
        }
        if slots.by_index.len() >= self.limit {
            return Err(Errno::ENOSPC);
        }
        slots.sequence = slots.sequence.wrapping_add(1) & 0x7fff;
        let sequence = slots.sequence;
        let permissions = Permissions {
            key,
            uid: who.euid,
            gid: who.egid,
            creator_uid: who.euid,
            creator_gid: who.egid,
            mode: Mode((flags & 0o777) as u16),
            sequence,
        };
        let object = make(&NewObject { permissions })?;
        let index = (0..).find(|i| !slots.by_index.contains_key(i)).ok_or(Errno::ENOSPC)?;
        let id = (sequence as i32) << INDEX_BITS | index;
        slots.by_index.insert(index, (id, Arc::new(object)));
        Ok(id)
    }

    /// `EINVAL` for what is no identifier.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        let slots = self.slots.lock();
        match slots.by_index.get(&(id & ((1 << INDEX_BITS) - 1))) {
            Some((known, object)) if *known == id => Ok(object.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes an object out of the table.
    pub fn remove(&self, id: i32) -> Result<Arc<T>> {
        let object = self.find(id)?;
        self.slots.lock().by_index.remove(&(id & ((1 << INDEX_BITS) - 1)));
        Ok(object)
    }

    /// Identifiers and objects, by index.
    pub fn list(&self) -> Vec<(i32, Arc<T>)> {
        self.slots.lock().by_index.values().cloned().collect()
    }
}
