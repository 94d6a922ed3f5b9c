//! `runsc run`.

use runsc_control::RootOverlay;
use runsc_launch::Wait;

use super::create::create_detached;
use crate::cli::{self, Global};
use crate::console::{self, RawTerminal};
use crate::create::{Created, Creation, Lifetime, load_bundle, state_root};
use crate::report::Failure;
use crate::{foreground, translate};

pub(crate) fn run(global: &Global, arguments: &cli::Run) -> Result<u8, Failure> {
    if arguments.detach {
        return detached(global, &arguments.create);
    }
    let (created, terminal) = create(global, &arguments.create).map_err(|error| Failure::from(error).with_code(128))?;
    foreground::run(created, terminal)
}

fn detached(global: &Global, arguments: &cli::Create) -> Result<u8, Failure> {
    let created = create_detached(global, arguments)?;
    let started = match runsc_launch::connect(&created.directory(), Wait::Bounded) {
        Ok(control) => foreground::start(&control),
        Err(error) => Err(Failure::from(error)),
    };
    match started {
        Ok(()) => {
            created.sandbox.detach()?;
            Ok(0)
        }
        Err(failure) => {
            created.discard();
            Err(failure)
        }
    }
}

fn create(global: &Global, arguments: &cli::Create) -> anyhow::Result<(Created, Option<RawTerminal>)> {
    foreground::hold_signals()?;
    let root = state_root(global)?;
    let (bundle, spec) = load_bundle(&arguments.bundle)?;
    let mut translated = translate::translate(&spec, &bundle)?;
    let (terminal, console) = match (translated.process.terminal, &arguments.console_socket) {
        (true, Some(socket)) => (None, console::sent_to(socket, translated.process.console_size)?),
        (true, None) => {
            let (terminal, console) = RawTerminal::enter()?;
            translated.process.console_size = terminal.size().or(translated.process.console_size);
            (Some(terminal), console)
        }
        (false, Some(_)) => anyhow::bail!("--console-socket is given, but the container wants no terminal"),
        (false, None) => (None, console::inherited()?),
    };
    let creation = Creation {
        global,
        id: arguments.id.clone(),
        bundle,
        annotations: spec.annotations,
        translated,
        console,
        lifetime: Lifetime::Foreground,
        default_overlay: RootOverlay::Memory,
    };
    let created = creation.create(&root)?;
    if let Some(path) = &arguments.pid_file
        && let Err(error) = created.write_pid_file(path)
    {
        created.discard();
        return Err(error);
    }
    Ok((created, terminal))
}
