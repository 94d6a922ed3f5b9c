//! ReadDir, ListDirs, SyncDir, StatFs.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gofer_proto::{
    Attr, DirEntry, FsStat, ListDirs, ListedDir, ListedDirs, Listing, MAX_ENTRIES, MAX_LISTED, MAX_LISTING_BYTES, Name, NewNode, ReadDir,
    ReadDirDetail, StatFs, SyncDir,
};
use rustix::fs::{FileType, RawDir, SeekFrom};
use sentry_abi::{Errno, FileKind, Result};

use crate::Gofer;
use crate::host::{self, Submounts, errno};
use crate::node::Node;

/// Room for what getdents64(2) brings at a time: about one page of a listing.
const BUFFER: usize = 16 << 10;

/// What of a reply is used.
#[derive(Default)]
struct Room {
    entries: usize,
    bytes: usize,
}

impl Gofer {
    /// One page. The directory is opened anew for each, so that the client cannot make us keep anything; the cookie is the host's own position.
    pub(crate) fn read_dir(&self, call: &ReadDir) -> Result<Listing> {
        let node = self.node(call.node)?;
        node.must_be_directory()?;
        let submounts = self.tree(&node)?.submounts;
        let dir = self.open_inside(&node)?;
        if call.cookie != 0 {
            rustix::fs::seek(&dir, SeekFrom::Start(call.cookie)).map_err(errno)?;
        }
        self.page(&dir, submounts, call.cookie, call.detail, &mut Room::default())
    }

    /// Finds directories by name and lists each.
    pub(crate) fn list_dirs(&self, call: &ListDirs) -> Result<ListedDirs> {
        if call.names.is_empty() || call.names.len() > MAX_LISTED {
            return Err(Errno::EINVAL);
        }
        let dir = self.node(call.dir)?;
        dir.must_be_directory()?;
        let mut room = Room::default();
        let mut found = Vec::with_capacity(call.names.len());
        for (index, name) in call.names.iter().enumerate() {
            match self.list_child(&dir, name, &mut room) {
                Ok(one) if index == 0 || one.2.next.is_none() => found.push(one),
                Err(errno) if index == 0 => return Err(errno),
                // The rest was only a favour.
                Ok(_) | Err(_) => break,
            }
        }
        let with_id = |(node, attr, listing)| ListedDir { node: NewNode { node: self.nodes.insert(node), attr }, listing };
        Ok(ListedDirs { dirs: found.into_iter().map(with_id).collect() })
    }

    fn list_child(&self, dir: &Arc<Node>, name: &Name, room: &mut Room) -> Result<(Arc<Node>, Attr, Listing)> {
        let fd = self.fd(dir)?;
        let submounts = self.tree(dir)?.submounts;
        let (node, attr, _) = self.look_up(dir, fd.as_fd(), name, submounts)?;
        node.must_be_directory()?;
        room.entries += 1;
        let opened = self.open_inside(&node)?;
        let listing = self.page(&opened, submounts, 0, ReadDirDetail::Attributes, room)?;
        Ok((node, attr, listing))
    }

    /// What is left of `dir` from `cookie` on, as far as there is room.
    fn page(&self, dir: &OwnedFd, submounts: Submounts, from: u64, detail: ReadDirDetail, room: &mut Room) -> Result<Listing> {
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; BUFFER];
        let mut entries = Vec::new();
        let mut cookie = from;
        let mut raw = RawDir::new(dir, &mut buffer);
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(errno)?;
            let bytes = entry.file_name().to_bytes();
            if room.entries >= MAX_ENTRIES || room.bytes + bytes.len() > MAX_LISTING_BYTES {
                return Ok(Listing { entries, next: Some(cookie) });
            }
            cookie = entry.next_entry_cookie();
            // `.` and `..` fail the check, and so does a name that Linux could not have made.
            let Ok(name) = Name::new(bytes) else { continue };
            let attr = match detail {
                // Some file systems do not tell kinds here. An error: gone since, or a mount point that is not to be entered; left for a walk to tell.
                ReadDirDetail::Plain if entry.file_type() != FileType::Unknown => None,
                ReadDirDetail::Plain | ReadDirDetail::Attributes => host::stat_entry(dir.as_fd(), entry.file_name(), submounts).ok(),
            };
            let target = match &attr {
                Some(attr) if FileKind::from_mode(attr.mode) == Some(FileKind::Symlink) => host::read_link(dir.as_fd(), bytes).ok(),
                _ => None,
            };
            room.entries += 1;
            room.bytes += bytes.len() + target.as_ref().map_or(0, |target| target.as_bytes().len());
            let (ino, kind) = match &attr {
                Some(attr) => (attr.ino, FileKind::from_mode(attr.mode).map_or(0, FileKind::dirent_type)),
                None => (entry.ino(), dirent_type(entry.file_type())),
            };
            entries.push(DirEntry { name, ino, kind, attr, target });
        }
        Ok(Listing { entries, next: None })
    }

    pub(crate) fn sync_dir(&self, call: &SyncDir) -> Result<()> {
        let node = self.node(call.node)?;
        node.must_be_directory()?;
        rustix::fs::fsync(self.open_inside(&node)?).map_err(errno)
    }

    pub(crate) fn stat_fs(&self, call: &StatFs) -> Result<FsStat> {
        let node = self.node(call.node)?;
        let fd = self.fd(&node)?;
        let stat = rustix::fs::fstatfs(fd.as_fd()).map_err(errno)?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(FsStat {
            kind: count(stat.f_type),
            block_size: count(stat.f_bsize),
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            name_length: count(stat.f_namelen),
        })
    }
}

fn dirent_type(kind: FileType) -> u8 {
    match kind {
        FileType::RegularFile => FileKind::Regular.dirent_type(),
        FileType::Directory => FileKind::Directory.dirent_type(),
        FileType::Symlink => FileKind::Symlink.dirent_type(),
        FileType::Fifo => FileKind::Fifo.dirent_type(),
        FileType::Socket => FileKind::Socket.dirent_type(),
        FileType::CharacterDevice => FileKind::CharDevice.dirent_type(),
        FileType::BlockDevice => FileKind::BlockDevice.dirent_type(),
        FileType::Unknown => 0,
    }
}
