//! Names: rename(2), link(2), symlink(2), mknod(2).

use sentry_abi::stat::make_dev;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::Caps;
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::{Follow, RenameMode, Walk, resolve};

use super::at::{self, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, check_flags};
use crate::args::{Flags, PathArg};

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

/// [rename(2)](https://man7.org/linux/man-pages/man2/rename.2.html).
pub fn rename(task: &mut CurrentTask, oldpath: PathArg, newpath: PathArg) -> SysResult {
    renameat2(task, AT_FDCWD, oldpath, AT_FDCWD, newpath, Flags(0))
}

/// [renameat(2)](https://man7.org/linux/man-pages/man2/renameat.2.html).
pub fn renameat(task: &mut CurrentTask, olddirfd: i32, oldpath: PathArg, newdirfd: i32, newpath: PathArg) -> SysResult {
    renameat2(task, olddirfd, oldpath, newdirfd, newpath, Flags(0))
}

/// [renameat2(2)](https://man7.org/linux/man-pages/man2/renameat2.2.html). `Differs:` RENAME_WHITEOUT is `EINVAL`, as on file systems without it.
pub fn renameat2(task: &mut CurrentTask, olddirfd: i32, oldpath: PathArg, newdirfd: i32, newpath: PathArg, flags: Flags) -> SysResult {
    let mode = match flags.0 {
        0 => RenameMode::Replace,
        RENAME_NOREPLACE => RenameMode::NoReplace,
        RENAME_EXCHANGE => RenameMode::Exchange,
        _ => return Err(Errno::EINVAL.into()),
    };
    let cx = task.fs_context();
    let (old_start, old) = at::start_and_name(task, &cx, olddirfd, oldpath)?;
    let (new_start, new) = at::start_and_name(task, &cx, newdirfd, newpath)?;
    sentry_vfs::rename(&cx, &old_start, &old, &new_start, &new, mode)?;
    Ok(0)
}

/// [link(2)](https://man7.org/linux/man-pages/man2/link.2.html).
pub fn link(task: &mut CurrentTask, oldpath: PathArg, newpath: PathArg) -> SysResult {
    linkat(task, AT_FDCWD, oldpath, AT_FDCWD, newpath, Flags(0))
}

/// [linkat(2)](https://man7.org/linux/man-pages/man2/linkat.2.html).
pub fn linkat(task: &mut CurrentTask, olddirfd: i32, oldpath: PathArg, newdirfd: i32, newpath: PathArg, flags: Flags) -> SysResult {
    check_flags(flags.0, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)?;
    let cx = task.fs_context();
    let old = task.read_path(oldpath.0)?;
    let from = if old.is_empty() {
        // As Linux before 6.10: naming an open file again takes the capability, and its absence looks like an empty path.
        if flags.0 & AT_EMPTY_PATH == 0 || !cx.credentials.has(Caps::DAC_READ_SEARCH) {
            return Err(Errno::ENOENT.into());
        }
        task.start_path(&cx, olddirfd)?
    } else {
        let start = at::start(task, &cx, olddirfd, &old)?;
        let how = if flags.0 & AT_SYMLINK_FOLLOW != 0 { Follow::Yes } else { Follow::No };
        resolve(&cx, &start, &old, how, Walk::empty())?
    };
    let (start, name) = at::start_and_name(task, &cx, newdirfd, newpath)?;
    sentry_vfs::link(&cx, &from, &start, &name)?;
    Ok(0)
}

/// [symlink(2)](https://man7.org/linux/man-pages/man2/symlink.2.html).
pub fn symlink(task: &mut CurrentTask, target: PathArg, linkpath: PathArg) -> SysResult {
    symlinkat(task, target, AT_FDCWD, linkpath)
}

/// [symlinkat(2)](https://man7.org/linux/man-pages/man2/symlinkat.2.html).
pub fn symlinkat(task: &mut CurrentTask, target: PathArg, newdirfd: i32, linkpath: PathArg) -> SysResult {
    let cx = task.fs_context();
    let target = at::read(task, target)?;
    let (start, name) = at::start_and_name(task, &cx, newdirfd, linkpath)?;
    sentry_vfs::symlink(&cx, &target, &start, &name)?;
    Ok(0)
}

/// [mknod(2)](https://man7.org/linux/man-pages/man2/mknod.2.html).
pub fn mknod(task: &mut CurrentTask, path: PathArg, mode: u32, dev: u32) -> SysResult {
    mknodat(task, AT_FDCWD, path, mode, dev)
}

/// [mknodat(2)](https://man7.org/linux/man-pages/man2/mknodat.2.html).
pub fn mknodat(task: &mut CurrentTask, dirfd: i32, path: PathArg, mode: u32, dev: u32) -> SysResult {
    let kind = node_kind(mode)?;
    let cx = task.fs_context();
    let (start, name) = at::start_and_name(task, &cx, dirfd, path)?;
    let rdev = if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) { decode_dev(dev) } else { 0 };
    sentry_vfs::mknod(&cx, &start, &name, kind, Mode::new(mode), rdev)?;
    Ok(0)
}

/// may_mknod(): no type bits mean a regular file.
fn node_kind(mode: u32) -> Result<FileKind> {
    if mode & 0o170000 == 0 {
        return Ok(FileKind::Regular);
    }
    match FileKind::from_mode(mode) {
        Some(FileKind::Directory) => Err(Errno::EPERM),
        Some(FileKind::Symlink) | None => Err(Errno::EINVAL),
        Some(kind) => Ok(kind),
    }
}

/// The 32-bit form of a device number that mknod(2) takes (new_decode_dev).
fn decode_dev(dev: u32) -> u64 {
    make_dev(dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xfff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_and_kinds() {
        assert_eq!(decode_dev(0x0501), make_dev(5, 1));
        assert_eq!(decode_dev(0x0010_0102), make_dev(1, 0x102));
        assert_eq!(node_kind(0o644), Ok(FileKind::Regular));
        assert_eq!(node_kind(0o010644), Ok(FileKind::Fifo));
        assert_eq!(node_kind(0o040755), Err(Errno::EPERM));
        assert_eq!(node_kind(0o120777), Err(Errno::EINVAL));
        assert_eq!(node_kind(0o170000), Err(Errno::EINVAL));
    }
}
