//! Device numbers of our file systems, and what the names of FIFOs and devices open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sentry_abi::stat::make_dev;
use sentry_abi::{Errno, FileKind, Result, Timespec};
use sentry_fs_devfs::{DeviceClass, Devices, number};
use sentry_fs_hostfd::HostFs;
use sentry_fs_pipefs::Pipes;
use sentry_fs_tty::Terminals;
use sentry_vfs::{Caller, FileOps, Inode, OpenHow, SpecialFiles};

pub(crate) type Clock = Arc<dyn Fn() -> Timespec + Send + Sync>;

/// Anonymous device numbers (major 0), one a file system.
pub(crate) struct DeviceNumbers(AtomicU32);

impl Default for DeviceNumbers {
    fn default() -> DeviceNumbers {
        DeviceNumbers(AtomicU32::new(20))
    }
}

impl DeviceNumbers {
    pub fn next(&self) -> u64 {
        make_dev(0, self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// [`SpecialFiles`] of the sandbox.
pub(crate) struct Specials {
    pipes: Arc<Pipes>,
    devices: Devices,
}

impl Specials {
    pub fn new(pipes: Arc<Pipes>, terminals: Arc<Terminals>, host: Arc<HostFs>) -> Specials {
        let mut devices = Devices::with_memory_devices();
        let open_tty = move |_: &Arc<dyn Inode>, _: u32, how: &OpenHow, caller: &dyn Caller| {
            let key = caller.job_control().controlling_terminal().ok_or(Errno::ENXIO)?;
            match host.open_terminal(key) {
                Some(file) => Ok(file),
                None => terminals.open_controlling(caller, how.nonblocking),
            }
        };
        devices.add(DeviceClass::Character, number::TTY_MAJOR, number::TTY..=number::CONSOLE, "/dev/tty", Arc::new(open_tty));
        Specials { pipes, devices }
    }
}

impl SpecialFiles for Specials {
    fn open_fifo(&self, inode: &Arc<dyn Inode>, how: &OpenHow) -> Result<Arc<dyn FileOps>> {
        self.pipes.open_fifo(inode, how)
    }

    fn open_device(
        &self,
        inode: &Arc<dyn Inode>,
        kind: FileKind,
        rdev: u64,
        how: &OpenHow,
        caller: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        self.devices.open(inode, kind, rdev, how, caller)
    }
}
