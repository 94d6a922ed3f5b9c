//! The contents of a fresh /dev, as the OCI runtime specification lists them.

use std::sync::Arc;

use sentry_abi::stat::make_dev;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_vfs::{Inode, NewNode};

use crate::number;

/// Does the container have a terminal of its own?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Console {
    Absent,
    Present,
}

const CHARACTER_DEVICES: [(&[u8], u32, u32); 6] = [
    (b"null", number::MEMORY_MAJOR, number::NULL),
    (b"zero", number::MEMORY_MAJOR, number::ZERO),
    (b"full", number::MEMORY_MAJOR, number::FULL),
    (b"random", number::MEMORY_MAJOR, number::RANDOM),
    (b"urandom", number::MEMORY_MAJOR, number::URANDOM),
    (b"tty", number::TTY_MAJOR, number::TTY),
];

const LINKS: [(&[u8], &[u8]); 6] = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"core", b"/proc/kcore"),
    (b"ptmx", b"pts/ptmx"),
];

/// Mount points of devpts, tmpfs and mqueue.
const DIRECTORIES: [(&[u8], u16); 3] = [(b"pts", 0o755), (b"shm", 0o1777), (b"mqueue", 0o1777)];

/// Fills `root`; what is there already stays.
pub fn populate(root: &Arc<dyn Inode>, console: Console) -> Result<()> {
    for (name, major, minor) in CHARACTER_DEVICES {
        make(root, name, FileKind::CharDevice, 0o666, make_dev(major, minor))?;
    }
    if console == Console::Present {
        make(root, b"console", FileKind::CharDevice, 0o620, make_dev(number::TTY_MAJOR, number::CONSOLE))?;
    }
    for (name, mode) in DIRECTORIES {
        make(root, name, FileKind::Directory, mode, 0)?;
    }
    for (name, target) in LINKS {
        exists_is_fine(root.symlink(name, target, 0, 0))?;
    }
    Ok(())
}

fn make(root: &Arc<dyn Inode>, name: &[u8], kind: FileKind, mode: u16, rdev: u64) -> Result<()> {
    exists_is_fine(root.create(name, &NewNode { kind, mode: Mode(mode), uid: 0, gid: 0, rdev }))
}

fn exists_is_fine<T>(result: Result<T>) -> Result<()> {
    match result {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}
