//! `cargo xtask check`: what needs neither root nor a sandbox.

use crate::test::Tally;
use crate::{process, tidy};
use anyhow::Result;

/// Runs all checks; whether all held.
pub fn check() -> Result<bool> {
    let tally = tallied()?;
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// Formatting, lints, tidy and unit tests; a failed one does not hide the next.
pub fn tallied() -> Result<Tally> {
    let mut tally = Tally::default();
    tally.count("fmt", process::succeeds(&mut process::command("cargo", &["fmt", "--all", "--check"]))?);
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    tally.count("clippy", process::succeeds(&mut process::command("cargo", &clippy))?);
    tally.count("tidy", tidy::tidy()?);
    tally.add(unit()?);
    Ok(tally)
}

/// How often the crates' tests are run when one fails; see [`unit`].
const TRIES: u32 = 3;

/// All crates' own tests. A run in which one fails is repeated, since some race on purpose and have limits of time; that it was is printed.
pub fn unit() -> Result<Tally> {
    let mut tally = unit_once()?;
    for _ in 1..TRIES {
        if tally.failed == 0 {
            break;
        }
        println!("flaky: unit tests, {} failed above; once more", tally.failed);
        tally = unit_once()?;
    }
    Ok(tally)
}

fn unit_once() -> Result<Tally> {
    let mut tally = Tally::default();
    let mut cargo = process::command("cargo", &["test", "--workspace", "--locked", "--no-fail-fast"]);
    let good = process::watched(&mut cargo, |line| tally.add(from_cargo(line)))?;
    if !good && tally.failed == 0 {
        tally.count("cargo test", false);
    }
    Ok(tally)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn from_cargo(line: &str) -> Tally {
    let mut tally = Tally::default();
    let Some(rest) = line.strip_prefix("test result:") else { return tally };
    for part in rest.split([';', '.']) {
        let mut words = part.split_whitespace();
        let Some(Ok(n)) = words.next().map(str::parse::<u64>) else { continue };
        match words.next() {
            Some("passed") => tally.passed += n,
            Some("failed") => tally.failed += n,
            Some("ignored") => tally.skipped += n,
            _ => {}
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::from_cargo;

    #[test]
    fn cargo_summary_is_read() {
        let tally = from_cargo("test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!((tally.passed, tally.failed, tally.skipped), (12, 3, 1));
        assert_eq!(from_cargo("test a::b ... ok").passed, 0);
    }
}
