//! The project's commands: `cargo xtask VERB`. One file a verb; each verb prints the plain commands that it runs, so that nobody
//! needs this program to repeat a step by hand.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod check;
mod packages;
mod process;
mod run;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask VERB
  check               formatting, lints, tidy and the unit tests
  build               static release binaries into target/dist/
  run -- CMD…         build, then run CMD in a sandbox over this machine's root file system
  test [KIND [ARG…]]  install what the tests need and run everything, or one KIND:
                      unit, guest [--native] [--platform P] [NAME…], oci, apps [NAME…], posture, escape, faults, torture
  tidy                the layout and layer rules
  bench [NAME…]       micro.c natively and in the sandbox, start-up and idle memory beside runc";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let verb = args.remove(0);
    let done = match verb.as_str() {
        "check" => check::check(),
        "build" => build::build().map(|_| true),
        "run" => run::run(&args).map(|_| true),
        "test" => test::test(&args),
        "tidy" => tidy::tidy(),
        "bench" => bench::bench(&args),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(true)
        }
        other => {
            eprintln!("xtask: unknown verb {other}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
