//! Random bytes for the guest, from the host kernel: getrandom(2).

use sentry_abi::{Errno, Result};

/// Fills `dst`.
pub fn fill(dst: &mut [u8]) -> Result<()> {
    let mut rest = dst;
    while !rest.is_empty() {
        let n =
            rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()).map_err(|e| Errno::from_host(e.raw_os_error()))?;
        rest = &mut rest[n..];
    }
    Ok(())
}
