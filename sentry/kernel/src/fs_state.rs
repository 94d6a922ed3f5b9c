//! Root, working directory and umask: what CLONE_FS shares.

use std::sync::Arc;

use sentry_auth::Credentials;
use sentry_sync::{Level, Mutex};
use sentry_vfs::{FsContext, MountNamespace, Path, SpecialFiles};

#[derive(Clone)]
pub struct Places {
    pub namespace: Arc<MountNamespace>,
    pub root: Path,
    pub cwd: Path,
    pub umask: u16,
}

pub struct FsState(Mutex<Places>);

impl FsState {
    pub fn new(places: Places) -> FsState {
        FsState(Mutex::new(Level::FsContext, places))
    }

    pub fn places(&self) -> Places {
        self.0.lock().clone()
    }

    pub fn fork(&self) -> FsState {
        FsState::new(self.places())
    }

    pub fn context(&self, credentials: Arc<Credentials>, special: Arc<dyn SpecialFiles>) -> FsContext {
        let places = self.places();
        FsContext { credentials, namespace: places.namespace, root: places.root, cwd: places.cwd, umask: places.umask, special }
    }

    pub fn set_cwd(&self, path: Path) {
        let old = std::mem::replace(&mut self.0.lock().cwd, path);
        drop(old);
    }

    pub fn set_root(&self, path: Path) {
        let old = std::mem::replace(&mut self.0.lock().root, path);
        drop(old);
    }

    /// Returns the old one.
    pub fn set_umask(&self, umask: u16) -> u16 {
        std::mem::replace(&mut self.0.lock().umask, umask & 0o777)
    }
}
