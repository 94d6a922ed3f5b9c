//! The command line, as callers of OCI runtimes use it. Flags of other runtimes that have no meaning here are accepted and ignored.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use runsc_container::ContainerId;

/// As callers of OCI runtimes parse it: `runsc version …`, then the specification's.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

#[derive(Parser, Debug)]
#[command(
    name = "runsc",
    version = VERSION,
    about = "Runs OCI containers on a user-space kernel",
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// Directory for the state of containers [default: $XDG_RUNTIME_DIR/runsc, for root /var/run/runsc]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// File to which errors are appended
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// File to which the sandbox's processes log
    #[arg(long, value_name = "FILE")]
    pub debug_log: Option<PathBuf>,
    /// Log more
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    pub debug: bool,
    /// Log each system call of the container
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    pub strace: bool,
    /// How application code runs
    #[arg(long, value_enum, default_value_t = Platform::Systrap)]
    pub platform: Platform,
    #[arg(long, value_enum, default_value_t = Network::Sandbox)]
    pub network: Network,
    /// Do not rewrite system call sites
    #[arg(long)]
    pub no_rewrite: bool,
    /// Where writes to the root file system go: none (to its files) or root:memory
    #[arg(long, value_name = "KIND")]
    pub overlay2: Option<String>,
    /// Print the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    systemd_cgroup: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    rootless: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ignore_cgroups: Option<bool>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Platform {
    Systrap,
    Ptrace,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Network {
    Sandbox,
    None,
    Host,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Run a command over the host's own root file system, to which it cannot write
    Do(Do),
    /// Create a container, start it and wait for its end
    Run(Run),
    /// Create a container
    Create(Create),
    /// Start the process of a created container
    Start(Id),
    /// Print the state of a container as JSON
    State(Id),
    /// Send a signal to a container
    Kill(Kill),
    /// Delete a container
    Delete(Delete),
    /// List containers
    List(List),
    /// Write a configuration to start from
    Spec(Spec),
}

#[derive(Args, Debug)]
pub(crate) struct Do {
    /// Directory to start in [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Directory to take for the root file system [default: /]
    #[arg(long = "rootfs", value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Create {
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// File to write the container's pid to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket to send the terminal to
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    #[arg(long, hide = true)]
    no_pivot: bool,
    #[arg(long, hide = true)]
    no_new_keyring: bool,
    #[arg(long, hide = true)]
    preserve_fds: Option<u32>,
    pub id: ContainerId,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Do not wait for the end
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub create: Create,
    #[arg(long, hide = true)]
    no_subreaper: bool,
    #[arg(long, hide = true)]
    keep: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Id {
    pub id: ContainerId,
}

#[derive(Args, Debug)]
pub(crate) struct Kill {
    /// Signal all processes
    #[arg(short, long)]
    pub all: bool,
    pub id: ContainerId,
    #[arg(default_value = "TERM")]
    pub signal: String,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Kill the container first, and do not mind if it does not exist
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true)]
    pub ids: Vec<ContainerId>,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct Spec {
    /// Directory to write config.json to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    #[arg(long, hide = true)]
    rootless: bool,
    /// Program and arguments [default: sh]
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// Go's style of flags: `-root=x` is `--root=x`. Up to the first word after the verb that is no flag, since that may be a command.
pub(crate) fn normalise(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words_left = 2;
    let mut out: Vec<OsString> = Vec::new();
    for (index, argument) in arguments.enumerate() {
        let text = argument.to_str().unwrap_or_default();
        let name = text.strip_prefix('-').unwrap_or_default();
        if index > 0 && words_left > 0 {
            // The value of a flag looks like a word too; then normalisation ends early, which only two dashes can prevent.
            if text == "--" || !text.starts_with('-') {
                words_left -= 1;
            } else if name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                out.push(format!("--{name}").into());
                continue;
            }
        }
        out.push(argument);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Cli, normalise};
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_in_either_style() {
        let cases = [
            ("runsc -root=/x state a", "runsc --root=/x state a"),
            ("runsc do -cwd=/ ls -la", "runsc do --cwd=/ ls -la"),
            ("runsc delete -f a", "runsc delete -f a"),
        ];
        for (input, expected) in cases {
            let out = normalise(input.split(' ').map(Into::into));
            assert_eq!(out, expected.split(' ').collect::<Vec<_>>());
        }
    }

    #[test]
    fn callers_command_lines_are_accepted() {
        let lines = [
            "runsc --root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p --no-pivot --no-new-keyring id",
            "runsc --debug=false run -d -b /b --console-socket /s id",
            "runsc kill --all id 9",
            "runsc kill id SIGTERM",
            "runsc delete --force id",
            "runsc list --format json",
            "runsc do ls -la --color",
            "runsc -platform=ptrace do -- ls",
        ];
        for line in lines {
            let parsed = Cli::try_parse_from(normalise(line.split(' ').map(Into::into)));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
