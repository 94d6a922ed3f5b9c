//! The tables of /proc/pid: stat, status, limits, mounts, net, ns.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::{Result, SigSet};
use sentry_kernel::{INFINITY, Resource, RunState, Task, ThreadGroup};
use sentry_vfs::{Caller, Inode, Mount, MountFlags, Path};

use super::process::{Subject, ino};
use crate::pseudo::Builder;

/// State letter and word.
fn state(group: &ThreadGroup, task: Option<&Task>) -> (char, &'static str) {
    let Some(task) = task else { return ('Z', "zombie") };
    if group.state.lock().zombie.is_some() {
        return ('Z', "zombie");
    }
    match task.run_state() {
        RunState::Running => ('R', "running"),
        RunState::Sleeping => ('S', "sleeping"),
        RunState::Stopped => ('T', "stopped"),
        RunState::Dead => ('X', "dead"),
    }
}

struct Numbers {
    parent: i32,
    process_group: i32,
    session: i32,
    terminal: u64,
    foreground: i32,
}

fn numbers(s: &Subject, group: &ThreadGroup) -> Numbers {
    let tree = &s.kernel.processes;
    let session = tree.session(group.id).unwrap_or(0);
    let terminal = tree.controlling_terminal(session);
    Numbers {
        parent: tree.parent(group.id),
        process_group: tree.process_group(group.id).unwrap_or(0),
        session,
        terminal: terminal.map_or(0, |key| s.kernel.terminals.device(key)),
        foreground: terminal.map_or(-1, |key| s.kernel.terminals.foreground(key)),
    }
}

fn ticks(d: std::time::Duration) -> u128 {
    d.as_millis() / 10
}

/// proc_pid_stat(5).
pub fn stat(s: &Subject, caller: &dyn Caller) -> Result<Vec<u8>> {
    let group = s.group()?;
    let task = s.task().ok();
    let n = numbers(s, &group);
    let (letter, _) = state(&group, task.as_deref());
    let comm = task.as_ref().map_or_else(|| group.state.lock().last_comm.clone(), |t| t.comm());
    let id = task.as_ref().filter(|_| s.is_thread()).map_or(group.id, |t| t.tid());
    let (children, threads) = {
        let state = group.state.lock();
        (state.children_usage, state.tasks.len().max(1))
    };
    let (user, system) = group.cpu_times();
    let nice = task.as_ref().map_or(0, |t| t.nice.load(Ordering::Relaxed));
    let start =
        (if s.is_thread() { task.as_ref().map_or(group.start_ns, |t| t.start_ns) } else { group.start_ns } - s.kernel.boot_ns) / 10_000_000;
    let (memory, layout) = match &task {
        Some(t) => (t.mm().usage(), t.mm().exec_layout()),
        None => Default::default(),
    };
    // Addresses would tell how the memory is laid out.
    let layout = if s.check_access(caller).is_ok() { layout } else { Default::default() };
    let (ignored, caught) = group.handlers().summary();
    let blocked = task.as_ref().map_or(SigSet::EMPTY, |t| t.mask());
    let pending = task.as_ref().map_or(SigSet::EMPTY, |t| t.pending_set()).union(group.pending_set());
    let mut out = format!("{id} (").into_bytes();
    out.extend_from_slice(&comm);
    let mut rest = String::new();
    let _ = writeln!(
        rest,
        ") {letter} {} {} {} {} {} 0 0 0 0 0 {} {} {} {} {} {nice} {threads} 0 {start} {} {} {} {} {} {} 0 0 {} {} {} {} 0 0 0 {} 0 0 0 0 0 0 {} {} {} {} {} {} {} {}",
        n.parent,
        n.process_group,
        n.session,
        n.terminal,
        n.foreground,
        ticks(user),
        ticks(system),
        ticks(children.user),
        ticks(children.system),
        20 + nice,
        memory.total,
        memory.resident / 4096,
        INFINITY,
        layout.start_code,
        layout.end_code,
        layout.start_stack,
        pending.0 & 0x7fff_ffff,
        blocked.0 & 0x7fff_ffff,
        ignored.0 & 0x7fff_ffff,
        caught.0 & 0x7fff_ffff,
        group.exit_signal.load(Ordering::Relaxed),
        layout.start_data,
        layout.end_data,
        layout.start_brk,
        layout.arg_start,
        layout.arg_end,
        layout.env_start,
        layout.env_end,
        group.state.lock().zombie.map_or(0, |z| z.wait_status()),
    );
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// proc_pid_status(5).
pub fn status(s: &Subject, _: &dyn Caller) -> Result<Vec<u8>> {
    let group = s.group()?;
    let task = s.task().ok();
    let (letter, word) = state(&group, task.as_deref());
    let comm = task.as_ref().map_or_else(|| group.state.lock().last_comm.clone(), |t| t.comm());
    let id = task.as_ref().filter(|_| s.is_thread()).map_or(group.id, |t| t.tid());
    let n = numbers(s, &group);
    let mut out = b"Name:\t".to_vec();
    out.extend(comm.iter().flat_map(|b| if *b == b'\n' { b"\\n".to_vec() } else { vec![*b] }));
    let mut t = String::new();
    let tracer = task.as_ref().and_then(|t| t.tracer()).map_or(0, |tracer| tracer.id);
    let umask = task.as_ref().map_or(0o22, |t| t.fs().places().umask);
    let _ = write!(
        t,
        "\nUmask:\t{umask:04o}\nState:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{id}\nPPid:\t{}\nTracerPid:\t{tracer}\n",
        group.id, n.parent
    );
    if let Some(task) = &task {
        let c = task.credentials();
        let _ = writeln!(t, "Uid:\t{}\t{}\t{}\t{}", c.uid, c.euid, c.suid, c.fsuid);
        let _ = writeln!(t, "Gid:\t{}\t{}\t{}\t{}", c.gid, c.egid, c.sgid, c.fsgid);
        let groups: Vec<String> = c.groups.iter().map(|g| format!("{g} ")).collect();
        let _ = writeln!(t, "FDSize:\t{}\nGroups:\t{}", (task.files().numbers().len() as u64).next_power_of_two().max(64), groups.concat());
    } else {
        t.push_str("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t0\nGroups:\t\n");
    }
    let _ = write!(t, "NStgid:\t{0}\nNSpid:\t{id}\nNSpgid:\t{1}\nNSsid:\t{2}\n", group.id, n.process_group, n.session);
    if let Some(task) = &task {
        memory_lines(&mut t, task);
    }
    let threads = group.state.lock().tasks.len().max(1);
    let (ignored, caught) = group.handlers().summary();
    let own = task.as_ref().map_or(SigSet::EMPTY, |t| t.pending_set());
    let blocked = task.as_ref().map_or(SigSet::EMPTY, |t| t.mask());
    let limit = group.limits().soft(Resource::PendingSignals);
    let _ = write!(t, "Threads:\t{threads}\nSigQ:\t0/{limit}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\n", own.0, group.pending_set().0);
    let _ = write!(t, "SigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n", blocked.0, ignored.0, caught.0);
    if let Some(task) = &task {
        let c = task.credentials();
        let _ = write!(
            t,
            "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\n",
            c.inheritable.bits(),
            c.permitted.bits(),
            c.effective.bits()
        );
        let _ =
            write!(t, "CapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t{}\n", c.bounding.bits(), c.ambient.bits(), c.no_new_privs as u8);
    }
    t.push_str(
        "Seccomp:\t0\nSeccomp_filters:\t0\nSpeculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\tconditional enabled\n",
    );
    if let Some(task) = &task {
        let (mask, list) = cpus_allowed(&task.affinity(), s.kernel.cpus);
        let _ = write!(t, "Cpus_allowed:\t{mask}\nCpus_allowed_list:\t{list}\n");
    }
    t.push_str("Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
    out.extend_from_slice(t.as_bytes());
    Ok(out)
}

/// The kernel's forms of a CPU mask: words of 32 bits in hex, and ranges.
fn cpus_allowed(mask: &[u8], cpus: u32) -> (String, String) {
    let has = |cpu: u32| mask.get(cpu as usize / 8).is_some_and(|b| b & 1 << (cpu % 8) != 0);
    let words = cpus.div_ceil(32).max(1);
    let digits = if cpus.is_multiple_of(32) { 8 } else { (cpus % 32).div_ceil(4) as usize };
    let word = |w: u32| (0..32).filter(|bit| has(w * 32 + bit)).fold(0u32, |sum, bit| sum | 1 << bit);
    let hex: Vec<String> =
        (0..words).rev().map(|w| format!("{:0width$x}", word(w), width = if w == words - 1 { digits } else { 8 })).collect();
    let mut ranges: Vec<String> = Vec::new();
    let mut cpu = 0;
    while cpu < cpus {
        if !has(cpu) {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while cpu < cpus && has(cpu) {
            cpu += 1;
        }
        ranges.push(if cpu - first == 1 { first.to_string() } else { format!("{first}-{}", cpu - 1) });
    }
    (hex.join(","), ranges.join(","))
}

fn memory_lines(t: &mut String, task: &Task) {
    let u = task.mm().usage();
    let kib = |bytes: u64| bytes / 1024;
    let rows = [
        ("VmPeak", u.total),
        ("VmSize", u.total),
        ("VmLck", u.locked),
        ("VmPin", 0),
        ("VmHWM", u.resident),
        ("VmRSS", u.resident),
        ("RssAnon", u.resident.saturating_sub(u.shared)),
        ("RssFile", u.shared.min(u.resident)),
        ("RssShmem", 0),
        ("VmData", u.data),
        ("VmStk", u.stack),
        ("VmExe", u.text),
        ("VmLib", u.exec.saturating_sub(u.text)),
        ("VmPTE", 64 << 10),
        ("VmSwap", 0),
    ];
    for (name, bytes) in rows {
        let _ = writeln!(t, "{name}:\t{:>8} kB", kib(bytes));
    }
    t.push_str("HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\n");
}

const LIMIT_NAMES: [(&str, &str); Resource::COUNT] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

/// proc_pid_limits(5).
pub fn limits(s: &Subject, _: &dyn Caller) -> Result<Vec<u8>> {
    let limits = s.group()?.limits();
    let mut out = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let show = |v: u64| if v == INFINITY { "unlimited".to_string() } else { v.to_string() };
    for (index, (name, unit)) in LIMIT_NAMES.iter().enumerate() {
        let limit = limits.get(Resource::from_number(index as u64)?);
        let _ = writeln!(out, "{name:<25} {:<20} {:<20} {unit:<10}", show(limit.soft), show(limit.hard));
    }
    Ok(out.into_bytes())
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for b in bytes {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => {
                let _ = write!(out, "\\{b:03o}");
            }
            _ => out.push(*b as char),
        }
    }
    out
}

fn mount_options(flags: MountFlags) -> String {
    let mut out = String::from(if flags.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" });
    let names = [
        (MountFlags::NO_SUID, ",nosuid"),
        (MountFlags::NO_DEV, ",nodev"),
        (MountFlags::NO_EXEC, ",noexec"),
        (MountFlags::NO_ATIME, ",noatime"),
        (MountFlags::NO_DIR_ATIME, ",nodiratime"),
        (MountFlags::REL_ATIME, ",relatime"),
    ];
    for (flag, name) in names {
        if flags.contains(flag) {
            out.push_str(name);
        }
    }
    out
}

/// Mounts that `task` can see from its root, with the place of each.
fn visible(task: &Task) -> Vec<(Arc<Mount>, Vec<u8>)> {
    let places = task.fs().places();
    let mounts = places.namespace.mounts();
    mounts
        .into_iter()
        .filter_map(|mount| {
            let place = Path::new(mount.clone(), mount.root().clone()).display(&places.root);
            (!place.starts_with(b"(unreachable)")).then_some((mount, place))
        })
        .collect()
}

fn source(mount: &Mount) -> String {
    if mount.source.is_empty() { mount.root().fs().name().into() } else { escape(&mount.source) }
}

fn joined(first: String, more: String) -> String {
    if more.is_empty() { first } else { format!("{first},{more}") }
}

/// proc_pid_mounts(5).
pub fn mounts(s: &Subject) -> Result<Vec<u8>> {
    let mut out = String::new();
    for (mount, place) in visible(&*s.task()?) {
        let fs = mount.root().fs();
        let options = joined(mount_options(mount.flags()), fs.show_options());
        let _ = writeln!(out, "{} {} {} {options} 0 0", source(&mount), escape(&place), fs.name());
    }
    Ok(out.into_bytes())
}

/// proc_pid_mountinfo(5).
pub fn mountinfo(s: &Subject) -> Result<Vec<u8>> {
    let mut out = String::new();
    for (mount, place) in visible(&*s.task()?) {
        let fs = mount.root().fs();
        let parent = mount.mount_point().map_or(mount.id, |p| p.mount.id);
        let device = fs.device();
        let super_options = joined("rw".into(), fs.show_options());
        let _ = writeln!(
            out,
            "{} {parent} {}:{} / {} {} - {} {} {super_options}",
            mount.id,
            sentry_abi::stat::dev_major(device),
            sentry_abi::stat::dev_minor(device),
            escape(&place),
            mount_options(mount.flags()),
            fs.name(),
            source(&mount),
        );
    }
    Ok(out.into_bytes())
}

const NET_DEV: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";

/// /proc/pid/net: loopback, and the headings of tables that are empty without a network.
pub fn net(s: &Subject) -> Arc<dyn Inode> {
    let mut b = Builder::new(s.device, ino(s.group().map_or(0, |g| g.id), 0x200));
    let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n";
    let udp =
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n";
    let entries: Vec<(&'static str, Arc<dyn Inode>)> = vec![
        ("dev", b.fixed(NET_DEV)),
        ("if_inet6", b.fixed("")),
        ("route", b.fixed("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n")),
        ("tcp", b.fixed(tcp)),
        ("tcp6", b.fixed(tcp)),
        ("udp", b.fixed(udp)),
        ("udp6", b.fixed(udp)),
        ("raw", b.fixed(udp)),
        ("unix", b.fixed("Num       RefCount Protocol Flags    Type St Inode Path\n")),
    ];
    b.directory(entries)
}
