//! May one task look into another process? kernel/ptrace.c `__ptrace_may_access`, with cap_ptrace_access_check().

use std::sync::atomic::Ordering;

use sentry_auth::{Caps, Credentials};

use crate::thread_group::ThreadGroup;

/// Which of the asker's ids count: `PTRACE_MODE_FSCREDS` for what goes through a file system, `PTRACE_MODE_REALCREDS` for system calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessIds {
    FileSystem,
    Real,
}

impl ThreadGroup {
    /// `who` of process `pid` wants to read or change this one's memory, descriptors or places.
    ///
    /// Whatever is to be looked at must be taken *before* this is asked: execve(2) puts the new credentials in force before it shows the new
    /// program, so that what was taken is either the old program's or judged by the new credentials.
    pub fn may_access(&self, who: &Credentials, pid: i32, ids: AccessIds) -> bool {
        if pid == self.id {
            return true;
        }
        let Some(other) = self.any_task() else { return false };
        let theirs = other.credentials();
        let dumpable = self.dumpable.load(Ordering::Relaxed);
        allowed(who, ids, &theirs, dumpable)
    }
}

fn allowed(who: &Credentials, ids: AccessIds, theirs: &Credentials, dumpable: bool) -> bool {
    if who.has(Caps::SYS_PTRACE) {
        return true;
    }
    let (uid, gid, caps) = match ids {
        AccessIds::FileSystem => (who.fsuid, who.fsgid, who.effective),
        AccessIds::Real => (who.uid, who.gid, who.permitted),
    };
    let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == uid);
    let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == gid);
    same_user && same_group && dumpable && caps.contains(theirs.permitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equals_that_may_be_dumped_are_looked_into() {
        let user = Credentials::new(1000, 1000, &[], Caps::all());
        let root = Credentials::new(0, 0, &[], Caps::all());
        let weak_root = Credentials::new(0, 0, &[], Caps::empty());
        for ids in [AccessIds::FileSystem, AccessIds::Real] {
            assert!(allowed(&user, ids, &user, true));
            assert!(!allowed(&user, ids, &user, false));
            assert!(!allowed(&user, ids, &root, true));
            assert!(!allowed(&weak_root, ids, &root, true));
            assert!(allowed(&root, ids, &user, false));
            let set_uid = Credentials { euid: 0, suid: 0, fsuid: 0, ..user.clone() };
            assert!(!allowed(&user, ids, &set_uid, true));
            let other_group = Credentials { sgid: 5, ..user.clone() };
            assert!(!allowed(&user, ids, &other_group, true));
        }
    }
}
