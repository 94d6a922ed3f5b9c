//! Control messages (cmsg(3)): descriptors and credentials beside the data.

use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_auth::Caps;
use sentry_vfs::{Caller, FileDescription};

use crate::family::{MsgFlags, PeerCredentials};

/// Descriptors in one message (SCM_MAX_FD).
pub const MAX_RIGHTS: usize = 253;

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// `struct cmsghdr`: length, level, type.
const HEADER: usize = 16;

pub enum Control {
    Rights(Vec<Arc<FileDescription>>),
    Credentials(PeerCredentials),
}

/// What sendmsg(2) got. `get` finds the file of a descriptor (`EBADF`).
pub fn decode_control(bytes: &[u8], caller: &dyn Caller, get: &dyn Fn(i32) -> Result<Arc<FileDescription>>) -> Result<Vec<Control>> {
    let mut out = Vec::new();
    let mut rights = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER) {
        let len = u64::from_ne_bytes(header[..8].try_into().map_err(|_| Errno::EINVAL)?);
        let level = i32::from_ne_bytes(header[8..12].try_into().map_err(|_| Errno::EINVAL)?);
        let kind = i32::from_ne_bytes(header[12..].try_into().map_err(|_| Errno::EINVAL)?);
        let len = usize::try_from(len).ok().filter(|len| *len >= HEADER && *len <= bytes.len() - at).ok_or(Errno::EINVAL)?;
        let data = &bytes[at + HEADER..at + len];
        if level == SOL_SOCKET {
            match kind {
                SCM_RIGHTS => add_rights(&mut rights, data, get)?,
                SCM_CREDENTIALS => out.push(Control::Credentials(check_credentials(data, caller)?)),
                _ => return Err(Errno::EINVAL),
            }
        }
        at += len.next_multiple_of(8);
    }
    if !rights.is_empty() {
        out.push(Control::Rights(rights));
    }
    Ok(out)
}

fn add_rights(rights: &mut Vec<Arc<FileDescription>>, data: &[u8], get: &dyn Fn(i32) -> Result<Arc<FileDescription>>) -> Result<()> {
    let (fds, _) = data.as_chunks::<4>();
    if rights.len() + fds.len() > MAX_RIGHTS {
        return Err(Errno::EINVAL);
    }
    for fd in fds {
        rights.push(get(i32::from_ne_bytes(*fd))?);
    }
    Ok(())
}

/// A sender may only claim to be what it is, or what it could become.
fn check_credentials(data: &[u8], caller: &dyn Caller) -> Result<PeerCredentials> {
    let bytes: &[u8; 12] = data.try_into().map_err(|_| Errno::EINVAL)?;
    let claimed = PeerCredentials::decode(bytes);
    let who = caller.credentials();
    let pid_ok = claimed.pid == caller.pid() || who.has(Caps::SYS_ADMIN);
    let uid_ok = [who.uid, who.euid, who.suid].contains(&claimed.uid) || who.has(Caps::SETUID);
    let gid_ok = [who.gid, who.egid, who.sgid].contains(&claimed.gid) || who.has(Caps::SETGID);
    if pid_ok && uid_ok && gid_ok { Ok(claimed) } else { Err(Errno::EPERM) }
}

/// For recvmsg(2), into at most `room` bytes; what does not fit is dropped and MSG_CTRUNC returned. `install` makes descriptors; where it
/// fails, the rest is dropped too.
pub fn encode_control(
    control: Vec<Control>,
    room: usize,
    install: &mut dyn FnMut(Arc<FileDescription>) -> Result<i32>,
) -> (Vec<u8>, MsgFlags) {
    let mut out = Vec::new();
    let mut flags = MsgFlags::empty();
    for item in control {
        let left = room.saturating_sub(out.len());
        if left < HEADER {
            flags |= MsgFlags::CTRUNC;
            continue;
        }
        match item {
            Control::Credentials(who) => {
                let data = who.encode();
                let fits = data.len().min(left - HEADER);
                if fits < data.len() {
                    flags |= MsgFlags::CTRUNC;
                }
                put(&mut out, room, SCM_CREDENTIALS, &data[..fits]);
            }
            Control::Rights(files) => {
                let fits = (left - HEADER) / 4;
                let mut data = Vec::new();
                let total = files.len();
                for file in files.into_iter().take(fits) {
                    let Ok(fd) = install(file) else { break };
                    data.extend_from_slice(&fd.to_ne_bytes());
                }
                if data.len() / 4 < total {
                    flags |= MsgFlags::CTRUNC;
                }
                if !data.is_empty() {
                    put(&mut out, room, SCM_RIGHTS, &data);
                }
            }
        }
    }
    (out, flags)
}

fn put(out: &mut Vec<u8>, room: usize, kind: i32, data: &[u8]) {
    out.extend_from_slice(&((HEADER + data.len()) as u64).to_ne_bytes());
    out.extend_from_slice(&SOL_SOCKET.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(data);
    let padded = out.len().next_multiple_of(8).min(room);
    out.resize(padded.max(out.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Person, some_file};

    fn message(kind: i32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, usize::MAX, kind, data);
        out
    }

    #[test]
    fn decoding() {
        let get = |fd: i32| if fd == 3 { Ok(some_file()) } else { Err(Errno::EBADF) };
        let root = Person::root();
        let three = 3i32.to_ne_bytes();
        let decoded = decode_control(&[message(SCM_RIGHTS, &three), message(SCM_RIGHTS, &three)].concat(), &root, &get).unwrap();
        assert!(matches!(&decoded[..], [Control::Rights(files)] if files.len() == 2));
        assert_eq!(decode_control(&message(SCM_RIGHTS, &4i32.to_ne_bytes()), &root, &get).err(), Some(Errno::EBADF));
        assert_eq!(decode_control(&message(SCM_RIGHTS, &three.repeat(254)), &root, &get).err(), Some(Errno::EINVAL));
        assert_eq!(decode_control(&message(7, &three), &root, &get).err(), Some(Errno::EINVAL));
        let mut long = message(SCM_RIGHTS, &three);
        long[0] = 200;
        assert_eq!(decode_control(&long, &root, &get).err(), Some(Errno::EINVAL));
        let claim = PeerCredentials { pid: 1, uid: 0, gid: 0 }.encode();
        assert!(decode_control(&message(SCM_CREDENTIALS, &claim), &root, &get).is_ok());
        let user = Person::user(1000);
        assert_eq!(decode_control(&message(SCM_CREDENTIALS, &claim), &user, &get).err(), Some(Errno::EPERM));
        let own = PeerCredentials::of(&user).encode();
        assert!(decode_control(&message(SCM_CREDENTIALS, &own), &user, &get).is_ok());
    }

    #[test]
    fn encoding_and_truncation() {
        let control =
            || vec![Control::Credentials(PeerCredentials { pid: 1, uid: 2, gid: 3 }), Control::Rights(vec![some_file(), some_file()])];
        let mut next = 10;
        let mut install = |_| {
            next += 1;
            Ok(next)
        };
        let (bytes, flags) = encode_control(control(), 100, &mut install);
        assert_eq!((bytes.len(), flags), (32 + 24, MsgFlags::empty()));
        assert_eq!(bytes[48..56], [11i32.to_ne_bytes(), 12i32.to_ne_bytes()].concat());
        let (bytes, flags) = encode_control(control(), 28 + 4 + 20, &mut install);
        assert_eq!((bytes.len(), flags), (52, MsgFlags::CTRUNC));
        let (bytes, flags) = encode_control(control(), 0, &mut install);
        assert_eq!((bytes.len(), flags), (0, MsgFlags::CTRUNC));
        let (bytes, flags) = encode_control(control(), 100, &mut |_| Err(Errno::EMFILE));
        assert_eq!((bytes.len(), flags), (32, MsgFlags::CTRUNC));
    }
}
