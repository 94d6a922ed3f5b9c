//! null(4), zero(4), full(4), random(4).

use std::any::Any;
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use sentry_abi::{Errno, Result, UserAddr};
use sentry_memory::{MapLabel, Mapping, MemFile, MemfdSource};
use sentry_platform::Prot;
use sentry_vfs::{Caller, FileOps, Inode, OpenHow, Seek};

use crate::devices::Device;
use crate::number;

/// The most random bytes of one read, so that it ends in reasonable time.
const RANDOM_CHUNK: usize = 1 << 20;
/// RNDGETENTCNT; the pool is always full.
const GET_ENTROPY: u32 = 0x8004_5200;
const ENTROPY_BITS: i32 = 256;
/// More than any guest address space, so that no page of a mapping lies behind the end.
const ZERO_SIZE: u64 = 1 << 47;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MemoryDevice {
    Null,
    Zero,
    Full,
    Random,
    UnlimitedRandom,
}

impl MemoryDevice {
    pub const ALL: [MemoryDevice; 5] =
        [MemoryDevice::Null, MemoryDevice::Zero, MemoryDevice::Full, MemoryDevice::Random, MemoryDevice::UnlimitedRandom];

    pub const fn minor(self) -> u32 {
        match self {
            MemoryDevice::Null => number::NULL,
            MemoryDevice::Zero => number::ZERO,
            MemoryDevice::Full => number::FULL,
            MemoryDevice::Random => number::RANDOM,
            MemoryDevice::UnlimitedRandom => number::URANDOM,
        }
    }

    fn is_random(self) -> bool {
        matches!(self, MemoryDevice::Random | MemoryDevice::UnlimitedRandom)
    }
}

impl Device for MemoryDevice {
    fn open(&self, inode: &Arc<dyn Inode>, _: u32, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        let id = inode.attr().map(|attr| (attr.dev, attr.ino))?;
        Ok(Arc::new(MemoryFile { device: *self, id }))
    }
}

struct MemoryFile {
    device: MemoryDevice,
    /// Of the node, for /proc/pid/maps.
    id: (u64, u64),
}

impl FileOps for MemoryFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Ignored
    }

    fn pollable(&self) -> bool {
        self.device.is_random()
    }

    fn read(&self, _: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        match self.device {
            MemoryDevice::Null => Ok(0),
            MemoryDevice::Zero | MemoryDevice::Full => {
                dst.fill(0);
                Ok(dst.len())
            }
            MemoryDevice::Random | MemoryDevice::UnlimitedRandom => {
                let most = dst.len().min(RANDOM_CHUNK);
                fill_random(&mut dst[..most])
            }
        }
    }

    fn write(&self, _: &dyn Caller, _: u64, src: &[u8]) -> Result<usize> {
        // What is written to random is mixed in by Linux, without credit; the host's pool needs nothing of a guest.
        if self.device == MemoryDevice::Full { Err(Errno::ENOSPC) } else { Ok(src.len()) }
    }

    fn append(&self, caller: &dyn Caller, src: &[u8]) -> Result<(usize, u64)> {
        Ok((self.write(caller, 0, src)?, 0))
    }

    /// Each mapping of /dev/zero is fresh memory.
    fn mapping(&self, _: bool) -> Result<Mapping> {
        if self.device != MemoryDevice::Zero {
            return Err(Errno::ENODEV);
        }
        let memory = MemFile::new(Arc::new(MemfdSource));
        memory.truncate(ZERO_SIZE)?;
        let (fd, _) = memory.host_files()?;
        Ok(Mapping { fd, max_prot: Prot::READ | Prot::WRITE | Prot::EXEC, label: Arc::new(ZeroLabel(self.id)), resident: false })
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        if self.device.is_random() && command == GET_ENTROPY {
            caller.copy_out(UserAddr(argument), &ENTROPY_BITS.to_ne_bytes())?;
            return Ok(0);
        }
        Err(Errno::ENOTTY)
    }
}

/// Fills as much as the host gives; an interruption ends it early.
fn fill_random(dst: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = dst.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) if done != 0 => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Errno::from_host(errno.raw_os_error())),
        }
    }
    Ok(done)
}

struct ZeroLabel((u64, u64));

impl MapLabel for ZeroLabel {
    fn path(&self) -> Option<Vec<u8>> {
        Some(b"/dev/zero".to_vec())
    }

    fn id(&self) -> (u64, u64) {
        self.0
    }
}
