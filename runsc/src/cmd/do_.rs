//! `runsc do CMD`: a command over the host's own root, which it cannot change.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use runsc_container::ContainerId;
use runsc_control::{CapabilitySets, Mount, MountKind, Process, Rlimit, Root, RootOverlay};
use runsc_launch::PlannedTree;

use crate::cli::{Do, Global};
use crate::console::RawTerminal;
use crate::create::{Creation, Lifetime, state_root};
use crate::report::Failure;
use crate::translate::Translated;
use crate::{console, foreground, names};

pub(crate) fn run(global: &Global, arguments: &Do) -> Result<u8, Failure> {
    let created = (|| {
        foreground::hold_signals()?;
        let root = state_root(global)?;
        root.sweep(PREFIX)?;
        let mut translated = plan(arguments)?;
        let (terminal, console) = if console::is_one_terminal() {
            let (terminal, console) = RawTerminal::enter()?;
            translated.process.terminal = true;
            translated.process.console_size = terminal.size();
            (Some(terminal), console)
        } else {
            (None, console::inherited()?)
        };
        let creation = Creation {
            global,
            id: fresh_id()?,
            bundle: PathBuf::from("/"),
            annotations: BTreeMap::new(),
            translated,
            console,
            lifetime: Lifetime::Foreground,
            default_overlay: RootOverlay::Memory,
        };
        Ok((creation.create(&root)?, terminal))
    })();
    let (created, terminal) = created.map_err(|error: anyhow::Error| Failure::from(error).with_code(128))?;
    foreground::run(created, terminal)
}

/// How the ids of these containers begin.
const PREFIX: &str = "do-";

fn fresh_id() -> anyhow::Result<ContainerId> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).context("draw an id")?;
    Ok(format!("{PREFIX}{:016x}", u64::from_le_bytes(random)).parse()?)
}

fn plan(arguments: &Do) -> anyhow::Result<Translated> {
    let rootfs = arguments.rootfs.clone().unwrap_or_else(|| PathBuf::from("/"));
    let rootfs = fs::canonicalize(&rootfs).with_context(|| format!("root file system {}", rootfs.display()))?;
    let names = rustix::system::uname();
    Ok(Translated {
        process: process(arguments)?,
        hostname: names.nodename().to_bytes().to_vec(),
        domainname: names.domainname().to_bytes().to_vec(),
        root: Root { tree: 0, read_only: false },
        mounts: mounts(),
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        sysctls: Vec::new(),
        trees: vec![PlannedTree { source: rootfs.clone(), directory: true, writable: false, is_root: true }],
        rootfs,
        network: None,
    })
}

/// As we are ourselves: user, groups, limits, environment.
fn process(arguments: &Do) -> anyhow::Result<Process> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let cwd = match &arguments.cwd {
        Some(cwd) if cwd.is_absolute() => cwd.clone(),
        Some(cwd) => anyhow::bail!("--cwd {}: not an absolute path", cwd.display()),
        None if arguments.rootfs.is_some() => PathBuf::from("/"),
        None => env::current_dir().context("current directory")?,
    };
    let env = env::vars_os().map(|(name, value)| {
        let mut variable = name.into_vec();
        variable.push(b'=');
        variable.extend(value.into_vec());
        variable
    });
    let all = if uid == 0 { names::ALL_CAPABILITIES } else { 0 };
    Ok(Process {
        args: arguments.command.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        env: env.collect(),
        cwd: cwd.into_os_string().into_vec(),
        uid,
        gid,
        groups: rustix::process::getgroups().context("supplementary groups")?.iter().map(|gid| gid.as_raw()).collect(),
        umask: umask(),
        capabilities: CapabilitySets { bounding: names::ALL_CAPABILITIES, effective: all, permitted: all, inheritable: 0, ambient: 0 },
        rlimits: rlimits(),
        no_new_privileges: false,
        terminal: false,
        console_size: None,
        oom_score_adj: None,
        is_protected: false,
    })
}

fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    mask.bits()
}

fn rlimits() -> Vec<Rlimit> {
    use rustix::process::{Resource, getrlimit};
    // RLIMIT_* in the order of their numbers.
    const RESOURCES: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    (0..)
        .zip(RESOURCES)
        .map(|(resource, name)| {
            let limit = getrlimit(name);
            Rlimit { resource, soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
        })
        .collect()
}

const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;

/// What the kernel's own file systems replace. Mount points that the root does not have are passed over.
fn mounts() -> Vec<Mount> {
    let mount = |destination: &str, kind, flags, data: &str| Mount {
        destination: destination.as_bytes().to_vec(),
        kind,
        flags,
        data: data.as_bytes().to_vec(),
    };
    let mut mounts = vec![
        mount("/proc", MountKind::Proc, MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
        mount("/dev", MountKind::Dev, MS_NOSUID, "mode=755"),
        mount("/dev/pts", MountKind::Devpts, MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/dev/shm", MountKind::Tmpfs, MS_NOSUID | MS_NODEV, "mode=1777"),
        mount("/dev/mqueue", MountKind::Mqueue, MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
    ];
    if Path::new("/sys").is_dir() {
        mounts.push(mount("/sys", MountKind::Sysfs, 1 | MS_NOSUID | MS_NODEV | MS_NOEXEC, ""));
    }
    mounts
}
