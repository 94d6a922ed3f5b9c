//! proc(5).

mod fd;
mod memory;
mod namespaces;
mod process;
mod root;
mod status;
mod sysctl;
mod system;

use std::sync::Arc;

use sentry_abi::Result;
use sentry_abi::stat::StatFs;
use sentry_kernel::Kernel;
use sentry_vfs::{FileSystem, Inode};

pub use system::cpu_list;

const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// What the sentry cannot find out itself and /proc shows.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    pub cpus: u32,
    pub cpuinfo: Vec<u8>,
}

/// One proc file system.
pub struct ProcFs {
    device: u64,
    root: Arc<dyn Inode>,
}

impl ProcFs {
    pub fn new(kernel: Arc<Kernel>, device: u64, facts: HostFacts) -> Arc<ProcFs> {
        Arc::new(ProcFs { device, root: root::make(&kernel, device, facts) })
    }
}

impl FileSystem for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn device(&self) -> u64 {
        self.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: PROC_SUPER_MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() })
    }
}
