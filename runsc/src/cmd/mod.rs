//! The verbs.

mod create;
mod delete;
mod do_;
mod kill;
mod list;
mod run;
mod spec;
mod start;
mod state;

use crate::cli::{Cli, Verb};
use crate::report::Failure;

/// Runs the verb; the result is what to exit with.
pub(crate) fn run(cli: &Cli) -> Result<u8, Failure> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Do(arguments) => do_::run(global, arguments),
        Verb::Run(arguments) => run::run(global, arguments),
        Verb::Create(arguments) => create::run(global, arguments),
        Verb::Start(arguments) => start::run(global, &arguments.id),
        Verb::State(arguments) => state::run(global, &arguments.id),
        Verb::Kill(arguments) => kill::run(global, arguments),
        Verb::Delete(arguments) => delete::run(global, arguments),
        Verb::List(arguments) => list::run(global, arguments),
        Verb::Spec(arguments) => spec::run(arguments),
    }
}
