//! Shared anonymous memory: a memory file of its own, shown as `/dev/zero (deleted)`.

use std::sync::Arc;

use sentry_abi::Result;
use sentry_memory::{FileSource, MapLabel, Mapping, MemFile};
use sentry_platform::Prot;

struct DevZero {
    ino: u64,
}

impl MapLabel for DevZero {
    fn path(&self) -> Option<Vec<u8>> {
        Some(b"/dev/zero (deleted)".to_vec())
    }

    fn id(&self) -> (u64, u64) {
        // The kernel's internal shmem mount.
        (1, self.ino)
    }
}

/// A fresh mapping of `len` zero bytes.
pub(crate) fn shared_anonymous(source: &Arc<dyn FileSource>, len: u64) -> Result<Mapping> {
    let file = MemFile::new(source.clone());
    // The host file must exist before it has a size, or the zeros would go through the heap.
    let (fd, _) = file.host_files()?;
    file.truncate(len)?;
    // Unlike a counter of our own, the host's number differs between address spaces and stays with the memory.
    let ino = rustix::fs::fstat(&fd).map_or(0, |stat| stat.st_ino);
    Ok(Mapping { fd, max_prot: Prot::all(), label: Arc::new(DevZero { ino }), resident: false })
}
