//! `runsc delete`.

use std::time::Duration;

use anyhow::{anyhow, bail};
use runsc_container::{ContainerId, StateError, StateRoot, kill_and_wait};

use super::state::{self, Shown};
use crate::cli::{Delete, Global};
use crate::create::state_root;
use crate::report::Failure;

pub(crate) fn run(global: &Global, arguments: &Delete) -> Result<u8, Failure> {
    let root = state_root(global)?;
    for id in &arguments.ids {
        delete(&root, id, arguments.force)?;
    }
    Ok(0)
}

fn delete(root: &StateRoot, id: &ContainerId, force: bool) -> anyhow::Result<()> {
    let (container, record) = match root.lock(id) {
        Ok(found) => found,
        Err(StateError::Missing(_)) => {
            root.remove_debris(id)?;
            return if force { Ok(()) } else { Err(StateError::Missing(id.clone()).into()) };
        }
        Err(error) => return Err(error.into()),
    };
    let status = state::status(&record, container.directory());
    if status == Shown::Running && !force {
        bail!("container {id} is running; stop it first, or use --force");
    }
    let left = kill_and_wait(&record.processes(), Duration::from_secs(10));
    if let Some(process) = left.first() {
        return Err(anyhow!("process {} of container {id} does not die", process.pid));
    }
    container.remove()?;
    Ok(())
}
