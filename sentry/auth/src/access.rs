//! Permission of a file: owner, group, others, and the capabilities that override (fs/namei.c generic_permission, path_resolution(7)).

use bitflags::bitflags;
use sentry_abi::{Errno, FileKind, Mode, Result};

use crate::{Caps, Credentials};

bitflags! {
    /// `MAY_*`; the bits are those of one rwx triple.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Access: u8 {
        const EXEC = 1;
        const WRITE = 2;
        const READ = 4;
    }
}

/// `EACCES` unless `who` may do all of `want` to a file of this kind, mode and ownership.
pub fn may_access_attr(who: &Credentials, kind: FileKind, mode: Mode, uid: u32, gid: u32, want: Access) -> Result<()> {
    let triple = if who.fsuid == uid {
        mode.0 >> 6
    } else if who.in_group(gid) {
        mode.0 >> 3
    } else {
        mode.0
    };
    let granted = Access::from_bits_truncate((triple & 7) as u8);
    if granted.contains(want) || override_by_capability(who, kind, mode, want) { Ok(()) } else { Err(Errno::EACCES) }
}

fn override_by_capability(who: &Credentials, kind: FileKind, mode: Mode, want: Access) -> bool {
    if kind == FileKind::Directory {
        return who.has(Caps::DAC_OVERRIDE) || (!want.contains(Access::WRITE) && who.has(Caps::DAC_READ_SEARCH));
    }
    if who.has(Caps::DAC_OVERRIDE) && (!want.contains(Access::EXEC) || mode.0 & 0o111 != 0) {
        return true;
    }
    want == Access::READ && who.has(Caps::DAC_READ_SEARCH)
}

/// Like [`may_access_attr`], with the real ids, as access(2) wants it: pass credentials whose fs ids are the real ones.
pub fn may_access(who: &Credentials, kind: FileKind, mode: Mode, uid: u32, gid: u32, want: Access) -> bool {
    may_access_attr(who, kind, mode, uid, gid, want).is_ok()
}
