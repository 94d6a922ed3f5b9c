//! OCI bundles for tests: a root file system with a static busybox and a config.json.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &[&str] =
    &["sh", "sleep", "true", "false", "cat", "ls", "echo", "id", "env", "pwd", "ps", "mount", "touch", "hostname", "wc", "grep", "cut"];

/// A bundle in a folder of its own, removed when dropped.
pub struct Bundle {
    pub folder: PathBuf,
    pub config: Value,
}

impl Bundle {
    /// A bundle that runs `args`.
    pub fn new(args: &[&str]) -> Result<Self> {
        // A counter for names, not state that anything reads.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("bundle-test.{}.{number}", std::process::id()));
        let bin = folder.join("rootfs/bin");
        std::fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
        for name in ["proc", "dev", "sys", "tmp", "etc"] {
            std::fs::create_dir(folder.join("rootfs").join(name))?;
        }
        std::fs::write(folder.join("rootfs/etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
        std::fs::copy(BUSYBOX, bin.join("busybox")).with_context(|| format!("copying {BUSYBOX}"))?;
        for applet in APPLETS {
            symlink("busybox", bin.join(applet))?;
        }
        let bundle = Self { folder, config: config(args) };
        bundle.write()?;
        Ok(bundle)
    }

    /// Writes the config as it now is.
    pub fn write(&self) -> Result<()> {
        self.write_text(&serde_json::to_string_pretty(&self.config)?)
    }

    /// Writes any text as the config.
    pub fn write_text(&self, text: &str) -> Result<()> {
        std::fs::write(self.folder.join("config.json"), text).context("writing config.json")
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn config(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "guest",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
        },
    })
}

/// A state folder of its own, removed when dropped.
pub struct StateFolder(pub PathBuf);

impl StateFolder {
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("state-test.{}.{name}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is still in it.
    pub fn entries(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
