//! Which process of a sandbox is which, seen from outside.

use crate::processes::{self, Process};

/// A process's part in a sandbox.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// `runsc run` or `runsc do`, waiting for the container.
    Front,
    Sentry,
    Gofer,
    Netstack,
    /// The zygote or a guest's address space.
    Stub,
}

impl Role {
    /// Its name in test names.
    pub fn name(self) -> &'static str {
        match self {
            Role::Front => "runsc",
            Role::Sentry => "sentry",
            Role::Gofer => "gofer",
            Role::Netstack => "netstack",
            Role::Stub => "stub",
        }
    }

    fn of(process: &Process) -> Option<Self> {
        let verb = process.arguments.iter().skip(1).find(|argument| !argument.starts_with('-') && !argument.starts_with('/'));
        match verb.map(String::as_str) {
            Some("boot") => Some(Role::Sentry),
            Some("gofer") => Some(Role::Gofer),
            Some("netstack") => Some(Role::Netstack),
            Some("do" | "run" | "create" | "start" | "kill" | "delete" | "state") => Some(Role::Front),
            _ => None,
        }
    }
}

/// All live processes that this harness started, with their roles. What has no arguments that tell is a stub, if its parent is a
/// sentry or a stub.
pub fn all() -> Vec<(Role, Process)> {
    let processes = processes::alive();
    let mut found: Vec<(Role, Process)> = Vec::new();
    for process in processes {
        let role = Role::of(&process).or_else(|| {
            let below = found.iter().any(|(role, other)| other.pid == process.parent && matches!(role, Role::Sentry | Role::Stub));
            let named = process.name.contains("stub") || process.name.contains("zygote");
            (below || named).then_some(Role::Stub)
        });
        if let Some(role) = role {
            found.push((role, process));
        }
    }
    found
}

/// Those of one role.
pub fn of(role: Role) -> Vec<Process> {
    all().into_iter().filter(|(r, _)| *r == role).map(|(_, process)| process).collect()
}
