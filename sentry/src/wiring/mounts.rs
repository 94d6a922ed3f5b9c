//! The container's mount namespace, and the file systems that mount(2) can make.

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use gofer_client::GoferClient;
use runsc_control::{HostFacts, Mount as MountSpec, MountKind, RootOverlay, SentryBoot};
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::{Caps, Credentials};
use sentry_fs_devfs::{Console, populate};
use sentry_fs_goferfs::{GoferFs, GoferFsConfig, Sharing};
use sentry_fs_overlayfs::{OverlayFs, OverlayOptions};
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_fs_tty::{DevPts, DevPtsOptions, Terminals};
use sentry_kernel::Kernel;
use sentry_kernelfs::{ProcFs, SysFs};
use sentry_memory::FileSource;
use sentry_syscalls::{FileSystems, MountRequest};
use sentry_vfs::{Dentry, FileSystem, Follow, FsContext, Mount, MountFlags, MountNamespace, NewNode, Path, Walk, mkdir, resolve};

use super::devices::{Clock, DeviceNumbers, Specials};

/// Donated descriptors that one mount may hold.
const MAX_FILES: usize = 8192;

pub(crate) struct Builder {
    pub client: Arc<GoferClient>,
    pub source: Arc<dyn FileSource>,
    pub clock: Clock,
    pub numbers: Arc<DeviceNumbers>,
    pub terminals: Arc<Terminals>,
    pub facts: HostFacts,
    pub kernel: Arc<OnceLock<Arc<Kernel>>>,
    pub specials: Arc<Specials>,
    /// The first one that was mounted: where the container's own terminal appears.
    pub devpts: OnceLock<Arc<DevPts>>,
}

impl Builder {
    /// Root and all mounts of the container, in order.
    pub fn namespace(&self, boot: &SentryBoot) -> anyhow::Result<Arc<MountNamespace>> {
        let root = self.root(boot).context("root file system")?;
        let flags = if boot.root.read_only { MountFlags::READ_ONLY } else { MountFlags::empty() };
        // Mount points may have to be made: read-only comes last.
        let mount = Mount::new(Dentry::root(root), MountFlags::empty(), b"rootfs".to_vec());
        let namespace = MountNamespace::new(mount.clone());
        for spec in &boot.mounts {
            let shown = String::from_utf8_lossy(&spec.destination).into_owned();
            self.mount(&namespace, spec, boot).with_context(|| format!("mount {shown}"))?;
        }
        self.mask(&namespace, &boot.masked_paths)?;
        self.make_read_only(&namespace, &boot.read_only_paths)?;
        mount.set_flags(flags);
        Ok(namespace)
    }

    /// Hides paths: behind an empty directory that cannot be written, or behind /dev/null. What is not there need not be hidden.
    fn mask(&self, namespace: &Arc<MountNamespace>, paths: &[Vec<u8>]) -> anyhow::Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        // A /dev that the container cannot change, for its null.
        let devices = self.tmpfs(b"mode=755", self.facts.memory).context("make a device directory")?;
        populate(&devices.root(), Console::Absent).context("fill a device directory")?;
        let hidden = self.context(&MountNamespace::new(Mount::new(Dentry::root(devices), MountFlags::empty(), b"tmpfs".to_vec())));
        let null = resolve(&hidden, &hidden.root, b"/null", Follow::No, Walk::empty()).context("find null")?;
        for path in paths {
            let shown = || format!("mask {}", String::from_utf8_lossy(path));
            let Some(at) = self.existing(namespace, path).with_context(shown)? else { continue };
            let mount = if at.inode().kind() == FileKind::Directory {
                let empty = self.tmpfs(b"size=1m,nr_inodes=1k,mode=755", self.facts.memory).with_context(shown)?;
                Mount::new(Dentry::root(empty), MountFlags::READ_ONLY, b"tmpfs".to_vec())
            } else {
                Mount::new(null.dentry.clone(), MountFlags::empty(), b"tmpfs".to_vec())
            };
            namespace.mount(mount, &at);
        }
        Ok(())
    }

    /// Binds paths onto themselves, read-only.
    fn make_read_only(&self, namespace: &Arc<MountNamespace>, paths: &[Vec<u8>]) -> anyhow::Result<()> {
        for path in paths {
            let shown = || format!("make {} read-only", String::from_utf8_lossy(path));
            let Some(at) = self.existing(namespace, path).with_context(shown)? else { continue };
            let flags = at.mount.flags() | MountFlags::READ_ONLY;
            namespace.mount(Mount::new(at.dentry.clone(), flags, at.mount.source.clone()), &at);
        }
        Ok(())
    }

    fn existing(&self, namespace: &Arc<MountNamespace>, path: &[u8]) -> Result<Option<Path>> {
        let cx = self.context(namespace);
        match resolve(&cx, &cx.root, path, Follow::Yes, Walk::IN_ROOT) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn root(&self, boot: &SentryBoot) -> anyhow::Result<Arc<dyn FileSystem>> {
        let exclusive = boot.config.root_overlay == RootOverlay::Memory;
        let lower = self.gofer(boot.root.tree, if exclusive { Sharing::Exclusive } else { Sharing::Shared })?;
        if !exclusive {
            return Ok(lower);
        }
        let device = self.numbers.next();
        Ok(OverlayFs::new(lower, OverlayOptions::default(), device, self.source.clone(), self.clock.clone())?)
    }

    fn gofer(&self, tree: u32, sharing: Sharing) -> Result<Arc<dyn FileSystem>> {
        let config = GoferFsConfig { tree, sharing, device: self.numbers.next(), max_files: MAX_FILES };
        Ok(GoferFs::new(&self.client, &config)?)
    }

    fn mount(&self, namespace: &Arc<MountNamespace>, spec: &MountSpec, boot: &SentryBoot) -> anyhow::Result<()> {
        let fs = self.file_system(spec, boot)?;
        let is_directory = fs.root().kind() == FileKind::Directory;
        let at = self.mount_point(namespace, &spec.destination, is_directory).context("make the mount point")?;
        let flags = MountFlags::from_bits_truncate(spec.flags as u32);
        let name = fs.name().as_bytes().to_vec();
        namespace.mount(Mount::new(Dentry::root(fs), flags, name), &at);
        Ok(())
    }

    fn file_system(&self, spec: &MountSpec, boot: &SentryBoot) -> anyhow::Result<Arc<dyn FileSystem>> {
        let memory = self.facts.memory;
        Ok(match &spec.kind {
            MountKind::Gofer { tree, .. } => self.gofer(*tree, Sharing::Shared)?,
            MountKind::Tmpfs => self.tmpfs(&spec.data, memory)?,
            MountKind::Proc => self.proc()?,
            MountKind::Sysfs => self.sysfs(),
            MountKind::Dev => {
                let options = TmpFsOptions { mode: Mode(0o755), ..TmpFsOptions::parse(&spec.data, memory)? };
                let fs = TmpFs::new(options, self.numbers.next(), self.source.clone(), self.clock.clone())?;
                let console = if boot.process.terminal { Console::Present } else { Console::Absent };
                populate(&fs.root(), console).context("fill /dev")?;
                fs
            }
            MountKind::Devpts => {
                let text = String::from_utf8_lossy(&spec.data);
                let options = DevPtsOptions::parse(&text)?;
                let fs = DevPts::new(self.numbers.next(), options, self.terminals.clone(), (self.clock)());
                // Later ones are instances of their own.
                let _ = self.devpts.set(fs.clone());
                fs
            }
            // Message queues and control groups show nothing yet: an empty directory, as with a kernel that has none.
            MountKind::Mqueue | MountKind::Cgroup => self.tmpfs(b"size=1m,nr_inodes=1k,mode=755", memory)?,
        })
    }

    /// Where the container's own terminal is made; one that nobody sees, if none is mounted.
    pub fn console_devpts(&self) -> Arc<DevPts> {
        let hidden = || DevPts::new(self.numbers.next(), DevPtsOptions::default(), self.terminals.clone(), (self.clock)());
        self.devpts.get_or_init(hidden).clone()
    }

    fn tmpfs(&self, data: &[u8], memory: u64) -> Result<Arc<dyn FileSystem>> {
        let options = TmpFsOptions::parse(data, memory)?;
        Ok(TmpFs::new(options, self.numbers.next(), self.source.clone(), self.clock.clone())?)
    }

    fn proc(&self) -> Result<Arc<dyn FileSystem>> {
        let kernel = self.kernel.get().ok_or(Errno::ENODEV)?.clone();
        let facts = sentry_kernelfs::HostFacts { cpus: self.facts.cpus, cpuinfo: self.facts.cpuinfo.clone() };
        Ok(ProcFs::new(kernel, self.numbers.next(), facts))
    }

    fn sysfs(&self) -> Arc<dyn FileSystem> {
        SysFs::new(self.numbers.next(), self.facts.cpus)
    }

    /// The place of a mount, made if it is not there: directories, and a file for what is mounted on one.
    fn mount_point(&self, namespace: &Arc<MountNamespace>, destination: &[u8], is_directory: bool) -> Result<Path> {
        let cx = self.context(namespace);
        let mut so_far = Vec::new();
        let names: Vec<&[u8]> = destination.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
        for (index, name) in names.iter().enumerate() {
            so_far.push(b'/');
            so_far.extend_from_slice(name);
            match resolve(&cx, &cx.root, &so_far, Follow::Yes, Walk::IN_ROOT) {
                Ok(_) => {}
                Err(Errno::ENOENT) if index + 1 == names.len() && !is_directory => {
                    let parent = so_far[..so_far.len() - name.len()].to_vec();
                    let parent = resolve(&cx, &cx.root, &parent, Follow::Yes, Walk::IN_ROOT)?;
                    let node = NewNode { kind: FileKind::Regular, mode: Mode(0o644), uid: 0, gid: 0, rdev: 0 };
                    parent.inode().create(name, &node)?;
                }
                Err(Errno::ENOENT) => mkdir(&cx, &cx.root, &so_far, Mode(0o755))?,
                Err(errno) => return Err(errno),
            }
        }
        if so_far.is_empty() {
            return Ok(namespace.root());
        }
        resolve(&cx, &cx.root, &so_far, Follow::Yes, Walk::IN_ROOT)
    }

    /// Of the container's maker: root with all rights.
    pub fn context(&self, namespace: &Arc<MountNamespace>) -> FsContext {
        let root = namespace.root();
        FsContext {
            credentials: Arc::new(Credentials::new(0, 0, &[], Caps::all())),
            namespace: namespace.clone(),
            root: root.clone(),
            cwd: root,
            umask: 0o022,
            special: self.specials.clone(),
        }
    }
}

impl FileSystems for Builder {
    fn make(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>> {
        match request.kind {
            b"tmpfs" | b"ramfs" => self.tmpfs(request.data, self.facts.memory),
            b"proc" => self.proc(),
            b"sysfs" => Ok(self.sysfs()),
            b"devpts" => {
                let options = DevPtsOptions::parse(&String::from_utf8_lossy(request.data))?;
                Ok(DevPts::new(self.numbers.next(), options, self.terminals.clone(), (self.clock)()))
            }
            _ => Err(Errno::ENODEV),
        }
    }

    fn reconfigure(&self, fs: &Arc<dyn FileSystem>, data: &[u8]) -> Result<()> {
        let _ = fs;
        if data.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
    }
}
