//! Bad input and sudden death: one clear error and nothing left behind.

use crate::bundle::Bundle;
use crate::options::Options;
use crate::processes;
use crate::report::Report;
use crate::roles::{self, Role};
use crate::run;
use crate::runtime::Runtime;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs all of them.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    if options.native {
        return Ok(());
    }
    let runtime = Runtime::ours(options)?;
    for (name, change, object) in bad_configs() {
        let shown = format!("faults/config/{name}");
        if options.wants("config") && !report.out_of_time(&shown) {
            report.check(&shown, refused(&runtime, change, object));
        }
    }
    if options.wants("config") {
        for (name, text) in bad_texts() {
            report.check(&format!("faults/config/{name}"), bad_text(&runtime, &text));
        }
    }
    if options.wants("places") {
        report.check("faults/places/no_bundle", no_bundle(&runtime));
        report.check("faults/places/no_config", no_config(&runtime));
        report.check("faults/places/unwritable_state", unwritable_state(options));
    }
    if options.wants("programs") {
        programs(options, &runtime, report)?;
    }
    if options.wants("deaths") {
        deaths(options, &runtime, report);
        report.check("faults/deaths/of_a_guest_process", guest_process(options));
    }
    Ok(())
}

type Change = fn(&mut Value);

/// Name, what is wrong, a word that the message must hold.
fn bad_configs() -> Vec<(&'static str, Change, &'static str)> {
    vec![
        ("no_process", |c| drop(c.as_object_mut().and_then(|c| c.remove("process"))), "process"),
        ("no_arguments", |c| drop(c["process"].as_object_mut().and_then(|p| p.remove("args"))), "args"),
        ("empty_arguments", |c| c["process"]["args"] = json!([]), "args"),
        ("arguments_of_numbers", |c| c["process"]["args"] = json!([1, 2]), "config.json"),
        ("no_root", |c| drop(c.as_object_mut().and_then(|c| c.remove("root"))), "root"),
        ("missing_root", |c| c["root"]["path"] = json!("no-such-root"), "no-such-root"),
        ("root_is_a_file", |c| c["root"]["path"] = json!("config.json"), "config.json"),
        ("empty_root", |c| c["root"]["path"] = json!(""), "root"),
        ("relative_cwd", |c| c["process"]["cwd"] = json!("tmp"), "cwd"),
        ("unknown_mount_type", |c| c["mounts"][0]["type"] = json!("nosuchfs"), "nosuchfs"),
        (
            "missing_bind_source",
            |c| c["mounts"][0] = json!({"destination": "/m", "type": "bind", "source": "/no/such/source", "options": ["bind"]}),
            "/no/such/source",
        ),
        (
            "mount_below_a_file",
            |c| c["mounts"][0] = json!({"destination": "/etc/passwd/x", "type": "tmpfs", "source": "tmpfs"}),
            "/etc/passwd",
        ),
        ("unknown_namespace", |c| c["linux"]["namespaces"][0]["type"] = json!("nosuchns"), "nosuchns"),
        ("missing_namespace_path", |c| c["linux"]["namespaces"][4]["path"] = json!("/no/such/ns"), "/no/such/ns"),
        ("unknown_limit", |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]), "RLIMIT_NOSUCH"),
        ("negative_user", |c| c["process"]["user"]["uid"] = json!(-5), "config.json"),
        ("huge_user", |c| c["process"]["user"]["uid"] = json!(1u64 << 40), "config.json"),
        ("other_version", |c| c["ociVersion"] = json!("9.0.0"), "9.0.0"),
        ("nul_in_argument", |c| c["process"]["args"] = json!(["/bin/echo", "a\u{0}b"]), "args"),
        ("nul_in_environment", |c| c["process"]["env"] = json!(["A=\u{0}"]), "env"),
        ("too_long_hostname", |c| c["hostname"] = json!("h".repeat(5000)), "hostname"),
        ("million_arguments", |c| c["process"]["args"] = json!(vec!["/bin/true"; 1_000_000]), ""),
    ]
}

fn bad_texts() -> Vec<(&'static str, String)> {
    vec![
        ("empty_file", String::new()),
        ("no_json", "this is no JSON".to_string()),
        ("cut_off", "{\"ociVersion\": \"1.0.2\", \"process\": {".to_string()),
        ("a_list", "[]".to_string()),
        ("null", "null".to_string()),
        ("empty_object", "{}".to_string()),
        ("nested_deeply", "[".repeat(200_000)),
        ("nested_objects", "{\"a\":".repeat(100_000)),
        ("binary", "\u{0}\u{1}\u{2}".repeat(1000)),
        ("huge_number", "{\"ociVersion\": 1e999999}".to_string()),
    ]
}

/// No panic, a message that names the object.
fn clear(stderr: &str, object: &str) -> Result<()> {
    ensure!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "a panic: {stderr}");
    ensure!(stderr.contains(object), "the message does not name {object:?}: {stderr}");
    ensure!(stderr.trim().lines().count() <= 4, "not one clear error: {stderr}");
    Ok(())
}

fn refused(runtime: &Runtime, change: Change, object: &str) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/true"])?;
    change(&mut bundle.config);
    bundle.write()?;
    let said = runtime.run(&bundle)?.refused()?;
    clear(&said.stderr, object)
}

fn bad_text(runtime: &Runtime, text: &str) -> Result<()> {
    let bundle = Bundle::new(&["/bin/true"])?;
    bundle.write_text(text)?;
    let said = runtime.run(&bundle)?.refused()?;
    // An empty object is a config.json with something missing, which is what has to be named.
    clear(&said.stderr, if text == "{}" { "" } else { "config.json" })
}

fn no_bundle(runtime: &Runtime) -> Result<()> {
    let said = runtime.call(&["run", "--bundle", "/no/such/bundle", "x"])?.refused()?;
    clear(&said.stderr, "/no/such/bundle")?;
    runtime.nothing_left()
}

fn no_config(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/true"])?;
    std::fs::remove_file(bundle.folder.join("config.json"))?;
    let said = runtime.run(&bundle)?.refused()?;
    clear(&said.stderr, "config.json")
}

fn unwritable_state(options: &Options) -> Result<()> {
    let bundle = Bundle::new(&["/bin/true"])?;
    for place in ["/proc/no-such-folder", "/etc/passwd/below"] {
        let mut command = Command::new(&options.runsc);
        command.args(options.flags()).args(["--root", place, "run", "--bundle"]).arg(&bundle.folder).arg("x");
        let outcome = run::run(&mut command, Duration::from_secs(20))?;
        ensure!(outcome.trouble().is_none() && outcome.code() != 0, "{place}: exit {}", outcome.code());
        clear(&outcome.stderr, place)?;
    }
    Ok(())
}

/// Programs that cannot start: in a bundle and by `do`.
fn programs(options: &Options, runtime: &Runtime, report: &mut Report) -> Result<()> {
    let bundle = Bundle::new(&["/bin/true"])?;
    let write = |name: &str, bytes: &[u8]| -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let path = bundle.rootfs().join(name);
        std::fs::write(&path, bytes)?;
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
    };
    let busybox = std::fs::read("/bin/busybox")?;
    write("cut", &busybox[..2000.min(busybox.len())])?;
    write("headers", &busybox[..64])?;
    write("magic", b"\x7fELF")?;
    write("text", b"just text\n")?;
    write("script", b"#!/no/such/interpreter\n")?;
    write("empty", b"")?;
    let mut arm = busybox.clone();
    arm[18] = 183;
    write("arm", &arm)?;
    let cases = [
        ("/missing", 127),
        ("/etc/passwd", 126),
        ("/etc", 126),
        ("/headers", 126),
        ("/magic", 126),
        ("/text", 126),
        ("/script", 127),
        ("/empty", 126),
        ("/arm", 126),
    ];
    for (program, code) in cases {
        let outcome = (|| {
            let mut config = bundle.config.clone();
            config["process"]["args"] = json!([program]);
            bundle.write_text(&config.to_string())?;
            let said = runtime.run(&bundle)?.refused()?;
            ensure!(said.code == code, "exit {} and not {code}: {}", said.code, said.stderr);
            clear(&said.stderr, program)
        })();
        report.check(&format!("faults/programs{program}"), outcome);
    }
    let cases: [(&[&str], i32); 7] = [
        (&["/no/such"], 127),
        (&["no-such-command"], 127),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
        (&["/bin/sh", "-c", "exit 7"], 7),
        (&["/bin/sh", "-c", "kill -9 $$"], 137),
        (&["/bin/sh", "-c", "kill -TERM $$"], 143),
    ];
    for (args, code) in cases {
        let mut command = Command::new(&options.runsc);
        command.args(options.flags()).arg("do").args(args);
        let outcome = run::run(&mut command, Duration::from_secs(20)).and_then(|outcome| {
            if let Some(trouble) = outcome.trouble() {
                bail!("{trouble}");
            }
            ensure!(outcome.code() == code, "exit {} and not {code}: {}", outcome.code(), outcome.stderr);
            if code == 126 || code == 127 { clear(&outcome.stderr, args[0]) } else { Ok(()) }
        });
        report.check(&format!("faults/programs/do {}", args.join(" ")), outcome);
    }
    Ok(())
}

/// SIGKILL to each process, early and late.
fn deaths(options: &Options, runtime: &Runtime, report: &mut Report) {
    let moments = [0, 3, 6, 10, 15, 20, 30, 45, 70, 100, 400];
    for role in [Role::Sentry, Role::Gofer, Role::Netstack, Role::Stub, Role::Front] {
        let mut outcome = Ok(());
        for ms in moments {
            outcome =
                outcome.and_then(|()| death(runtime, role, Duration::from_millis(ms)).with_context(|| format!("killed after {ms} ms")));
            processes::kill_all();
        }
        report.check(&format!("faults/deaths/{}", role.name()), outcome);
    }
    report.check("faults/deaths/of_runsc_do", front_of_do(options));
}

/// Starts a container by `run`, waits, kills one process of the role.
fn death(runtime: &Runtime, role: Role, moment: Duration) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sh", "-c", "while :; do sleep 0.01; done"])?;
    let id = runtime.new_id();
    let mut command = runtime.command(&["run", "--bundle", &bundle.folder.to_string_lossy(), &id]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(bundle.folder.join("error"))?);
    let mut child = command.spawn()?;
    std::thread::sleep(moment);
    let end = Instant::now() + Duration::from_secs(5);
    let victim = loop {
        // The zygote is the oldest of the stubs.
        if let Some(victim) = roles::of(role).into_iter().min_by_key(|process| process.pid) {
            break Some(victim);
        }
        if Instant::now() > end || child.try_wait()?.is_some() {
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let Some(victim) = victim else { bail!("no process of this role appeared: {}", std::fs::read_to_string(bundle.folder.join("error"))?) };
    processes::signal(victim.pid, Signal::SIGKILL);
    let mut killed = Instant::now();
    // The zygote's maker goes by the same name, and may have ended by itself just before: then the container runs, and its zygote is next.
    if role == Role::Stub && victim.name.contains("memfd") {
        std::thread::sleep(Duration::from_millis(300));
        let runs = runtime.call(&["state", &id]).is_ok_and(|said| said.stdout.contains("\"running\""));
        if runs && let Some(zygote) = roles::of(role).into_iter().min_by_key(|process| process.pid) {
            processes::signal(zygote.pid, Signal::SIGKILL);
            killed = Instant::now();
        }
    }
    let left = loop {
        let _ = child.try_wait()?;
        processes::reap(i32::try_from(child.id()).ok());
        let left = processes::alive();
        if left.is_empty() || killed.elapsed() > Duration::from_millis(1300) {
            break left;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let shown: Vec<String> = left.iter().map(processes::Process::shown).collect();
    processes::kill_all();
    let _ = child.wait();
    ensure!(left.is_empty(), "{} killed, a second later there are: {}", victim.shown(), shown.join(", "));
    // Whoever still lived has cleaned up, or the state says stopped and can be deleted.
    let state = runtime.call(&["state", &id])?;
    if state.code == 0 {
        let state: Value = serde_json::from_str(&state.stdout)?;
        ensure!(state["status"] == "stopped", "state says {}", state["status"]);
        runtime.call(&["delete", &id])?.ok().context("delete")?;
    } else {
        runtime.call(&["delete", "--force", &id])?.ok().context("delete --force")?;
    }
    runtime.nothing_left()
}

fn front_of_do(options: &Options) -> Result<()> {
    for ms in [5, 20, 50, 300] {
        let mut command = Command::new(&options.runsc);
        command.args(options.flags()).args(["do", "/bin/sleep", "100"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        std::thread::sleep(Duration::from_millis(ms));
        processes::signal(i32::try_from(child.id())?, Signal::SIGKILL);
        let _ = child.wait();
        let left = processes::await_none(Duration::from_millis(1300));
        if !left.is_empty() {
            let shown: Vec<String> = left.iter().map(processes::Process::shown).collect();
            processes::kill_all();
            bail!("killed after {ms} ms, a second later there are: {}", shown.join(", "));
        }
    }
    Ok(())
}

/// A stub killed by the host is its guest process killed, as its parent sees it; the sandbox lives.
fn guest_process(options: &Options) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("guest-kill.{}", std::process::id()));
    let mut command = Command::new(&options.runsc);
    let script = "sleep 60 & p=$!; echo up; wait $p; echo status $?; sleep 0.1; echo alive; exit 5";
    command.args(options.flags()).args(["do", "/bin/sh", "-c", script]).stdin(Stdio::null()).stdout(File::create(&folder)?);
    let mut child = command.spawn()?;
    let end = Instant::now() + Duration::from_secs(10);
    let said = || std::fs::read_to_string(&folder).unwrap_or_default();
    while !said().contains("up") {
        ensure!(Instant::now() < end, "the shell never came up");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    // The youngest first: spare address spaces, then the sleep; the shell is older.
    let mut stubs = roles::of(Role::Stub);
    stubs.sort_by_key(|process| std::cmp::Reverse(process.pid));
    for stub in &stubs {
        processes::signal(stub.pid, Signal::SIGKILL);
        std::thread::sleep(Duration::from_millis(150));
        if said().contains("status") || child.try_wait()?.is_some() {
            break;
        }
    }
    let status = run::wait(&mut child, Duration::from_secs(10))?;
    let output = said();
    let _ = std::fs::remove_file(&folder);
    ensure!(output == "up\nstatus 137\nalive\n", "it printed {output:?}");
    ensure!(status.and_then(|s| s.code()) == Some(5), "it ended with {status:?}");
    Ok(())
}
