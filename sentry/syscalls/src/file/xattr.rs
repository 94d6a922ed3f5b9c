//! Extended attributes: xattr(7).

use sentry_abi::file::XattrArgs;
use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::Path;

use super::at::{self, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Target, check_flags};
use crate::args::{Flags, PathArg};

const SIZE_MAX: u64 = 65536;
const CREATE: u32 = 1;
const REPLACE: u32 = 2;
/// With the NUL.
const NAME_MAX: usize = 256;

/// `ERANGE` for an empty or too long name.
fn name(task: &CurrentTask, at: PathArg) -> Result<Vec<u8>> {
    match task.mm().read_cstring(at.0, NAME_MAX) {
        Ok(name) if !name.is_empty() => Ok(name),
        Ok(_) | Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Err(other) => Err(other),
    }
}

/// Where a value is, or is to go.
#[derive(Clone, Copy)]
struct Value {
    at: UserAddr,
    size: u64,
}

fn set(task: &CurrentTask, place: impl FnOnce() -> Result<Path>, key: PathArg, value: Value, flags: u32) -> SysResult {
    check_flags(flags, CREATE | REPLACE)?;
    let key = name(task, key)?;
    if value.size > SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    let bytes = task.mm().read_vec(value.at, value.size as usize)?;
    let place = place()?;
    sentry_vfs::set_xattr(&task.fs_context(), &place, &key, &bytes, flags & CREATE != 0, flags & REPLACE != 0)?;
    Ok(0)
}

fn get(task: &CurrentTask, place: impl FnOnce() -> Result<Path>, key: PathArg, value: Value) -> SysResult {
    let key = name(task, key)?;
    let place = place()?;
    let bytes = sentry_vfs::get_xattr(&task.fs_context(), &place, &key)?;
    give(task, &bytes, value)
}

fn list(task: &CurrentTask, place: impl FnOnce() -> Result<Path>, value: Value) -> SysResult {
    let mut bytes = Vec::new();
    for name in sentry_vfs::list_xattr(&task.fs_context(), &place()?)? {
        bytes.extend_from_slice(&name);
        bytes.push(0);
    }
    give(task, &bytes, value)
}

/// Size 0 asks for the length; a buffer that is too small is `ERANGE`.
fn give(task: &CurrentTask, bytes: &[u8], value: Value) -> SysResult {
    if value.size != 0 {
        if bytes.len() as u64 > value.size {
            return Err(Errno::ERANGE.into());
        }
        task.mm().write(value.at, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn remove(task: &CurrentTask, place: impl FnOnce() -> Result<Path>, key: PathArg) -> SysResult {
    let key = name(task, key)?;
    sentry_vfs::remove_xattr(&task.fs_context(), &place()?, &key)?;
    Ok(0)
}

/// The place of a path-based call; flags 0 or AT_SYMLINK_NOFOLLOW, and AT_EMPTY_PATH for the *at calls.
fn at_path(task: &CurrentTask, dirfd: i32, path: PathArg, flags: u32) -> Result<Path> {
    match at::target(task, &task.fs_context(), dirfd, path, flags)? {
        Target::Open(file) if file.path_only => Err(Errno::EBADF),
        target => Ok(target.path().clone()),
    }
}

fn of_fd(task: &CurrentTask, fd: i32) -> Result<Path> {
    Ok(task.file(fd)?.path.clone())
}

/// [setxattr(2)](https://man7.org/linux/man-pages/man2/setxattr.2.html).
pub fn setxattr(task: &mut CurrentTask, path: PathArg, key: PathArg, value: UserAddr, size: u64, flags: Flags) -> SysResult {
    let value = Value { at: value, size };
    set(task, || at_path(task, AT_FDCWD, path, 0), key, value, flags.0)
}

/// [lsetxattr(2)](https://man7.org/linux/man-pages/man2/lsetxattr.2.html).
pub fn lsetxattr(task: &mut CurrentTask, path: PathArg, key: PathArg, value: UserAddr, size: u64, flags: Flags) -> SysResult {
    let value = Value { at: value, size };
    set(task, || at_path(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW), key, value, flags.0)
}

/// [fsetxattr(2)](https://man7.org/linux/man-pages/man2/fsetxattr.2.html).
pub fn fsetxattr(task: &mut CurrentTask, fd: i32, key: PathArg, value: UserAddr, size: u64, flags: Flags) -> SysResult {
    let place = of_fd(task, fd)?;
    let value = Value { at: value, size };
    set(task, || Ok(place), key, value, flags.0)
}

/// [getxattr(2)](https://man7.org/linux/man-pages/man2/getxattr.2.html).
pub fn getxattr(task: &mut CurrentTask, path: PathArg, key: PathArg, value: UserAddr, size: u64) -> SysResult {
    get(task, || at_path(task, AT_FDCWD, path, 0), key, Value { at: value, size })
}

/// [lgetxattr(2)](https://man7.org/linux/man-pages/man2/lgetxattr.2.html).
pub fn lgetxattr(task: &mut CurrentTask, path: PathArg, key: PathArg, value: UserAddr, size: u64) -> SysResult {
    get(task, || at_path(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW), key, Value { at: value, size })
}

/// [fgetxattr(2)](https://man7.org/linux/man-pages/man2/fgetxattr.2.html).
pub fn fgetxattr(task: &mut CurrentTask, fd: i32, key: PathArg, value: UserAddr, size: u64) -> SysResult {
    let place = of_fd(task, fd)?;
    get(task, || Ok(place), key, Value { at: value, size })
}

/// [listxattr(2)](https://man7.org/linux/man-pages/man2/listxattr.2.html).
pub fn listxattr(task: &mut CurrentTask, path: PathArg, buf: UserAddr, size: u64) -> SysResult {
    list(task, || at_path(task, AT_FDCWD, path, 0), Value { at: buf, size })
}

/// [llistxattr(2)](https://man7.org/linux/man-pages/man2/llistxattr.2.html).
pub fn llistxattr(task: &mut CurrentTask, path: PathArg, buf: UserAddr, size: u64) -> SysResult {
    list(task, || at_path(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW), Value { at: buf, size })
}

/// [flistxattr(2)](https://man7.org/linux/man-pages/man2/flistxattr.2.html).
pub fn flistxattr(task: &mut CurrentTask, fd: i32, buf: UserAddr, size: u64) -> SysResult {
    let place = of_fd(task, fd)?;
    list(task, || Ok(place), Value { at: buf, size })
}

/// [removexattr(2)](https://man7.org/linux/man-pages/man2/removexattr.2.html).
pub fn removexattr(task: &mut CurrentTask, path: PathArg, key: PathArg) -> SysResult {
    remove(task, || at_path(task, AT_FDCWD, path, 0), key)
}

/// [lremovexattr(2)](https://man7.org/linux/man-pages/man2/lremovexattr.2.html).
pub fn lremovexattr(task: &mut CurrentTask, path: PathArg, key: PathArg) -> SysResult {
    remove(task, || at_path(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW), key)
}

/// [fremovexattr(2)](https://man7.org/linux/man-pages/man2/fremovexattr.2.html).
pub fn fremovexattr(task: &mut CurrentTask, fd: i32, key: PathArg) -> SysResult {
    let place = of_fd(task, fd)?;
    remove(task, || Ok(place), key)
}

const AT_KNOWN: u32 = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;

/// `struct xattr_args`, of which a longer form has to be zero beyond what is known.
fn read_args(task: &CurrentTask, at: UserAddr, size: u64) -> Result<XattrArgs> {
    let known = size_of::<XattrArgs>() as u64;
    if size < known {
        return Err(Errno::EINVAL);
    }
    if size > sentry_abi::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let rest = task.mm().read_vec(at.offset(known)?, (size - known) as usize)?;
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    task.mm().read_obj(at)
}

/// [setxattrat(2)](https://man7.org/linux/man-pages/man2/setxattrat.2.html).
pub fn setxattrat(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: Flags, key: PathArg, args: UserAddr, size: u64) -> SysResult {
    let args = read_args(task, args, size)?;
    check_flags(flags.0, AT_KNOWN)?;
    let value = Value { at: UserAddr(args.value), size: args.size as u64 };
    set(task, || at_path(task, dirfd, path, flags.0), key, value, args.flags)
}

/// [getxattrat(2)](https://man7.org/linux/man-pages/man2/getxattrat.2.html).
pub fn getxattrat(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: Flags, key: PathArg, args: UserAddr, size: u64) -> SysResult {
    let args = read_args(task, args, size)?;
    if args.flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    check_flags(flags.0, AT_KNOWN)?;
    let value = Value { at: UserAddr(args.value), size: args.size as u64 };
    get(task, || at_path(task, dirfd, path, flags.0), key, value)
}

/// [listxattrat(2)](https://man7.org/linux/man-pages/man2/listxattrat.2.html).
pub fn listxattrat(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: Flags, buf: UserAddr, size: u64) -> SysResult {
    check_flags(flags.0, AT_KNOWN)?;
    list(task, || at_path(task, dirfd, path, flags.0), Value { at: buf, size })
}

/// [removexattrat(2)](https://man7.org/linux/man-pages/man2/removexattrat.2.html).
pub fn removexattrat(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: Flags, key: PathArg) -> SysResult {
    check_flags(flags.0, AT_KNOWN)?;
    remove(task, || at_path(task, dirfd, path, flags.0), key)
}
