//! `cargo xtask run -- CMD…`: builds, then becomes `runsc do CMD…`.

use crate::{build, process};
use anyhow::{Result, bail};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Returns only on failure: the sandbox's exit status is this process's.
pub fn run(args: &[String]) -> Result<()> {
    let args = match args {
        [first, rest @ ..] if first == "--" => rest,
        all => all,
    };
    if args.is_empty() {
        bail!("no command: cargo xtask run -- CMD…");
    }
    let runsc = build::build()?;
    let mut sandbox = Command::new(runsc);
    sandbox.arg("do").args(args);
    process::show(&sandbox);
    let error = sandbox.exec();
    bail!("starting runsc: {error}")
}
