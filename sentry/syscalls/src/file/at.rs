//! From (directory descriptor, path, AT_* flags) to a place: path_resolution(7), openat(2) "rationale for openat()".

use std::sync::Arc;

use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::CurrentTask;
use sentry_vfs::{Attr, FileDescription, Follow, FsContext, Path, Walk, resolve};

use crate::args::PathArg;

pub(crate) const AT_FDCWD: i32 = -100;
pub(super) const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
pub(super) const AT_EACCESS: u32 = 0x200;
pub(super) const AT_REMOVEDIR: u32 = 0x200;
pub(super) const AT_SYMLINK_FOLLOW: u32 = 0x400;
pub(super) const AT_NO_AUTOMOUNT: u32 = 0x800;
pub(super) const AT_EMPTY_PATH: u32 = 0x1000;

/// What a call's path argument names.
pub(super) enum Target {
    Named(Path),
    /// An empty path with AT_EMPTY_PATH, or a call on a descriptor.
    Open(Arc<FileDescription>),
}

impl Target {
    pub fn path(&self) -> &Path {
        match self {
            Target::Named(path) => path,
            Target::Open(file) => &file.path,
        }
    }

    pub fn attr(&self) -> Result<Attr> {
        match self {
            Target::Named(path) => path.inode().attr(),
            Target::Open(file) => file.attr(),
        }
    }
}

/// `EINVAL` for flags outside `known`.
pub(super) fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Links are followed unless AT_SYMLINK_NOFOLLOW says otherwise.
pub(super) fn follow(flags: u32) -> Follow {
    if flags & AT_SYMLINK_NOFOLLOW != 0 { Follow::No } else { Follow::Yes }
}

/// Where `path` begins: its directory counts only when it is relative, so a bad descriptor beside an absolute path is no error.
pub(super) fn start(task: &CurrentTask, cx: &FsContext, dirfd: i32, path: &[u8]) -> Result<Path> {
    if path.first() == Some(&b'/') { Ok(cx.root.clone()) } else { task.start_path(cx, dirfd) }
}

/// A path that must not be empty (the kernel's getname()).
pub(super) fn read(task: &CurrentTask, path: PathArg) -> Result<Vec<u8>> {
    let path = task.read_path(path.0)?;
    if path.is_empty() { Err(Errno::ENOENT) } else { Ok(path) }
}

/// The place that a path argument names. AT_EMPTY_PATH in `flags` allows an empty path (or NULL), which names the descriptor itself.
pub(super) fn target(task: &CurrentTask, cx: &FsContext, dirfd: i32, path: PathArg, flags: u32) -> Result<Target> {
    let empty_allowed = flags & AT_EMPTY_PATH != 0;
    let bytes = if empty_allowed && path.0.is_null() { Vec::new() } else { task.read_path(path.0)? };
    if bytes.is_empty() {
        return if empty_allowed { descriptor(task, cx, dirfd) } else { Err(Errno::ENOENT) };
    }
    let start = start(task, cx, dirfd, &bytes)?;
    resolve(cx, &start, &bytes, follow(flags), Walk::empty()).map(Target::Named)
}

fn descriptor(task: &CurrentTask, cx: &FsContext, dirfd: i32) -> Result<Target> {
    if dirfd == AT_FDCWD { Ok(Target::Named(cx.cwd.clone())) } else { task.files().get(dirfd).map(Target::Open) }
}

/// A path seen from the working directory.
pub(super) fn from_cwd(task: &CurrentTask, cx: &FsContext, path: PathArg, how: Follow) -> Result<Path> {
    let bytes = read(task, path)?;
    resolve(cx, &cx.cwd, &bytes, how, Walk::empty())
}

/// A path that names something to be made or removed: where it begins, and its bytes.
pub(super) fn start_and_name(task: &CurrentTask, cx: &FsContext, dirfd: i32, path: PathArg) -> Result<(Path, Vec<u8>)> {
    let bytes = read(task, path)?;
    let start = start(task, cx, dirfd, &bytes)?;
    Ok((start, bytes))
}

/// Writes `bytes` as a buffer of `size` bytes wants it: cut, without a NUL. Returns the number written.
pub(super) fn write_cut(task: &CurrentTask, at: UserAddr, bytes: &[u8], size: usize) -> Result<u64> {
    let n = bytes.len().min(size);
    task.mm().write(at, &bytes[..n])?;
    Ok(n as u64)
}
