//! Copies from and to guest memory. Addresses outside the guest's range are EFAULT before the platform is asked.

use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::mm::Mm;

/// First piece of a string read; most strings end in it.
const FIRST_PIECE: usize = 256;
/// Objects up to this size are read through the stack.
const SMALL: usize = 256;

impl Mm {
    /// access_ok(): whether all of it lies in the guest's range. Says nothing about mappings.
    pub fn access_ok(&self, at: UserAddr, len: u64) -> bool {
        at.0.checked_add(len).is_some_and(|end| end <= self.guest.end())
    }

    fn may_read(&self, at: UserAddr, len: usize) -> bool {
        if self.access_ok(at, len as u64) {
            return true;
        }
        let Some(vdso) = self.vdso else { return false };
        at.0 >= vdso.range.start() && at.0.checked_add(len as u64).is_some_and(|end| end <= vdso.range.end())
    }

    /// Copies out of the guest: all or EFAULT.
    pub fn read(&self, at: UserAddr, dst: &mut [u8]) -> Result<()> {
        if dst.is_empty() {
            return Ok(());
        }
        if !self.may_read(at, dst.len()) {
            return Err(Errno::EFAULT);
        }
        self.space.read(at, dst).map_err(|_| Errno::EFAULT)
    }

    /// Copies into the guest: all or EFAULT (a prefix may have been written).
    pub fn write(&self, at: UserAddr, src: &[u8]) -> Result<()> {
        if src.is_empty() {
            return Ok(());
        }
        if !self.access_ok(at, src.len() as u64) {
            return Err(Errno::EFAULT);
        }
        self.space.write(at, src).map_err(|_| Errno::EFAULT)
    }

    /// Copies as much as is readable; the number of bytes, EFAULT when it is 0 of more than 0.
    pub fn read_partial(&self, at: UserAddr, dst: &mut [u8]) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        if !self.may_read(at, dst.len()) {
            return Err(Errno::EFAULT);
        }
        done(self.space.read(at, dst), dst.len())
    }

    /// Copies as much as is writable; the number of bytes, EFAULT when it is 0 of more than 0.
    pub fn write_partial(&self, at: UserAddr, src: &[u8]) -> Result<usize> {
        if src.is_empty() {
            return Ok(0);
        }
        if !self.access_ok(at, src.len() as u64) {
            return Err(Errno::EFAULT);
        }
        done(self.space.write(at, src), src.len())
    }

    /// A fresh buffer of `len` bytes, which the caller has bounded.
    pub fn read_vec(&self, at: UserAddr, len: usize) -> Result<Vec<u8>> {
        if !self.may_read(at, len) {
            return Err(Errno::EFAULT);
        }
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Zeros `len` bytes, which the caller has bounded.
    pub fn zero(&self, at: UserAddr, len: u64) -> Result<()> {
        static ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        if !self.access_ok(at, len) {
            return Err(Errno::EFAULT);
        }
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(PAGE_SIZE);
            self.write(at.offset(done)?, &ZEROS[..piece as usize])?;
            done += piece;
        }
        Ok(())
    }

    /// A NUL-terminated string, without its NUL. `max` counts the NUL as PATH_MAX does; ENAMETOOLONG when none comes within it.
    pub fn read_cstring(&self, at: UserAddr, max: usize) -> Result<Vec<u8>> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut piece = FIRST_PIECE;
        while bytes.len() < max {
            let from = at.offset(bytes.len() as u64)?;
            // Never across a page end: what lies behind it need not be mapped.
            let page_rest = (PAGE_SIZE - from.0 % PAGE_SIZE) as usize;
            let len = piece.min(page_rest).min(max - bytes.len());
            let start = bytes.len();
            bytes.resize(start + len, 0);
            self.read(from, &mut bytes[start..])?;
            if let Some(end) = bytes[start..].iter().position(|b| *b == 0) {
                bytes.truncate(start + end);
                return Ok(bytes);
            }
            piece = PAGE_SIZE as usize;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// One object in the guest's layout.
    pub fn read_obj<T: FromBytes>(&self, at: UserAddr) -> Result<T> {
        let size = size_of::<T>();
        if size <= SMALL {
            let mut bytes = [0; SMALL];
            self.read(at, &mut bytes[..size])?;
            return T::read_from_bytes(&bytes[..size]).map_err(|_| Errno::EFAULT);
        }
        let bytes = self.read_vec(at, size)?;
        T::read_from_bytes(&bytes).map_err(|_| Errno::EFAULT)
    }

    pub fn write_obj<T: IntoBytes + Immutable + ?Sized>(&self, at: UserAddr, value: &T) -> Result<()> {
        self.write(at, value.as_bytes())
    }

    /// `count` objects, which the caller has bounded.
    pub fn read_array<T: FromBytes>(&self, at: UserAddr, count: usize) -> Result<Vec<T>> {
        let size = size_of::<T>();
        let len = count.checked_mul(size).ok_or(Errno::EFAULT)?;
        let bytes = self.read_vec(at, len)?;
        if size == 0 {
            return Err(Errno::EFAULT);
        }
        bytes.chunks_exact(size).map(|c| T::read_from_bytes(c).map_err(|_| Errno::EFAULT)).collect()
    }

    pub fn write_array<T: IntoBytes + Immutable>(&self, at: UserAddr, values: &[T]) -> Result<()> {
        self.write(at, values.as_bytes())
    }
}

fn done(copied: std::result::Result<(), sentry_platform::Fault>, len: usize) -> Result<usize> {
    match copied {
        Ok(()) => Ok(len),
        Err(fault) if fault.done == 0 => Err(Errno::EFAULT),
        Err(fault) => Ok(fault.done.min(len)),
    }
}
