//! Creating a container: state directory, sandbox, record. Shared by the verbs that do.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use runsc_container::spec::Spec;
use runsc_container::{Container, ContainerId, ProcessId, Record, StateRoot};
use runsc_control::{NetworkMode, PlatformKind, RootOverlay, SandboxConfig};
use runsc_launch::{Console, Plan, Privilege, Sandbox};

use crate::cli::{Global, Network, Platform};
use crate::report;
use crate::translate::Translated;

pub(crate) const OCI_VERSION: &str = "1.2.0";

/// What a verb knows of a container before it exists.
pub(crate) struct Creation<'a> {
    pub global: &'a Global,
    pub id: ContainerId,
    pub bundle: PathBuf,
    pub annotations: std::collections::BTreeMap<String, String>,
    pub translated: Translated,
    pub console: Console,
    pub lifetime: Lifetime,
    pub default_overlay: RootOverlay,
}

/// Whether the sandbox dies with the runsc that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifetime {
    Foreground,
    Detached,
}

/// A created container. Its lock is held until it is dropped or [`Created::unlock`]ed.
pub(crate) struct Created {
    root: StateRoot,
    id: ContainerId,
    container: Option<Container>,
    pub record: Record,
    pub sandbox: Sandbox,
}

/// Where the containers of this caller are recorded.
pub(crate) fn state_root(global: &Global) -> anyhow::Result<StateRoot> {
    let path = match (&global.root, std::env::var_os("XDG_RUNTIME_DIR")) {
        (Some(root), _) => root.clone(),
        (None, _) if rustix::process::geteuid().is_root() => PathBuf::from("/var/run/runsc"),
        (None, Some(runtime)) if !runtime.is_empty() => Path::new(&runtime).join("runsc"),
        (None, _) => std::env::temp_dir().join(format!("runsc-{}", rustix::process::geteuid().as_raw())),
    };
    StateRoot::open(&path).context("state directory")
}

/// The bundle's absolute path and its configuration.
pub(crate) fn load_bundle(bundle: &Path) -> anyhow::Result<(PathBuf, Spec)> {
    let path = fs::canonicalize(bundle).with_context(|| format!("bundle {}", bundle.display()))?;
    let spec = Spec::load(&path)?;
    Ok((path, spec))
}

impl Creation<'_> {
    /// Brings the sandbox up. On failure nothing is left behind.
    pub fn create(self, root: &StateRoot) -> anyhow::Result<Created> {
        let (container, id) = (root.create(&self.id)?, self.id.clone());
        match self.launch(&container) {
            Ok((sandbox, record)) => Ok(Created { root: root.clone(), id, container: Some(container), record, sandbox }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = container.remove();
                Err(error)
            }
        }
    }

    fn launch(self, container: &Container) -> anyhow::Result<(Sandbox, Record)> {
        let privilege = Privilege::current().context("find out user ids")?;
        let control = runsc_launch::listen(container.directory()).context("make the control socket")?;
        let log = self.open_log()?;
        let translated = self.translated;
        let network =
            translated.network.as_ref().map(|path| File::open(path).with_context(|| format!("network namespace {}", path.display())));
        let plan = Plan {
            privilege,
            config: config(self.global, privilege, self.default_overlay)?,
            container_id: self.id.to_string(),
            process: translated.process,
            hostname: translated.hostname,
            domainname: translated.domainname,
            root: translated.root,
            mounts: translated.mounts,
            masked_paths: translated.masked_paths,
            read_only_paths: translated.read_only_paths,
            sysctls: translated.sysctls,
            trees: translated.trees,
            console: self.console,
            log,
            control,
            network: network.transpose()?.map(OwnedFd::from),
        };
        let sandbox = plan.launch()?;
        let pids = sandbox.pids();
        let identify = |pid: Option<i32>| pid.and_then(ProcessId::of);
        let record = Record {
            oci_version: OCI_VERSION.to_owned(),
            id: self.id.to_string(),
            bundle: self.bundle.display().to_string(),
            rootfs: translated.rootfs.display().to_string(),
            annotations: self.annotations,
            created: report::rfc3339(SystemTime::now()),
            owner: rustix::process::geteuid().as_raw().to_string(),
            sentry: ProcessId::of(pids.sentry).context("the sentry died")?,
            gofer: identify(pids.gofer),
            netstack: identify(pids.netstack),
            zygote: identify(pids.zygote),
        };
        container.record(&record)?;
        Ok((sandbox, record))
    }

    /// Where the processes write what they cannot tell otherwise. A detached sandbox must not hold the caller's standard error open.
    fn open_log(&self) -> anyhow::Result<OwnedFd> {
        match (&self.global.debug_log, self.lifetime) {
            (Some(path), _) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Ok(file.with_context(|| format!("debug log {}", path.display()))?.into())
            }
            (None, Lifetime::Foreground) => rustix::io::dup(rustix::stdio::stderr()).context("copy standard error"),
            (None, Lifetime::Detached) => Ok(OpenOptions::new().write(true).open("/dev/null").context("/dev/null")?.into()),
        }
    }
}

impl Created {
    /// The container's pid for others.
    pub fn pid(&self) -> i32 {
        self.record.zygote.unwrap_or(self.record.sentry).pid
    }

    /// Writes the pid file, at once and whole.
    pub fn write_pid_file(&self, path: &Path) -> anyhow::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let write = || -> std::io::Result<()> {
            File::create(&new)?.write_all(self.pid().to_string().as_bytes())?;
            fs::rename(&new, path)
        };
        write().with_context(|| format!("pid file {}", path.display()))
    }

    pub fn directory(&self) -> PathBuf {
        self.root.directory(&self.id)
    }

    /// Lets others act on the container.
    pub fn unlock(&mut self) {
        self.container = None;
    }

    /// Ends the sandbox and forgets the container.
    pub fn discard(self) {
        drop(self.sandbox);
        let container = match self.container {
            Some(container) => Some(container),
            // Somebody else may have deleted it.
            None => self.root.lock(&self.id).ok().map(|(container, _)| container),
        };
        if let Some(container) = container {
            let _ = container.remove();
        }
    }
}

fn config(global: &Global, privilege: Privilege, default_overlay: RootOverlay) -> anyhow::Result<SandboxConfig> {
    Ok(SandboxConfig {
        platform: match global.platform {
            Platform::Systrap => PlatformKind::Systrap,
            Platform::Ptrace => PlatformKind::Ptrace,
        },
        network: match global.network {
            Network::Sandbox => NetworkMode::Sandbox,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        },
        root_overlay: match global.overlay2.as_deref() {
            None => default_overlay,
            Some("none") => RootOverlay::None,
            Some("root:memory" | "all:memory") => RootOverlay::Memory,
            Some(other) => anyhow::bail!("--overlay2={other} is not supported"),
        },
        strace: global.strace,
        debug: global.debug,
        rewrite: !global.no_rewrite,
        host: runsc_launch::host_facts(privilege),
    })
}
