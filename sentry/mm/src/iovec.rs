//! Vectors of buffers (readv(2) and friends).

use sentry_abi::{Errno, Result, UserAddr};

use crate::mm::Mm;

/// UIO_MAXIOV.
pub const MAX_IOVECS: u64 = 1024;
/// The most that one read or write moves.
pub const MAX_RW_COUNT: u64 = 0x7fff_f000;

const SIZE: usize = 16;

/// One buffer of a vector; its range was checked to lie in the guest's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IoVec {
    pub base: UserAddr,
    pub len: u64,
}

impl IoVec {
    /// Sum of the lengths, at most [`MAX_RW_COUNT`] for an imported vector.
    pub fn total(vector: &[IoVec]) -> u64 {
        vector.iter().map(|v| v.len).fold(0, u64::saturating_add)
    }
}

impl Mm {
    /// Imports `struct iovec[count]`: EINVAL for more than [`MAX_IOVECS`] or a negative length, EFAULT for a bad array or a buffer outside the guest's
    /// range; lengths are cut so that their sum is at most [`MAX_RW_COUNT`].
    pub fn read_iovecs(&self, at: UserAddr, count: u64) -> Result<Vec<IoVec>> {
        if count > MAX_IOVECS {
            return Err(Errno::EINVAL);
        }
        let raw = self.read_vec(at, count as usize * SIZE)?;
        let mut vector = Vec::with_capacity(count as usize);
        for pair in raw.chunks_exact(SIZE) {
            let (base, len) = pair.split_at(8);
            let (base, len) = (word(base), word(len));
            if len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            vector.push(IoVec { base: UserAddr(base), len });
        }
        let mut room = MAX_RW_COUNT;
        for one in &mut vector {
            if !self.access_ok(one.base, one.len) {
                return Err(Errno::EFAULT);
            }
            one.len = one.len.min(room);
            room -= one.len;
        }
        Ok(vector)
    }

    /// One buffer as a vector: EFAULT outside the guest's range, length cut to [`MAX_RW_COUNT`].
    pub fn single_iovec(&self, base: UserAddr, len: u64) -> Result<IoVec> {
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let len = len.min(MAX_RW_COUNT);
        if self.access_ok(base, len) { Ok(IoVec { base, len }) } else { Err(Errno::EFAULT) }
    }

    /// Fills `dst` from the vector's bytes, `skip` bytes in. Returns bytes copied; EFAULT only when none were.
    pub fn read_vectored(&self, vector: &[IoVec], skip: u64, dst: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        for piece in pieces(vector, skip, dst.len()) {
            let copied = self.read_partial(piece.base, &mut dst[done..done + piece.len as usize]);
            match settle(&mut done, piece.len, copied)? {
                Next::More => {}
                Next::Stop => return Ok(done),
            }
        }
        Ok(done)
    }

    /// Writes `src` into the vector, `skip` bytes in. Returns bytes copied; EFAULT only when none were.
    pub fn write_vectored(&self, vector: &[IoVec], skip: u64, src: &[u8]) -> Result<usize> {
        let mut done = 0;
        for piece in pieces(vector, skip, src.len()) {
            let copied = self.write_partial(piece.base, &src[done..done + piece.len as usize]);
            match settle(&mut done, piece.len, copied)? {
                Next::More => {}
                Next::Stop => return Ok(done),
            }
        }
        Ok(done)
    }
}

enum Next {
    More,
    Stop,
}

fn settle(done: &mut usize, wanted: u64, copied: Result<usize>) -> Result<Next> {
    match copied {
        Ok(n) => {
            *done += n;
            Ok(if n as u64 == wanted { Next::More } else { Next::Stop })
        }
        Err(errno) if *done == 0 => Err(errno),
        Err(_) => Ok(Next::Stop),
    }
}

/// The non-empty buffers of a vector after `skip` bytes, `len` bytes in all.
fn pieces(vector: &[IoVec], mut skip: u64, len: usize) -> impl Iterator<Item = IoVec> {
    let mut left = len as u64;
    vector.iter().filter_map(move |one| {
        let passed = skip.min(one.len);
        skip -= passed;
        let len = (one.len - passed).min(left);
        left -= len;
        // Checked when the vector was imported; a caller's own vector may still be nonsense.
        let base = one.base.checked_add(passed)?;
        (len > 0).then_some(IoVec { base, len })
    })
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
