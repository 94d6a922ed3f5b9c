//! A caller and a context for tests of file systems.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use sentry_abi::{Errno, FileKind, Mode, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_vfs::{
    Attr, Caller, Dentry, FileDescription, FileOps, FileSystem, Follow, FsContext, Inode, JobControl, Mount, MountFlags, MountNamespace,
    OpenFlags, OpenHow, RenameMode, SpecialFiles, Walk, open, rename, resolve, stat,
};

pub struct TestCaller {
    pub credentials: Arc<Credentials>,
    pub signals: Mutex<Vec<Signal>>,
    pub written: Mutex<Vec<u8>>,
}

impl TestCaller {
    pub fn new(uid: u32) -> TestCaller {
        TestCaller { credentials: user(uid), signals: Mutex::new(Vec::new()), written: Mutex::new(Vec::new()) }
    }
}

pub fn user(uid: u32) -> Arc<Credentials> {
    Arc::new(Credentials::new(uid, uid, &[], Caps::all()))
}

impl Caller for TestCaller {
    fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }
    fn pid(&self) -> i32 {
        1
    }
    fn copy_in(&self, _: UserAddr, _: &mut [u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }
    fn copy_out(&self, _: UserAddr, src: &[u8]) -> Result<()> {
        self.written.lock().unwrap().extend_from_slice(src);
        Ok(())
    }
    fn signal_self(&self, signal: Signal) {
        self.signals.lock().unwrap().push(signal);
    }
    fn job_control(&self) -> &dyn JobControl {
        unimplemented!()
    }
    fn now(&self) -> Timespec {
        Timespec::default()
    }
    fn install_file(&self, _: Arc<FileDescription>, _: bool) -> Result<i32> {
        Err(Errno::EBADF)
    }
}

/// No devices, FIFOs refuse.
pub struct NoSpecials;

impl SpecialFiles for NoSpecials {
    fn open_fifo(&self, _: &Arc<dyn Inode>, _: &OpenHow) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn open_device(&self, _: &Arc<dyn Inode>, _: FileKind, _: u64, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

/// A clock that goes on by a second at each look.
pub fn ticking() -> Arc<dyn Fn() -> Timespec + Send + Sync> {
    let seconds = AtomicI64::new(1_000_000);
    Arc::new(move || Timespec::new(seconds.fetch_add(1, Ordering::Relaxed), 5))
}

pub fn context(fs: Arc<dyn FileSystem>) -> FsContext {
    let namespace = MountNamespace::new(Mount::new(Dentry::root(fs), MountFlags::empty(), b"none".to_vec()));
    let root = namespace.root();
    FsContext { credentials: user(0), namespace, root: root.clone(), cwd: root, umask: 0o022, special: Arc::new(NoSpecials) }
}

/// A shell over a file system, for short tests.
pub struct Shell {
    pub cx: FsContext,
    pub caller: TestCaller,
}

pub const READ: OpenFlags = OpenFlags::empty();
pub const WRITE: OpenFlags = OpenFlags::WRITE_ONLY;

impl Shell {
    pub fn new(fs: Arc<dyn FileSystem>) -> Shell {
        Shell { cx: context(fs), caller: TestCaller::new(0) }
    }

    /// The same place seen by somebody else.
    pub fn as_user(&self, uid: u32) -> Shell {
        Shell { cx: FsContext { credentials: user(uid), ..self.cx.clone() }, caller: TestCaller::new(uid) }
    }

    pub fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<FileDescription>> {
        open(&self.cx, &self.caller, &self.cx.cwd, path.as_bytes(), flags, Mode(0o666), Walk::empty())
    }

    pub fn put(&self, path: &str, text: &str) -> Result<()> {
        let file = self.open(path, WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE)?;
        self.write(&file, 0, text.as_bytes())
    }

    pub fn write(&self, file: &FileDescription, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = file.ops.write(&self.caller, offset, bytes)?;
            offset += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    pub fn get(&self, path: &str) -> Result<String> {
        let file = self.open(path, READ)?;
        self.read(&file)
    }

    pub fn read(&self, file: &FileDescription) -> Result<String> {
        let mut out = Vec::new();
        let mut chunk = [0; 1000];
        loop {
            let n = file.ops.read(&self.caller, out.len() as u64, &mut chunk)?;
            if n == 0 {
                return Ok(String::from_utf8(out).unwrap());
            }
            out.extend_from_slice(&chunk[..n]);
        }
    }

    pub fn mkdir(&self, path: &str) -> Result<()> {
        sentry_vfs::mkdir(&self.cx, &self.cx.cwd, path.as_bytes(), Mode(0o777))
    }

    pub fn rm(&self, path: &str) -> Result<()> {
        sentry_vfs::unlink(&self.cx, &self.cx.cwd, path.as_bytes())
    }

    pub fn rmdir(&self, path: &str) -> Result<()> {
        sentry_vfs::rmdir(&self.cx, &self.cx.cwd, path.as_bytes())
    }

    pub fn mv(&self, from: &str, to: &str) -> Result<()> {
        self.mv_as(from, to, RenameMode::Replace)
    }

    pub fn mv_as(&self, from: &str, to: &str, mode: RenameMode) -> Result<()> {
        rename(&self.cx, &self.cx.cwd, from.as_bytes(), &self.cx.cwd, to.as_bytes(), mode)
    }

    pub fn ln(&self, from: &str, to: &str) -> Result<()> {
        let from = resolve(&self.cx, &self.cx.cwd, from.as_bytes(), Follow::No, Walk::empty())?;
        sentry_vfs::link(&self.cx, &from, &self.cx.cwd, to.as_bytes())
    }

    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        sentry_vfs::symlink(&self.cx, target.as_bytes(), &self.cx.cwd, path.as_bytes())
    }

    pub fn stat(&self, path: &str) -> Result<Attr> {
        stat(&self.cx, &self.cx.cwd, path.as_bytes(), Follow::Yes)
    }

    pub fn lstat(&self, path: &str) -> Result<Attr> {
        stat(&self.cx, &self.cx.cwd, path.as_bytes(), Follow::No)
    }

    pub fn path(&self, path: &str) -> Result<sentry_vfs::Path> {
        resolve(&self.cx, &self.cx.cwd, path.as_bytes(), Follow::Yes, Walk::empty())
    }

    pub fn chmod(&self, path: &str, mode: u16) -> Result<()> {
        sentry_vfs::chmod(&self.cx, &self.path(path)?, Mode(mode))
    }

    pub fn chown(&self, path: &str, uid: u32, gid: u32) -> Result<()> {
        sentry_vfs::chown(&self.cx, &self.path(path)?, Some(uid), Some(gid))
    }

    /// (name, ino, cookie) of what an open directory shows from a cookie on, at most `most`.
    pub fn entries(&self, dir: &FileDescription, from: u64, most: usize) -> Result<Vec<(String, u64, u64)>> {
        let mut out = Vec::new();
        dir.ops.iterate(&self.caller, from, &mut |e| {
            if out.len() == most {
                return ControlFlow::Break(());
            }
            out.push((String::from_utf8(e.name.to_vec()).unwrap(), e.ino, e.next));
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    /// Names but "." and "..", sorted, in one string.
    pub fn ls(&self, path: &str) -> Result<String> {
        let dir = self.open(path, READ)?;
        let mut names: Vec<String> =
            self.entries(&dir, 0, usize::MAX)?.into_iter().map(|e| e.0).filter(|n| n != "." && n != "..").collect();
        names.sort();
        Ok(names.join(" "))
    }
}
