//! `runsc list`.

use std::collections::BTreeMap;

use runsc_container::{Record, StateError};
use serde::Serialize;

use super::state;
use crate::cli::{Global, List, ListFormat};
use crate::create::state_root;
use crate::report::Failure;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    oci_version: String,
    id: String,
    pid: i32,
    status: &'static str,
    bundle: String,
    rootfs: String,
    created: String,
    annotations: BTreeMap<String, String>,
    owner: String,
}

pub(crate) fn run(global: &Global, arguments: &List) -> Result<u8, Failure> {
    let root = state_root(global)?;
    let mut rows = Vec::new();
    for id in root.list()? {
        match root.read(&id) {
            Ok(record) => {
                let status = state::status(&record, &root.directory(&id));
                let pid = state::shown_pid(&record, status);
                let Record { oci_version, id, bundle, rootfs, created, annotations, owner, .. } = record;
                rows.push(Row { oci_version, id, pid, status: status.name(), bundle, rootfs, created, annotations, owner });
            }
            // Deleted meanwhile.
            Err(StateError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match (arguments.quiet, arguments.format) {
        (true, _) => rows.iter().for_each(|row| println!("{}", row.id)),
        (false, ListFormat::Json) => println!("{}", serde_json::to_string(&rows)?),
        (false, ListFormat::Table) => print_table(&rows),
    }
    Ok(0)
}

fn print_table(rows: &[Row]) {
    let width = rows.iter().map(|row| row.id.len()).max().unwrap_or(0).max(2);
    println!("{:width$}  {:>8}  {:8}  {:20}  BUNDLE", "ID", "PID", "STATUS", "CREATED");
    for row in rows {
        println!("{:width$}  {:>8}  {:8}  {:20}  {}", row.id, row.pid, row.status, row.created, row.bundle);
    }
}
