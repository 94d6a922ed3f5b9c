//! `cargo xtask build`: the static release binaries.

use crate::{process, tree};
use anyhow::{Context, Result};
use std::path::PathBuf;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Needs an explicit `--target`: without it the flags would reach procedural macros, which cannot be static.
const STATIC: &str = "-C target-feature=+crt-static";

/// Builds and copies the binaries; answers runsc's path.
pub fn build() -> Result<PathBuf> {
    let mut cargo = process::command("cargo", &["build", "--release", "--locked", "--target", TARGET, "-p", "runsc"]);
    process::run(cargo.env("RUSTFLAGS", STATIC))?;
    let built = tree::target().join(TARGET).join("release/runsc");
    let dist = tree::dist();
    std::fs::create_dir_all(&dist).with_context(|| format!("creating {}", dist.display()))?;
    let runsc = dist.join("runsc");
    // A rename and not a copy over the old file: a sandbox may still be running it.
    let fresh = dist.join(".runsc.new");
    eprintln!("$ cp {} {}", built.display(), runsc.display());
    std::fs::copy(&built, &fresh).with_context(|| format!("copying {}", built.display()))?;
    std::fs::rename(&fresh, &runsc).with_context(|| format!("replacing {}", runsc.display()))?;
    Ok(runsc)
}
