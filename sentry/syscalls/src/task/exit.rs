//! exit(2), exit_group(2).

use sentry_kernel::{CurrentTask, ExitStatus, SysResult};

/// [exit(2)](https://man7.org/linux/man-pages/man2/exit.2.html): this thread.
pub fn exit(task: &mut CurrentTask, status: i32) -> SysResult {
    task.exit(status as u8);
    Ok(0)
}

/// [exit_group(2)](https://man7.org/linux/man-pages/man2/exit_group.2.html): the process.
pub fn exit_group(task: &mut CurrentTask, status: i32) -> SysResult {
    task.end_process(ExitStatus::Exited(status as u8));
    Ok(0)
}
