//! System-wide files of /proc.

use std::fmt::Write as _;
use std::sync::Arc;

use sentry_kernel::{Kernel, uts};
use sentry_time::ClockId;
use sentry_vfs::Inode;

use super::HostFacts;
use crate::pseudo::Builder;

/// "0-3", "0".
pub fn cpu_list(cpus: u32) -> String {
    if cpus > 1 { format!("0-{}", cpus - 1) } else { "0".into() }
}

pub fn entries(b: &mut Builder, kernel: &Arc<Kernel>, facts: &HostFacts) -> Vec<(&'static str, Arc<dyn Inode>)> {
    let k = || kernel.clone();
    let cpuinfo = facts.cpuinfo.clone();
    let cpus = facts.cpus.max(1);
    vec![
        ("buddyinfo", b.fixed("")),
        ("cgroups", b.fixed("#subsys_name\thierarchy\tnum_cgroups\tenabled\n")),
        ("cmdline", b.fixed("\n")),
        ("consoles", b.fixed("")),
        ("cpuinfo", b.fixed(cpuinfo)),
        ("devices", b.fixed("Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n")),
        ("diskstats", b.fixed("")),
        ("filesystems", b.fixed("nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevpts\nnodev\toverlay\nnodev\tdevtmpfs\n")),
        ("interrupts", b.fixed("")),
        ("kallsyms", b.fixed("")),
        (
            "loadavg",
            b.text({
                let kernel = k();
                move || loadavg(&kernel)
            }),
        ),
        ("locks", b.fixed("")),
        (
            "meminfo",
            b.text({
                let kernel = k();
                move || meminfo(&kernel)
            }),
        ),
        ("misc", b.fixed("")),
        ("modules", b.fixed("")),
        ("partitions", b.fixed("major minor  #blocks  name\n\n")),
        (
            "stat",
            b.text({
                let kernel = k();
                move || stat(&kernel, cpus)
            }),
        ),
        ("swaps", b.fixed("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
        (
            "uptime",
            b.text({
                let kernel = k();
                move || uptime(&kernel)
            }),
        ),
        ("version", b.fixed(format!("{} version {} (build@sandbox) (rustc) {}\n", uts::SYSNAME, uts::RELEASE, uts::VERSION))),
        ("vmstat", b.fixed("nr_free_pages 0\npgfault 0\npgmajfault 0\npswpin 0\npswpout 0\noom_kill 0\n")),
        ("zoneinfo", b.fixed("")),
    ]
}

fn uptime(kernel: &Kernel) -> Vec<u8> {
    let centis = (ClockId::Boottime.now_ns() - kernel.boot_ns).max(0) / 10_000_000;
    format!("{0}.{1:02} {0}.{1:02}\n", centis / 100, centis % 100).into_bytes()
}

fn loadavg(kernel: &Kernel) -> Vec<u8> {
    let tasks = kernel.processes.task_count();
    let last = kernel.processes.groups().last().map_or(1, |g| g.id);
    format!("0.00 0.00 0.00 1/{tasks} {last}\n").into_bytes()
}

fn meminfo(kernel: &Kernel) -> Vec<u8> {
    let memory = kernel.memory();
    let (total, free) = (memory.total / 1024, memory.free / 1024);
    let mut out = String::new();
    let rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", total - free),
        ("Inactive", 0),
        ("Active(anon)", total - free),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", total - free),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total / 2),
        ("Committed_AS", total - free),
        ("VmallocTotal", 34359738367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
    ];
    for (name, kib) in rows {
        let _ = writeln!(out, "{:<16}{kib:>8} kB", format!("{name}:"));
    }
    out.push_str("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    out.into_bytes()
}

fn stat(kernel: &Kernel, cpus: u32) -> Vec<u8> {
    let mut out = String::from("cpu  0 0 0 0 0 0 0 0 0 0\n");
    for cpu in 0..cpus {
        let _ = writeln!(out, "cpu{cpu} 0 0 0 0 0 0 0 0 0 0");
    }
    let boot = ClockId::Realtime.now().sec - (ClockId::Boottime.now_ns() - kernel.boot_ns) / 1_000_000_000;
    let made = kernel.processes.groups().last().map_or(1, |g| g.id);
    let _ =
        write!(out, "intr 0\nctxt 0\nbtime {boot}\nprocesses {made}\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n");
    out.into_bytes()
}
