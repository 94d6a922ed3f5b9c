//! execve(2), execveat(2).

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::task::ExecRequest;
use sentry_kernel::{CurrentTask, SysResult, loader};
use sentry_vfs::{Follow, Walk, resolve};

use crate::args::{Flags, PathArg};

const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: u32 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// MAX_ARG_STRLEN.
const MAX_STRING: usize = 128 * 1024;
/// Far more pointers than strings could fit on any stack.
const MAX_POINTERS: usize = 1 << 20;
const MAX_TOTAL: usize = 6 << 20;

/// [execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html); fs/exec.c.
pub fn execve(task: &mut CurrentTask, path: PathArg, argv: UserAddr, envp: UserAddr) -> SysResult {
    execveat(task, AT_FDCWD, path, argv, envp, Flags(0))
}

/// [execveat(2)](https://man7.org/linux/man-pages/man2/execveat.2.html).
pub fn execveat(task: &mut CurrentTask, dirfd: i32, path: PathArg, argv: UserAddr, envp: UserAddr, flags: Flags) -> SysResult {
    if flags.0 & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = task.read_path(path.0)?;
    let cx = task.fs_context();
    let (place, shown) = if name.is_empty() && flags.0 & AT_EMPTY_PATH != 0 {
        (task.files().get(dirfd)?.path.clone(), format!("/dev/fd/{dirfd}").into_bytes())
    } else {
        let follow = if flags.0 & AT_SYMLINK_NOFOLLOW != 0 { Follow::No } else { Follow::Yes };
        let start = if name.first() == Some(&b'/') { cx.root.clone() } else { task.start_path(&cx, dirfd)? };
        let place = resolve(&cx, &start, &name, follow, Walk::empty())?;
        if place.inode().kind() == sentry_abi::FileKind::Symlink {
            return Err(Errno::ELOOP.into());
        }
        let shown =
            if name.first() == Some(&b'/') || dirfd == AT_FDCWD { name } else { [format!("/dev/fd/{dirfd}/").as_bytes(), &name].concat() };
        (place, shown)
    };
    let file = loader::open_program(&cx, task, &place)?;
    let mut room = MAX_TOTAL;
    let argv = read_strings(task, argv, &mut room)?;
    let env = read_strings(task, envp, &mut room)?;
    task.exec(ExecRequest { file, name: shown, argv, env })
}

/// A null-terminated array of strings; a null array is empty, as Linux has it.
fn read_strings(task: &CurrentTask, at: UserAddr, room: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if at.is_null() {
        return Ok(strings);
    }
    for index in 0..MAX_POINTERS {
        let pointer: u64 = task.mm().read_obj(at.offset(index as u64 * 8)?)?;
        if pointer == 0 {
            return Ok(strings);
        }
        let string =
            task.mm().read_cstring(UserAddr(pointer), MAX_STRING).map_err(|e| if e == Errno::ENAMETOOLONG { Errno::E2BIG } else { e })?;
        *room = room.checked_sub(string.len() + 1 + size_of::<u64>()).ok_or(Errno::E2BIG)?;
        strings.push(string);
    }
    Err(Errno::E2BIG)
}
