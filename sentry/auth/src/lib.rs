//! Credentials: user and group ids, supplementary groups, capabilities. credentials(7), capabilities(7).
//!
//! Immutable once made: a change makes a new [`Credentials`] and swaps the task's `Arc`.
#![forbid(unsafe_code)]

mod access;

pub use access::{Access, may_access, may_access_attr};

use std::sync::Arc;

use bitflags::bitflags;
use sentry_abi::{Errno, Result};

bitflags! {
    /// A capability set, bit n for capability n (include/uapi/linux/capability.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Caps: u64 {
        const CHOWN = 1 << 0;
        const DAC_OVERRIDE = 1 << 1;
        const DAC_READ_SEARCH = 1 << 2;
        const FOWNER = 1 << 3;
        const FSETID = 1 << 4;
        const KILL = 1 << 5;
        const SETGID = 1 << 6;
        const SETUID = 1 << 7;
        const SETPCAP = 1 << 8;
        const LINUX_IMMUTABLE = 1 << 9;
        const NET_BIND_SERVICE = 1 << 10;
        const NET_BROADCAST = 1 << 11;
        const NET_ADMIN = 1 << 12;
        const NET_RAW = 1 << 13;
        const IPC_LOCK = 1 << 14;
        const IPC_OWNER = 1 << 15;
        const SYS_MODULE = 1 << 16;
        const SYS_RAWIO = 1 << 17;
        const SYS_CHROOT = 1 << 18;
        const SYS_PTRACE = 1 << 19;
        const SYS_PACCT = 1 << 20;
        const SYS_ADMIN = 1 << 21;
        const SYS_BOOT = 1 << 22;
        const SYS_NICE = 1 << 23;
        const SYS_RESOURCE = 1 << 24;
        const SYS_TIME = 1 << 25;
        const SYS_TTY_CONFIG = 1 << 26;
        const MKNOD = 1 << 27;
        const LEASE = 1 << 28;
        const AUDIT_WRITE = 1 << 29;
        const AUDIT_CONTROL = 1 << 30;
        const SETFCAP = 1 << 31;
        const MAC_OVERRIDE = 1 << 32;
        const MAC_ADMIN = 1 << 33;
        const SYSLOG = 1 << 34;
        const WAKE_ALARM = 1 << 35;
        const BLOCK_SUSPEND = 1 << 36;
        const AUDIT_READ = 1 << 37;
        const PERFMON = 1 << 38;
        const BPF = 1 << 39;
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

pub const LAST_CAP: u32 = 40;

/// `SECBIT_*` of prctl(2): how far uid 0 still means anything. Each bit has a lock one place above it.
pub mod secure {
    pub const NO_ROOT: u32 = 1;
    pub const NO_SETUID_FIXUP: u32 = 1 << 2;
    pub const KEEP_CAPS: u32 = 1 << 4;
    pub const KEEP_CAPS_LOCKED: u32 = 1 << 5;
    pub const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    pub const ALL_LOCKS: u32 = 0xaa;
    pub const ALL: u32 = 0xff;
}

/// What a task may do. Ids are those of the sandbox's initial user namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Arc<[u32]>,
    pub permitted: Caps,
    pub effective: Caps,
    pub inheritable: Caps,
    pub bounding: Caps,
    pub ambient: Caps,
    pub securebits: u32,
    pub no_new_privs: bool,
    pub keep_caps: bool,
}

impl Credentials {
    /// All ids the same, the same set everywhere but inheritable and ambient.
    pub fn new(uid: u32, gid: u32, groups: &[u32], caps: Caps) -> Credentials {
        let held = if uid == 0 { caps } else { Caps::empty() };
        Credentials {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: groups.into(),
            permitted: held,
            effective: held,
            inheritable: Caps::empty(),
            bounding: caps,
            ambient: Caps::empty(),
            securebits: 0,
            no_new_privs: false,
            keep_caps: false,
        }
    }

    /// capable(): in the effective set.
    pub fn has(&self, cap: Caps) -> bool {
        self.effective.contains(cap)
    }

    /// `EPERM` without `cap`.
    pub fn require(&self, cap: Caps) -> Result<()> {
        if self.has(cap) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// in_group_p(): the file system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }

    /// May this task send a signal to one with `target`'s credentials (kill(2))? SIGCONT within a session is the caller's affair.
    pub fn may_signal(&self, target: &Credentials) -> bool {
        self.euid == target.suid || self.euid == target.uid || self.uid == target.suid || self.uid == target.uid || self.has(Caps::KILL)
    }

    pub fn is_secure(&self, bit: u32) -> bool {
        self.securebits & bit != 0
    }

    /// Capability rules of set*uid(2): what a change of user ids does to the sets (capabilities(7), "Effect of user ID changes").
    pub fn after_uid_change(mut self, before: &Credentials) -> Credentials {
        if self.is_secure(secure::NO_SETUID_FIXUP) {
            return self;
        }
        let had_root = before.uid == 0 || before.euid == 0 || before.suid == 0;
        let has_root = self.uid == 0 || self.euid == 0 || self.suid == 0;
        if had_root && !has_root {
            if !self.keep_caps {
                self.permitted = Caps::empty();
                self.effective = Caps::empty();
            }
            self.ambient = Caps::empty();
        }
        if before.euid == 0 && self.euid != 0 {
            self.effective = Caps::empty();
        }
        if before.euid != 0 && self.euid == 0 {
            self.effective = self.permitted;
        }
        self.after_fsuid_change(before)
    }

    /// The part of the rule that follows the file system uid.
    pub fn after_fsuid_change(mut self, before: &Credentials) -> Credentials {
        if self.is_secure(secure::NO_SETUID_FIXUP) {
            return self;
        }
        let file_caps = Caps::CHOWN
            | Caps::DAC_OVERRIDE
            | Caps::DAC_READ_SEARCH
            | Caps::FOWNER
            | Caps::FSETID
            | Caps::LINUX_IMMUTABLE
            | Caps::MKNOD
            | Caps::MAC_OVERRIDE;
        if before.fsuid == 0 && self.fsuid != 0 {
            self.effective -= file_caps;
        }
        if before.fsuid != 0 && self.fsuid == 0 {
            self.effective |= self.permitted & file_caps;
        }
        self
    }

    /// Capabilities after execve(2) of a file without file capabilities (capabilities(7), "Transformation of capabilities during execve").
    /// `set_uid` and `set_gid` are the ids that the file's mode bits give, already dropped by the caller where no_new_privs or nosuid say so.
    pub fn after_exec(&self, set_uid: Option<u32>, set_gid: Option<u32>) -> Credentials {
        let mut new = self.clone();
        if let Some(uid) = set_uid {
            new.euid = uid;
        }
        if let Some(gid) = set_gid {
            new.egid = gid;
        }
        let root_counts = !self.is_secure(secure::NO_ROOT);
        let root = root_counts && (new.uid == 0 || new.euid == 0);
        let mut effective = root_counts && new.euid == 0;
        let set_id = new.euid != self.uid || new.egid != self.gid;
        let of_root = if root { self.inheritable | self.bounding } else { Caps::empty() };
        let gained = !self.permitted.contains(of_root);
        let mut permitted = of_root;
        if self.no_new_privs && (set_id || gained) {
            // What the program would have given is not to be had, not even what root is given at every execve.
            (new.euid, new.egid) = (new.uid, new.gid);
            permitted &= self.permitted;
            effective = root_counts && new.euid == 0;
        }
        if set_id {
            new.ambient = Caps::empty();
        }
        (new.suid, new.sgid) = (new.euid, new.egid);
        (new.fsuid, new.fsgid) = (new.euid, new.egid);
        new.permitted = permitted | new.ambient;
        new.effective = if effective { new.permitted } else { new.ambient };
        new.keep_caps = false;
        new.securebits &= !secure::KEEP_CAPS;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Credentials {
        Credentials::new(0, 0, &[], Caps::all())
    }

    #[test]
    fn a_set_uid_program_gives_root() {
        let user = Credentials::new(1000, 1000, &[], Caps::all());
        let new = user.after_exec(Some(0), None);
        assert_eq!((new.uid, new.euid, new.suid, new.fsuid), (1000, 0, 0, 0));
        assert_eq!((new.permitted, new.effective), (Caps::all(), Caps::all()));
        let plain = user.after_exec(None, None);
        assert_eq!((plain.permitted, plain.effective), (Caps::empty(), Caps::empty()));
    }

    #[test]
    fn no_new_privs_keeps_a_weak_root_weak() {
        let weak = Credentials { permitted: Caps::CHOWN, effective: Caps::CHOWN, ..root() };
        assert_eq!(weak.after_exec(None, None).effective, Caps::all());
        let locked = Credentials { no_new_privs: true, ..weak };
        assert_eq!(locked.after_exec(None, None).effective, Caps::CHOWN);
        assert_eq!(Credentials { no_new_privs: true, ..root() }.after_exec(None, None).effective, Caps::all());
        let borrowed = Credentials { uid: 1000, ..locked }.after_exec(None, None);
        assert_eq!((borrowed.euid, borrowed.effective), (1000, Caps::empty()));
    }

    #[test]
    fn secure_bits_take_roots_meaning() {
        let bits = Credentials { permitted: Caps::CHOWN, effective: Caps::CHOWN, securebits: secure::NO_ROOT, ..root() };
        assert_eq!(bits.after_exec(None, None).permitted, Caps::empty());
        let fixed = Credentials { securebits: secure::NO_SETUID_FIXUP, ..root() };
        let user = Credentials { uid: 5, euid: 5, suid: 5, fsuid: 5, ..fixed.clone() };
        assert_eq!(user.after_uid_change(&fixed).effective, Caps::all());
    }

    #[test]
    fn leaving_root_clears_ambient_even_with_kept_capabilities() {
        let old = Credentials { keep_caps: true, ambient: Caps::CHOWN, inheritable: Caps::CHOWN, ..root() };
        let new = Credentials { uid: 5, euid: 5, suid: 5, fsuid: 5, ..old.clone() }.after_uid_change(&old);
        assert_eq!((new.permitted, new.effective, new.ambient), (Caps::all(), Caps::empty(), Caps::empty()));
    }
}
