//! Facts about the host that a process without a /proc cannot find out.

use std::fs::{self, File};
use std::io::Read as _;

use runsc_control::HostFacts;
use sentry_confine::Privilege;

use crate::ids;

const MAX_CPUINFO: u64 = 256 << 10;

/// Reads them; what cannot be read is left at a harmless value.
pub fn host_facts(privilege: Privilege) -> HostFacts {
    let mut cpuinfo = Vec::new();
    if let Ok(file) = File::open("/proc/cpuinfo") {
        // A partial text is as good as none.
        if file.take(MAX_CPUINFO).read_to_end(&mut cpuinfo).is_err() {
            cpuinfo.clear();
        }
    }
    HostFacts {
        cpus: std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()).unwrap_or(1),
        memory: memory().unwrap_or(1 << 30),
        cpuinfo,
        overflow_uid: ids::overflow("uid"),
        overflow_gid: ids::overflow("gid"),
        rootless: privilege != Privilege::Root,
    }
}

fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
