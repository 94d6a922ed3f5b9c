//! From a name to a place: path_resolution(7), openat2(2).

use std::sync::Arc;

use bitflags::bitflags;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::{Access, Credentials, may_access_attr};

use crate::attr::Attr;
use crate::caller::FsContext;
use crate::inode::Inode;
use crate::mount::MountFlags;
use crate::path::Path;

/// Links followed before `ELOOP`.
const MAX_LINKS: u32 = 40;
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// A link as the last component is followed.
    Yes,
    No,
}

bitflags! {
    /// `RESOLVE_*` of openat2(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Walk: u32 {
        const NO_XDEV = 1;
        const NO_MAGICLINKS = 2;
        const NO_SYMLINKS = 4;
        const BENEATH = 8;
        const IN_ROOT = 16;
    }
}

/// The place that `path` names, seen from `start` (or the root, if absolute).
pub fn resolve(cx: &FsContext, start: &Path, path: &[u8], follow: Follow, walk: Walk) -> Result<Path> {
    let mut walker = Walker::new(cx, start, path, walk)?;
    walker.run(path, follow, false)?;
    Ok(walker.at)
}

/// The directory of the last component, and that component (which need not exist); the flag says whether a slash followed it.
/// `EEXIST`-like decisions are the caller's: the last component may be "." or "..", or empty for "/".
pub fn resolve_parent(cx: &FsContext, start: &Path, path: &[u8], walk: Walk) -> Result<(Path, Vec<u8>, bool)> {
    resolve_parent_within(cx, start, start, path, walk)
}

/// The same from `start`, after a link led there; `base` is where the walk began, beneath which it may have to stay.
pub(crate) fn resolve_parent_within(cx: &FsContext, base: &Path, start: &Path, path: &[u8], walk: Walk) -> Result<(Path, Vec<u8>, bool)> {
    let mut walker = Walker::new(cx, base, path, walk)?;
    walker.at = start.clone();
    let last = walker.run(path, Follow::No, true)?;
    Ok((walker.at, last, path.ends_with(b"/")))
}

/// fs.protected_symlinks, on as in every distribution: in a sticky directory that all may write, a link as the last component is followed only
/// if it is one's own or the directory owner's. `EACCES`.
pub(crate) fn may_follow(who: &Credentials, dir: &Attr, link: &Arc<dyn Inode>) -> Result<()> {
    let shared = Mode::STICKY | 0o002;
    if dir.mode.0 & shared != shared {
        return Ok(());
    }
    let uid = link.attr()?.uid;
    if uid == who.fsuid || uid == dir.uid { Ok(()) } else { Err(Errno::EACCES) }
}

/// May `who` search this directory?
fn check_search(who: &Credentials, inode: &Arc<dyn Inode>) -> Result<()> {
    if inode.kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let attr = inode.attr()?;
    may_access_attr(who, attr.kind, attr.mode, attr.uid, attr.gid, Access::EXEC)
}

struct Walker<'a> {
    cx: &'a FsContext,
    root: Path,
    at: Path,
    links: u32,
    walk: Walk,
    base: Path,
    /// The mount whose file system has been told what is to come.
    told: Option<u32>,
}

impl<'a> Walker<'a> {
    fn new(cx: &'a FsContext, start: &Path, path: &[u8], walk: Walk) -> Result<Walker<'a>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let scoped = walk.intersects(Walk::BENEATH | Walk::IN_ROOT);
        let root = if scoped { start.clone() } else { cx.root.clone() };
        Ok(Walker { cx, root, at: start.clone(), links: 0, walk, base: start.clone(), told: None })
    }

    /// Walks `path` from where the walker stands. With `parent`, stops before the last component and returns it.
    fn run(&mut self, path: &[u8], follow: Follow, parent: bool) -> Result<Vec<u8>> {
        if path.first() == Some(&b'/') {
            if self.walk.contains(Walk::BENEATH) {
                return Err(Errno::EXDEV);
            }
            self.step_to_root()?;
        }
        let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
        self.told = None;
        let must_be_dir = path.ends_with(b"/");
        for (index, name) in names.iter().enumerate() {
            let last = index + 1 == names.len();
            check_search(&self.cx.credentials, self.at.inode())?;
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            if last && parent {
                return Ok(name.to_vec());
            }
            self.step(&names[index..], !last || follow == Follow::Yes || must_be_dir)?;
        }
        if must_be_dir && self.at.inode().kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(Vec::new())
    }

    fn step_to_root(&mut self) -> Result<()> {
        if self.walk.contains(Walk::NO_XDEV) && !Arc::ptr_eq(&self.at.mount, &self.root.mount) {
            return Err(Errno::EXDEV);
        }
        self.at = self.root.clone();
        Ok(())
    }

    /// One step, by the first of the names that are left.
    fn step(&mut self, names: &[&[u8]], follow: bool) -> Result<()> {
        let (name, last) = (names.first().copied().unwrap_or(b"."), names.len() <= 1);
        match name {
            b"." => return Ok(()),
            b".." => return self.step_up(),
            _ => {}
        }
        let (mount, inode) = (self.at.mount.id, self.at.inode());
        let dentry = self.at.dentry.child_after(name, &mut || {
            if !last && self.told != Some(mount) && inode.kind() == FileKind::Directory {
                inode.prefetch(names);
                self.told = Some(mount);
            }
        })?;
        let next = self.cx.namespace.cross(Path::new(self.at.mount.clone(), dentry));
        if next.inode().kind() == FileKind::Symlink && follow {
            if last {
                may_follow(&self.cx.credentials, &self.at.inode().attr()?, next.inode())?;
            }
            return self.follow(&next);
        }
        self.set(next)
    }

    fn step_up(&mut self) -> Result<()> {
        if self.walk.contains(Walk::BENEATH) && self.at.same(&self.base) {
            return Err(Errno::EXDEV);
        }
        let parent = self.at.parent(&self.root);
        self.set(self.cx.namespace.cross(parent))
    }

    fn set(&mut self, next: Path) -> Result<()> {
        if self.walk.contains(Walk::NO_XDEV) && !Arc::ptr_eq(&next.mount, &self.base.mount) {
            return Err(Errno::EXDEV);
        }
        self.at = next;
        Ok(())
    }

    fn follow(&mut self, link: &Path) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS || self.walk.contains(Walk::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if let Some(target) = link.inode().magic_target(&self.cx.credentials) {
            if self.walk.contains(Walk::NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if self.walk.intersects(Walk::BENEATH | Walk::IN_ROOT) {
                return Err(Errno::EXDEV);
            }
            return self.set(target?);
        }
        let target = link.inode().read_link()?;
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        self.run(&target, Follow::Yes, false)?;
        self.told = None;
        Ok(())
    }
}

/// Is this mount's content executable for exec and PROT_EXEC maps?
pub fn allows_exec(path: &Path) -> bool {
    !path.mount.flags().contains(MountFlags::NO_EXEC)
}
