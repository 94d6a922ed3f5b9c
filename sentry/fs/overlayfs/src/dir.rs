//! Names: finding, making, removing, moving.

use std::ops::ControlFlow;
use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_vfs::RenameMode;

use crate::caller::Kernel;
use crate::copy_up::READ;
use crate::inode::OverlayInode;
use crate::names::Known;

impl OverlayInode {
    /// The file that `name` means. `ENOENT`, `ENOTDIR`.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Arc<OverlayInode>> {
        self.find(name).map(|found| found.inode)
    }

    fn find(&self, name: &[u8]) -> Result<Found> {
        match self.names()?.get(name) {
            Known::Own(inode) => Ok(Found { inode, own: true }),
            Known::Whiteout => Err(Errno::ENOENT),
            Known::Nothing => {
                let lower = self.lower.as_ref().ok_or(Errno::ENOENT)?;
                let found = lower.inode.lookup(name)?;
                Ok(Found { inode: self.shared.adopt(found, self)?, own: false })
            }
        }
    }

    /// Is `name` still what was found, under the surgery lock? Names of the lower never change, so only slots can have.
    fn still_names(&self, name: &[u8], found: &Found) -> bool {
        match self.names().map(|n| n.get(name)) {
            Ok(Known::Own(there)) => found.own && Arc::ptr_eq(&there, &found.inode),
            Ok(Known::Nothing) => !found.own,
            Ok(Known::Whiteout) | Err(_) => false,
        }
    }

    fn alive(&self) -> Result<()> {
        if self.names()?.is_dead() { Err(Errno::ENOENT) } else { Ok(()) }
    }

    /// Before a new file is made: the name must be free, the directory must have attributes of its own.
    pub(crate) fn make_room_for_new(&self, name: &[u8]) -> Result<()> {
        match self.child(name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(e),
        }
        self.copy_up().map(drop)
    }

    /// Names a fresh inode, after [`Self::make_room_for_new`].
    pub(crate) fn add_new(&self, name: &[u8], inode: Arc<OverlayInode>) -> Result<()> {
        let _surgery = self.shared.surgery.lock();
        self.alive()?;
        let names = self.names()?;
        if matches!(names.get(name), Known::Own(_)) {
            return Err(Errno::EEXIST);
        }
        if inode.is_dir() {
            inode.names()?.set_parent(self.weak());
            inode.relink(2);
            self.relink(1);
        } else {
            inode.relink(1);
        }
        names.put(name, inode, false);
        self.touch_mtime();
        Ok(())
    }

    pub(crate) fn add_link(&self, name: &[u8], target: &OverlayInode) -> Result<()> {
        if target.is_dir() {
            return Err(Errno::EPERM);
        }
        if !Arc::ptr_eq(&self.shared, &target.shared) {
            return Err(Errno::EXDEV);
        }
        self.make_room_for_new(name)?;
        target.copy_up()?;
        let _surgery = self.shared.surgery.lock();
        self.alive()?;
        let names = self.names()?;
        if matches!(names.get(name), Known::Own(_)) {
            return Err(Errno::EEXIST);
        }
        if !target.may_be_linked() {
            return Err(Errno::ENOENT);
        }
        target.relink(1);
        target.touch_ctime();
        names.put(name, target.strong()?, false);
        self.touch_mtime();
        Ok(())
    }

    /// One name of `self` is gone.
    fn unnamed(&self) {
        self.relink(-1);
        self.touch_ctime();
        if self.nlink() == 0 {
            self.set_gone();
        }
    }

    pub(crate) fn remove_file(&self, name: &[u8]) -> Result<()> {
        loop {
            let found = self.find(name)?;
            let victim = &found.inode;
            if victim.is_dir() {
                return Err(Errno::EISDIR);
            }
            self.copy_up()?;
            if victim.nlink() > 1 {
                // Its other names see the change of status.
                victim.copy_up()?;
            }
            let surgery = self.shared.surgery.lock();
            if !self.still_names(name, &found) {
                continue;
            }
            self.names()?.erase(name);
            victim.unnamed();
            self.touch_mtime();
            drop(surgery);
            return Ok(());
        }
    }

    pub(crate) fn remove_dir(&self, name: &[u8]) -> Result<()> {
        loop {
            let found = self.find(name)?;
            let victim = &found.inode;
            let names = victim.names()?;
            let lower_names = victim.lower_names(names.count())?;
            self.copy_up()?;
            let surgery = self.shared.surgery.lock();
            if !self.still_names(name, &found) {
                continue;
            }
            names.kill(&lower_names)?;
            self.names()?.erase(name);
            self.buried(victim);
            self.touch_mtime();
            drop(surgery);
            return Ok(());
        }
    }

    /// After the directory `victim` lost its place in `self`.
    fn buried(&self, victim: &OverlayInode) {
        victim.set_gone();
        victim.relink(-i64::from(victim.nlink()));
        victim.touch_ctime();
        self.relink(-1);
    }

    /// Names that the lower directory has, "." and ".." left out. One more than `hidden` is enough: so many cannot all be whited out.
    fn lower_names(&self, hidden: usize) -> Result<Vec<Box<[u8]>>> {
        let Some(lower) = &self.lower else { return Ok(Vec::new()) };
        let open = lower.inode.clone().open(&READ, &Kernel)?;
        let mut names: Vec<Box<[u8]>> = Vec::new();
        open.iterate(&Kernel, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                names.push(entry.name.into());
            }
            if names.len() > hidden { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(names)
    }

    /// `EINVAL` when `other` is `self` or a directory below it. Under the surgery lock, which keeps the tree still.
    fn must_not_hold(&self, other: &OverlayInode) -> Result<()> {
        if !self.is_dir() {
            return Ok(());
        }
        let mut at = Some(other.strong()?);
        while let Some(dir) = at {
            if std::ptr::eq(dir.as_ref(), self) {
                return Err(Errno::EINVAL);
            }
            at = dir.names()?.parent();
        }
        Ok(())
    }

    pub(crate) fn move_name(&self, name: &[u8], new_dir: &OverlayInode, new_name: &[u8], mode: RenameMode) -> Result<()> {
        if !Arc::ptr_eq(&self.shared, &new_dir.shared) {
            return Err(Errno::EXDEV);
        }
        loop {
            let source = self.find(name)?;
            let target = match new_dir.find(new_name) {
                Ok(target) => Some(target),
                Err(Errno::ENOENT) => None,
                Err(e) => return Err(e),
            };
            match (&target, mode) {
                (Some(_), RenameMode::NoReplace) => return Err(Errno::EEXIST),
                (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
                (Some(target), _) if Arc::ptr_eq(&target.inode, &source.inode) => return Ok(()),
                _ => {}
            }
            let plan = Move { source, target, exchange: mode == RenameMode::Exchange };
            if self.try_move(name, new_dir, new_name, &plan)? {
                return Ok(());
            }
        }
    }

    /// False when a name changed under our feet: to be looked at again.
    fn try_move(&self, name: &[u8], new_dir: &OverlayInode, new_name: &[u8], plan: &Move) -> Result<bool> {
        let (source, target) = (&plan.source.inode, plan.target.as_ref().map(|t| &t.inode));
        let target_lower = match target {
            Some(target) if target.is_dir() && !plan.exchange => target.lower_names(target.names()?.count())?,
            _ => Vec::new(),
        };
        self.copy_up()?;
        new_dir.copy_up()?;
        source.copy_up()?;
        let surgery = self.shared.surgery.lock();
        new_dir.alive()?;
        let target_still = match &plan.target {
            Some(target) => new_dir.still_names(new_name, target),
            None => !matches!(new_dir.names()?.get(new_name), Known::Own(_)),
        };
        if !self.still_names(name, &plan.source) || !target_still {
            return Ok(false);
        }
        source.must_not_hold(new_dir)?;
        let in_lower = target.is_some();
        if let (Some(target), true) = (target, plan.exchange) {
            target.must_not_hold(self)?;
            // Both names exist. A name of the lower without a slot is covered; one with a slot knows for itself.
            self.names()?.put(name, target.clone(), true);
            new_dir.names()?.put(new_name, source.clone(), true);
            new_dir.handed_over(target, self)?;
            target.keep();
            target.touch_ctime();
        } else {
            if let Some(target) = target {
                new_dir.replaced(source, target, &target_lower)?;
            }
            new_dir.names()?.put(new_name, source.clone(), in_lower);
            self.names()?.erase(name);
        }
        self.handed_over(source, new_dir)?;
        source.keep();
        self.touch_mtime();
        new_dir.touch_mtime();
        source.touch_ctime();
        drop(surgery);
        Ok(true)
    }

    /// Checks that `source` may take `target`'s place in `self`, and takes `target`'s link away.
    fn replaced(&self, source: &OverlayInode, target: &OverlayInode, target_lower: &[Box<[u8]>]) -> Result<()> {
        match (source.is_dir(), target.is_dir()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) => {
                target.names()?.kill(target_lower)?;
                self.buried(target);
            }
            (false, false) => target.unnamed(),
        }
        Ok(())
    }

    /// After `moved` went from `self` to `new_dir`: parent and link counts.
    fn handed_over(&self, moved: &OverlayInode, new_dir: &OverlayInode) -> Result<()> {
        if moved.is_dir() && !std::ptr::eq(self, new_dir) {
            moved.names()?.set_parent(new_dir.weak());
            self.relink(-1);
            new_dir.relink(1);
        }
        Ok(())
    }
}

/// What a name meant, and whether it did so by a slot of the directory or through the lower.
struct Found {
    inode: Arc<OverlayInode>,
    own: bool,
}

struct Move {
    source: Found,
    target: Option<Found>,
    exchange: bool,
}
