//! What guests are told of the processor in the auxiliary vector; it must agree with CPUID, which guests execute themselves.

/// AT_HWCAP2's FSGSBASE: %gs belongs to the platform's call sites (LAWS 6.8).
const HWCAP2_FSGSBASE: u64 = 2;

#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub hwcap: u64,
    pub hwcap2: u64,
    /// AT_MINSIGSTKSZ.
    pub min_signal_stack: u64,
}

/// Asks the host, by calls that the sentry may make only before it is locked down.
pub fn features() -> Features {
    let (hwcap, hwcap2) = rustix::param::linux_hwcap();
    Features { hwcap: hwcap as u64, hwcap2: hwcap2 as u64 & !HWCAP2_FSGSBASE, min_signal_stack: rustix::param::linux_minsigstksz() as u64 }
}
