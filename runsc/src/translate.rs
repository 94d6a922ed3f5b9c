//! From an OCI configuration to what the sandbox's processes are told.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use runsc_container::spec::{self, Spec};
use runsc_control::{CapabilitySets, ConsoleSize, Mount, MountKind, Process, Rlimit, Root};
use runsc_launch::PlannedTree;

use crate::names::{self, MountOption};

/// The parts of a plan that come from a configuration.
pub(crate) struct Translated {
    pub process: Process,
    pub hostname: Vec<u8>,
    pub domainname: Vec<u8>,
    pub root: Root,
    pub mounts: Vec<Mount>,
    pub masked_paths: Vec<Vec<u8>>,
    pub read_only_paths: Vec<Vec<u8>>,
    pub sysctls: Vec<(String, String)>,
    pub trees: Vec<PlannedTree>,
    pub rootfs: PathBuf,
    /// Of the container's network namespace.
    pub network: Option<PathBuf>,
}

/// `bundle` is absolute; relative paths of the configuration start there.
pub(crate) fn translate(spec: &Spec, bundle: &Path) -> anyhow::Result<Translated> {
    let root = spec.root.as_ref().context("config.json has no root")?;
    let rootfs = bundle.join(&root.path);
    let meta = fs::metadata(&rootfs).with_context(|| format!("root file system {}", rootfs.display()))?;
    if !meta.is_dir() {
        bail!("root file system {} is not a directory", rootfs.display());
    }
    let rootfs = fs::canonicalize(&rootfs).with_context(|| format!("root file system {}", rootfs.display()))?;
    let mut trees = vec![PlannedTree { source: rootfs.clone(), directory: true, writable: !root.readonly, is_root: true }];
    let mut mounts = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        mounts.push(translate_mount(mount, bundle, &mut trees).with_context(|| format!("mount on {}", mount.destination))?);
    }
    let linux = spec.linux.clone().unwrap_or_default();
    let network = linux.namespaces.iter().find(|namespace| namespace.kind == "network").and_then(|namespace| namespace.path.as_ref());
    let bytes = |texts: &[String]| texts.iter().map(|text| text.clone().into_bytes()).collect();
    Ok(Translated {
        process: translate_process(spec.process.as_ref().context("config.json has no process")?)?,
        hostname: spec.hostname.clone().unwrap_or_default().into_bytes(),
        domainname: spec.domainname.clone().unwrap_or_default().into_bytes(),
        root: Root { tree: 0, read_only: root.readonly },
        mounts,
        masked_paths: bytes(&linux.masked_paths),
        read_only_paths: bytes(&linux.readonly_paths),
        sysctls: linux.sysctl.into_iter().collect(),
        trees,
        rootfs,
        network: network.map(PathBuf::from),
    })
}

fn translate_process(process: &spec::Process) -> anyhow::Result<Process> {
    let bytes = |texts: &[String]| texts.iter().map(|text| text.clone().into_bytes()).collect();
    let rlimits = process.rlimits.iter().map(|limit| {
        let resource = names::rlimit(&limit.kind).with_context(|| format!("process.rlimits: unknown limit {:?}", limit.kind))?;
        Ok(Rlimit { resource, soft: limit.soft, hard: limit.hard })
    });
    Ok(Process {
        args: bytes(&process.args),
        env: bytes(&process.env),
        cwd: process.cwd.clone().into_bytes(),
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.clone(),
        umask: process.user.umask.unwrap_or(0o022),
        capabilities: process.capabilities.as_ref().map(translate_capabilities).unwrap_or_default(),
        rlimits: rlimits.collect::<anyhow::Result<_>>()?,
        no_new_privileges: process.no_new_privileges,
        terminal: process.terminal,
        console_size: process.console_size.map(|size| ConsoleSize { rows: size.height, columns: size.width }),
        oom_score_adj: process.oom_score_adj,
        is_protected: true,
    })
}

/// Capabilities that we do not know are left out: a newer kernel's cannot be had here.
fn translate_capabilities(capabilities: &spec::Capabilities) -> CapabilitySets {
    let set = |texts: &[String]| texts.iter().filter_map(|text| names::capability(text)).fold(0, |set, bit| set | bit);
    CapabilitySets {
        bounding: set(&capabilities.bounding),
        effective: set(&capabilities.effective),
        permitted: set(&capabilities.permitted),
        inheritable: set(&capabilities.inheritable),
        ambient: set(&capabilities.ambient),
    }
}

fn translate_mount(mount: &spec::Mount, bundle: &Path, trees: &mut Vec<PlannedTree>) -> anyhow::Result<Mount> {
    let (mut flags, mut bind, mut data) = (0, false, Vec::new());
    for option in &mount.options {
        match names::mount_option(option) {
            MountOption::Set(flag) => flags |= flag,
            MountOption::Clear(flag) => flags &= !flag,
            MountOption::Bind => bind = true,
            MountOption::Ignore => {}
            MountOption::Data => data.push(option.as_str()),
        }
    }
    let kind = match mount.kind.as_deref() {
        _ if bind => bind_kind(mount, bundle, flags & names::READ_ONLY == 0, trees)?,
        Some("bind") => bind_kind(mount, bundle, flags & names::READ_ONLY == 0, trees)?,
        Some("tmpfs") if mount.destination.trim_end_matches('/') == "/dev" => MountKind::Dev,
        Some("devtmpfs") => MountKind::Dev,
        Some("tmpfs" | "ramfs") => MountKind::Tmpfs,
        Some("proc") => MountKind::Proc,
        Some("sysfs") => MountKind::Sysfs,
        Some("devpts") => MountKind::Devpts,
        Some("mqueue") => MountKind::Mqueue,
        Some("cgroup" | "cgroup2") => MountKind::Cgroup,
        Some(other) => bail!("unknown mount type {other:?}"),
        None => bail!("neither a type nor the option bind is given"),
    };
    // Relative destinations are deprecated, but mean the root.
    let destination = Path::new("/").join(&mount.destination);
    let data = if matches!(kind, MountKind::Gofer { .. }) { String::new() } else { data.join(",") };
    Ok(Mount { destination: destination.into_os_string().into_encoded_bytes(), kind, flags, data: data.into_bytes() })
}

fn bind_kind(mount: &spec::Mount, bundle: &Path, writable: bool, trees: &mut Vec<PlannedTree>) -> anyhow::Result<MountKind> {
    let source = bundle.join(mount.source.as_deref().context("a bind mount needs a source")?);
    let meta = fs::metadata(&source).with_context(|| format!("source {}", source.display()))?;
    if !meta.is_dir() && !meta.is_file() {
        bail!("source {} is neither a directory nor a regular file", source.display());
    }
    let tree = u32::try_from(trees.len()).context("too many mounts")?;
    trees.push(PlannedTree { source, directory: meta.is_dir(), writable, is_root: false });
    Ok(MountKind::Gofer { tree, directory: meta.is_dir() })
}
