//! `cargo xtask test [KIND]`: the suites, and the one closing line.

use crate::{build, check, packages, process, tree};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// In the order in which a full run takes them: what is quick and basic first.
const SUITES: &[&str] = &["guest", "escape", "posture", "oci", "faults", "apps", "torture"];

/// How many tests went which way.
#[derive(Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    /// Counts one test.
    pub fn count(&mut self, name: &str, good: bool) {
        println!("{} {name}", if good { "ok" } else { "FAIL" });
        if good {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Adds another's numbers.
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// Runs one kind or all; whether nothing failed.
pub fn test(args: &[String]) -> Result<bool> {
    let mut tally = Tally::default();
    match args {
        [] => {
            packages::install()?;
            tally.add(check::tallied()?);
            let runsc = build::build()?;
            for suite in SUITES {
                tally.add(harness(suite, &[], &runsc)?);
            }
        }
        [kind, ..] if kind == "unit" => tally.add(check::unit()?),
        [kind, rest @ ..] if SUITES.contains(&kind.as_str()) => {
            packages::install()?;
            let native = rest.iter().any(|arg| arg == "--native");
            let runsc = if native { tree::dist().join("runsc") } else { build::build()? };
            tally.add(harness(kind, rest, &runsc)?);
        }
        [kind, ..] => bail!("unknown kind {kind}: unit {}", SUITES.join(" ")),
    }
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// Runs one suite of tests/harness.
fn harness(suite: &str, args: &[String], runsc: &Path) -> Result<Tally> {
    process::run(&mut process::command("cargo", &["build", "--quiet", "--locked", "-p", "tests-harness"]))?;
    let report = tree::target().join(format!("{suite}.report"));
    let _ = std::fs::remove_file(&report);
    let mut command = process::command(&tree::target().join("debug/tests-harness").to_string_lossy(), &[suite]);
    command.arg("--runsc").arg(runsc).arg("--report").arg(&report).args(args);
    let good = process::succeeds(&mut command)?;
    let mut tally = Tally::default();
    match std::fs::read_to_string(&report) {
        Ok(text) => tally = from_report(&text).with_context(|| format!("reading {}", report.display()))?,
        Err(_) => tally.count(&format!("{suite}: no report"), false),
    }
    if !good && tally.failed == 0 {
        tally.count(&format!("{suite}: ended badly"), false);
    }
    Ok(tally)
}

/// Three numbers: passed, failed, skipped.
fn from_report(text: &str) -> Result<Tally> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next().context("a number is missing")?.context("not a number");
    Ok(Tally { passed: next()?, failed: next()?, skipped: next()? })
}
