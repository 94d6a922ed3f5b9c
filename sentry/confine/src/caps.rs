//! Capability sets.

use std::io;

use bitflags::bitflags;

use crate::sys;

bitflags! {
    /// The capabilities that a role may keep. All others are dropped from every set.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Capabilities: u64 {
        const CHOWN = 1 << 0;
        const DAC_OVERRIDE = 1 << 1;
        const DAC_READ_SEARCH = 1 << 2;
        const FOWNER = 1 << 3;
        const FSETID = 1 << 4;
    }
}

/// Above all that exist (41 in Linux 6.18); dropping stops where the kernel knows no more.
const MAX_CAPABILITY: u32 = 63;

impl Capabilities {
    /// No more than these can ever be had. Before ids are changed, which may take the right to do this away.
    pub(crate) fn bound(self) -> io::Result<()> {
        for capability in (0..=MAX_CAPABILITY).filter(|n| self.bits() & (1 << n) == 0) {
            match sys::drop_from_bounding_set(capability) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves this thread and what it executes with exactly these.
    pub(crate) fn apply(self) -> io::Result<()> {
        sys::set_capabilities(self.bits())?;
        // Ambient ones survive exec of a file without file capabilities by an unprivileged user.
        for capability in (0..=MAX_CAPABILITY).filter(|n| self.bits() & (1 << n) != 0) {
            sys::raise_ambient(capability)?;
        }
        Ok(())
    }
}
