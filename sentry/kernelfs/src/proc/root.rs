//! The root of /proc: system-wide files and one directory a process.

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result};
use sentry_kernel::Kernel;
use sentry_vfs::{Caller, Inode};

use super::{HostFacts, process, sysctl, system};
use crate::pseudo::{Builder, Children, Common, Directory, FixedChildren};

/// Inode numbers: system-wide files from here, process directories far above.
const FIRST: u64 = 0x1000;
const ROOT: u64 = 1;

pub fn make(kernel: &Arc<Kernel>, device: u64, facts: HostFacts) -> Arc<dyn Inode> {
    let mut b = Builder::new(device, FIRST);
    let mut entries = system::entries(&mut b, kernel, &facts);
    entries.push(("sys", sysctl::directory(&mut b, kernel)));
    entries.push(("self", b.link(|| Ok(current()?.0.to_string().into_bytes()))));
    entries.push(("thread-self", b.link(|| current().map(|(pid, tid)| format!("{pid}/task/{tid}").into_bytes()))));
    entries.push(("mounts", b.link(|| Ok(b"self/mounts".to_vec()))));
    entries.push(("net", b.link(|| Ok(b"self/net".to_vec()))));
    let children = Root { fixed: FixedChildren::new(entries, Errno::ENOENT), kernel: kernel.clone(), device };
    Directory::new(Common::new(device, ROOT, 0o555, None), Arc::new(children))
}

/// Process and thread of whoever asks.
fn current() -> Result<(i32, i32)> {
    sentry_kernel::task::current_ids().ok_or(Errno::ENOENT)
}

struct Root {
    fixed: Arc<FixedChildren>,
    kernel: Arc<Kernel>,
    device: u64,
}

/// A process or thread number: no sign, no leading zero.
pub fn number(name: &[u8]) -> Option<i32> {
    if name.first() == Some(&b'0') || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

impl Children for Root {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let Some(pid) = number(name) else { return self.fixed.lookup(name) };
        let group = match self.kernel.processes.group(pid) {
            Some(group) => group,
            // A thread's number works too, though it is not listed.
            None => self.kernel.processes.task(pid).map(|t| t.group.clone()).ok_or(Errno::ENOENT)?,
        };
        Ok(process::directory(&self.kernel, self.device, &group))
    }

    fn list(&self, caller: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)> {
        let mut list = self.fixed.list(caller);
        for group in self.kernel.processes.groups() {
            list.push((group.id.to_string().into_bytes(), FileKind::Directory, process::ino(group.id, 0)));
        }
        list
    }
}
