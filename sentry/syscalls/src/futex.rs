//! futex(2) as far as the platform does not answer it in the guest's own address space. kernel/futex.

use sentry_abi::{Errno, UserAddr};
use sentry_futex::{FutexCall, execute};
use sentry_kernel::task::TaskFutexes;
use sentry_kernel::{CurrentTask, SysResult};
use sentry_platform::Share;

const PRIVATE: u32 = 128;

/// [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html).
///
/// Differs: priority-inheriting locks answer ENOSYS, as a kernel without CONFIG_FUTEX_PI.
pub fn futex(task: &mut CurrentTask, uaddr: UserAddr, op: u32, val: u32, timeout: u64, uaddr2: UserAddr, val3: u32) -> SysResult {
    let share = if op & PRIVATE != 0 { Share::Private } else { Share::Shared };
    let call = FutexCall { at: uaddr, op, val, val2: timeout, at2: uaddr2, val3 };
    match execute(&call, &mut TaskFutexes { task, share: Some(share) }) {
        Some(result) => Ok(result?),
        // Waiting is native on every platform; a wait that comes here has arguments that the platform would not take.
        None => Err(Errno::EINVAL.into()),
    }
}
