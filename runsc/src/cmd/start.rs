//! `runsc start`.

use anyhow::anyhow;
use runsc_container::ContainerId;
use runsc_launch::Wait;

use super::state::{self, Shown};
use crate::cli::Global;
use crate::create::state_root;
use crate::foreground;
use crate::report::Failure;

pub(crate) fn run(global: &Global, id: &ContainerId) -> Result<u8, Failure> {
    let root = state_root(global)?;
    let (container, record) = root.lock(id)?;
    match state::status(&record, container.directory()) {
        Shown::Created => {}
        other => return Err(anyhow!("container {id} is {}, not created", other.name()).into()),
    }
    let control = runsc_launch::connect(container.directory(), Wait::Bounded)?;
    foreground::start(&control)?;
    Ok(0)
}
