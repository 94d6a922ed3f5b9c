//! mmap(2) and its kin; the semantics are `sentry-mm`'s.

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_mm::{MapRequest, RemapRequest};
use sentry_platform::Prot;
use sentry_vfs::MountFlags;

const PROT_EXEC: u64 = 4;
const PROT_WRITE: u64 = 2;
const MAP_SHARED: u64 = 1;
const MAP_TYPE: u64 = 0xf;
const MAP_LOCKED: u64 = 0x2000;
const MAP_ANONYMOUS: u64 = 0x20;

/// [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html); mm/mmap.c.
pub fn mmap(task: &mut CurrentTask, addr: UserAddr, len: u64, prot: u64, flags: u64, fd: i32, offset: u64) -> SysResult {
    if flags & MAP_LOCKED != 0 {
        note_lock_right(task);
    }
    let mapping = if flags & MAP_ANONYMOUS != 0 {
        None
    } else {
        if !offset.is_multiple_of(sentry_abi::PAGE_SIZE) {
            return Err(Errno::EINVAL.into());
        }
        let file = task.file(fd)?;
        file.require_readable().map_err(|_| Errno::EACCES)?;
        let shared = flags & MAP_TYPE != 2 && flags & MAP_SHARED != 0;
        if shared && prot & PROT_WRITE != 0 && !file.writable {
            return Err(Errno::EACCES.into());
        }
        if prot & PROT_EXEC != 0 && file.path.mount.flags().contains(MountFlags::NO_EXEC) {
            return Err(Errno::EPERM.into());
        }
        let mut mapping = file.mapping(shared && file.writable, &task.task.fs().places().root)?;
        if shared && prot & PROT_WRITE != 0 && !mapping.max_prot.contains(Prot::WRITE) {
            // Open for writing and yet not to be written: sealed.
            return Err(Errno::EPERM.into());
        }
        if file.path.mount.flags().contains(MountFlags::NO_EXEC) {
            // Nor by a later mprotect(2).
            mapping.max_prot -= Prot::EXEC;
        }
        Some(mapping)
    };
    let (mm, thread) = task.mm_and_thread();
    let at = mm.mmap(thread, MapRequest { hint: addr, len, prot, flags, mapping, offset })?;
    Ok(at.0)
}

/// [munmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
pub fn munmap(task: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult {
    let (mm, thread) = task.mm_and_thread();
    mm.munmap(thread, addr, len)?;
    Ok(0)
}

/// [mprotect(2)](https://man7.org/linux/man-pages/man2/mprotect.2.html).
pub fn mprotect(task: &mut CurrentTask, addr: UserAddr, len: u64, prot: u64) -> SysResult {
    let (mm, thread) = task.mm_and_thread();
    mm.mprotect(thread, addr, len, prot)?;
    Ok(0)
}

/// [pkey_mprotect(2)](https://man7.org/linux/man-pages/man2/mprotect.2.html): key −1 is none, and there are no others.
pub fn pkey_mprotect(task: &mut CurrentTask, addr: UserAddr, len: u64, prot: u64, key: i32) -> SysResult {
    if key != -1 {
        return Err(Errno::EINVAL.into());
    }
    mprotect(task, addr, len, prot)
}

/// [mremap(2)](https://man7.org/linux/man-pages/man2/mremap.2.html).
pub fn mremap(task: &mut CurrentTask, old: UserAddr, old_len: u64, new_len: u64, flags: u64, new: UserAddr) -> SysResult {
    let (mm, thread) = task.mm_and_thread();
    Ok(mm.mremap(thread, RemapRequest { old, old_len, new_len, flags, new })?.0)
}

/// [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html).
pub fn madvise(task: &mut CurrentTask, addr: UserAddr, len: u64, advice: i32) -> SysResult {
    let (mm, thread) = task.mm_and_thread();
    mm.madvise(thread, addr, len, advice)?;
    Ok(0)
}

/// [brk(2)](https://man7.org/linux/man-pages/man2/brk.2.html): the raw call answers the break, old or new.
pub fn brk(task: &mut CurrentTask, addr: UserAddr) -> SysResult {
    let (mm, thread) = task.mm_and_thread();
    Ok(mm.brk(thread, addr).0)
}

/// [msync(2)](https://man7.org/linux/man-pages/man2/msync.2.html).
pub fn msync(task: &mut CurrentTask, addr: UserAddr, len: u64, flags: u64) -> SysResult {
    task.mm().msync(addr, len, flags)?;
    Ok(0)
}

/// [mincore(2)](https://man7.org/linux/man-pages/man2/mincore.2.html).
pub fn mincore(task: &mut CurrentTask, addr: UserAddr, len: u64, vec: UserAddr) -> SysResult {
    task.mm().mincore(addr, len, vec)?;
    Ok(0)
}

/// [mlock(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub fn mlock(task: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult {
    mlock2(task, addr, len, 0)
}

/// [mlock2(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub fn mlock2(task: &mut CurrentTask, addr: UserAddr, len: u64, flags: u64) -> SysResult {
    note_lock_right(task);
    let (mm, thread) = task.mm_and_thread();
    mm.mlock(thread, addr, len, flags)?;
    Ok(0)
}

/// RLIMIT_MEMLOCK does not bind whoever has CAP_IPC_LOCK.
fn note_lock_right(task: &CurrentTask) {
    task.mm().set_may_lock_any(task.creds().has(sentry_auth::Caps::IPC_LOCK));
}

/// [munlock(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub fn munlock(task: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult {
    task.mm().munlock(addr, len)?;
    Ok(0)
}

/// [mlockall(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub fn mlockall(task: &mut CurrentTask, flags: u64) -> SysResult {
    note_lock_right(task);
    let (mm, thread) = task.mm_and_thread();
    mm.mlockall(thread, flags)?;
    Ok(0)
}

/// [munlockall(2)](https://man7.org/linux/man-pages/man2/mlock.2.html).
pub fn munlockall(task: &mut CurrentTask) -> SysResult {
    task.mm().munlockall()?;
    Ok(0)
}

const MEMBARRIER_QUERY: i32 = 0;

/// [membarrier(2)](https://man7.org/linux/man-pages/man2/membarrier.2.html): executed by the process itself, or not at all; never a silent 0.
pub fn membarrier(task: &mut CurrentTask, command: i32, flags: u32, _cpu: i32) -> SysResult {
    if command != MEMBARRIER_QUERY && flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    task.thread.membarrier(command, flags).map_err(|e| e.errno().into())
}

/// Memory policy of one node: [get_mempolicy(2)](https://man7.org/linux/man-pages/man2/get_mempolicy.2.html).
pub fn get_mempolicy(task: &mut CurrentTask, mode: UserAddr, mask: UserAddr, max_node: u64, addr: UserAddr, flags: u64) -> SysResult {
    const F_NODE: u64 = 1;
    const F_ADDR: u64 = 2;
    const F_MEMS_ALLOWED: u64 = 4;
    if flags & !(F_NODE | F_ADDR | F_MEMS_ALLOWED) != 0 || (flags & F_ADDR == 0 && !addr.is_null()) {
        return Err(Errno::EINVAL.into());
    }
    if !mode.is_null() {
        task.mm().write_obj(mode, &0i32)?;
    }
    if !mask.is_null() {
        if max_node < 1 {
            return Err(Errno::EINVAL.into());
        }
        let bytes = (max_node.min(1024) as usize).div_ceil(64) * 8;
        let mut nodes = vec![0u8; bytes];
        if flags & F_MEMS_ALLOWED != 0 {
            nodes[0] = 1;
        }
        task.mm().write(mask, &nodes)?;
    }
    Ok(0)
}

/// [set_mempolicy(2)](https://man7.org/linux/man-pages/man2/set_mempolicy.2.html): there is one node; what names no other is accepted.
pub fn set_mempolicy(task: &mut CurrentTask, mode: i32, mask: UserAddr, max_node: u64) -> SysResult {
    only_node_0(task, mode, mask, max_node)
}

/// [mbind(2)](https://man7.org/linux/man-pages/man2/mbind.2.html).
pub fn mbind(task: &mut CurrentTask, addr: UserAddr, _len: u64, mode: i32, mask: UserAddr, max_node: u64, _flags: u32) -> SysResult {
    if !addr.is_page_aligned() {
        return Err(Errno::EINVAL.into());
    }
    only_node_0(task, mode, mask, max_node)
}

fn only_node_0(task: &CurrentTask, mode: i32, mask: UserAddr, max_node: u64) -> SysResult {
    const MODES: i32 = 6;
    const MODE_FLAGS: i32 = 0x7 << 13;
    if !(0..=MODES).contains(&(mode & !MODE_FLAGS)) {
        return Err(Errno::EINVAL.into());
    }
    if !mask.is_null() && max_node > 1 {
        let bytes = task.mm().read_vec(mask, (max_node.min(4096) as usize).div_ceil(8))?;
        let others = bytes.iter().enumerate().any(|(i, b)| if i == 0 { b & !1 != 0 } else { *b != 0 });
        if others {
            return Err(Errno::EINVAL.into());
        }
    }
    Ok(0)
}
