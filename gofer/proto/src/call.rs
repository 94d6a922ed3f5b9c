//! The calls, each with its reply. Every reply is a `Result` whose error is the host's number.

use sentry_abi::Errno;
use sentry_ipc::Call;
use serde::{Deserialize, Serialize};

use crate::message::{
    Access, AttrChange, Creation, ListedDirs, Listing, NewNode, Owner, ReadDirDetail, RenameMode, Root, SpecialKind, Walked, XattrMode,
};
use crate::{Attr, FsStat, Name, NodeId, Target, XattrName, XattrValue};

/// A host error number, 1–511; turned into [`Errno`] by the receiver, which does not trust it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostError(pub u16);

impl HostError {
    pub fn errno(self) -> Errno {
        Errno::from_host(i32::from(self.0))
    }
}

impl From<Errno> for HostError {
    fn from(errno: Errno) -> HostError {
        HostError(errno.raw().unsigned_abs() as u16)
    }
}

/// What every call answers.
pub type Outcome<T> = Result<T, HostError>;

macro_rules! calls {
    ($($(#[$doc:meta])* $tag:literal $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty),* $(,)? } -> $reply:ty;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name {
                $($(#[$fdoc])* pub $field: $ty,)*
            }

            impl Call for $name {
                const TAG: u16 = $tag;
                type Reply = Outcome<$reply>;
            }
        )*
    };
}

calls! {
    /// The root of a tree that the gofer was started with.
    1 Attach { tree: u32 } -> Root;

    /// Goes down from `from`, a directory, as far as it can. If all names are there, the last is a regular file and `open` says so, a descriptor
    /// comes with the reply. At most [`crate::MAX_WALK`] names, at least one.
    2 Walk { from: NodeId, names: Vec<Name>, open: Option<Access> } -> Walked;

    /// A description of a regular file. The descriptor comes with the reply.
    3 Open { node: NodeId, access: Access } -> ();

    /// Attributes now.
    4 Stat { node: NodeId } -> Attr;

    /// A page of a directory.
    5 ReadDir {
        node: NodeId,
        /// 0, or [`Listing::next`] of the page before.
        cookie: u64,
        detail: ReadDirDetail,
    } -> Listing;

    /// Makes a regular file. Its descriptor comes with the reply.
    6 Create { dir: NodeId, name: Name, with: Creation, access: Access } -> NewNode;

    7 Mkdir { dir: NodeId, name: Name, with: Creation } -> NewNode;

    8 Symlink { dir: NodeId, name: Name, target: Target, owner: Owner } -> NewNode;

    9 Mknod { dir: NodeId, name: Name, kind: SpecialKind, with: Creation } -> NewNode;

    /// Another name for `node`; answers the file's new attributes.
    10 Link { node: NodeId, dir: NodeId, name: Name } -> Attr;

    11 Unlink { dir: NodeId, name: Name } -> ();

    12 Rmdir { dir: NodeId, name: Name } -> ();

    13 Rename {
        from: NodeId,
        name: Name,
        to: NodeId,
        new_name: Name,
        mode: RenameMode,
        /// The node that the client holds for the file, so that the server goes on finding it; in an exchange also the other one.
        moved: Option<NodeId>,
        exchanged: Option<NodeId>,
    } -> ();

    14 SetAttr { node: NodeId, change: AttrChange } -> Attr;

    15 StatFs { node: NodeId } -> FsStat;

    /// `user.*` and `security.capability`; any other name has no data.
    16 GetXattr { node: NodeId, name: XattrName } -> XattrValue;

    /// Names, each ended by a NUL, as listxattr(2) gives them.
    17 ListXattr { node: NodeId } -> XattrValue;

    /// `user.*` only.
    18 SetXattr { node: NodeId, name: XattrName, value: XattrValue, mode: XattrMode } -> ();

    19 RemoveXattr { node: NodeId, name: XattrName } -> ();

    /// Flushes a directory to stable storage (files are flushed through their descriptors).
    20 SyncDir { node: NodeId } -> ();

    /// Forgets nodes; unknown ids are passed over. At most [`crate::MAX_CLOSE`].
    21 Close { nodes: Vec<NodeId> } -> ();

    /// Fresh files of the gofer's own memory file system, without a name. Two descriptors each come with the reply, in turn: one for reading and
    /// writing, one for reading only (LAWS 1.11: the sentry cannot open anything again). At most [`crate::MAX_MEMORY_FILES`], at least one.
    22 MemoryFiles { count: u32 } -> ();

    /// Directories in `dir`, each found by name and listed with attributes, in one message. At most [`crate::MAX_LISTED`] names, at least one; the
    /// first counts (its listing may have more pages), of the others come as many, in order, as are there and fit as a whole.
    23 ListDirs { dir: NodeId, names: Vec<Name> } -> ListedDirs;
}
