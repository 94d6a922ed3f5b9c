//! `runsc state`.

use std::collections::BTreeMap;
use std::path::Path;

use runsc_container::{ContainerId, Record};
use runsc_control::{State, Status};
use runsc_launch::Wait;
use serde::Serialize;

use crate::cli::Global;
use crate::create::state_root;
use crate::report::Failure;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'static str,
    pid: i32,
    bundle: &'a str,
    annotations: &'a BTreeMap<String, String>,
}

/// A container's status as users see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    Created,
    Running,
    Stopped,
}

impl Shown {
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// Asks the sentry. One that does not answer because it is dying is stopped; one that lives but does not answer is taken for running.
pub(crate) fn status(record: &Record, directory: &Path) -> Shown {
    if !record.sentry.is_alive() {
        return Shown::Stopped;
    }
    match runsc_launch::connect(directory, Wait::Bounded).and_then(|control| control.call(&State)) {
        Ok(reply) => match reply.status {
            Status::Created => Shown::Created,
            Status::Running => Shown::Running,
            Status::Stopped => Shown::Stopped,
        },
        Err(_) if record.sentry.is_alive() => Shown::Running,
        Err(_) => Shown::Stopped,
    }
}

/// The pid to show: 0 for a stopped container.
pub(crate) fn shown_pid(record: &Record, status: Shown) -> i32 {
    match status {
        Shown::Stopped => 0,
        _ => record.zygote.unwrap_or(record.sentry).pid,
    }
}

pub(crate) fn run(global: &Global, id: &ContainerId) -> Result<u8, Failure> {
    let root = state_root(global)?;
    let record = root.read(id)?;
    let status = status(&record, &root.directory(id));
    let output = Output {
        oci_version: &record.oci_version,
        id: &record.id,
        status: status.name(),
        pid: shown_pid(&record, status),
        bundle: &record.bundle,
        annotations: &record.annotations,
    };
    println!("{}", serde_json::to_string_pretty(&output)?);
    Ok(0)
}
