//! Inodes whose contents are computed: fixed and computed directories, texts, links.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Mode, Result, Timespec};
use sentry_auth::Credentials;
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Attr, AttrChange, Caller, DirEntry, FileOps, Inode, InodeState, NewNode, OpenHow, Path, Seek};

/// Whom a pseudo file belongs to, computed each time.
pub type OwnerFn = Arc<dyn Fn() -> (u32, u32) + Send + Sync>;

/// What all pseudo inodes have.
pub struct Common {
    pub device: u64,
    pub ino: u64,
    pub mode: Mode,
    pub owner: Option<OwnerFn>,
    pub state: InodeState,
}

impl Common {
    pub fn new(device: u64, ino: u64, mode: u16, owner: Option<OwnerFn>) -> Common {
        Common { device, ino, mode: Mode(mode), owner, state: InodeState::default() }
    }

    pub fn attr(&self, kind: FileKind, nlink: u32) -> Attr {
        let now = sentry_time::ClockId::Realtime.now();
        let (uid, gid) = self.owner.as_ref().map_or((0, 0), |f| f());
        let times = Timespec::new(now.sec, now.nsec);
        Attr {
            nlink,
            uid,
            gid,
            blksize: 1024,
            atime: times,
            mtime: times,
            ctime: times,
            ..Attr::new(self.device, self.ino, kind, self.mode)
        }
    }
}

/// proc and sysfs take chmod and chown of nothing.
pub fn refuse_change(change: &AttrChange) -> Result<()> {
    let harmless = change.uid.is_none() && change.gid.is_none() && change.mode.is_none();
    if harmless { Ok(()) } else { Err(Errno::EPERM) }
}

/// Where a directory's children come from.
pub trait Children: Send + Sync + 'static {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>>;
    /// Names, kinds and inode numbers, in a stable order.
    fn list(&self, caller: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)>;
    /// Do the children stay what they are?
    fn fixed(&self) -> bool {
        false
    }
    /// What making a name says. In proc a name that is not there is not a place for a new one either.
    fn refusal(&self) -> Errno {
        Errno::ENOENT
    }
    /// For directories of something that can vanish: is it still there?
    fn alive(&self) -> bool {
        true
    }
}

pub struct Directory {
    common: Common,
    children: Arc<dyn Children>,
}

impl Directory {
    pub fn new(common: Common, children: Arc<dyn Children>) -> Arc<Directory> {
        Arc::new(Directory { common, children })
    }

    pub fn alive(&self) -> bool {
        self.children.alive()
    }
}

impl Inode for Directory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.common.state
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn attr(&self) -> Result<Attr> {
        if !self.children.alive() {
            return Err(Errno::ENOENT);
        }
        Ok(self.common.attr(FileKind::Directory, 2))
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        refuse_change(change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.children.lookup(name)
    }

    fn keeps_children(&self) -> bool {
        self.children.fixed()
    }

    fn still_valid(&self, _: &[u8], child: &Arc<dyn Inode>) -> bool {
        self.children.fixed() || child.as_any().downcast_ref::<Directory>().is_some_and(Directory::alive)
    }

    fn create(&self, _: &[u8], _: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(self.children.refusal())
    }

    fn symlink(&self, _: &[u8], _: &[u8], _: u32, _: u32) -> Result<Arc<dyn Inode>> {
        Err(self.children.refusal())
    }

    fn open(self: Arc<Self>, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(OpenDirectory(self)))
    }
}

struct OpenDirectory(Arc<Directory>);

impl FileOps for OpenDirectory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Directory
    }

    fn read(&self, _: &dyn Caller, _: u64, _: &mut [u8]) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn iterate(&self, caller: &dyn Caller, from: u64, emit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let dir = &self.0;
        let dots: [&[u8]; 2] = [b".", b".."];
        let mut position = from;
        while let Some(name) = usize::try_from(position).ok().and_then(|p| dots.get(p)) {
            position += 1;
            let entry = DirEntry { name, ino: dir.common.ino, kind: FileKind::Directory, next: position };
            if emit(&entry).is_break() {
                return Ok(());
            }
        }
        let list = dir.children.list(caller);
        for (name, kind, ino) in list.iter().skip(usize::try_from(position - 2).unwrap_or(usize::MAX)) {
            position += 1;
            if emit(&DirEntry { name, ino: *ino, kind: *kind, next: position }).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a text shows. `None` of `write` is a file that cannot be written.
pub type ReadFn = Arc<dyn Fn(&dyn Caller) -> Result<Vec<u8>> + Send + Sync>;
pub type WriteFn = Arc<dyn Fn(&dyn Caller, &[u8]) -> Result<()> + Send + Sync>;

/// Who may open a text, beyond what its mode says.
pub type OpenFn = Arc<dyn Fn(&dyn Caller) -> Result<()> + Send + Sync>;

pub struct Text {
    common: Common,
    read: ReadFn,
    write: Option<WriteFn>,
    may_open: Option<OpenFn>,
}

impl Text {
    pub fn new(common: Common, read: ReadFn, write: Option<WriteFn>) -> Arc<Text> {
        Arc::new(Text { common, read, write, may_open: None })
    }

    /// The opener is judged too, not only who reads: a descriptor can be handed to somebody with more rights.
    pub fn guarded(common: Common, read: ReadFn, may_open: OpenFn) -> Arc<Text> {
        Arc::new(Text { common, read, write: None, may_open: Some(may_open) })
    }
}

impl Inode for Text {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.common.state
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.common.attr(FileKind::Regular, 1))
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        refuse_change(change)
    }

    fn open(self: Arc<Self>, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        if how.write && self.write.is_none() {
            return Err(Errno::EACCES);
        }
        if let Some(may_open) = &self.may_open {
            may_open(caller)?;
        }
        Ok(Arc::new(OpenText { text: self, shown: Mutex::new(Level::Leaf, None) }))
    }
}

/// The text as it was when reading began, so that a reader in small steps sees one text.
struct OpenText {
    text: Arc<Text>,
    shown: Mutex<Option<Arc<[u8]>>>,
}

impl FileOps for OpenText {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Offset
    }

    fn pollable(&self) -> bool {
        true
    }

    fn read(&self, caller: &dyn Caller, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let kept = if offset == 0 { None } else { self.shown.lock().clone() };
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let bytes: Arc<[u8]> = (self.text.read)(caller)?.into();
                *self.shown.lock() = Some(bytes.clone());
                bytes
            }
        };
        let rest = usize::try_from(offset).ok().and_then(|o| bytes.get(o..)).unwrap_or(&[]);
        let n = rest.len().min(dst.len());
        dst[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write(&self, caller: &dyn Caller, _: u64, src: &[u8]) -> Result<usize> {
        let write = self.text.write.as_ref().ok_or(Errno::EINVAL)?;
        write(caller, src)?;
        Ok(src.len())
    }

    fn truncate(&self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// Finds the object of a link for somebody with these rights.
pub type ObjectFn = Arc<dyn Fn(&Arc<Credentials>) -> Result<Path> + Send + Sync>;

/// Where a link leads.
pub enum Target {
    /// To a name.
    Name(Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>),
    /// To an object.
    Object(ObjectFn),
}

pub struct Link {
    common: Common,
    target: Target,
}

impl Link {
    pub fn new(common: Common, target: Target) -> Arc<Link> {
        Arc::new(Link { common, target })
    }
}

impl Inode for Link {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.common.state
    }

    fn kind(&self) -> FileKind {
        FileKind::Symlink
    }

    fn attr(&self) -> Result<Attr> {
        let mut attr = self.common.attr(FileKind::Symlink, 1);
        if matches!(self.target, Target::Object(_)) {
            attr.size = 64;
        }
        Ok(attr)
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        refuse_change(change)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        match &self.target {
            Target::Name(f) => f(),
            Target::Object(_) => Err(Errno::EINVAL),
        }
    }

    fn magic_target(&self, who: &Arc<Credentials>) -> Option<Result<Path>> {
        match &self.target {
            Target::Name(_) => None,
            Target::Object(f) => Some(f(who)),
        }
    }

    fn open(self: Arc<Self>, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ELOOP)
    }
}

/// A directory whose entries are given once.
pub struct FixedChildren {
    entries: Vec<(&'static str, Arc<dyn Inode>)>,
    refusal: Errno,
}

impl FixedChildren {
    pub fn new(entries: Vec<(&'static str, Arc<dyn Inode>)>, refusal: Errno) -> Arc<FixedChildren> {
        Arc::new(FixedChildren { entries, refusal })
    }
}

impl Children for FixedChildren {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.entries.iter().find(|(n, _)| n.as_bytes() == name);
        found.map(|(_, inode)| inode.clone()).ok_or(Errno::ENOENT)
    }

    fn list(&self, _: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)> {
        self.entries.iter().map(|(n, inode)| (n.as_bytes().to_vec(), inode.kind(), inode.attr().map_or(1, |a| a.ino))).collect()
    }

    fn fixed(&self) -> bool {
        true
    }

    fn refusal(&self) -> Errno {
        self.refusal
    }
}

/// Makes pseudo inodes of one file system with rising inode numbers.
pub struct Builder {
    pub device: u64,
    next: u64,
    refusal: Errno,
}

impl Builder {
    pub fn new(device: u64, first: u64) -> Builder {
        Builder { device, next: first, refusal: Errno::ENOENT }
    }

    /// What making a name in the directories made from now on says.
    pub fn refusing(self, refusal: Errno) -> Builder {
        Builder { refusal, ..self }
    }

    fn common(&mut self, mode: u16) -> Common {
        self.next += 1;
        Common::new(self.device, self.next, mode, None)
    }

    pub fn directory(&mut self, entries: Vec<(&'static str, Arc<dyn Inode>)>) -> Arc<dyn Inode> {
        Directory::new(self.common(0o555), FixedChildren::new(entries, self.refusal))
    }

    /// A text that reads the same for everybody.
    pub fn text(&mut self, read: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Arc<dyn Inode> {
        Text::new(self.common(0o444), Arc::new(move |_| Ok(read())), None)
    }

    pub fn fixed(&mut self, value: impl Into<Vec<u8>>) -> Arc<dyn Inode> {
        let value: Vec<u8> = value.into();
        self.text(move || value.clone())
    }

    pub fn with_mode(&mut self, mode: u16, read: ReadFn, write: Option<WriteFn>) -> Arc<dyn Inode> {
        Text::new(self.common(mode), read, write)
    }

    pub fn link(&mut self, target: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Arc<dyn Inode> {
        Link::new(self.common(0o777), Target::Name(Arc::new(target)))
    }
}
