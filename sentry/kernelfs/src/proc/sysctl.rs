//! /proc/sys: sysctl(8). Values that programs read; few can be written, and those only where it has an effect.

use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_auth::Caps;
use sentry_kernel::{Kernel, PID_MAX, uts};
use sentry_vfs::{Caller, Inode};

use crate::pseudo::Builder;

type Entries = Vec<(&'static str, Arc<dyn Inode>)>;

pub fn directory(b: &mut Builder, kernel: &Arc<Kernel>) -> Arc<dyn Inode> {
    let kernel_dir = kernel_entries(b, kernel);
    let entries: Entries =
        vec![("fs", fs_entries(b)), ("kernel", kernel_dir), ("net", net_entries(b)), ("user", user_entries(b)), ("vm", vm_entries(b))];
    b.directory(entries)
}

fn name(b: &mut Builder, kernel: &Arc<Kernel>, host: bool) -> Arc<dyn Inode> {
    let (reader, writer) = (kernel.clone(), kernel.clone());
    let read = move |_: &dyn Caller| {
        let names = reader.uts.names();
        let mut text = if host { names.host } else { names.domain };
        text.push(b'\n');
        Ok(text)
    };
    let write = move |caller: &dyn Caller, bytes: &[u8]| -> Result<()> {
        if !caller.credentials().has(Caps::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let value = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if host { writer.uts.set_host(value) } else { writer.uts.set_domain(value) }
    };
    b.with_mode(0o644, Arc::new(read), Some(Arc::new(write)))
}

fn uuid() -> Vec<u8> {
    let mut raw = [0u8; 16];
    // A generator that fails leaves zeros, which is still a well-formed id.
    let _ = sentry_kernel::random::fill(&mut raw);
    raw[6] = raw[6] & 0x0f | 0x40;
    raw[8] = raw[8] & 0x3f | 0x80;
    let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}\n", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into_bytes()
}

fn kernel_entries(b: &mut Builder, kernel: &Arc<Kernel>) -> Arc<dyn Inode> {
    let random: Entries =
        vec![("boot_id", b.fixed(uuid())), ("entropy_avail", b.fixed("256\n")), ("poolsize", b.fixed("256\n")), ("uuid", b.text(uuid))];
    let random = b.directory(random);
    let entries: Entries = vec![
        ("cap_last_cap", b.fixed(format!("{}\n", sentry_auth::LAST_CAP))),
        ("core_pattern", b.fixed("core\n")),
        ("core_uses_pid", b.fixed("0\n")),
        ("domainname", name(b, kernel, false)),
        ("hostname", name(b, kernel, true)),
        ("msgmax", b.fixed("8192\n")),
        ("msgmnb", b.fixed("16384\n")),
        ("msgmni", b.fixed("32000\n")),
        ("ngroups_max", b.fixed("65536\n")),
        ("osrelease", b.fixed(format!("{}\n", uts::RELEASE))),
        ("ostype", b.fixed(format!("{}\n", uts::SYSNAME))),
        ("overflowgid", b.fixed("65534\n")),
        ("overflowuid", b.fixed("65534\n")),
        ("pid_max", b.fixed(format!("{PID_MAX}\n"))),
        ("random", random),
        ("randomize_va_space", b.fixed("2\n")),
        ("sem", b.fixed("32000\t1024000000\t500\t32000\n")),
        ("shmall", b.fixed("18446744073692774399\n")),
        ("shmmax", b.fixed("18446744073692774399\n")),
        ("shmmni", b.fixed("4096\n")),
        ("threads-max", b.fixed("62000\n")),
        ("version", b.fixed(format!("{}\n", uts::VERSION))),
    ];
    b.directory(entries)
}

fn fs_entries(b: &mut Builder) -> Arc<dyn Inode> {
    let inotify: Entries =
        vec![("max_queued_events", b.fixed("16384\n")), ("max_user_instances", b.fixed("128\n")), ("max_user_watches", b.fixed("65536\n"))];
    let inotify = b.directory(inotify);
    let mqueue: Entries = vec![("msg_max", b.fixed("10\n")), ("msgsize_max", b.fixed("8192\n")), ("queues_max", b.fixed("256\n"))];
    let mqueue = b.directory(mqueue);
    let entries: Entries = vec![
        ("aio-max-nr", b.fixed("65536\n")),
        ("aio-nr", b.fixed("0\n")),
        ("file-max", b.fixed("1048576\n")),
        ("file-nr", b.fixed("0\t0\t1048576\n")),
        ("inotify", inotify),
        ("mqueue", mqueue),
        ("nr_open", b.fixed("1048576\n")),
        ("overflowgid", b.fixed("65534\n")),
        ("overflowuid", b.fixed("65534\n")),
        ("pipe-max-size", b.fixed("1048576\n")),
        ("pipe-user-pages-hard", b.fixed("0\n")),
        ("pipe-user-pages-soft", b.fixed("16384\n")),
        ("protected_fifos", b.fixed("1\n")),
        ("protected_hardlinks", b.fixed("1\n")),
        ("protected_regular", b.fixed("1\n")),
        ("protected_symlinks", b.fixed("1\n")),
        ("suid_dumpable", b.fixed("0\n")),
    ];
    b.directory(entries)
}

fn net_entries(b: &mut Builder) -> Arc<dyn Inode> {
    let core: Entries = vec![
        ("default_qdisc", b.fixed("pfifo_fast\n")),
        ("netdev_max_backlog", b.fixed("1000\n")),
        ("rmem_default", b.fixed("212992\n")),
        ("rmem_max", b.fixed("212992\n")),
        ("somaxconn", b.fixed("4096\n")),
        ("wmem_default", b.fixed("212992\n")),
        ("wmem_max", b.fixed("212992\n")),
    ];
    let core = b.directory(core);
    let ipv4: Entries = vec![
        ("ip_forward", b.fixed("0\n")),
        ("ip_local_port_range", b.fixed("32768\t60999\n")),
        ("ip_unprivileged_port_start", b.fixed("1024\n")),
        ("ping_group_range", b.fixed("1\t0\n")),
        ("tcp_keepalive_time", b.fixed("7200\n")),
        ("tcp_rmem", b.fixed("4096\t131072\t6291456\n")),
        ("tcp_sack", b.fixed("1\n")),
        ("tcp_wmem", b.fixed("4096\t16384\t4194304\n")),
    ];
    let ipv4 = b.directory(ipv4);
    let unix: Entries = vec![("max_dgram_qlen", b.fixed("512\n"))];
    let unix = b.directory(unix);
    b.directory(vec![("core", core), ("ipv4", ipv4), ("unix", unix)])
}

fn user_entries(b: &mut Builder) -> Arc<dyn Inode> {
    let entries: Entries = vec![
        ("max_inotify_instances", b.fixed("128\n")),
        ("max_inotify_watches", b.fixed("65536\n")),
        ("max_user_namespaces", b.fixed("0\n")),
    ];
    b.directory(entries)
}

fn vm_entries(b: &mut Builder) -> Arc<dyn Inode> {
    let entries: Entries = vec![
        ("max_map_count", b.fixed("65530\n")),
        ("mmap_min_addr", b.fixed("65536\n")),
        ("nr_hugepages", b.fixed("0\n")),
        ("overcommit_memory", b.fixed("0\n")),
        ("overcommit_ratio", b.fixed("50\n")),
        ("swappiness", b.fixed("60\n")),
    ];
    b.directory(entries)
}
