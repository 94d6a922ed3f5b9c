//! The root that a role sees: nothing, or a few trees of files.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::sys;

/// A file or directory of the host that a role reaches as `/<index>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    pub source: PathBuf,
    pub writable: bool,
    /// Hides the host's kernel file systems (proc, sys, dev …) that are mounted below; for a root file system, where the sentry mounts its own.
    pub hide_kernel_mounts: bool,
    /// `source` may be a symbolic link.
    pub follow: bool,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;

/// The directory that is covered by the new root until it is the root. Any that exists everywhere will do.
const STAGE: &CStr = c"/proc";
const STAGE_PATH: &str = "/proc";

/// Where a role with trees finds a memory file system of its own.
pub const MEMORY: &str = "/memory";

/// Kernel interfaces: mounts of these types show the host, and have no place in a container's root.
const KERNEL_TYPES: [&str; 17] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "pstore",
    "efivarfs",
    "configfs",
    "fusectl",
    "binfmt_misc",
    "hugetlbfs",
];

fn step(what: impl Into<String>) -> impl FnOnce(io::Error) -> String {
    let what = what.into();
    move |error| format!("{what}: {error}")
}

/// Replaces the root by an empty read-only directory (ZYGOTE §1.5).
pub(crate) fn empty_root() -> Result<(), String> {
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(c"none", STAGE, c"tmpfs", flags, c"size=4k,nr_inodes=1,mode=0555").map_err(step("mount an empty root"))?;
    enter_stage()
}

/// Replaces the root by a read-only directory with the trees `0`, `1`, … in it. `own_namespace` tells that mounts can be taken off again, which
/// those that came from a more privileged namespace cannot.
pub(crate) fn tree_root(trees: &[Tree]) -> Result<(), String> {
    // Nothing that is mounted here may reach the host, and nothing that the host mounts later may show up here.
    sys::mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"").map_err(step("make mounts private"))?;
    let hidden = if trees.iter().any(|tree| tree.hide_kernel_mounts) { kernel_mounts()? } else { Vec::new() };
    // Copies first: the stage may cover a source.
    let copies = trees.iter().map(|tree| copy(tree, &hidden)).collect::<Result<Vec<_>, String>>()?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(c"none", STAGE, c"tmpfs", flags, c"size=1m,mode=0555").map_err(step("mount the root"))?;
    for (index, copy) in copies.iter().enumerate() {
        let at = Path::new(STAGE_PATH).join(index.to_string());
        let what = || format!("mount {}", trees[index].source.display());
        if copy.is_directory {
            fs::create_dir(&at).map_err(step(what()))?;
        } else {
            fs::write(&at, b"").map_err(step(what()))?;
        }
        let point =
            rustix::fs::open(&at, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(|e| step(what())(e.into()))?;
        sys::attach_tree(copy.mount.as_fd(), point.as_fd()).map_err(step(what()))?;
        for below in &copy.hidden {
            cover(&at.join(below)).map_err(step(format!("hide {}", below.display())))?;
        }
    }
    memory().map_err(step("mount the memory file system"))?;
    sys::mount(c"none", STAGE, c"", flags | libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, c"")
        .map_err(step("make the root read-only"))?;
    enter_stage()
}

/// A file system of its own for files that are nothing but memory. Executable: guests run programs from them.
fn memory() -> io::Result<()> {
    let at = Path::new(STAGE_PATH).join(MEMORY.trim_start_matches('/'));
    fs::create_dir(&at)?;
    let target = CString::new(at.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    sys::mount(c"none", &target, c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV, c"size=0,nr_inodes=0,mode=0777")
}

fn enter_stage() -> Result<(), String> {
    std::env::set_current_dir(STAGE_PATH).map_err(step("enter the new root"))?;
    sys::pivot_here().map_err(step("pivot_root"))?;
    std::env::set_current_dir("/").map_err(step("enter /"))
}

struct Copy {
    mount: std::os::fd::OwnedFd,
    is_directory: bool,
    /// Kernel file systems below, relative.
    hidden: Vec<PathBuf>,
}

fn copy(tree: &Tree, hidden: &[PathBuf]) -> Result<Copy, String> {
    let what = || tree.source.display().to_string();
    let follow = if tree.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let source =
        rustix::fs::open(&tree.source, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty()).map_err(|e| step(what())(e.into()))?;
    let stat = rustix::fs::statat(&source, c"", AtFlags::EMPTY_PATH).map_err(|e| step(what())(e.into()))?;
    let is_directory = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => false,
        _ => return Err(format!("{}: neither a directory nor a regular file", what())),
    };
    let mount = sys::copy_tree(source.as_fd()).map_err(step(format!("copy the mount of {}", what())))?;
    // noexec is left alone: mappings of donated files would lose PROT_EXEC.
    let read_only = if tree.writable { 0 } else { MOUNT_ATTR_RDONLY };
    sys::add_mount_attributes(mount.as_fd(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | read_only)
        .map_err(step(format!("restrict {}", what())))?;
    let hidden = if tree.hide_kernel_mounts {
        let root = fs::canonicalize(&tree.source).map_err(step(what()))?;
        hidden
            .iter()
            .filter_map(|path| path.strip_prefix(&root).ok())
            .filter(|below| !below.as_os_str().is_empty())
            .map(Path::to_path_buf)
            .collect()
    } else {
        Vec::new()
    };
    Ok(Copy { mount, is_directory, hidden })
}

/// Puts an empty read-only directory over a mount.
fn cover(path: &Path) -> io::Result<()> {
    let target = CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(c"none", &target, c"tmpfs", flags, c"size=4k,nr_inodes=1,mode=0555")
}

/// Mount points of kernel file systems, the topmost only.
fn kernel_mounts() -> Result<Vec<PathBuf>, String> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(step("/proc/self/mountinfo"))?;
    let mut found: Vec<PathBuf> = Vec::new();
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else { continue };
        let point = PathBuf::from(unescape(point));
        // What lies below /dev, such as a tmpfs for shared memory, is hidden with it.
        if KERNEL_TYPES.contains(&kind) || point == Path::new("/dev") {
            found.push(point);
        }
    }
    found.sort();
    let mut top: Vec<PathBuf> = Vec::new();
    for point in found {
        if !top.iter().any(|above| point.starts_with(above)) {
            top.push(point);
        }
    }
    Ok(top)
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn octal_escapes() {
        for (input, expected) in [("/a", "/a"), ("/a\\040b", "/a b"), ("\\134x", "\\x"), ("/x\\", "/x\\"), ("\\04", "\\04")] {
            assert_eq!(unescape(input), expected);
        }
    }
}
