//! The OCI lifecycle, of our runtime and of runc: what runc does not pass is a fault of the test.

use crate::bundle::Bundle;
use crate::options::Options;
use crate::report::Report;
use crate::runtime::Runtime;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;

type Test = fn(&Runtime) -> Result<()>;

/// Name, test, whether runc has to pass it too.
const TESTS: &[(&str, Test, bool)] = &[
    ("lifecycle", lifecycle, true),
    ("create_does_not_run", create_does_not_run, true),
    ("exit_codes", exit_codes, true),
    ("exit_codes_of_failed_starts", exit_codes_of_failed_starts, false),
    ("id_in_use", id_in_use, true),
    ("wrong_order", wrong_order, true),
    ("unknown_container", unknown_container, true),
    ("bad_ids", bad_ids, true),
    ("force_delete_of_running", force_delete_of_running, true),
    ("kill_signals", kill_signals, true),
    ("kill_before_start", kill_before_start, true),
    ("list", list, true),
    ("pid_file", pid_file, true),
    ("state_fields", state_fields, true),
    ("process_fields", process_fields, true),
    ("limits", limits, true),
    ("bind_mounts", bind_mounts, true),
    ("read_only_root", read_only_root, true),
    ("tmpfs_mount", tmpfs_mount, true),
    ("control_groups_mount", control_groups_mount, true),
    ("standard_input", standard_input, true),
    ("standard_error", standard_error, true),
    ("spec", spec, true),
    ("version", version, true),
    ("first_process", first_process, true),
    ("two_at_once", two_at_once, true),
    ("masked_and_read_only_paths", masked_and_read_only_paths, true),
    ("terminal", terminal, true),
    ("console_socket", console_socket, true),
    ("terminal_without_socket", terminal_without_socket, true),
];

/// Runs the tests against both.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut runtimes = Vec::new();
    if !options.native {
        runtimes.push(Runtime::ours(options)?);
    }
    match Runtime::runc()? {
        Some(runc) => runtimes.push(runc),
        None => report.skip("oci/runc", "runc is not installed"),
    }
    for runtime in &runtimes {
        for (name, test, both) in TESTS {
            let shown = format!("oci/{}/{name}", runtime.name);
            if options.wants(name) && (*both || runtime.is_ours()) && !report.out_of_time(&shown) {
                report.check(&shown, test(runtime).and_then(|()| runtime.nothing_left()));
            }
        }
    }
    Ok(())
}

fn lifecycle(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sh", "-c", "echo started; exec sleep 100"])?;
    let container = runtime.create(&bundle)?;
    ensure!(container.status()? == "created", "status is {} after create", container.status()?);
    container.call(&["start"], &[])?.ok().context("start")?;
    container.await_output("started")?;
    ensure!(container.status()? == "running", "status is {} after start", container.status()?);
    container.call(&["kill"], &["KILL"])?.ok().context("kill")?;
    container.await_status("stopped")?;
    container.call(&["delete"], &[])?.ok().context("delete")?;
    runtime.call(&["state", &container.id])?.refused().context("state after delete")?;
    Ok(())
}

fn create_does_not_run(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/echo", "ran"])?;
    let container = runtime.create(&bundle)?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(container.output().is_empty(), "it ran before start");
    container.call(&["start"], &[])?.ok()?;
    container.await_output("ran")?;
    container.await_status("stopped")?;
    container.call(&["delete"], &[])?.ok()?;
    Ok(())
}

fn exit_codes(runtime: &Runtime) -> Result<()> {
    for (script, want) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("trap - TERM; sh -c 'exit 3'", 3)] {
        // The first process of a pid namespace cannot be killed from inside: give it a child to kill.
        let script = if script.contains("kill") { "sh -c 'kill -9 $$'" } else { script };
        let bundle = Bundle::new(&["/bin/sh", "-c", &format!("{script}; exit $?")])?;
        let said = runtime.run(&bundle)?;
        ensure!(said.code == want, "{script}: exit {} and not {want}: {}", said.code, said.stderr);
    }
    Ok(())
}

fn exit_codes_of_failed_starts(runtime: &Runtime) -> Result<()> {
    for (program, want) in [("/bin/missing", 127), ("missing", 127), ("/etc/passwd", 126), ("/tmp", 126)] {
        let bundle = Bundle::new(&[program])?;
        let said = runtime.run(&bundle)?.refused()?;
        ensure!(said.code == want, "{program}: exit {} and not {want}: {}", said.code, said.stderr);
        ensure!(said.stderr.contains(program), "the message does not name {program}: {}", said.stderr);
    }
    Ok(())
}

fn id_in_use(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sleep", "100"])?;
    let container = runtime.create(&bundle)?;
    let folder = bundle.folder.to_string_lossy().into_owned();
    let said = runtime.call(&["create", "--bundle", &folder, &container.id])?.refused()?;
    ensure!(said.stderr.contains(&container.id) || said.stderr.contains("exist"), "unclear: {}", said.stderr);
    ensure!(container.status()? == "created", "the first one is {}", container.status()?);
    container.call(&["delete", "--force"], &[])?.ok()?;
    Ok(())
}

fn wrong_order(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sleep", "100"])?;
    let container = runtime.create(&bundle)?;
    container.call(&["start"], &[])?.ok()?;
    container.call(&["start"], &[])?.refused().context("a second start")?;
    container.call(&["delete"], &[])?.refused().context("delete while running")?;
    ensure!(container.status()? == "running", "status is {}", container.status()?);
    container.call(&["kill"], &["KILL"])?.ok()?;
    container.await_status("stopped")?;
    container.call(&["kill"], &["KILL"])?.refused().context("kill of a stopped one")?;
    container.call(&["start"], &[])?.refused().context("start of a stopped one")?;
    container.call(&["delete"], &[])?.ok()?;
    Ok(())
}

fn unknown_container(runtime: &Runtime) -> Result<()> {
    for args in [&["state", "nobody"][..], &["start", "nobody"], &["kill", "nobody", "TERM"], &["delete", "nobody"]] {
        let said = runtime.call(args)?.refused().with_context(|| args.join(" "))?;
        ensure!(said.stderr.contains("not exist") || said.stderr.contains("nobody"), "unclear: {}", said.stderr);
    }
    runtime.call(&["delete", "--force", "nobody"])?.ok().context("delete --force of an unknown one")?;
    Ok(())
}

fn bad_ids(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/true"])?;
    let folder = bundle.folder.to_string_lossy().into_owned();
    for id in ["../up", "a/b", "..", ".", "", "blank name", "new\nline"] {
        runtime.call(&["create", "--bundle", &folder, id])?.refused().with_context(|| format!("id {id:?}"))?;
    }
    Ok(())
}

fn force_delete_of_running(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"])?;
    let container = runtime.create(&bundle)?;
    container.call(&["start"], &[])?.ok()?;
    container.await_output("up")?;
    container.call(&["delete", "--force"], &[])?.ok()?;
    runtime.call(&["state", &container.id])?.refused()?;
    Ok(())
}

fn kill_signals(runtime: &Runtime) -> Result<()> {
    let script = "trap 'echo term' TERM; trap 'echo usr1' USR1; trap 'echo rt; exit 9' QUIT; echo up; while :; do sleep 0.05; done";
    let bundle = Bundle::new(&["/bin/sh", "-c", script])?;
    let container = runtime.create(&bundle)?;
    container.call(&["start"], &[])?.ok()?;
    container.await_output("up")?;
    for (signal, text) in
        [("TERM", "term\n"), ("SIGTERM", "term\nterm\n"), ("15", "term\nterm\nterm\n"), ("10", "usr1"), ("SIGUSR1", "usr1\nusr1")]
    {
        container.call(&["kill"], &[signal])?.ok()?;
        container.await_output(text).with_context(|| signal.to_string())?;
    }
    container.call(&["kill"], &["NOSUCH"])?.refused().context("an unknown signal")?;
    container.call(&["kill"], &["QUIT"])?.ok()?;
    container.await_status("stopped")?;
    container.call(&["delete"], &[])?.ok()?;
    Ok(())
}

fn kill_before_start(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sleep", "100"])?;
    let container = runtime.create(&bundle)?;
    container.call(&["kill"], &["KILL"])?.ok()?;
    container.await_status("stopped")?;
    container.call(&["delete"], &[])?.ok()?;
    Ok(())
}

fn list(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sleep", "100"])?;
    let container = runtime.create(&bundle)?;
    let said = runtime.call(&["list", "--quiet"])?.ok()?;
    ensure!(said.stdout.trim() == container.id, "list --quiet said {}", said.stdout);
    let said = runtime.call(&["list", "--format", "json"])?.ok()?;
    let all: Value = serde_json::from_str(&said.stdout).context("list is not JSON")?;
    let one = all.as_array().and_then(|a| a.first()).context("list is empty")?;
    ensure!(one["id"] == container.id.as_str() && one["status"] == "created", "list said {one}");
    ensure!(one["pid"].as_i64().unwrap_or(0) > 0 && one["bundle"].is_string() && one["created"].is_string(), "list said {one}");
    let said = runtime.call(&["list"])?.ok()?;
    ensure!(said.stdout.contains("ID") && said.stdout.contains(&container.id), "list said {}", said.stdout);
    container.call(&["delete", "--force"], &[])?.ok()?;
    Ok(())
}

fn pid_file(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sleep", "100"])?;
    let (id, file) = (runtime.new_id(), bundle.folder.join("pid"));
    let folder = bundle.folder.to_string_lossy().into_owned();
    runtime.call(&["create", "--bundle", &folder, "--pid-file", &file.to_string_lossy(), &id])?.ok()?;
    let pid: i64 = std::fs::read_to_string(&file)?.parse().context("the pid file holds no number")?;
    let state = runtime.state_of(&id);
    let alive = std::path::Path::new(&format!("/proc/{pid}")).exists();
    runtime.call(&["delete", "--force", &id])?.ok()?;
    ensure!(state?["pid"] == pid, "state says another pid");
    ensure!(alive, "the pid is no process");
    Ok(())
}

fn state_fields(runtime: &Runtime) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/sleep", "100"])?;
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    bundle.write()?;
    let container = runtime.create(&bundle)?;
    let state = runtime.state_of(&container.id)?;
    ensure!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "ociVersion: {state}");
    ensure!(state["id"] == container.id.as_str() && state["status"] == "created", "{state}");
    ensure!(state["bundle"] == bundle.folder.to_string_lossy().as_ref(), "bundle: {state}");
    ensure!(state["annotations"]["org.example.key"] == "value", "annotations: {state}");
    container.call(&["kill"], &["KILL"])?.ok()?;
    container.await_status("stopped")?;
    container.call(&["delete"], &[])?.ok()?;
    Ok(())
}

fn process_fields(runtime: &Runtime) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/sh", "-c", "pwd; id -u; id -g; echo $GREETING; hostname; echo $0 $1; umask", "zero", "one two"])?;
    bundle.config["process"]["user"] = json!({"uid": 1234, "gid": 2345, "additionalGids": [7], "umask": 0o27});
    bundle.config["process"]["cwd"] = json!("/tmp");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "GREETING=hello there"]);
    bundle.config["hostname"] = json!("a-name");
    bundle.write()?;
    let said = runtime.run(&bundle)?.ok()?;
    ensure!(said.stdout == "/tmp\n1234\n2345\nhello there\na-name\nzero one two\n0027\n", "it printed {:?}", said.stdout);
    Ok(())
}

fn limits(runtime: &Runtime) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/sh", "-c", "ulimit -n; ulimit -c"])?;
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    bundle.write()?;
    let said = runtime.run(&bundle)?.ok()?;
    ensure!(said.stdout == "77\n0\n", "it printed {:?}", said.stdout);
    Ok(())
}

fn bind_mounts(runtime: &Runtime) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/sh", "-c", "cat /ro/f; touch /ro/g 2>/dev/null || echo refused; echo written > /rw/g; cat /one"])?;
    let (ro, rw) = (bundle.folder.join("ro"), bundle.folder.join("rw"));
    std::fs::create_dir(&ro)?;
    std::fs::create_dir(&rw)?;
    std::fs::write(ro.join("f"), "from the host\n")?;
    let mounts = bundle.config["mounts"].as_array_mut().context("the config has mounts")?;
    mounts.push(json!({"destination": "/ro", "type": "bind", "source": ro, "options": ["bind", "ro"]}));
    mounts.push(json!({"destination": "/rw", "type": "bind", "source": rw, "options": ["rbind", "rw"]}));
    mounts.push(json!({"destination": "/one", "type": "bind", "source": ro.join("f"), "options": ["bind", "ro"]}));
    bundle.write()?;
    let said = runtime.run(&bundle)?.ok()?;
    ensure!(said.stdout == "from the host\nrefused\nfrom the host\n", "it printed {:?} {}", said.stdout, said.stderr);
    ensure!(std::fs::read_to_string(rw.join("g"))? == "written\n", "the write did not reach the host");
    Ok(())
}

fn read_only_root(runtime: &Runtime) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/sh", "-c", "touch /x 2>/dev/null || echo refused; touch /dev/x && echo elsewhere"])?;
    bundle.config["root"]["readonly"] = json!(true);
    bundle.write()?;
    let said = runtime.run(&bundle)?.ok()?;
    ensure!(said.stdout == "refused\nelsewhere\n", "it printed {:?}", said.stdout);
    ensure!(!bundle.rootfs().join("x").exists(), "the host's root was written");
    Ok(())
}

fn tmpfs_mount(runtime: &Runtime) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/sh", "-c", "grep -c ' /tmp tmpfs ' /proc/mounts; echo x > /tmp/f; cat /tmp/f"])?;
    let mounts = bundle.config["mounts"].as_array_mut().context("the config has mounts")?;
    mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777", "size=1m"]}));
    bundle.write()?;
    let said = runtime.run(&bundle)?.ok()?;
    ensure!(said.stdout == "1\nx\n", "it printed {:?}", said.stdout);
    ensure!(!bundle.rootfs().join("tmp/f").exists(), "the file reached the root below the mount");
    Ok(())
}

/// As `runc spec` writes it: sysfs has the place for it.
fn control_groups_mount(runtime: &Runtime) -> Result<()> {
    let mut bundle = Bundle::new(&["/bin/sh", "-c", "test -d /sys/fs/cgroup && echo there"])?;
    let mounts = bundle.config["mounts"].as_array_mut().context("the config has mounts")?;
    let options = json!(["nosuid", "noexec", "nodev", "ro"]);
    mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options.clone()}));
    mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    bundle.write()?;
    let said = runtime.run(&bundle)?.ok()?;
    ensure!(said.stdout == "there\n", "it printed {:?}", said.stdout);
    Ok(())
}

fn standard_input(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/cat"])?;
    let folder = bundle.folder.to_string_lossy().into_owned();
    let mut command = runtime.command(&["run", "--bundle", &folder, &runtime.new_id()]);
    let input = bundle.folder.join("input");
    let text = "line\n".repeat(20_000);
    std::fs::write(&input, &text)?;
    command.stdin(Stdio::from(std::fs::File::open(&input)?));
    let outcome = crate::run::run_with_input(&mut command, Duration::from_secs(20))?;
    ensure!(outcome.code() == 0 && outcome.stdout == text, "exit {}, {} bytes: {}", outcome.code(), outcome.stdout.len(), outcome.stderr);
    Ok(())
}

fn standard_error(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/sh", "-c", "echo out; echo err >&2; exit 4"])?;
    let said = runtime.run(&bundle)?;
    ensure!(said.code == 4 && said.stdout == "out\n" && said.stderr == "err\n", "{} {:?} {:?}", said.code, said.stdout, said.stderr);
    Ok(())
}

fn spec(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&["/bin/true"])?;
    std::fs::remove_file(bundle.folder.join("config.json"))?;
    let folder = bundle.folder.to_string_lossy().into_owned();
    runtime.call(&["spec", "--bundle", &folder])?.ok()?;
    let config: Value = serde_json::from_str(&std::fs::read_to_string(bundle.folder.join("config.json"))?)?;
    ensure!(config["ociVersion"].is_string() && config["process"]["args"].is_array() && config["root"]["path"] == "rootfs", "{config}");
    runtime.call(&["spec", "--bundle", &folder])?.refused().context("a second spec")?;
    Ok(())
}

fn version(runtime: &Runtime) -> Result<()> {
    let said = runtime.call(&["--version"])?.ok()?;
    ensure!(said.stdout.contains("version") && said.stdout.contains("spec: 1."), "it printed {:?}", said.stdout);
    Ok(())
}

fn first_process(runtime: &Runtime) -> Result<()> {
    let bundle = Bundle::new(&[
        "/bin/sh",
        "-c",
        "echo $$ $PPID; (sleep 0.1; echo orphan) & sh -c 'sleep 0.2 &'; sleep 0.4; ls /proc | grep -c '^[0-9]' 2>/dev/null; cat /proc/1/comm; echo end",
    ])?;
    let said = runtime.run(&bundle)?;
    ensure!(said.stdout.starts_with("1 0\norphan\n"), "it printed {:?}", said.stdout);
    ensure!(said.stdout.ends_with("sh\nend\n"), "it printed {:?}", said.stdout);
    Ok(())
}

fn two_at_once(runtime: &Runtime) -> Result<()> {
    let (a, b) = (Bundle::new(&["/bin/sh", "-c", "echo a; sleep 100"])?, Bundle::new(&["/bin/sh", "-c", "echo b; sleep 100"])?);
    let (one, two) = (runtime.create(&a)?, runtime.create(&b)?);
    one.call(&["start"], &[])?.ok()?;
    two.call(&["start"], &[])?.ok()?;
    one.await_output("a\n")?;
    two.await_output("b\n")?;
    one.call(&["kill"], &["KILL"])?.ok()?;
    one.await_status("stopped")?;
    ensure!(two.status()? == "running", "the other one is {}", two.status()?);
    one.call(&["delete"], &[])?.ok()?;
    two.call(&["delete", "--force"], &[])?.ok()?;
    Ok(())
}

fn masked_and_read_only_paths(runtime: &Runtime) -> Result<()> {
    let script = "cat /etc/secret | wc -c; ls /hidden | wc -l; touch /hidden/x 2>/dev/null || echo refused; touch /kept/x 2>/dev/null || echo refused; cat /kept/f; touch /etc/y && echo written";
    let mut bundle = Bundle::new(&["/bin/sh", "-c", script])?;
    for folder in ["hidden", "kept"] {
        std::fs::create_dir(bundle.rootfs().join(folder))?;
        std::fs::write(bundle.rootfs().join(folder).join("f"), "content\n")?;
    }
    std::fs::write(bundle.rootfs().join("etc/secret"), "secret")?;
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/secret", "/hidden", "/not/there"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/kept", "/not/there"]);
    bundle.write()?;
    let said = runtime.run(&bundle)?.ok()?;
    let lines: Vec<&str> = said.stdout.lines().map(str::trim).collect();
    ensure!(lines == ["0", "0", "refused", "refused", "content", "written"], "it printed {:?} {}", said.stdout, said.stderr);
    Ok(())
}

/// Starts its arguments on a terminal of 33 by 77, and then for each pair A=>B in TYPE waits for the first and types the second.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
pid = os.fork()
if pid == 0:
    os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in 0, 1, 2:
        os.dup2(slave, fd)
    os.execv(sys.argv[1], sys.argv[1:])
os.close(slave)
todo = os.environ["TYPE"].encode().decode("unicode_escape").encode().split(b"%%")
seen, at = b"", 0
while True:
    while todo and todo[0].split(b"=>")[0] in seen[at:]:
        wait, text = todo.pop(0).split(b"=>")
        at = seen.index(wait, at) + len(wait)
        os.write(master, text)
    try:
        data = os.read(master, 1000)
    except OSError:
        break
    if not data:
        break
    seen += data
print(seen.decode().replace("\r\n", "|"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn with_terminal(script: &str) -> Result<Bundle> {
    let mut bundle = Bundle::new(&["/bin/sh", "-c", script])?;
    bundle.config["process"]["terminal"] = json!(true);
    let mounts = bundle.config["mounts"].as_array_mut().context("the config has mounts")?;
    mounts.push(json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}));
    bundle.write()?;
    Ok(bundle)
}

fn terminal(runtime: &Runtime) -> Result<()> {
    let script = "/bin/busybox tty; sleep 0.2; /bin/busybox stty size; trap 'echo trapped' INT; echo ready1; read a; echo \"got $a\"; echo ready2; read b; echo there > /dev/tty; exit 6";
    let bundle = with_terminal(script)?;
    let inner = runtime.command(&["run", "--bundle", &bundle.folder.to_string_lossy(), &runtime.new_id()]);
    let mut command = std::process::Command::new("/usr/bin/python3");
    command.args(["-c", ON_A_TERMINAL]).arg(inner.get_program()).args(inner.get_args());
    command.env("TYPE", "ready1=>word\\n%%ready2=>\\x03x\\n");
    let outcome = crate::run::run(&mut command, Duration::from_secs(20))?;
    let seen = outcome.stdout.trim().to_string();
    ensure!(seen.starts_with("/dev/pts/0|33 77|ready1|word|got word|ready2|^C"), "it showed {seen:?} {}", outcome.stderr);
    ensure!(seen.contains("trapped|") && seen.contains("there|") && seen.ends_with("| 6"), "it showed {seen:?} {}", outcome.stderr);
    Ok(())
}

/// Listens at argv[1], takes the terminal, reads until "up", types a line, prints what it sees to the end.
const CONSOLE_HOLDER: &str = r#"
import array, os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1])
listener.listen(1)
print("listening", flush=True)
peer, _ = listener.accept()
data, fds, _, _ = socket.recv_fds(peer, 100, 1)
seen, typed = b"", False
while True:
    try:
        data = os.read(fds[0], 1000)
    except OSError:
        break
    if not data:
        break
    seen += data
    if b"up" in seen and not typed:
        os.write(fds[0], b"hello\n")
        typed = True
print(seen.decode().replace("\r\n", "|"))
"#;

fn console_socket(runtime: &Runtime) -> Result<()> {
    let mut bundle = with_terminal("test -t 0 && echo up; read x; echo \"read $x\"; /bin/busybox stty size")?;
    bundle.config["process"]["consoleSize"] = json!({"height": 11, "width": 22});
    bundle.write()?;
    let socket = bundle.folder.join("console.sock");
    let mut holder = std::process::Command::new("/usr/bin/python3");
    let mut holder = holder.args(["-c", CONSOLE_HOLDER]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = std::io::BufReader::new(holder.stdout.take().context("a pipe")?);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line)?;
    let (id, folder) = (runtime.new_id(), bundle.folder.to_string_lossy().into_owned());
    let created = runtime.call(&["create", "--bundle", &folder, "--console-socket", &socket.to_string_lossy(), &id])?.ok();
    let outcome = created.and_then(|_| runtime.call(&["start", &id])?.ok().context("start"));
    if outcome.is_ok() {
        runtime.await_status(&id, "stopped", Duration::from_secs(5))?;
    }
    runtime.call(&["delete", "--force", &id])?.ok()?;
    if outcome.is_err() {
        holder.kill()?;
    }
    outcome?;
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut output, &mut seen)?;
    holder.wait()?;
    ensure!(seen.trim() == "up|hello|read hello|11 22|", "the console showed {seen:?}");
    Ok(())
}

fn terminal_without_socket(runtime: &Runtime) -> Result<()> {
    let bundle = with_terminal("true")?;
    let folder = bundle.folder.to_string_lossy().into_owned();
    runtime.call(&["create", "--bundle", &folder, &runtime.new_id()])?.refused()?;
    Ok(())
}
