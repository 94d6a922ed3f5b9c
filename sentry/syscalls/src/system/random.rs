//! getrandom(2).

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::{CurrentTask, SysResult, random};

use crate::args::Flags;

const CHUNK: usize = 4096;

/// [getrandom(2)](https://man7.org/linux/man-pages/man2/getrandom.2.html): the host's generator is always ready.
pub fn getrandom(task: &mut CurrentTask, at: UserAddr, len: u64, flags: Flags) -> SysResult {
    const KNOWN: u32 = 7;
    const RANDOM_INSECURE: u32 = 6;
    if flags.0 & !KNOWN != 0 || flags.0 & RANDOM_INSECURE == RANDOM_INSECURE {
        return Err(Errno::EINVAL.into());
    }
    let len = len.min(i32::MAX as u64);
    let mut done = 0;
    while done < len {
        let n = (len - done).min(CHUNK as u64) as usize;
        let mut bytes = [0u8; CHUNK];
        random::fill(&mut bytes[..n])?;
        match task.mm().write(at.offset(done)?, &bytes[..n]) {
            Ok(()) => done += n as u64,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}
