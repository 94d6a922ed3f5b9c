//! open(2), openat(2), openat2(2), creat(2).

use sentry_abi::file::OpenHow;
use sentry_abi::{Errno, Mode, Result, UserAddr};
use sentry_kernel::{CurrentTask, Restart, Stop, SysResult};
use sentry_sync::Events;
use sentry_vfs::{FileDescription, OpenFlags, Walk};

use super::at;
use crate::args::{Flags, PathArg};

const OPEN_HOW_SIZE: u64 = 24;

/// [open(2)](https://man7.org/linux/man-pages/man2/open.2.html).
pub fn open(task: &mut CurrentTask, path: PathArg, flags: Flags, mode: u32) -> SysResult {
    openat(task, at::AT_FDCWD, path, flags, mode)
}

/// [creat(2)](https://man7.org/linux/man-pages/man2/creat.2.html).
pub fn creat(task: &mut CurrentTask, path: PathArg, mode: u32) -> SysResult {
    let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    openat(task, at::AT_FDCWD, path, Flags(flags.bits()), mode)
}

/// [openat(2)](https://man7.org/linux/man-pages/man2/openat.2.html). Unknown flags are ignored, as ever.
pub fn openat(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: Flags, mode: u32) -> SysResult {
    let mut flags = OpenFlags::from_bits_truncate(flags.0);
    if flags.contains(OpenFlags::PATH) {
        flags &= PATH_FLAGS;
    }
    // Mode bits beyond 07777 mean nothing here, and none do when nothing is made.
    open_file(task, dirfd, path, flags, Mode::new(mode), Walk::empty())
}

/// What O_PATH leaves of the other flags.
const PATH_FLAGS: OpenFlags = OpenFlags::PATH.union(OpenFlags::DIRECTORY).union(OpenFlags::NO_FOLLOW).union(OpenFlags::CLOSE_ON_EXEC);

/// [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html).
pub fn openat2(task: &mut CurrentTask, dirfd: i32, path: PathArg, how: UserAddr, size: u64) -> SysResult {
    if size < OPEN_HOW_SIZE {
        return Err(Errno::EINVAL.into());
    }
    if size > sentry_abi::PAGE_SIZE {
        return Err(Errno::E2BIG.into());
    }
    let asked: OpenHow = task.mm().read_obj(how)?;
    let rest = task.mm().read_vec(how.offset(OPEN_HOW_SIZE)?, (size - OPEN_HOW_SIZE) as usize)?;
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG.into());
    }
    let (flags, mode, walk) = check_how(&asked)?;
    open_file(task, dirfd, path, flags, mode, walk)
}

fn check_how(how: &OpenHow) -> Result<(OpenFlags, Mode, Walk)> {
    /// RESOLVE_CACHED: everything here may be cached or not, without the caller's knowing.
    const CACHED: u32 = 32;
    let flags = u32::try_from(how.flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let resolve = u32::try_from(how.resolve).map_err(|_| Errno::EINVAL)?;
    if resolve & CACHED != 0 {
        return Err(if flags.intersects(OpenFlags::TRUNCATE | OpenFlags::CREATE | OpenFlags::TEMPORARY) {
            Errno::EINVAL
        } else {
            Errno::EAGAIN
        });
    }
    let walk = Walk::from_bits(resolve).ok_or(Errno::EINVAL)?;
    if walk.contains(Walk::BENEATH | Walk::IN_ROOT) {
        return Err(Errno::EINVAL);
    }
    let makes = flags.intersects(OpenFlags::CREATE | OpenFlags::TEMPORARY);
    if how.mode & !0o7777 != 0 || (how.mode != 0 && !makes) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OpenFlags::PATH) && !PATH_FLAGS.contains(flags) {
        return Err(Errno::EINVAL);
    }
    Ok((flags, Mode::new(how.mode as u32), walk))
}

fn open_file(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: OpenFlags, mode: Mode, walk: Walk) -> SysResult {
    let cx = task.fs_context();
    let bytes = at::read(task, path)?;
    // RESOLVE_IN_ROOT takes absolute paths relative to the directory, too.
    let start = if walk.contains(Walk::IN_ROOT) { task.start_path(&cx, dirfd)? } else { at::start(task, &cx, dirfd, &bytes)? };
    let file = sentry_vfs::open(&cx, task, &start, &bytes, flags, mode, walk)?;
    wait_until_open(task, &file)?;
    Ok(task.install(file, flags.contains(OpenFlags::CLOSE_ON_EXEC))? as u64)
}

/// A FIFO waits for its other end (fifo(7)).
fn wait_until_open(task: &CurrentTask, file: &FileDescription) -> Result<(), Stop> {
    if file.path_only || file.ops.opened(None) {
        return Ok(());
    }
    let waited = task.block_until(Events::all(), None, |waiter| file.ops.opened(waiter).then_some(()));
    waited.map_err(|_| Stop::Restart(Restart::IfAllowed))
}
