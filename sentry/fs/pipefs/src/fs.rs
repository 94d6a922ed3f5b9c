//! pipefs, the file system of pipes without a name, and the opening of FIFOs of others.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Result, Timespec};
use sentry_vfs::{Dentry, FileDescription, FileOps, FileSystem, Inode, Mount, OpenHow, Path, StatusFlags};

use crate::end::PipeEnd;
use crate::inode::PipeInode;
use crate::pipe::Pipe;

const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// CLOCK_REALTIME, for time stamps.
pub type Clock = Arc<dyn Fn() -> Timespec + Send + Sync>;

struct PipeFs {
    device: u64,
    root: Arc<PipeInode>,
}

impl FileSystem for PipeFs {
    fn name(&self) -> &'static str {
        "pipefs"
    }

    fn device(&self) -> u64 {
        self.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: PIPEFS_MAGIC, bsize: 4096, namelen: 255, frsize: 4096, ..StatFs::default() })
    }
}

/// Makes pipes.
pub struct Pipes {
    fs: Arc<PipeFs>,
    mount: Arc<Mount>,
    clock: Clock,
    next_ino: AtomicU64,
}

impl Pipes {
    /// `device` is `st_dev` of its pipes, whose mount stands nowhere.
    pub fn new(device: u64, clock: Clock) -> Pipes {
        let root = Arc::new(PipeInode::new(device, 1, FileKind::Directory, (0, 0), clock.clone()));
        let fs = Arc::new(PipeFs { device, root });
        let mount = Mount::internal(Dentry::root(fs.clone()));
        Pipes { fs, mount, clock, next_ino: AtomicU64::new(2) }
    }

    /// pipe2(2): the reading and the writing end. Of `status`, O_NONBLOCK and O_DIRECT mean something.
    pub fn pair(&self, status: StatusFlags, uid: u32, gid: u32) -> (Arc<FileDescription>, Arc<FileDescription>) {
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        let inode: Arc<dyn Inode> = Arc::new(PipeInode::new(self.fs.device, ino, FileKind::Fifo, (uid, gid), self.clock.clone()));
        let pipe = fifo_pipe(inode.as_ref());
        let packets = status.contains(StatusFlags::DIRECT);
        let name = format!("pipe:[{ino}]").into_bytes();
        let path = Path::new(self.mount.clone(), Dentry::pseudo(self.fs.clone(), inode, name));
        let read_end = Arc::new(PipeEnd::of_pair(pipe.clone(), false, packets));
        let write_end = Arc::new(PipeEnd::of_pair(pipe, true, packets));
        let read = FileDescription::new(read_end, path.clone(), true, false, status, 0);
        let write = FileDescription::new(write_end, path, false, true, status, 0);
        (read, write)
    }

    /// [`sentry_vfs::SpecialFiles::open_fifo`]: of a FIFO in any file system, or of a pipe again. `ENXIO` for a non-blocking writer without reader.
    pub fn open_fifo(&self, inode: &Arc<dyn Inode>, how: &OpenHow) -> Result<Arc<dyn FileOps>> {
        if inode.kind() != FileKind::Fifo || !(how.read || how.write) {
            return Err(Errno::EINVAL);
        }
        let pipe = fifo_pipe(inode.as_ref());
        if inode.as_any().is::<PipeInode>() {
            return Ok(Arc::new(PipeEnd::of_pipe(pipe, how.read, how.write)));
        }
        Ok(Arc::new(PipeEnd::of_fifo(pipe, how.read, how.write, how.nonblocking)?))
    }
}

/// The pipe of a FIFO's inode, made at its first opening.
pub(crate) fn fifo_pipe(inode: &dyn Inode) -> Arc<Pipe> {
    let mut attached = inode.state().attached.lock();
    if let Some(there) = attached.as_ref()
        && let Ok(pipe) = there.clone().downcast::<Pipe>()
    {
        return pipe;
    }
    let pipe = Pipe::new();
    let any: Arc<dyn Any + Send + Sync> = pipe.clone();
    *attached = Some(any);
    pipe
}
