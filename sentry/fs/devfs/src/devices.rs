//! From a device number to an open file.

use std::ops::RangeInclusive;
use std::sync::Arc;

use sentry_abi::stat::{dev_major, dev_minor};
use sentry_abi::{Errno, FileKind, Result};
use sentry_vfs::{Caller, FileOps, Inode, OpenHow};

use crate::memory::MemoryDevice;
use crate::number;

/// Something that opens by number.
pub trait Device: Send + Sync {
    /// `inode` is the node that was opened, in whatever file system; `minor` the number it had.
    fn open(&self, inode: &Arc<dyn Inode>, minor: u32, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>>;
}

impl<F> Device for F
where
    F: Fn(&Arc<dyn Inode>, u32, &OpenHow, &dyn Caller) -> Result<Arc<dyn FileOps>> + Send + Sync,
{
    fn open(&self, inode: &Arc<dyn Inode>, minor: u32, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        self(inode, minor, how, caller)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceClass {
    Character,
    Block,
}

struct Entry {
    class: DeviceClass,
    major: u32,
    minors: RangeInclusive<u32>,
    /// As /proc/devices names the major number.
    name: &'static str,
    device: Arc<dyn Device>,
}

/// All numbers that something stands behind. Made once, by the wiring.
#[derive(Default)]
pub struct Devices {
    entries: Vec<Entry>,
}

impl Devices {
    /// null, zero, full, random and urandom.
    pub fn with_memory_devices() -> Devices {
        let mut devices = Devices::default();
        for kind in MemoryDevice::ALL {
            devices.add(DeviceClass::Character, number::MEMORY_MAJOR, kind.minor()..=kind.minor(), "mem", Arc::new(kind));
        }
        devices
    }

    /// A later entry goes before an earlier one.
    pub fn add(&mut self, class: DeviceClass, major: u32, minors: RangeInclusive<u32>, name: &'static str, device: Arc<dyn Device>) {
        self.entries.push(Entry { class, major, minors, name, device });
    }

    /// `open` of a device node; `ENXIO` for a number without a device.
    pub fn open(&self, inode: &Arc<dyn Inode>, kind: FileKind, rdev: u64, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        let class = match kind {
            FileKind::CharDevice => DeviceClass::Character,
            FileKind::BlockDevice => DeviceClass::Block,
            _ => return Err(Errno::ENXIO),
        };
        let (major, minor) = (dev_major(rdev), dev_minor(rdev));
        let fits = |entry: &&Entry| entry.class == class && entry.major == major && entry.minors.contains(&minor);
        let entry = self.entries.iter().rev().find(fits).ok_or(Errno::ENXIO)?;
        entry.device.open(inode, minor, how, caller)
    }

    /// Majors and names, for /proc/devices.
    pub fn majors(&self, class: DeviceClass) -> Vec<(u32, &'static str)> {
        let mut majors: Vec<_> = self.entries.iter().filter(|entry| entry.class == class).map(|entry| (entry.major, entry.name)).collect();
        majors.sort_unstable();
        majors.dedup();
        majors
    }
}
