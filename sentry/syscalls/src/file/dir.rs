//! Directories: getdents64(2), getcwd(2), chdir(2), chroot(2), mkdir(2), rmdir(2).

use std::ops::ControlFlow;

use sentry_abi::{Errno, FileKind, Mode, Result, UserAddr};
use sentry_auth::{Access, Caps};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::{DirEntry, FileDescription, Follow, FsContext, Path, Seek, watch_event as event};

use super::at::{self, AT_FDCWD, AT_REMOVEDIR, check_flags};
use super::transfer::tell;
use crate::args::{Flags, PathArg};

/// The most that one call returns, whatever the guest's buffer; a listing takes several calls anyway.
const MOST: usize = 128 << 10;

/// The two layouts of a directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    /// `struct linux_dirent`: the type is the last byte.
    Old,
    /// `struct linux_dirent64`.
    Large,
}

/// Entries in the guest's layout, until the buffer is full.
struct Packer {
    layout: Layout,
    bytes: Vec<u8>,
    room: usize,
    /// The cookie behind the last entry taken.
    next: Option<u64>,
    full: bool,
}

impl Packer {
    fn new(layout: Layout, room: usize) -> Packer {
        Packer { layout, bytes: Vec::with_capacity(room.min(4096)), room, next: None, full: false }
    }

    fn push(&mut self, entry: &DirEntry<'_>) -> ControlFlow<()> {
        // Old: ino, off, reclen, name, NUL, type. Large: ino, off, reclen, type, name, NUL.
        let size = (8 + 8 + 2 + 1 + entry.name.len() + 1).next_multiple_of(8);
        if size > self.room - self.bytes.len() {
            self.full = true;
            return ControlFlow::Break(());
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&entry.ino.to_le_bytes());
        self.bytes.extend_from_slice(&entry.next.to_le_bytes());
        self.bytes.extend_from_slice(&(size as u16).to_le_bytes());
        if self.layout == Layout::Large {
            self.bytes.push(entry.kind.dirent_type());
        }
        self.bytes.extend_from_slice(entry.name);
        self.bytes.resize(start + size, 0);
        if self.layout == Layout::Old
            && let Some(last) = self.bytes.last_mut()
        {
            *last = entry.kind.dirent_type();
        }
        self.next = Some(entry.next);
        ControlFlow::Continue(())
    }
}

/// [getdents(2)](https://man7.org/linux/man-pages/man2/getdents.2.html).
pub fn getdents(task: &mut CurrentTask, fd: i32, dirp: UserAddr, count: u32) -> SysResult {
    list(task, fd, dirp, count, Layout::Old)
}

/// [getdents64(2)](https://man7.org/linux/man-pages/man2/getdents64.2.html).
pub fn getdents64(task: &mut CurrentTask, fd: i32, dirp: UserAddr, count: u32) -> SysResult {
    list(task, fd, dirp, count, Layout::Large)
}

fn list(task: &CurrentTask, fd: i32, dirp: UserAddr, count: u32, layout: Layout) -> SysResult {
    let file = task.file(fd)?;
    if file.ops.seek_kind() != Seek::Directory {
        return Err(Errno::ENOTDIR.into());
    }
    if file.path.dentry.is_deleted() {
        return Err(Errno::ENOENT.into());
    }
    let packer = fill(task, &file, (count as usize).min(MOST), layout)?;
    task.mm().write(dirp, &packer.bytes)?;
    tell(&file, event::ACCESS);
    Ok(packer.bytes.len() as u64)
}

/// Takes entries from the shared offset on and moves it; again if another call moved it meanwhile.
fn fill(task: &CurrentTask, file: &FileDescription, room: usize, layout: Layout) -> Result<Packer> {
    loop {
        let from = *file.offset.lock();
        let mut packer = Packer::new(layout, room);
        file.ops.iterate(task, from, &mut |entry| packer.push(entry))?;
        if packer.bytes.is_empty() && packer.full {
            return Err(Errno::EINVAL);
        }
        let mut offset = file.offset.lock();
        if *offset == from {
            *offset = packer.next.unwrap_or(from);
            return Ok(packer);
        }
    }
}

/// [getcwd(2)](https://man7.org/linux/man-pages/man2/getcwd.2.html): the system call returns the length, NUL included.
pub fn getcwd(task: &mut CurrentTask, buf: UserAddr, size: u64) -> SysResult {
    let places = task.task.fs().places();
    if places.cwd.dentry.is_deleted() {
        return Err(Errno::ENOENT.into());
    }
    let mut path = places.cwd.display(&places.root);
    path.push(0);
    if path.len() as u64 > size {
        return Err(Errno::ERANGE.into());
    }
    task.mm().write(buf, &path)?;
    Ok(path.len() as u64)
}

/// `ENOTDIR` or `EACCES` unless the task may make its home there.
fn check_enter(cx: &FsContext, place: &Path) -> Result<()> {
    if place.inode().kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    sentry_vfs::access(&cx.credentials, place, Access::EXEC)
}

/// [chdir(2)](https://man7.org/linux/man-pages/man2/chdir.2.html).
pub fn chdir(task: &mut CurrentTask, path: PathArg) -> SysResult {
    let cx = task.fs_context();
    let place = at::from_cwd(task, &cx, path, Follow::Yes)?;
    check_enter(&cx, &place)?;
    task.task.fs().set_cwd(place);
    Ok(0)
}

/// [fchdir(2)](https://man7.org/linux/man-pages/man2/fchdir.2.html).
pub fn fchdir(task: &mut CurrentTask, fd: i32) -> SysResult {
    let place = task.files().get(fd)?.path.clone();
    check_enter(&task.fs_context(), &place)?;
    task.task.fs().set_cwd(place);
    Ok(0)
}

/// [chroot(2)](https://man7.org/linux/man-pages/man2/chroot.2.html).
pub fn chroot(task: &mut CurrentTask, path: PathArg) -> SysResult {
    let cx = task.fs_context();
    let place = at::from_cwd(task, &cx, path, Follow::Yes)?;
    check_enter(&cx, &place)?;
    cx.credentials.require(Caps::SYS_CHROOT)?;
    task.task.fs().set_root(place);
    Ok(0)
}

/// [mkdir(2)](https://man7.org/linux/man-pages/man2/mkdir.2.html).
pub fn mkdir(task: &mut CurrentTask, path: PathArg, mode: u32) -> SysResult {
    mkdirat(task, AT_FDCWD, path, mode)
}

/// [mkdirat(2)](https://man7.org/linux/man-pages/man2/mkdirat.2.html).
pub fn mkdirat(task: &mut CurrentTask, dirfd: i32, path: PathArg, mode: u32) -> SysResult {
    let cx = task.fs_context();
    let (start, name) = at::start_and_name(task, &cx, dirfd, path)?;
    sentry_vfs::mkdir(&cx, &start, &name, Mode::new(mode))?;
    Ok(0)
}

/// [rmdir(2)](https://man7.org/linux/man-pages/man2/rmdir.2.html).
pub fn rmdir(task: &mut CurrentTask, path: PathArg) -> SysResult {
    unlinkat(task, AT_FDCWD, path, Flags(AT_REMOVEDIR))
}

/// [unlink(2)](https://man7.org/linux/man-pages/man2/unlink.2.html).
pub fn unlink(task: &mut CurrentTask, path: PathArg) -> SysResult {
    unlinkat(task, AT_FDCWD, path, Flags(0))
}

/// [unlinkat(2)](https://man7.org/linux/man-pages/man2/unlinkat.2.html).
pub fn unlinkat(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: Flags) -> SysResult {
    check_flags(flags.0, AT_REMOVEDIR)?;
    let cx = task.fs_context();
    let (start, name) = at::start_and_name(task, &cx, dirfd, path)?;
    if flags.0 & AT_REMOVEDIR != 0 {
        sentry_vfs::rmdir(&cx, &start, &name)?;
    } else {
        sentry_vfs::unlink(&cx, &start, &name)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &'static [u8], next: u64) -> DirEntry<'static> {
        DirEntry { name, ino: 7, kind: FileKind::Regular, next }
    }

    #[test]
    fn entries_are_padded_and_stop_at_the_end_of_the_buffer() {
        // A name of 4 bytes: 19 + 4 + 1 = 24, exactly three words; one of 5 takes four.
        let mut large = Packer::new(Layout::Large, 24 + 32);
        assert!(large.push(&entry(b"abcd", 1)).is_continue());
        assert!(large.push(&entry(b"abcde", 2)).is_continue());
        assert!(large.push(&entry(b"a", 3)).is_break());
        assert_eq!((large.bytes.len(), large.next, large.full), (56, Some(2), true));
        assert_eq!(&large.bytes[16..24], b"\x18\0\x08abcd\0");
        assert_eq!(&large.bytes[24 + 16..24 + 19], b"\x20\0\x08");
    }

    #[test]
    fn the_old_layout_keeps_the_type_in_its_last_byte() {
        let mut old = Packer::new(Layout::Old, 24);
        assert!(old.push(&entry(b"abcd", 9)).is_continue());
        assert_eq!(&old.bytes[16..], b"\x18\0abcd\0\x08");
        assert_eq!(&old.bytes[8..16], &9u64.to_le_bytes());
        let mut none = Packer::new(Layout::Old, 23);
        assert!(none.push(&entry(b"abcd", 9)).is_break());
        assert!(none.bytes.is_empty() && none.full);
    }
}
