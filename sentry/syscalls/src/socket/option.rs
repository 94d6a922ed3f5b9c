//! getsockopt(2), setsockopt(2).

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};

use super::wait::find;

/// Longer values are cut: no option has one.
const MOST: usize = 4096;

/// [setsockopt(2)](https://man7.org/linux/man-pages/man2/setsockopt.2.html).
pub fn setsockopt(task: &mut CurrentTask, sockfd: i32, level: i32, optname: i32, optval: UserAddr, optlen: i32) -> SysResult {
    let len = usize::try_from(optlen).map_err(|_| Errno::EINVAL)?;
    let (_file, socket) = find(task, sockfd)?;
    let value = task.mm().read_vec(optval, len.min(MOST))?;
    socket.set_option(task, level, optname, &value)?;
    Ok(0)
}

/// [getsockopt(2)](https://man7.org/linux/man-pages/man2/getsockopt.2.html).
pub fn getsockopt(task: &mut CurrentTask, sockfd: i32, level: i32, optname: i32, optval: UserAddr, optlen: UserAddr) -> SysResult {
    let (_file, socket) = find(task, sockfd)?;
    let room: i32 = task.mm().read_obj(optlen)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let value = socket.get_option(task, level, optname, room)?;
    let n = value.len().min(room);
    task.mm().write(optval, &value[..n])?;
    task.mm().write_obj(optlen, &(n as i32))?;
    Ok(0)
}
