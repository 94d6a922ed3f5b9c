//! Callers and files for the tests.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Mode, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_sync::{Events, Notify, Waiter};
use sentry_vfs::{Attr, AttrChange, Caller, FileDescription, FileOps, FileSystem, Inode, InodeState, JobControl, OpenHow, StatusFlags};

use crate::names::Names;
use crate::namespace::NetNamespace;

pub struct Person {
    uid: u32,
    pub signals: Mutex<Vec<Signal>>,
    pub memory: Mutex<Vec<u8>>,
}

impl Person {
    pub fn root() -> Person {
        Person::user(0)
    }

    pub fn user(uid: u32) -> Person {
        Person { uid, signals: Mutex::default(), memory: Mutex::new(vec![0; 64]) }
    }
}

impl Caller for Person {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::new(self.uid, self.uid, &[], Caps::all()))
    }

    fn pid(&self) -> i32 {
        self.uid as i32 + 100
    }

    fn copy_in(&self, at: UserAddr, dst: &mut [u8]) -> Result<()> {
        dst.copy_from_slice(self.memory.lock().unwrap().get(at.0 as usize..at.0 as usize + dst.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn copy_out(&self, at: UserAddr, src: &[u8]) -> Result<()> {
        self.memory.lock().unwrap().get_mut(at.0 as usize..at.0 as usize + src.len()).ok_or(Errno::EFAULT)?.copy_from_slice(src);
        Ok(())
    }

    fn signal_self(&self, signal: Signal) {
        self.signals.lock().unwrap().push(signal);
    }

    fn job_control(&self) -> &dyn JobControl {
        unreachable!("sockets know no jobs")
    }

    fn now(&self) -> Timespec {
        Timespec::default()
    }

    fn install_file(&self, _: Arc<FileDescription>, _: bool) -> Result<i32> {
        Err(Errno::EMFILE)
    }
}

/// Any open file.
pub fn some_file() -> Arc<FileDescription> {
    let namespace = NetNamespace::new(1);
    let socket = namespace.socket(2, 1, 0).unwrap();
    namespace.file(socket, &Person::root(), StatusFlags::empty())
}

struct Node {
    state: InodeState,
    kind: FileKind,
}

impl Inode for Node {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        Ok(Attr::new(1, 1, self.kind, Mode(0o777)))
    }

    fn set_attr(&self, _: &AttrChange) -> Result<()> {
        Ok(())
    }

    fn open(self: Arc<Self>, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

impl FileSystem for Node {
    fn name(&self) -> &'static str {
        "test"
    }

    fn device(&self) -> u64 {
        1
    }

    fn root(&self) -> Arc<dyn Inode> {
        unreachable!("never mounted")
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs::default())
    }
}

/// A flat directory of files.
#[derive(Default)]
pub struct Files(Mutex<HashMap<Vec<u8>, Arc<dyn Inode>>>);

impl Files {
    pub fn add(&self, name: &[u8], kind: FileKind) -> Arc<dyn Inode> {
        let inode: Arc<dyn Inode> = Arc::new(Node { state: InodeState::default(), kind });
        self.0.lock().unwrap().insert(name.to_vec(), inode.clone());
        inode
    }
}

impl Names for Files {
    fn find(&self, path: &[u8]) -> Result<Arc<dyn Inode>> {
        self.0.lock().unwrap().get(path).cloned().ok_or(Errno::ENOENT)
    }

    fn make(&self, path: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.find(path).is_ok() {
            return Err(Errno::EADDRINUSE);
        }
        Ok(self.add(path, FileKind::Socket))
    }
}

/// Counts wake-ups.
pub struct Count(AtomicU32);

impl Count {
    pub fn waiter(mask: Events) -> (Waiter, Arc<Count>) {
        let count = Arc::new(Count(AtomicU32::new(0)));
        (Waiter::new(count.clone(), mask), count)
    }

    pub fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Notify for Count {
    fn notify(&self, _: Events) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
