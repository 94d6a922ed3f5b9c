//! From a trapped call to its handler and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sentry_abi::Errno;
use sentry_kernel::{CurrentTask, SysResult, SystemCalls};

use crate::file::FileServices;
use crate::strace;
use crate::sysv::SysV;
use crate::table;

/// The system call layer of one sandbox: the table, and what only system calls own.
pub struct System {
    pub sysv: SysV,
    pub files: FileServices,
    pub sockets: Arc<sentry_net::NetNamespace>,
    trace: AtomicBool,
}

impl System {
    pub fn new(files: FileServices, sockets: Arc<sentry_net::NetNamespace>) -> System {
        System { sysv: SysV::default(), files, sockets, trace: AtomicBool::new(false) }
    }

    /// `--strace`, also while running.
    pub fn set_trace(&self, on: bool) {
        self.trace.store(on, Ordering::Relaxed);
    }

    /// The system call layer that serves `task`.
    pub(crate) fn of(task: &CurrentTask) -> Result<Arc<System>, Errno> {
        task.kernel().system_calls.clone().as_any().downcast::<System>().map_err(|_| Errno::ENOSYS)
    }
}

impl SystemCalls for System {
    fn call(&self, task: &mut CurrentTask) -> SysResult {
        let call = task.call();
        // The kernel looks at 32 bits, sign-extended; numbers with bit 30 are x32's, which x86-64 alone does not have.
        let number = call.number as u32;
        let Some(entry) = table::entry(number) else {
            tracing::debug!(number, "unknown system call");
            return Err(Errno::ENOSYS.into());
        };
        if !self.trace.load(Ordering::Relaxed) {
            return (entry.handler)(task, &call.args);
        }
        strace::enter(task, entry, &call.args);
        let result = (entry.handler)(task, &call.args);
        strace::leave(task, entry, &result);
        result
    }

    fn process_ended(&self, pid: i32) {
        self.sysv.process_ended(pid);
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync> {
        self
    }
}
