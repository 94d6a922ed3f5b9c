//! The raw host calls; the only unsafe code of this crate.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::program::Instruction;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What [`fork`] returns in the two processes.
pub enum Forked {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// clone(2) without CLONE_VM: the child goes on with a copy of everything, on the same stack. The caller must have one thread only, else locks
/// that other threads hold stay locked in the child.
pub fn fork(flags: u64) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let flags = flags | (libc::CLONE_PIDFD as u64) | (libc::SIGCHLD as u64);
    // SAFETY: without CLONE_VM the child has its own copy of all memory; a null stack means the same address. CLONE_PIDFD writes one int through the
    // third argument, which points to a live local.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has just made this descriptor for us and nothing else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent { pid: pid as i32, pidfd })
}

/// Ends a forked child without running exit handlers that belong to the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not touch memory.
    unsafe { libc::_exit(code) }
}

pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: no memory is involved; CLONE_VM and CLONE_FILES, which would matter to Rust, are never passed.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}

/// The calling thread's ids; a role's child has one thread.
pub fn set_ids(uid: u32, gid: u32, clear_groups: bool) -> io::Result<()> {
    if clear_groups {
        // SAFETY: a count of 0 reads no memory.
        check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) })?;
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

fn prctl(option: i32, a: u64, b: u64) -> io::Result<()> {
    // SAFETY: only used below with options that take numbers.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0, 0) }).map(drop)
}

pub fn keep_capabilities() -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)
}

pub fn drop_from_bounding_set(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0)
}

pub fn raise_ambient(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability))
}

pub fn add_personality(flags: u64) -> io::Result<()> {
    // SAFETY: no memory is involved; this value reads without changing.
    let old = check(unsafe { libc::syscall(libc::SYS_personality, 0xffff_ffff_u64) })?;
    // SAFETY: no memory is involved; the flags given change future mappings only.
    check(unsafe { libc::syscall(libc::SYS_personality, old as u64 | flags) }).map(drop)
}

pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

pub fn set_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

pub fn set_name(name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the kernel reads at most 16 bytes up to the NUL of a live string.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(drop)
}

/// Permitted, effective and inheritable sets of this thread.
pub fn set_capabilities(set: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let (low, high) = (set as u32, (set >> 32) as u32);
    // effective, permitted, inheritable of the low and the high half
    let data: [u32; 6] = [low, low, low, high, high, high];
    // SAFETY: version 3 reads a header of 8 bytes and two structs of three u32.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: reads one live rlimit64; a null old limit is not written.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, ptr::null_mut::<libc::rlimit64>()) }).map(drop)
}

/// Soft and hard limit.
pub fn rlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one live rlimit64; a null new limit is not read.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, ptr::null::<libc::rlimit64>(), &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Makes `to` a copy of `from` without close-on-exec, or only clears the flag when they are the same.
pub fn place(from: RawFd, to: RawFd) -> io::Result<()> {
    if from == to {
        // SAFETY: no memory is involved.
        return check(unsafe { libc::syscall(libc::SYS_fcntl, from, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: `to` is a number that the caller has found free of live descriptors.
    check(unsafe { libc::syscall(libc::SYS_dup3, from, to, 0) }).map(drop)
}

/// A copy of `fd` at `least` or above, close-on-exec.
pub fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let new = check(unsafe { libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(new as RawFd) })
}

/// Closes `first ..= last` whoever owns them; for a forked child on its way to exec.
pub fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the child runs no code that would use the owners of these descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: no memory is involved.
    (unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFD) }) >= 0
}

/// Sets close-on-exec and takes the number over.
pub fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: `descriptors::take` gives each number out once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Executes the file that `fd` refers to; returns only on failure.
pub fn exec(fd: BorrowedFd<'_>, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain(std::iter::once(ptr::null())).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and their strings live until the call returns.
    unsafe { libc::syscall(libc::SYS_execveat, fd.as_raw_fd(), c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), libc::AT_EMPTY_PATH) };
    io::Error::last_os_error()
}

/// Unblocks all signals and gives all that were ignored their default action, so that a role does not depend on its caller.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: sets a default action, which runs no code of ours. Unsettable numbers fail, which is meant.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let empty = [0u64; 1];
    // SAFETY: reads 8 bytes of a live array.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, empty.as_ptr(), ptr::null_mut::<u64>(), 8) };
}

pub fn new_session() {
    // SAFETY: no memory is involved. Fails for a group leader, which a forked child is not.
    unsafe { libc::setsid() };
}

pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> io::Result<()> {
    // SAFETY: reads live NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr()) }).map(drop)
}

/// pivot_root(".", "."): the current directory, a mount point, becomes the root, with the old one stacked on it, which is taken off.
pub fn pivot_here() -> io::Result<()> {
    // SAFETY: reads live NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: reads a live NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// A detached copy of the mount that `path` lies in, from there down, with what is mounted below.
pub fn copy_tree(path: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: u32 = 1;
    const AT_RECURSIVE: u32 = 0x8000;
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | libc::AT_EMPTY_PATH as u32 | libc::O_CLOEXEC as u32;
    // SAFETY: reads a live NUL-terminated string.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, path.as_raw_fd(), c"".as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Adds attributes (`MOUNT_ATTR_*`) to all mounts of a tree.
pub fn add_mount_attributes(tree: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const AT_RECURSIVE: i32 = 0x8000;
    let attr = MountAttr { attr_set: attributes, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | AT_RECURSIVE;
    // SAFETY: reads one live struct of the size given.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size_of::<MountAttr>()) })
        .map(drop)
}

/// Puts a detached tree on what `at` refers to.
pub fn attach_tree(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: reads live NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), at.as_raw_fd(), c"".as_ptr(), flags) }).map(drop)
}

pub fn memfd(name: &CStr, flags: u32) -> io::Result<OwnedFd> {
    // SAFETY: reads a live NUL-terminated string.
    let fd = check(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub fn add_seals(fd: impl AsFd, seals: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd.as_fd().as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// Installs a filter on all threads of this process.
pub fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `Instruction` has the layout of `sock_filter`; the kernel reads `len` of them and writes nothing.
    let result = check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC, &raw const prog)
    })?;
    // A positive result is the thread that could not be brought along.
    if result == 0 { Ok(()) } else { Err(io::Error::other(format!("thread {result} has another filter"))) }
}
