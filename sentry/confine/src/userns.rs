//! User namespaces: maps, and how much privilege we start from.

use std::fs;
use std::io;

/// One line of a uid or gid map: `count` ids from `inside` are those from `outside` of the parent namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdMap {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl IdMap {
    /// Every id is itself.
    pub const IDENTITY: IdMap = IdMap { inside: 0, outside: 0, count: u32::MAX };

    fn line(self) -> String {
        format!("{} {} {}\n", self.inside, self.outside, self.count)
    }
}

/// What runsc can do on this host. Decided by the uid map and not by the uid alone: root of a user namespace has one id to give away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// Root with all ids: every process gets an id of its own.
    Root,
    /// One id, in user namespaces.
    OneId { uid: u32, gid: u32 },
}

impl Privilege {
    pub fn current() -> io::Result<Self> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let map = fs::read_to_string("/proc/self/uid_map")?;
        let fields: Vec<&str> = map.split_whitespace().collect();
        let all = fields == ["0", "0", "4294967295"];
        Ok(if uid == 0 && all { Self::Root } else { Self::OneId { uid, gid } })
    }
}

/// Writes the maps of a process that has just entered a namespace of its own. Can be done once only.
pub(crate) fn write_maps(pid: i32, uids: &[IdMap], gids: &[IdMap], deny_setgroups: bool) -> io::Result<()> {
    let text = |maps: &[IdMap]| maps.iter().map(|map| map.line()).collect::<String>();
    fs::write(format!("/proc/{pid}/uid_map"), text(uids))?;
    if deny_setgroups {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/gid_map"), text(gids))
}
