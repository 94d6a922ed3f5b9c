//! Each live process of a sandbox, read from outside: seccomp, privileges, capabilities, user, root, namespaces, descriptors.

use crate::bundle::Bundle;
use crate::options::Options;
use crate::processes::{self, Process};
use crate::report::Report;
use crate::roles::{self, Role};
use crate::run;
use crate::runtime::Runtime;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DAC_READ_SEARCH: u64 = 1 << 2;
/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID.
const WRITER: u64 = 0b1_1111;

type Check = fn(&Process, Role, bool) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("seccomp", seccomp),
    ("no_new_privs", no_new_privs),
    ("capabilities", capabilities),
    ("user", user),
    ("root", root),
    ("namespaces", namespaces),
    ("descriptors", descriptors),
];

/// Looks at a `do` sandbox and at a container with a writable root.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    if options.native {
        return Ok(());
    }
    let mut command = Command::new(&options.runsc);
    command.args(options.flags()).args(["do", "/bin/sh", "-c", "sleep 100 & sleep 100"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("starting runsc do")?;
    let settled = await_processes();
    look("do", false, report);
    report.check("posture/do/all_processes", settled);
    processes::kill_all();
    let _ = child.wait();

    let runtime = Runtime::ours_with(options, "--overlay2=none")?;
    let bundle = Bundle::new(&["/bin/sleep", "100"])?;
    match runtime.create(&bundle) {
        Ok(container) => {
            look("created", true, report);
            report.check("posture/running/start", container.call(&["start"], &[])?.ok().map(|_| ()));
            std::thread::sleep(Duration::from_millis(100));
            look("running", true, report);
        }
        Err(error) => report.fail("posture/created", &format!("{error:#}")),
    }
    processes::kill_all();
    report.check("posture/ordinary_user", ordinary_user(options));
    Ok(())
}

fn await_processes() -> Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let found = roles::all();
        let missing: Vec<&str> = [Role::Sentry, Role::Gofer, Role::Netstack, Role::Stub]
            .into_iter()
            .filter(|role| !found.iter().any(|(r, _)| r == role))
            .map(Role::name)
            .collect();
        // The zygote, the shell and two sleeps.
        if missing.is_empty() && found.iter().filter(|(role, _)| *role == Role::Stub).count() >= 4 {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "no process: {}; there are {:?}",
            missing.join(", "),
            found.iter().map(|(r, p)| (r, p.shown())).collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn look(place: &str, writable: bool, report: &mut Report) {
    let found = roles::all();
    for role in [Role::Sentry, Role::Gofer, Role::Netstack, Role::Stub] {
        for (check, test) in CHECKS {
            let mut outcome = Ok(());
            for (_, process) in found.iter().filter(|(r, _)| *r == role) {
                outcome = outcome.and_then(|()| test(process, role, writable).with_context(|| process.shown()));
            }
            report.check(&format!("posture/{place}/{}/{check}", role.name()), outcome);
        }
    }
}

/// A field of every thread's status.
fn in_every_thread(process: &Process, field: &str) -> Result<Vec<String>> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid)).context("listing threads")?;
    let mut values = Vec::new();
    for task in tasks.flatten() {
        let Ok(text) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        values.push(line.with_context(|| format!("no {field}"))?.trim().to_string());
    }
    Ok(values)
}

fn every_thread_has(process: &Process, field: &str, want: &str) -> Result<()> {
    for value in in_every_thread(process, field)? {
        ensure!(value == want, "{field} is {value} and not {want}");
    }
    Ok(())
}

fn seccomp(process: &Process, _: Role, _: bool) -> Result<()> {
    every_thread_has(process, "Seccomp", "2")
}

fn no_new_privs(process: &Process, _: Role, _: bool) -> Result<()> {
    every_thread_has(process, "NoNewPrivs", "1")
}

fn capabilities(process: &Process, role: Role, writable: bool) -> Result<()> {
    let allowed = match role {
        Role::Gofer if writable => WRITER,
        Role::Gofer => DAC_READ_SEARCH,
        _ => 0,
    };
    for field in ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"] {
        for value in in_every_thread(process, field)? {
            let set = u64::from_str_radix(&value, 16).with_context(|| format!("{field} {value}"))?;
            let wanted = if matches!(field, "CapEff" | "CapPrm") { set == allowed } else { set & !allowed == 0 };
            ensure!(wanted, "{field} is {set:#x}, allowed {allowed:#x}");
        }
    }
    Ok(())
}

fn user(process: &Process, _: Role, _: bool) -> Result<()> {
    for field in ["Uid", "Gid"] {
        for value in in_every_thread(process, field)? {
            ensure!(value.split_whitespace().all(|id| id != "0"), "{field} {value}");
        }
    }
    let groups = process.status("Groups").unwrap_or_default();
    ensure!(groups.split_whitespace().all(|group| group != "0"), "groups {groups}");
    Ok(())
}

fn root(process: &Process, role: Role, _: bool) -> Result<()> {
    let path = format!("/proc/{}/root/", process.pid);
    let (inside, host) = (std::fs::metadata(&path).context("reading its root")?, std::fs::metadata("/")?);
    ensure!((inside.dev(), inside.ino()) != (host.dev(), host.ino()), "its root is the host's");
    if role != Role::Gofer {
        let entries: Vec<String> = std::fs::read_dir(&path)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        ensure!(entries.is_empty(), "its root holds {}", entries.join(", "));
        let flags = statvfs(Path::new(&path)).context("asking for its root's flags")?.flags();
        ensure!(flags.contains(FsFlags::ST_RDONLY), "its root is writable");
    }
    let cwd = process.link("cwd").unwrap_or_default();
    ensure!(cwd == "/" || role == Role::Gofer, "its current folder is {cwd}");
    Ok(())
}

fn namespaces(process: &Process, role: Role, _: bool) -> Result<()> {
    let mut kinds = vec!["user", "mnt", "ipc", "uts", "pid"];
    if role != Role::Netstack {
        kinds.push("net");
    }
    for kind in kinds {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let (own, its) = (link("self")?, link(&process.pid.to_string())?);
        ensure!(own != its, "its {kind} namespace is the host's");
    }
    Ok(())
}

fn descriptors(process: &Process, role: Role, _: bool) -> Result<()> {
    for entry in std::fs::read_dir(format!("/proc/{}/fd", process.pid)).context("listing descriptors")?.flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let Ok(meta) = std::fs::metadata(entry.path()) else { continue };
        let kind = meta.file_type();
        if kind.is_dir() && role != Role::Gofer {
            bail!("descriptor {number} is a folder: {target}");
        }
        // What a stub mapped last stays in its one slot until the next is mapped (DESIGN 2.3): no call that it may make takes a descriptor.
        if role == Role::Stub
            && !kind.is_file()
            && !(target.starts_with("/memfd:")
                || target.starts_with("socket:")
                || target.starts_with("anon_inode:")
                || target == "/dev/null")
        {
            bail!("descriptor {number} of a stub is {target}");
        }
        if role == Role::Netstack && kind.is_file() && !target.starts_with("/memfd:") && number != "2" {
            bail!("descriptor {number} is a file: {target}");
        }
        ensure!(!kind.is_block_device(), "descriptor {number} is a block device: {target}");
    }
    Ok(())
}

/// `do` without privileges, through user namespaces.
fn ordinary_user(options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    // The work tree may be closed to others.
    let folder = std::env::temp_dir().join(format!("user-test.{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    let runsc = folder.join("runsc");
    std::fs::copy(&options.runsc, &runsc)?;
    std::fs::set_permissions(&runsc, std::fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=12345", "--regid=12345", "--clear-groups"]).arg(&runsc).args(options.flags());
    command.args([
        "do",
        "/bin/sh",
        "-c",
        "id -u; echo written > /tmp/user-test-file; cat /tmp/user-test-file; cat /etc/shadow 2>/dev/null || echo refused; exit 3",
    ]);
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
    let outcome = run::run(&mut command, Duration::from_secs(20));
    std::fs::remove_dir_all(&folder)?;
    let outcome = outcome?;
    if let Some(trouble) = outcome.trouble() {
        bail!("{trouble}{}", outcome.stderr);
    }
    ensure!(outcome.code() == 3, "exit {}: {}", outcome.code(), outcome.stderr);
    ensure!(outcome.stdout.ends_with("written\nrefused\n"), "it printed {:?}", outcome.stdout);
    Ok(())
}
