//! futex(2) as far as the platform does not answer it in the guest's own address space. kernel/futex.

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_platform::Share;

const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;
const WAKE: u32 = 1;
const WAKE_BITSET: u32 = 10;
const LOCK_PI: u32 = 6;
const LOCK_PI2: u32 = 13;
const COMMANDS: u32 = 13;

/// [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html).
///
/// Differs: priority-inheriting locks answer ENOSYS, as a kernel without CONFIG_FUTEX_PI.
pub fn futex(task: &mut CurrentTask, addr: UserAddr, op: u32, value: u32, _timeout: UserAddr, _addr2: UserAddr, bitset: u32) -> SysResult {
    let share = if op & PRIVATE != 0 { Share::Private } else { Share::Shared };
    let command = op & !(PRIVATE | CLOCK_REALTIME);
    match command {
        WAKE | WAKE_BITSET => {
            if command == WAKE_BITSET && bitset == 0 || addr.0 % 4 != 0 {
                return Err(Errno::EINVAL.into());
            }
            Ok(task.thread.futex_wake(addr, value, share).map_err(|e| e.errno())? as u64)
        }
        LOCK_PI..=LOCK_PI2 if command != WAKE_BITSET && !matches!(command, 9) => Err(Errno::ENOSYS.into()),
        c if c > COMMANDS => Err(Errno::ENOSYS.into()),
        // Waiting is native on every platform; a wait that comes here has arguments that the platform would not take.
        _ => Err(Errno::EINVAL.into()),
    }
}
