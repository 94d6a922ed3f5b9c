//! What file code may know of who calls it.

use std::sync::Arc;

use sentry_abi::{FileKind, Result, Signal, UserAddr};
use sentry_auth::Credentials;

use crate::file::FileOps;
use crate::inode::{Inode, OpenHow};
use crate::namespace::MountNamespace;
use crate::path::Path;

/// What name resolution needs of a task.
#[derive(Clone)]
pub struct FsContext {
    pub credentials: Arc<Credentials>,
    pub namespace: Arc<MountNamespace>,
    pub root: Path,
    pub cwd: Path,
    pub umask: u16,
    pub special: Arc<dyn SpecialFiles>,
}

/// Opens what is a name in a file system but lives elsewhere: FIFOs and device nodes. The wiring hands it in.
pub trait SpecialFiles: Send + Sync {
    /// `inode` is a FIFO; its pipe is kept in [`crate::InodeState::attached`]. `ENXIO` for a non-blocking writer without reader.
    fn open_fifo(&self, inode: &Arc<dyn Inode>, how: &OpenHow) -> Result<Arc<dyn FileOps>>;
    /// A character or block device by number. `ENXIO`.
    fn open_device(
        &self,
        inode: &Arc<dyn Inode>,
        kind: FileKind,
        rdev: u64,
        how: &OpenHow,
        caller: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>>;
}

/// The running task as a file operation sees it. Implemented by the kernel's current task.
pub trait Caller {
    fn credentials(&self) -> Arc<Credentials>;
    /// Thread group id in the caller's own pid namespace.
    fn pid(&self) -> i32;
    /// Copies from and to the caller's memory, for ioctl(2). `EFAULT`.
    fn copy_in(&self, at: UserAddr, dst: &mut [u8]) -> Result<()>;
    fn copy_out(&self, at: UserAddr, src: &[u8]) -> Result<()>;
    /// Sends a signal to the calling thread, as the kernel does (SIGPIPE).
    fn signal_self(&self, signal: Signal);
    fn job_control(&self) -> &dyn JobControl;
    /// CLOCK_REALTIME now, for time stamps.
    fn now(&self) -> sentry_abi::Timespec;
    /// Installs an open file as the lowest free descriptor, for ioctls that open (TIOCGPTPEER, NS_GET_PARENT).
    fn install_file(&self, file: Arc<crate::FileDescription>, close_on_exec: bool) -> Result<i32>;
}

/// Sessions and process groups, as terminals need them. Ids are kernel-global process ids, not namespace ones.
pub trait JobControl {
    fn session(&self) -> i32;
    fn process_group(&self) -> i32;
    fn is_session_leader(&self) -> bool;
    /// The terminal key ([`crate::FileOps::terminal_key`]) of the session's controlling terminal.
    fn controlling_terminal(&self) -> Option<u64>;
    fn set_controlling_terminal(&self, key: Option<u64>) -> Result<()>;
    /// Does `group` exist within the caller's session?
    fn group_in_session(&self, group: i32) -> bool;
    /// Is the caller's process group orphaned (setpgid(2))?
    fn group_is_orphaned(&self) -> bool;
    /// Is the signal blocked or ignored by the caller? Decides between EIO and stopping (tty_ioctl(4), TIOCSTI …).
    fn ignores(&self, signal: Signal) -> bool;
    fn signal_group(&self, group: i32, signal: Signal);
    /// Numbers as user space sees them in the caller's pid namespace.
    fn to_user(&self, id: i32) -> i32;
    #[allow(clippy::wrong_self_convention, reason = "the other half of to_user")]
    fn from_user(&self, id: i32) -> Option<i32>;
}
