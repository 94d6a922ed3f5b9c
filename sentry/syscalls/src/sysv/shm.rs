//! Shared memory segments: shmget(2), shmat(2), shmctl(2). ipc/shm.c.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use sentry_abi::user::{PAGE_MASK, page_up};
use sentry_abi::{Errno, Mode, Result, UserAddr};
use sentry_auth::Access;
use sentry_kernel::{CurrentTask, SysResult};
use sentry_memory::{MapLabel, Mapping, MemFile};
use sentry_mm::MapRequest;
use sentry_platform::Prot;
use sentry_sync::{Level, Mutex};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ids::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, IpcObject, Permissions, UserPermissions};
use crate::dispatch::System;

const SHM_HUGETLB: i32 = 0o4000;
const SHM_RDONLY: i32 = 0o10000;
const SHM_RND: i32 = 0o20000;
const SHM_REMAP: i32 = 0o40000;
const SHM_EXEC: i32 = 0o100000;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
const SHM_DEST: u32 = 0o1000;
const MAP_SHARED: u64 = 1;
const MAP_FIXED: u64 = 0x10;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MAX_SIZE: u64 = i64::MAX as u64 / 2;

pub struct Segment {
    permissions: Mutex<Permissions>,
    file: MemFile,
    size: u64,
    creator: i32,
    changed: AtomicI64,
    shared: Arc<Attachments>,
}

/// What attached mappings and the segment both know.
struct Attachments {
    count: AtomicU64,
    last_pid: AtomicI64,
    attached: AtomicI64,
    detached: AtomicI64,
    /// IPC_RMID came while attached: the segment lives until the last attachment goes.
    doomed: AtomicBool,
    key: i32,
    id: AtomicU64,
}

impl IpcObject for Segment {
    fn permissions(&self) -> Permissions {
        *self.permissions.lock()
    }
}

/// One shmat(2): shown in maps as Linux does, counted until its last page is unmapped.
struct Attachment(Arc<Attachments>);

impl MapLabel for Attachment {
    fn path(&self) -> Option<Vec<u8>> {
        Some(format!("/SYSV{:08x} (deleted)", self.0.key).into_bytes())
    }

    fn id(&self) -> (u64, u64) {
        (1, self.0.id.load(Ordering::Relaxed))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.detached.store(now(), Ordering::Relaxed);
    }
}

fn now() -> i64 {
    sentry_time::ClockId::Realtime.now().sec
}

/// [shmget(2)](https://man7.org/linux/man-pages/man2/shmget.2.html).
pub fn shmget(task: &mut CurrentTask, key: i32, size: u64, flags: i32) -> SysResult {
    let system = System::of(task)?;
    let who = task.creds();
    let creator = task.task.pid();
    let source = task.kernel().file_source.clone();
    let check = |s: &Segment| if size > s.size { Err(Errno::EINVAL) } else { Ok(()) };
    let id = system.sysv.segments.get(&who, key, flags, check, |new| {
        if size == 0 || size > MAX_SIZE {
            return Err(Errno::EINVAL);
        }
        if flags & SHM_HUGETLB != 0 {
            return Err(Errno::ENOMEM);
        }
        let file = MemFile::new(source);
        file.truncate(page_up(size).ok_or(Errno::EINVAL)?)?;
        Ok(Segment {
            permissions: Mutex::new(Level::Leaf, new.permissions),
            file,
            size,
            creator,
            changed: AtomicI64::new(now()),
            shared: Arc::new(Attachments {
                count: AtomicU64::new(0),
                last_pid: AtomicI64::new(0),
                attached: AtomicI64::new(0),
                detached: AtomicI64::new(0),
                doomed: AtomicBool::new(false),
                key,
                id: AtomicU64::new(0),
            }),
        })
    })?;
    system.sysv.segments.find(id)?.shared.id.store(id as u64, Ordering::Relaxed);
    Ok(id as u64)
}

/// [shmat(2)](https://man7.org/linux/man-pages/man2/shmop.2.html).
pub fn shmat(task: &mut CurrentTask, id: i32, addr: UserAddr, flags: i32) -> SysResult {
    let system = System::of(task)?;
    let segment = system.sysv.segments.find(id)?;
    let read_only = flags & SHM_RDONLY != 0;
    let mut want = Access::READ;
    want.set(Access::WRITE, !read_only);
    want.set(Access::EXEC, flags & SHM_EXEC != 0);
    segment.permissions().check(&task.creds(), want)?;
    let mut hint = addr.0;
    if hint & PAGE_MASK != 0 {
        if flags & SHM_RND == 0 {
            return Err(Errno::EINVAL.into());
        }
        hint &= !PAGE_MASK;
    }
    if flags & SHM_REMAP != 0 && hint == 0 {
        return Err(Errno::EINVAL.into());
    }
    let len = page_up(segment.size).ok_or(Errno::EINVAL)?;
    let (write, read) = segment.file.host_files()?;
    segment.shared.count.fetch_add(1, Ordering::AcqRel);
    let label = Arc::new(Attachment(segment.shared.clone()));
    let max_prot = if read_only { Prot::READ | Prot::EXEC } else { Prot::all() };
    let mapping = Mapping { fd: if read_only { read } else { write }, max_prot, label, resident: false };
    let prot = 1 | (want.contains(Access::WRITE) as u64 * 2) | (want.contains(Access::EXEC) as u64 * 4);
    let fixed = match (hint, flags & SHM_REMAP) {
        (0, _) => 0,
        (_, 0) => MAP_FIXED_NOREPLACE,
        _ => MAP_FIXED,
    };
    let request = MapRequest { hint: UserAddr(hint), len, prot, flags: MAP_SHARED | fixed, mapping: Some(mapping), offset: 0 };
    let (mm, thread) = task.mm_and_thread();
    let at = mm.mmap(thread, request).map_err(|e| if e == Errno::EEXIST { Errno::EINVAL } else { e })?;
    segment.shared.last_pid.store(task.task.pid() as i64, Ordering::Relaxed);
    segment.shared.attached.store(now(), Ordering::Relaxed);
    Ok(at.0)
}

/// [shmdt(2)](https://man7.org/linux/man-pages/man2/shmop.2.html).
pub fn shmdt(task: &mut CurrentTask, addr: UserAddr) -> SysResult {
    if !addr.is_page_aligned() {
        return Err(Errno::EINVAL.into());
    }
    let attached = |v: &sentry_mm::Vma| v.mapping.as_ref().and_then(|m| m.label.path()).is_some_and(|p| p.starts_with(b"/SYSV"));
    let vmas = task.mm().snapshot();
    let first = vmas.iter().find(|v| v.start == addr.0 && v.offset == 0 && attached(v)).ok_or(Errno::EINVAL)?;
    let id = first.mapping.as_ref().map(|m| m.label.id());
    // The attachment may have been split by mprotect: all its parts go, but no other attachment of the segment that begins where it ends.
    let mut end = addr.0;
    for vma in vmas.iter().filter(|v| v.start >= addr.0) {
        if vma.start != end || vma.offset != vma.start - addr.0 || !attached(vma) || vma.mapping.as_ref().map(|m| m.label.id()) != id {
            break;
        }
        end = vma.end;
    }
    drop(vmas);
    let (mm, thread) = task.mm_and_thread();
    mm.munmap(thread, addr, end - addr.0)?;
    forget_doomed(task)?;
    Ok(0)
}

/// Segments that were removed while attached go with their last attachment.
fn forget_doomed(task: &CurrentTask) -> Result<()> {
    let system = System::of(task)?;
    for (id, segment) in system.sysv.segments.list() {
        if segment.shared.doomed.load(Ordering::Acquire) && segment.shared.count.load(Ordering::Acquire) == 0 {
            let _ = system.sysv.segments.remove(id);
        }
    }
    Ok(())
}

/// `struct shmid64_ds` of x86-64: 112 bytes.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserSegment {
    permissions: UserPermissions,
    size: u64,
    attached: i64,
    detached: i64,
    changed: i64,
    creator: i32,
    last_pid: i32,
    count: u64,
    unused: [u64; 2],
}

fn to_user(segment: &Segment) -> UserSegment {
    let shared = &segment.shared;
    let doomed = if shared.doomed.load(Ordering::Relaxed) { SHM_DEST } else { 0 };
    UserSegment {
        permissions: segment.permissions().to_user(doomed),
        size: segment.size,
        attached: shared.attached.load(Ordering::Relaxed),
        detached: shared.detached.load(Ordering::Relaxed),
        changed: segment.changed.load(Ordering::Relaxed),
        creator: segment.creator,
        last_pid: shared.last_pid.load(Ordering::Relaxed) as i32,
        count: shared.count.load(Ordering::Relaxed),
        unused: [0; 2],
    }
}

/// [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html).
pub fn shmctl(task: &mut CurrentTask, id: i32, command: i32, at: UserAddr) -> SysResult {
    let system = System::of(task)?;
    let table = &system.sysv.segments;
    forget_doomed(task)?;
    match command {
        IPC_INFO | SHM_INFO => {
            let list = table.list();
            if command == IPC_INFO {
                task.mm().write_array(at, &[MAX_SIZE, 1, 4096, 4096, MAX_SIZE / 4096, 0, 0, 0, 0])?;
            } else {
                let pages: u64 = list.iter().map(|(_, s)| s.size.div_ceil(4096)).sum();
                task.mm().write_array(at, &[list.len() as u64, pages, pages, 0, 0, 0])?;
            }
            Ok(list.len().saturating_sub(1) as u64)
        }
        SHM_STAT | SHM_STAT_ANY => {
            let list = table.list();
            let (id, segment) = usize::try_from(id).ok().and_then(|i| list.get(i)).ok_or(Errno::EINVAL)?;
            if command == SHM_STAT {
                segment.permissions().check(&task.creds(), Access::READ)?;
            }
            task.mm().write_obj(at, &to_user(segment))?;
            Ok(*id as u64)
        }
        IPC_STAT => {
            let segment = table.find(id)?;
            segment.permissions().check(&task.creds(), Access::READ)?;
            task.mm().write_obj(at, &to_user(&segment))?;
            Ok(0)
        }
        IPC_SET => {
            let segment = table.find(id)?;
            let new: UserSegment = task.mm().read_obj(at)?;
            segment.permissions().check_owner(&task.creds())?;
            let mut permissions = segment.permissions.lock();
            permissions.uid = new.permissions.uid;
            permissions.gid = new.permissions.gid;
            permissions.mode = Mode((new.permissions.mode & 0o777) as u16);
            segment.changed.store(now(), Ordering::Relaxed);
            Ok(0)
        }
        IPC_RMID => {
            let segment = table.find(id)?;
            segment.permissions().check_owner(&task.creds())?;
            if segment.shared.count.load(Ordering::Acquire) == 0 {
                table.remove(id)?;
            } else {
                // Found no more by key, but still by id, as on Linux.
                segment.permissions.lock().key = super::ids::IPC_PRIVATE;
                segment.shared.doomed.store(true, Ordering::Release);
            }
            Ok(0)
        }
        SHM_LOCK | SHM_UNLOCK => {
            let segment = table.find(id)?;
            segment.permissions().check_owner(&task.creds())?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
