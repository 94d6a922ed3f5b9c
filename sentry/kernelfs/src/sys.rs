//! sysfs(5): the processors, and the directories that programs expect to be there.

use std::sync::Arc;

use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, Result};
use sentry_vfs::{FileSystem, Inode};

use crate::pseudo::Builder;

const SYSFS_MAGIC: i64 = 0x6265_6572;
/// More processors get no directory of their own.
const MAX_CPUS: u32 = 64;

pub struct SysFs {
    device: u64,
    root: Arc<dyn Inode>,
}

const CPU_NAMES: [&str; MAX_CPUS as usize] = {
    [
        "cpu0", "cpu1", "cpu2", "cpu3", "cpu4", "cpu5", "cpu6", "cpu7", "cpu8", "cpu9", "cpu10", "cpu11", "cpu12", "cpu13", "cpu14",
        "cpu15", "cpu16", "cpu17", "cpu18", "cpu19", "cpu20", "cpu21", "cpu22", "cpu23", "cpu24", "cpu25", "cpu26", "cpu27", "cpu28",
        "cpu29", "cpu30", "cpu31", "cpu32", "cpu33", "cpu34", "cpu35", "cpu36", "cpu37", "cpu38", "cpu39", "cpu40", "cpu41", "cpu42",
        "cpu43", "cpu44", "cpu45", "cpu46", "cpu47", "cpu48", "cpu49", "cpu50", "cpu51", "cpu52", "cpu53", "cpu54", "cpu55", "cpu56",
        "cpu57", "cpu58", "cpu59", "cpu60", "cpu61", "cpu62", "cpu63",
    ]
};

impl SysFs {
    pub fn new(device: u64, cpus: u32) -> Arc<SysFs> {
        let mut b = Builder::new(device, 1).refusing(Errno::EPERM);
        let list = || format!("{}\n", super::proc::cpu_list(cpus.max(1)));
        let mut cpu: Vec<(&'static str, Arc<dyn Inode>)> = Vec::new();
        for name in CPU_NAMES.iter().take(cpus.min(MAX_CPUS) as usize) {
            let topology = vec![("core_id", b.fixed("0\n")), ("physical_package_id", b.fixed("0\n"))];
            let topology = b.directory(topology);
            let online = b.fixed("1\n");
            cpu.push((name, b.directory(vec![("online", online), ("topology", topology)])));
        }
        cpu.push(("kernel_max", b.fixed("8191\n")));
        for name in ["online", "possible", "present"] {
            cpu.push((name, b.fixed(list())));
        }
        cpu.push(("offline", b.fixed("\n")));
        let cpu = b.directory(cpu);
        let node0 = vec![("cpulist", b.fixed(list())), ("cpumap", b.fixed(cpu_map(cpus.max(1)))), ("distance", b.fixed("10\n"))];
        let node0 = b.directory(node0);
        let node = vec![("node0", node0), ("online", b.fixed("0\n")), ("possible", b.fixed("0\n"))];
        let node = b.directory(node);
        let system = b.directory(vec![("cpu", cpu), ("node", node)]);
        let devices = b.directory(vec![("system", system)]);
        let thp = vec![("enabled", b.fixed("always [madvise] never\n")), ("hpage_pmd_size", b.fixed("2097152\n"))];
        let thp = b.directory(thp);
        let mm = b.directory(vec![("transparent_hugepage", thp)]);
        let kernel = b.directory(vec![("mm", mm)]);
        let net_lo = vec![("address", b.fixed("00:00:00:00:00:00\n")), ("mtu", b.fixed("65536\n")), ("operstate", b.fixed("unknown\n"))];
        let net_lo = b.directory(net_lo);
        let net = b.directory(vec![("lo", net_lo)]);
        let class = b.directory(vec![("net", net)]);
        // Where containers have their control groups mounted.
        let fs = vec![("cgroup", b.directory(Vec::new()))];
        let fs = b.directory(fs);
        let names = ["block", "bus", "dev", "firmware", "module", "power"];
        let mut entries: Vec<(&'static str, Arc<dyn Inode>)> = names.into_iter().map(|n| (n, b.directory(Vec::new()))).collect();
        entries.extend([("class", class), ("devices", devices), ("fs", fs), ("kernel", kernel)]);
        let root = b.directory(entries);
        Arc::new(SysFs { device, root })
    }
}

/// All of `cpus` as sysfs writes masks: hexadecimal, in groups of 32 from the highest.
fn cpu_map(cpus: u32) -> String {
    let (whole, rest) = (cpus / 32, cpus % 32);
    let first = (rest > 0).then(|| format!("{:x}", (1u64 << rest) - 1));
    let groups: Vec<String> = first.into_iter().chain((0..whole).map(|_| "ffffffff".to_string())).collect();
    groups.join(",") + "\n"
}

impl FileSystem for SysFs {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn device(&self) -> u64 {
        self.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: SYSFS_MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cpu_maps() {
        let check = |cpus, want: &str| assert_eq!(super::cpu_map(cpus), want);
        check(1, "1\n");
        check(2, "3\n");
        check(32, "ffffffff\n");
        check(36, "f,ffffffff\n");
    }
}
