//! The gofer's messages: what the sentry may ask of the process that reaches the container's files, and what comes back.
//!
//! Key types: the calls of [`call`](crate::Walk), [`NodeId`], [`Attr`], [`Name`].
//! Neighbours: `gofer-server` answers, `gofer-client` asks, `sentry-ipc` frames, encodes, greets and carries descriptors.
//!
//! Invariants: every length is bounded, by a type here while decoding or by a constant here that the server checks before it acts; a [`Name`] is
//! one path component and never `.` or `..`; node ids are never reused. A call carries no descriptors; a reply at most one (the donated file).
//! Deliberately absent: reading and writing data (done on donated descriptors), path strings, reuse of ids, readlink (targets come with walks).
#![forbid(unsafe_code)]

mod attr;
mod bytes;
mod call;
mod message;

pub use attr::{Attr, FsStat, Time};
pub use bytes::{BadBytes, Name, Target, XattrName, XattrValue};
pub use call::{
    Attach, Close, Create, GetXattr, HostError, Link, ListDirs, ListXattr, MemoryFiles, Mkdir, Mknod, Open, Outcome, ReadDir, RemoveXattr,
    Rename, Rmdir, SetAttr, SetXattr, Stat, StatFs, Symlink, SyncDir, Unlink, Walk,
};
pub use message::{
    Access, AttrChange, Creation, DirEntry, ListedDir, ListedDirs, Listing, NewNode, Owner, ReadDirDetail, RenameMode, Rights, Root,
    SpecialKind, Stop, TimeChange, Walked, WalkedNode, XattrMode,
};

use sentry_ipc::Protocol;
use serde::{Deserialize, Serialize};

/// What both ends greet with. Both come from one binary, so there is no negotiation.
pub const PROTOCOL: Protocol = Protocol::new(*b"gofr", 1);

/// Most components in one walk.
pub const MAX_WALK: usize = 64;
/// Most node ids in one [`Close`].
pub const MAX_CLOSE: usize = 1024;

/// Memory files in one reply; two descriptors each, and a packet carries 64.
pub const MAX_MEMORY_FILES: usize = 16;
/// Most entries in one page of a directory listing; with the next, it keeps the page inside one packet.
pub const MAX_ENTRIES: usize = 256;
/// Most bytes of names and link targets in one page of a directory listing (one entry may go beyond).
pub const MAX_LISTING_BYTES: usize = 20 * 1024;
/// Most directories in one [`ListDirs`]. Each counts as an entry.
pub const MAX_LISTED: usize = 16;
/// Most bytes in a list of extended attribute names, and in a value: Linux's own limits.
pub const MAX_XATTR: usize = 64 * 1024;

/// A file that the server keeps for the client. Never reused within the life of a server; 0 is no node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NodeId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
        sentry_ipc::codec::decode(bytes).ok()
    }

    #[test]
    fn names_are_single_components() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
            let mut raw = Vec::new();
            sentry_ipc::codec::encode_into(&bad.to_vec(), &mut raw).expect("encodes");
            assert!(decode::<Name>(&raw).is_none(), "{bad:?}");
        }
        for good in [&b"a"[..], b"...", b"\xff", &[b'x'; 255]] {
            let name = Name::new(good).expect("good name");
            let raw = sentry_ipc::codec::encode(&name).expect("encodes");
            assert_eq!(decode::<Name>(&raw).as_ref(), Some(&name));
        }
    }

    #[test]
    fn calls_survive_the_codec() {
        let walk = Walk {
            from: NodeId(7),
            names: vec![Name::new(b"usr").expect("name"), Name::new(b"lib").expect("name")],
            open: Some(Access::Read),
        };
        assert_eq!(decode::<Walk>(&sentry_ipc::codec::encode(&walk).expect("encodes")), Some(walk.clone()));
        let bytes = sentry_ipc::codec::encode(&walk).expect("encodes");
        for cut in 0..bytes.len() {
            assert!(decode::<Walk>(&bytes[..cut]).is_none());
        }
    }

    #[test]
    fn a_full_page_fits_one_packet() {
        let attr =
            Attr { dev: u64::MAX, ino: u64::MAX, mode: u32::MAX, size: u64::MAX, rdev: u64::MAX, blocks: u64::MAX, ..Attr::default() };
        let name = Name::new(&[b'n'; MAX_LISTING_BYTES / MAX_ENTRIES]).expect("name");
        let entry = DirEntry { name, ino: u64::MAX, kind: 8, attr: Some(attr), target: None };
        let page = Listing { entries: vec![entry; MAX_ENTRIES], next: Some(u64::MAX) };
        assert!(sentry_ipc::codec::encode(&page).expect("encodes").len() <= 64 * 1024);
        let share = |count: usize| Listing { entries: page.entries[..count].to_vec(), next: None };
        let node = NewNode { node: NodeId(u64::MAX), attr: page.entries[0].attr.expect("has attributes") };
        let dir = |count| ListedDir { node: node.clone(), listing: share(count) };
        let dirs = ListedDirs { dirs: (0..MAX_LISTED).map(|_| dir(MAX_ENTRIES / MAX_LISTED - 1)).collect() };
        assert!(sentry_ipc::codec::encode(&dirs).expect("encodes").len() <= 64 * 1024);
    }
}
