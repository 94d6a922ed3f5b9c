//! ReadDir, SyncDir, StatFs.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use gofer_proto::{DirEntry, FsStat, Listing, MAX_ENTRIES, MAX_LISTING_BYTES, Name, ReadDir, ReadDirDetail, StatFs, SyncDir};
use rustix::fs::{FileType, RawDir, SeekFrom};
use sentry_abi::{FileKind, Result};

use crate::Gofer;
use crate::host::{self, errno};

/// Room for what getdents64(2) brings at a time: about one page of a listing.
const BUFFER: usize = 16 << 10;

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
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; BUFFER];
        let mut entries = Vec::new();
        let mut bytes_used = 0;
        let mut cookie = call.cookie;
        let mut raw = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(errno)?;
            let bytes = entry.file_name().to_bytes();
            if entries.len() == MAX_ENTRIES || bytes_used + bytes.len() > MAX_LISTING_BYTES {
                return Ok(Listing { entries, next: Some(cookie) });
            }
            cookie = entry.next_entry_cookie();
            // `.` and `..` fail the check, and so does a name that Linux could not have made.
            let Ok(name) = Name::new(bytes) else { continue };
            let attr = match call.detail {
                // Some file systems do not tell kinds here. An error: gone since, or a mount point that is not to be entered; left for a walk to tell.
                ReadDirDetail::Plain if entry.file_type() != FileType::Unknown => None,
                ReadDirDetail::Plain | ReadDirDetail::Attributes => host::stat_entry(dir.as_fd(), entry.file_name(), submounts).ok(),
            };
            let target = match &attr {
                Some(attr) if FileKind::from_mode(attr.mode) == Some(FileKind::Symlink) => host::read_link(dir.as_fd(), bytes).ok(),
                _ => None,
            };
            bytes_used += bytes.len() + target.as_ref().map_or(0, |target| target.as_bytes().len());
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
