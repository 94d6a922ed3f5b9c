//! `--strace`: one log line a call, in strace(1)'s manner.

use sentry_kernel::{CurrentTask, Stop, SysResult};

use crate::table::Entry;

pub fn enter(task: &CurrentTask, entry: &Entry, args: &[u64; 6]) {
    tracing::info!(target: "strace", "[{}] {} {}", task.task.tid(), entry.name, arguments(task, entry, args));
}

pub fn leave(task: &CurrentTask, entry: &Entry, result: &SysResult) {
    let outcome = match result {
        Ok(value) => format!("{value:#x}"),
        Err(Stop::Fail(errno)) => format!("-1 {}", errno.name()),
        Err(Stop::Restart(how)) => format!("? {how:?}"),
    };
    tracing::info!(target: "strace", "[{}] {} = {outcome}", task.task.tid(), entry.name);
}

fn arguments(task: &CurrentTask, entry: &Entry, args: &[u64; 6]) -> String {
    let shown: Vec<String> = entry
        .arguments
        .iter()
        .zip(args)
        .map(|(argument, value)| {
            let text = (argument.show)(*value);
            match argument.is_path.then(|| task.read_path(sentry_abi::UserAddr(*value))) {
                Some(Ok(path)) => format!("{}=\"{}\"", argument.name, path.escape_ascii()),
                _ => format!("{}={text}", argument.name),
            }
        })
        .collect();
    format!("({})", shown.join(", "))
}
