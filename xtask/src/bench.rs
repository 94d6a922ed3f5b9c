//! `cargo xtask bench [NAME…]`: ratios to the host, taken in one interleaved run.

use crate::{build, packages, process, tree};
use anyhow::Result;

/// Builds and hands over to the harness, which prints the table.
pub fn bench(args: &[String]) -> Result<bool> {
    packages::install()?;
    let runsc = build::build()?;
    process::run(&mut process::command("cargo", &["build", "--quiet", "--locked", "-p", "tests-harness"]))?;
    let harness = tree::target().join("debug/tests-harness");
    let mut command = process::command(&harness.to_string_lossy(), &["bench"]);
    process::succeeds(command.arg("--runsc").arg(runsc).args(args))
}
