//! Runs the suites that need a sandbox: `tests-harness SUITE [--runsc PATH] [--report FILE] [--native] [--platform P] [NAME…]`.
//!
//! Every suite compares with Linux itself: guest programs and applications with the same program on the host, lifecycle with runc.
//! Each run has a time limit; what is still there after it is killed by process id and reported as a failure.
//! `RUNSC_FLAGS` holds further global flags for runsc, separated by blanks.
#![forbid(unsafe_code)]

mod apps;
mod bench;
mod bundle;
mod compile;
mod faults;
mod guest;
mod interface;
mod oci;
mod options;
mod posture;
mod processes;
mod report;
mod roles;
mod run;
mod runtime;
mod torture;
mod volume;

use anyhow::{Result, bail};
use options::Options;
use report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    match start() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tests-harness: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<bool> {
    let options = Options::parse(std::env::args().skip(1))?;
    processes::adopt_orphans()?;
    let mut report = Report::new(&options);
    match options.suite.as_str() {
        "guest" => guest::run(&options, "", &mut report)?,
        "escape" => guest::run(&options, "escape", &mut report)?,
        "apps" => apps::run(&options, &mut report)?,
        "bench" => bench::run(&options)?,
        "oci" => {
            oci::run(&options, &mut report)?;
            if !options.native {
                interface::run(&options, &mut report);
            }
        }
        "posture" => posture::run(&options, &mut report)?,
        "faults" => faults::run(&options, &mut report)?,
        "torture" => torture::run(&options, &mut report)?,
        other => bail!("unknown suite {other}"),
    }
    report.close()
}
