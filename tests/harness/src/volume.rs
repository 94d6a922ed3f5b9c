//! Bundles in which a conformance program works on a bind mount.

use crate::bundle::Bundle;
use anyhow::{Context, Result};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What conformance programs that act as root need.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RESOURCE",
];

/// The host's root, read only, with a folder of the bundle at /tmp that is shared with the host; the program lies in it.
pub fn bundle(program: &Path, tests: &[&str]) -> Result<Bundle> {
    let name = program.file_name().and_then(|name| name.to_str()).context("a program has a name")?;
    let inside = format!("/tmp/{name}");
    let args: Vec<&str> = std::iter::once(inside.as_str()).chain(tests.iter().copied()).collect();
    let mut bundle = Bundle::new(&args)?;
    let volume = bundle.folder.join("volume");
    std::fs::create_dir(&volume)?;
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o1777))?;
    std::fs::copy(program, volume.join(name)).with_context(|| format!("copying {}", program.display()))?;
    let sets = json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES});
    bundle.config["process"]["capabilities"] = sets;
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["process"]["env"] = json!(["PATH=/usr/bin:/bin", "T_SANDBOX=1"]);
    bundle.config["root"] = json!({"path": "/", "readonly": true});
    bundle.config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
        {"destination": "/tmp", "type": "bind", "source": volume, "options": ["rbind", "rw"]},
    ]);
    bundle.write()?;
    Ok(bundle)
}
