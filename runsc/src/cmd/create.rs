//! `runsc create`.

use anyhow::bail;
use runsc_control::RootOverlay;

use crate::cli::{self, Global};
use crate::create::{Created, Creation, Lifetime, load_bundle, state_root};
use crate::report::Failure;
use crate::{console, translate};

pub(crate) fn run(global: &Global, arguments: &cli::Create) -> Result<u8, Failure> {
    let created = create_detached(global, arguments)?;
    created.sandbox.detach()?;
    Ok(0)
}

/// A container that outlives us, with its pid file written; not yet detached.
pub(super) fn create_detached(global: &Global, arguments: &cli::Create) -> anyhow::Result<Created> {
    let root = state_root(global)?;
    let (bundle, spec) = load_bundle(&arguments.bundle)?;
    let translated = translate::translate(&spec, &bundle)?;
    let console = match (translated.process.terminal, &arguments.console_socket) {
        (true, Some(socket)) => console::sent_to(socket, translated.process.console_size)?,
        (true, None) => bail!("the container wants a terminal, which needs --console-socket"),
        (false, Some(_)) => bail!("--console-socket is given, but the container wants no terminal"),
        (false, None) => console::inherited()?,
    };
    let creation = Creation {
        global,
        id: arguments.id.clone(),
        bundle,
        annotations: spec.annotations,
        translated,
        console,
        lifetime: Lifetime::Detached,
        default_overlay: RootOverlay::Memory,
    };
    let created = creation.create(&root)?;
    if let Some(path) = &arguments.pid_file
        && let Err(error) = created.write_pid_file(path)
    {
        created.discard();
        return Err(error);
    }
    Ok(created)
}
