//! `struct sockaddr` of the guest.

use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::CurrentTask;
use sentry_net::MAX_ADDRESS;

/// move_addr_to_kernel(): `EINVAL` for a length that no address has.
pub fn read(task: &CurrentTask, at: UserAddr, len: i32) -> Result<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_ADDRESS).ok_or(Errno::EINVAL)?;
    task.mm().read_vec(at, len)
}

/// move_addr_to_user(): as much as fits, and the whole length. `len_at` holds the room.
pub fn write(task: &CurrentTask, at: UserAddr, len_at: UserAddr, address: &[u8]) -> Result<()> {
    let room: i32 = task.mm().read_obj(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    task.mm().write(at, &address[..address.len().min(room)])?;
    task.mm().write_obj(len_at, &(address.len() as i32))
}
