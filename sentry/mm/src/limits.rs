//! The limits that memory operations obey; the kernel updates them when rlimits, capabilities or sysctls change.

/// RLIM_INFINITY.
pub const UNLIMITED: u64 = u64::MAX;

/// Soft limits in bytes, [`UNLIMITED`] for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub address_space: u64,
    pub data: u64,
    pub stack: u64,
    pub memlock: u64,
    /// CAP_IPC_LOCK: memlock does not apply.
    pub may_lock_any: bool,
    /// vm.max_map_count as the host has it; guests are refused 256 earlier, so that the host never fails in the middle (LAWS 1.12).
    pub max_map_count: u64,
    /// vm.mmap_min_addr.
    pub min_addr: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            address_space: UNLIMITED,
            data: UNLIMITED,
            stack: 8 << 20,
            memlock: 8 << 20,
            may_lock_any: false,
            max_map_count: 65_530,
            min_addr: 65_536,
        }
    }
}

impl Limits {
    pub(crate) fn map_count(&self) -> u64 {
        self.max_map_count.saturating_sub(256)
    }
}
