//! `runsc`: the OCI runtime, and the roles of its other processes in one binary.
//!
//! `cli` is the command line, `cmd` one file a verb, `translate` turns configuration into a plan for `runsc-launch`, `create` and `foreground` are
//! what verbs share, `report` tells failures.
#![forbid(unsafe_code)]

mod cli;
mod cmd;
mod console;
mod create;
mod foreground;
mod names;
mod report;
mod translate;

use std::env;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // The roles first: they have no use for a command line.
    match env::args_os().nth(1).as_deref().and_then(|verb| verb.to_str()) {
        Some("boot") => sentry::boot(),
        Some("gofer") => gofer::boot(),
        Some("netstack") => netstack::boot(),
        _ => {}
    }
    let cli = match cli::Cli::try_parse_from(cli::normalise(env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Prints help and version to stdout, all else to stderr.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 1 } else { 0 });
        }
    };
    match cmd::run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            report::report(&cli.global, &failure.error);
            ExitCode::from(failure.exit_code)
        }
    }
}
