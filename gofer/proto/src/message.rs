//! What is said: the data that calls and replies are made of.

use serde::{Deserialize, Serialize};

use crate::{Attr, Name, NodeId, Target, Time};

/// A node made for the client, and its attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    pub node: NodeId,
    pub attr: Attr,
}

/// The root of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub root: NewNode,
    pub rights: Rights,
}

/// What may be done in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rights {
    ReadOnly,
    ReadWrite,
}

/// How far a walk came: one entry per name that exists, in order, and why it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    pub nodes: Vec<WalkedNode>,
    pub stop: Stop,
    /// A descriptor of the last file comes with this message.
    pub opened: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkedNode {
    pub node: NodeId,
    pub attr: Attr,
    /// What a symbolic link holds.
    pub target: Option<Target>,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// All names are there. Says nothing of whether a file could be opened, if that was asked.
    Complete,
    /// The next name does not exist.
    Missing,
    /// The last node is a symbolic link and names are left.
    Symlink,
    /// The last node is neither a directory nor a symbolic link and names are left.
    NotDirectory,
    /// The next name could not be looked up.
    Failed(crate::HostError),
}

/// The access mode of a donated description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    Read,
    ReadWrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadDirDetail {
    /// Name, kind and inode number.
    Plain,
    /// Attributes too.
    Attributes,
}

/// Owner of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Mode (permission bits, umask already applied) and owner of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    pub mode: u32,
    pub owner: Owner,
}

/// Files without content that may be made; devices may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecialKind {
    Fifo,
    Socket,
}

/// One page of a directory, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub entries: Vec<DirEntry>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<u64>,
}

/// The answer to [`crate::ListDirs`]: one entry per name, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedDirs {
    pub dirs: Vec<ListedDir>,
}

/// A directory that was found, and its first page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedDir {
    pub node: NewNode,
    pub listing: Listing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    pub name: Name,
    pub ino: u64,
    /// `DT_xxx`; 0 when the host does not say.
    pub kind: u8,
    pub attr: Option<Attr>,
    /// What a symbolic link holds, where attributes were asked for.
    pub target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    Replace,
    NoReplace,
    Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeChange {
    Now,
    At(Time),
}

/// What to change; `None` leaves it. Applied in the order size, owner, mode, times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrChange {
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
    pub atime: Option<TimeChange>,
    pub mtime: Option<TimeChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    Set,
    Create,
    Replace,
}
