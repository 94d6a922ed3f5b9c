//! Credentials: user and group ids, capabilities. credentials(7), capabilities(7), kernel/sys.c.

use std::sync::atomic::Ordering;

use sentry_abi::{Errno, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_kernel::{CurrentTask, SysResult};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// -1: leave it as it is.
fn given(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

/// [getuid(2)](https://man7.org/linux/man-pages/man2/getuid.2.html).
pub fn getuid(task: &mut CurrentTask) -> SysResult {
    Ok(task.creds().uid as u64)
}

/// [geteuid(2)](https://man7.org/linux/man-pages/man2/geteuid.2.html).
pub fn geteuid(task: &mut CurrentTask) -> SysResult {
    Ok(task.creds().euid as u64)
}

/// [getgid(2)](https://man7.org/linux/man-pages/man2/getgid.2.html).
pub fn getgid(task: &mut CurrentTask) -> SysResult {
    Ok(task.creds().gid as u64)
}

/// [getegid(2)](https://man7.org/linux/man-pages/man2/getegid.2.html).
pub fn getegid(task: &mut CurrentTask) -> SysResult {
    Ok(task.creds().egid as u64)
}

/// [getresuid(2)](https://man7.org/linux/man-pages/man2/getresuid.2.html).
pub fn getresuid(task: &mut CurrentTask, ruid: UserAddr, euid: UserAddr, suid: UserAddr) -> SysResult {
    let c = task.creds();
    for (at, id) in [(ruid, c.uid), (euid, c.euid), (suid, c.suid)] {
        task.mm().write_obj(at, &id)?;
    }
    Ok(0)
}

/// [getresgid(2)](https://man7.org/linux/man-pages/man2/getresgid.2.html).
pub fn getresgid(task: &mut CurrentTask, rgid: UserAddr, egid: UserAddr, sgid: UserAddr) -> SysResult {
    let c = task.creds();
    for (at, id) in [(rgid, c.gid), (egid, c.egid), (sgid, c.sgid)] {
        task.mm().write_obj(at, &id)?;
    }
    Ok(0)
}

fn commit_uids(task: &mut CurrentTask, old: &Credentials, mut new: Credentials) -> SysResult {
    new.fsuid = new.euid;
    let new = new.after_uid_change(old);
    commit(task, old, new);
    Ok(0)
}

/// commit_creds(): another effective or file system id means that the process's memory may hold what its new user must not see.
fn commit(task: &CurrentTask, old: &Credentials, new: Credentials) {
    let ids = |c: &Credentials| [c.euid, c.egid, c.fsuid, c.fsgid];
    if ids(&new) != ids(old) || !old.permitted.contains(new.permitted) {
        task.task.group.dumpable.store(false, Ordering::SeqCst);
        task.task.parent_death_signal.store(0, Ordering::Relaxed);
    }
    task.task.set_credentials(new);
}

/// [setuid(2)](https://man7.org/linux/man-pages/man2/setuid.2.html).
pub fn setuid(task: &mut CurrentTask, uid: u32) -> SysResult {
    let old = task.creds();
    let uid = given(uid).ok_or(Errno::EINVAL)?;
    let mut new = (*old).clone();
    if old.has(Caps::SETUID) {
        (new.uid, new.suid) = (uid, uid);
    } else if uid != old.uid && uid != old.suid {
        return Err(Errno::EPERM.into());
    }
    new.euid = uid;
    commit_uids(task, &old, new)
}

/// [setreuid(2)](https://man7.org/linux/man-pages/man2/setreuid.2.html).
pub fn setreuid(task: &mut CurrentTask, ruid: u32, euid: u32) -> SysResult {
    let old = task.creds();
    let privileged = old.has(Caps::SETUID);
    let mut new = (*old).clone();
    if let Some(id) = given(ruid) {
        if !privileged && id != old.uid && id != old.euid {
            return Err(Errno::EPERM.into());
        }
        new.uid = id;
    }
    if let Some(id) = given(euid) {
        if !privileged && ![old.uid, old.euid, old.suid].contains(&id) {
            return Err(Errno::EPERM.into());
        }
        new.euid = id;
    }
    if given(ruid).is_some() || given(euid).is_some_and(|id| id != old.uid) {
        new.suid = new.euid;
    }
    commit_uids(task, &old, new)
}

/// [setresuid(2)](https://man7.org/linux/man-pages/man2/setresuid.2.html).
pub fn setresuid(task: &mut CurrentTask, ruid: u32, euid: u32, suid: u32) -> SysResult {
    let old = task.creds();
    let known = [old.uid, old.euid, old.suid];
    let allowed = |id: u32| old.has(Caps::SETUID) || known.contains(&id);
    if [ruid, euid, suid].into_iter().filter_map(given).any(|id| !allowed(id)) {
        return Err(Errno::EPERM.into());
    }
    let mut new = (*old).clone();
    new.uid = given(ruid).unwrap_or(old.uid);
    new.euid = given(euid).unwrap_or(old.euid);
    new.suid = given(suid).unwrap_or(old.suid);
    commit_uids(task, &old, new)
}

fn commit_gids(task: &mut CurrentTask, old: &Credentials, mut new: Credentials) -> SysResult {
    new.fsgid = new.egid;
    commit(task, old, new);
    Ok(0)
}

/// [setgid(2)](https://man7.org/linux/man-pages/man2/setgid.2.html).
pub fn setgid(task: &mut CurrentTask, gid: u32) -> SysResult {
    let old = task.creds();
    let gid = given(gid).ok_or(Errno::EINVAL)?;
    let mut new = (*old).clone();
    if old.has(Caps::SETGID) {
        (new.gid, new.sgid) = (gid, gid);
    } else if gid != old.gid && gid != old.sgid {
        return Err(Errno::EPERM.into());
    }
    new.egid = gid;
    commit_gids(task, &old, new)
}

/// [setregid(2)](https://man7.org/linux/man-pages/man2/setregid.2.html).
pub fn setregid(task: &mut CurrentTask, rgid: u32, egid: u32) -> SysResult {
    let old = task.creds();
    let privileged = old.has(Caps::SETGID);
    let mut new = (*old).clone();
    if let Some(id) = given(rgid) {
        if !privileged && id != old.gid && id != old.egid {
            return Err(Errno::EPERM.into());
        }
        new.gid = id;
    }
    if let Some(id) = given(egid) {
        if !privileged && ![old.gid, old.egid, old.sgid].contains(&id) {
            return Err(Errno::EPERM.into());
        }
        new.egid = id;
    }
    if given(rgid).is_some() || given(egid).is_some_and(|id| id != old.gid) {
        new.sgid = new.egid;
    }
    commit_gids(task, &old, new)
}

/// [setresgid(2)](https://man7.org/linux/man-pages/man2/setresgid.2.html).
pub fn setresgid(task: &mut CurrentTask, rgid: u32, egid: u32, sgid: u32) -> SysResult {
    let old = task.creds();
    let known = [old.gid, old.egid, old.sgid];
    let allowed = |id: u32| old.has(Caps::SETGID) || known.contains(&id);
    if [rgid, egid, sgid].into_iter().filter_map(given).any(|id| !allowed(id)) {
        return Err(Errno::EPERM.into());
    }
    let mut new = (*old).clone();
    new.gid = given(rgid).unwrap_or(old.gid);
    new.egid = given(egid).unwrap_or(old.egid);
    new.sgid = given(sgid).unwrap_or(old.sgid);
    commit_gids(task, &old, new)
}

/// [setfsuid(2)](https://man7.org/linux/man-pages/man2/setfsuid.2.html): answers the old id, changed or not.
pub fn setfsuid(task: &mut CurrentTask, uid: u32) -> SysResult {
    let old = task.creds();
    if old.has(Caps::SETUID) || [old.uid, old.euid, old.suid, old.fsuid].contains(&uid) && given(uid).is_some() {
        let new = Credentials { fsuid: uid, ..(*old).clone() };
        if given(uid).is_some() {
            commit(task, &old, new.after_fsuid_change(&old));
        }
    }
    Ok(old.fsuid as u64)
}

/// [setfsgid(2)](https://man7.org/linux/man-pages/man2/setfsgid.2.html).
pub fn setfsgid(task: &mut CurrentTask, gid: u32) -> SysResult {
    let old = task.creds();
    let allowed = old.has(Caps::SETGID) || [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid);
    if allowed && given(gid).is_some() {
        commit(task, &old, Credentials { fsgid: gid, ..(*old).clone() });
    }
    Ok(old.fsgid as u64)
}

const NGROUPS_MAX: i32 = 65536;

/// [getgroups(2)](https://man7.org/linux/man-pages/man2/getgroups.2.html).
pub fn getgroups(task: &mut CurrentTask, size: i32, list: UserAddr) -> SysResult {
    let groups = task.creds().groups.clone();
    if size < 0 || size > 0 && (size as usize) < groups.len() {
        return Err(Errno::EINVAL.into());
    }
    if size > 0 {
        task.mm().write_array(list, &groups)?;
    }
    Ok(groups.len() as u64)
}

/// [setgroups(2)](https://man7.org/linux/man-pages/man2/setgroups.2.html).
pub fn setgroups(task: &mut CurrentTask, size: i32, list: UserAddr) -> SysResult {
    let old = task.creds();
    old.require(Caps::SETGID)?;
    if !(0..=NGROUPS_MAX).contains(&size) {
        return Err(Errno::EINVAL.into());
    }
    let mut groups: Vec<u32> = task.mm().read_array(list, size as usize)?;
    groups.sort_unstable();
    task.task.set_credentials(Credentials { groups: groups.into(), ..(*old).clone() });
    Ok(0)
}

/// `struct __user_cap_header_struct`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// How many words of data a version has; writes back the version that we speak for one that we do not.
fn cap_words(task: &CurrentTask, at: UserAddr, header: &CapHeader) -> Result<usize, Errno> {
    match header.version {
        VERSION_1 => Ok(1),
        VERSION_2 | VERSION_3 => Ok(2),
        _ => {
            task.mm().write_obj(at, &VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

/// [capget(2)](https://man7.org/linux/man-pages/man2/capget.2.html).
pub fn capget(task: &mut CurrentTask, header_at: UserAddr, data_at: UserAddr) -> SysResult {
    let header: CapHeader = task.mm().read_obj(header_at)?;
    let words = match cap_words(task, header_at, &header) {
        Ok(words) => words,
        Err(Errno::EINVAL) if data_at.is_null() => return Ok(0),
        Err(errno) => return Err(errno.into()),
    };
    if header.pid < 0 {
        return Err(Errno::EINVAL.into());
    }
    let creds = match header.pid {
        0 => task.creds(),
        pid => task.kernel().processes.task(pid).ok_or(Errno::ESRCH)?.credentials(),
    };
    if data_at.is_null() {
        return Ok(0);
    }
    let word = |set: Caps, i: usize| (set.bits() >> (32 * i)) as u32;
    let data: Vec<CapData> = (0..words)
        .map(|i| CapData {
            effective: word(creds.effective, i),
            permitted: word(creds.permitted, i),
            inheritable: word(creds.inheritable, i),
        })
        .collect();
    task.mm().write_array(data_at, &data)?;
    Ok(0)
}

/// [capset(2)](https://man7.org/linux/man-pages/man2/capset.2.html).
pub fn capset(task: &mut CurrentTask, header_at: UserAddr, data_at: UserAddr) -> SysResult {
    let header: CapHeader = task.mm().read_obj(header_at)?;
    let words = cap_words(task, header_at, &header)?;
    if header.pid != 0 && header.pid != task.task.tid() {
        return Err(Errno::EPERM.into());
    }
    let data: Vec<CapData> = task.mm().read_array(data_at, words)?;
    let set = |pick: fn(&CapData) -> u32| {
        let bits = data.iter().enumerate().fold(0u64, |all, (i, d)| all | (pick(d) as u64) << (32 * i));
        Caps::from_bits_truncate(bits)
    };
    let (effective, permitted, inheritable) = (set(|d| d.effective), set(|d| d.permitted), set(|d| d.inheritable));
    let old = task.creds();
    let may_inherit = if old.has(Caps::SETPCAP) { old.inheritable | old.permitted | old.bounding } else { old.inheritable | old.permitted };
    if !may_inherit.contains(inheritable) || !(old.inheritable | old.bounding).contains(inheritable) {
        return Err(Errno::EPERM.into());
    }
    if !old.permitted.contains(permitted) || !permitted.contains(effective) {
        return Err(Errno::EPERM.into());
    }
    let ambient = old.ambient & permitted & inheritable;
    task.task.set_credentials(Credentials { effective, permitted, inheritable, ambient, ..(*old).clone() });
    Ok(0)
}
