//! `runsc do` as a user meets it: folder, environment, streams, signals, terminal.

use crate::options::Options;
use crate::processes;
use crate::report::Report;
use crate::run;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

type Test = fn(&Options) -> Result<()>;

const TESTS: &[(&str, Test)] = &[
    ("folder_and_environment", folder_and_environment),
    ("standard_streams", standard_streams),
    ("much_output", much_output),
    ("reader_goes_away", reader_goes_away),
    ("signals_are_passed_on", signals_are_passed_on),
    ("terminal", terminal),
    ("interrupt_from_the_terminal", interrupt_from_the_terminal),
    ("host_is_untouched", host_is_untouched),
    ("several_at_once", several_at_once),
    ("no_command", no_command),
];

/// Part of the suite `oci`.
pub fn run(options: &Options, report: &mut Report) {
    for (name, test) in TESTS {
        let shown = format!("oci/do/{name}");
        if (options.wants(name) || options.wants("do")) && !report.out_of_time(&shown) {
            report.check(&shown, test(options));
        }
    }
}

fn sandbox(options: &Options, args: &[&str]) -> Command {
    let mut command = Command::new(&options.runsc);
    command.args(options.flags()).arg("do").args(args);
    command
}

/// Runs it; its output when it ended with this code and nothing was wrong.
fn output(command: &mut Command, code: i32) -> Result<String> {
    let outcome = run::run(command, LIMIT)?;
    if let Some(trouble) = outcome.trouble() {
        bail!("{trouble}{}", outcome.stderr);
    }
    ensure!(outcome.code() == code, "exit {}: {}", outcome.code(), outcome.stderr);
    Ok(outcome.stdout)
}

fn folder_and_environment(options: &Options) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("do-test.{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    std::fs::write(folder.join("file"), "here")?;
    let mut command = sandbox(options, &["/bin/sh", "-c", "pwd; cat file; echo; echo $A; umask; ulimit -n"]);
    let text = output(command.current_dir(&folder).env("A", "two words"), 0);
    let native = Command::new("/bin/sh").args(["-c", "umask; ulimit -n"]).output()?;
    std::fs::remove_dir_all(&folder)?;
    let want = format!("{}\nhere\ntwo words\n{}", folder.display(), String::from_utf8_lossy(&native.stdout));
    let text = text?;
    ensure!(text == want, "it printed {text:?} and not {want:?}");
    Ok(())
}

fn standard_streams(options: &Options) -> Result<()> {
    let mut command = sandbox(options, &["/bin/sh", "-c", "cat; echo error >&2; exit 9"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("a pipe")?;
    input.write_all(b"first ")?;
    std::thread::sleep(Duration::from_millis(300));
    input.write_all(b"second")?;
    drop(input);
    let done = child.wait_with_output()?;
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.code() == Some(9) && out == "first second" && err == "error\n", "{:?} {out:?} {err:?}", done.status);
    Ok(())
}

fn much_output(options: &Options) -> Result<()> {
    let text = output(&mut sandbox(options, &["/usr/bin/head", "-c", "12000000", "/dev/zero"]), 0)?;
    ensure!(text.len() == 12_000_000, "{} bytes arrived", text.len());
    Ok(())
}

fn reader_goes_away(options: &Options) -> Result<()> {
    let line = format!("{} do /usr/bin/yes | head -2; echo ${{PIPESTATUS[0]}}", options.runsc.display());
    let text = output(Command::new("/bin/bash").args(["-c", &line]), 0)?;
    ensure!(text == "y\ny\n141\n", "it printed {text:?}");
    Ok(())
}

fn signals_are_passed_on(options: &Options) -> Result<()> {
    for (signal, name, code) in
        [(Signal::SIGTERM, "TERM", 4), (Signal::SIGINT, "INT", 4), (Signal::SIGHUP, "HUP", 4), (Signal::SIGUSR1, "USR1", 4)]
    {
        let script = format!("trap 'echo got; exit {code}' {name}; echo up; while :; do sleep 0.05; done");
        let mut child = sandbox(options, &["/bin/sh", "-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = std::io::BufReader::new(child.stdout.take().context("a pipe")?);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line)?;
        ensure!(line == "up\n", "it printed {line:?}");
        processes::signal(i32::try_from(child.id())?, signal);
        let status = run::wait(&mut child, Duration::from_secs(5))?;
        ensure!(status.and_then(|s| s.code()) == Some(code), "{name}: {status:?}");
    }
    let mut child = sandbox(options, &["/bin/sleep", "100"]).stdin(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    processes::signal(i32::try_from(child.id())?, Signal::SIGTERM);
    let status = run::wait(&mut child, Duration::from_secs(5))?;
    ensure!(status.and_then(|s| s.code()) == Some(143), "SIGTERM without a handler: {status:?}");
    Ok(())
}

/// A program that starts its arguments on a terminal of 33 by 77, types what environment variable TYPE says when it sees "ready", and
/// prints what it sees and how it ended.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
seen, typed = b"", False
while True:
    try:
        data = os.read(fd, 1000)
    except OSError:
        break
    if not data:
        break
    seen += data
    if b"ready" in seen and not typed:
        os.write(fd, os.environ["TYPE"].encode().decode("unicode_escape").encode())
        typed = True
print(seen.decode().replace("\r\n", "|"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn on_a_terminal(options: &Options, script: &str, typed: &str) -> Result<String> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", ON_A_TERMINAL]).arg(&options.runsc).args(options.flags()).args(["do", "/bin/bash", "-c", script]);
    output(command.env("TYPE", typed), 0)
}

fn terminal(options: &Options) -> Result<()> {
    let script = "test -t 0 && test -t 1 && test -t 2 && echo all; sleep 0.3; stty size; echo ready; read x; echo \"read $x\"; tty >/dev/null && echo named; exit 3";
    let text = on_a_terminal(options, script, "typed\\n")?;
    ensure!(text == "all|33 77|ready|typed|read typed|named| 3\n", "it printed {text:?}");
    Ok(())
}

fn interrupt_from_the_terminal(options: &Options) -> Result<()> {
    let text = on_a_terminal(options, "trap 'echo trapped; exit 5' INT; echo ready; while :; do sleep 0.05; done", "\\x03")?;
    ensure!(text.contains("trapped|") && text.ends_with(" 5\n"), "it printed {text:?}");
    Ok(())
}

/// Only files that the test itself made are at stake, should the sandbox let writes through.
fn host_is_untouched(options: &Options) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("untouched-test.{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("file");
    std::fs::write(&file, "as it was")?;
    let mode = |path: &std::path::Path| std::fs::metadata(path).map(|m| m.permissions().mode());
    let null = std::path::Path::new("/dev/null");
    let before = (mode(null)?, mode(&file)?);
    let script = "echo x > new && cat new; chmod 700 file; echo y >> file; mv file moved; cat moved; rm moved; test -e moved || echo removed; mkdir d; rmdir d";
    let text = output(sandbox(options, &["/bin/sh", "-c", script]).current_dir(&folder).stdin(Stdio::null()), 0);
    let after = (mode(null)?, mode(&file));
    let content = std::fs::read_to_string(&file);
    let count = std::fs::read_dir(&folder)?.count();
    std::fs::remove_dir_all(&folder)?;
    let text = text?;
    ensure!(text == "x\nas it wasy\nremoved\n", "it printed {text:?}");
    ensure!(content? == "as it was" && count == 1, "the folder on the host changed");
    ensure!((after.0, after.1?) == before, "modes on the host changed");
    Ok(())
}

fn several_at_once(options: &Options) -> Result<()> {
    let mut children = Vec::new();
    for i in 0..6 {
        children.push(sandbox(options, &["/bin/sh", "-c", &format!("sleep 0.5; exit {i}")]).stdin(Stdio::null()).spawn()?);
    }
    let begin = Instant::now();
    for (i, child) in children.iter_mut().enumerate() {
        let status = run::wait(child, LIMIT)?;
        ensure!(status.and_then(|s| s.code()) == i32::try_from(i).ok(), "sandbox {i}: {status:?}");
    }
    ensure!(begin.elapsed() < Duration::from_secs(20), "it took {:.1?}", begin.elapsed());
    ensure!(processes::await_none(Duration::from_secs(2)).is_empty(), "processes are left");
    Ok(())
}

fn no_command(options: &Options) -> Result<()> {
    let outcome = run::run(&mut sandbox(options, &[]), LIMIT)?;
    ensure!(outcome.code() != 0 && !outcome.stderr.is_empty() && outcome.left.is_empty(), "exit {}", outcome.code());
    Ok(())
}
