//! The guest programs of the systrap tests on the ptrace platform. Needs root and gcc; skips with a message otherwise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../systrap/tests/support/kernel.rs"]
#[allow(dead_code, reason = "shared with the systrap tests")]
mod kernel;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::Machine;
use sentry_platform_ptrace::PtracePlatform;
use sentry_platform_systrap::zygote;

const PROGRAMS: &[&str] =
    &["hello", "memory", "forks", "threads", "fault", "vector", "vfork", "ways", "futexes", "churn", "hook", "timing"];

fn main() {
    // SAFETY: plain calls.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: needs root for a pid namespace");
        return;
    }
    let Some(programs) = compile() else {
        println!("skipped: gcc cannot link static programs");
        return;
    };
    // SAFETY: single-threaded here.
    let child = unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS), 0);
        libc::fork()
    };
    if child == 0 {
        // SAFETY: constant strings; only this mount namespace changes.
        unsafe {
            assert_eq!(
                libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()),
                0
            );
            assert_eq!(libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, std::ptr::null()), 0);
        }
        run_all(&programs);
        std::process::exit(0);
    }
    let mut status = 0;
    // SAFETY: waits for our child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "tests failed");
}

fn compile() -> Option<HashMap<&'static str, Vec<u8>>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systrap/tests/programs");
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ptrace");
    std::fs::create_dir_all(&out).ok()?;
    let mut programs = HashMap::new();
    for name in PROGRAMS {
        let target = out.join(name);
        let done = Command::new("gcc")
            .args(["-O1", "-static", "-no-pie", "-pthread", "-mavx", "-mfsgsbase", "-w", "-o"])
            .arg(&target)
            .arg(here.join(format!("{name}.c")))
            .status()
            .ok()?;
        if !done.success() {
            return None;
        }
        programs.insert(*name, std::fs::read(&target).ok()?);
    }
    Some(programs)
}

fn platform() -> Arc<PtracePlatform> {
    let parts = zygote::prepare_traced().expect("image and area");
    let (ours, theirs) = UnixStream::pair().expect("socket pair");
    let (image, area, socket) = (parts.image.as_raw_fd(), parts.area.as_raw_fd(), theirs.as_raw_fd());
    let mut maker = Command::new(format!("/proc/self/fd/{image}"));
    // SAFETY: only async-signal-safe calls.
    unsafe {
        maker.pre_exec(move || {
            let (s, a) = (libc::fcntl(socket, libc::F_DUPFD_CLOEXEC, 100), libc::fcntl(area, libc::F_DUPFD_CLOEXEC, 100));
            if s < 0 || a < 0 || libc::dup2(s, 0) < 0 || libc::dup2(a, 1) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::personality(0x0040000);
            Ok(())
        });
    }
    let mut maker = maker.spawn().expect("maker starts");
    drop(theirs);
    let handles = zygote::receive(ours.as_fd()).expect("zygote");
    assert!(maker.wait().unwrap().success());
    PtracePlatform::adopt(handles.pid, handles.pidfd, ours.into(), handles.area).expect("adopted")
}

fn run_all(programs: &HashMap<&'static str, Vec<u8>>) {
    let platform = platform();
    let filter = std::env::args().nth(1).unwrap_or_default();
    let expect = |name: &'static str, status: i32, output: &str, torture: bool| {
        if !name.contains(filter.as_str()) {
            return;
        }
        let started = Instant::now();
        let machine = Machine::new();
        let stop = Arc::new(AtomicBool::new(!torture));
        let (shared, stopped) = (machine.shared.clone(), stop.clone());
        let thrower = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let interrupts = shared.interrupts.lock().unwrap().clone();
                for interrupt in interrupts.iter().rev().take(8) {
                    interrupt.interrupt();
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let got = machine.run(&*platform, &programs[name], &[name]);
        stop.store(true, Ordering::Relaxed);
        thrower.join().unwrap();
        assert_eq!((got, machine.output().as_str()), (status, output), "{name} {:x?}", machine.shared.faults.lock().unwrap());
        println!("test {name}{} ... ok ({} ms)", if torture { " interrupted" } else { "" }, started.elapsed().as_millis());
    };
    for torture in [false, true] {
        expect("hello", 7 << 8, "hello 1\n", torture);
        for name in ["memory", "forks", "threads", "vfork", "vector", "ways", "futexes", "churn"] {
            expect(name, 0, &format!("{name} ok\n"), torture);
        }
        expect("fault", libc::SIGSEGV, "", torture);
    }
    if "files".contains(filter.as_str()) {
        files(&*platform, &programs["hook"]);
    }
    no_leak();
}

/// A file enters through the socket.
fn files(platform: &dyn sentry_platform::Platform, program: &[u8]) {
    use sentry_abi::{UserAddr, UserRange};
    use sentry_platform::{MapSource, Prot, Share};
    let path = std::env::temp_dir().join(format!("ptrace-{}", std::process::id()));
    std::fs::write(&path, [0u8, 1, 2, 42]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let machine = Machine::new();
    *machine.shared.hook.lock().unwrap() = Some(Box::new(move |thread| {
        let range = UserRange::new(UserAddr(0x5000_0000_0000), 4096).unwrap();
        thread.map(range, MapSource::File { fd: file.as_fd(), offset: 0, populate: false }, Share::Shared, Prot::READ).unwrap();
        assert!(thread.protect(range, Prot::READ | Prot::WRITE).is_err());
        assert!(thread.cpu_time() > Duration::ZERO);
    }));
    assert_eq!(machine.run(platform, program, &["hook"]), 42 << 8);
    println!("test files ... ok");
}

/// Only the zygote may be left.
fn no_leak() {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let stubs = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|e| std::fs::read_to_string(e.path().join("stat")).is_ok_and(|stat| stat.contains("(stub)")));
        if stubs.count() == 1 {
            return;
        }
        assert!(Instant::now() < deadline, "processes are left over");
        std::thread::sleep(Duration::from_millis(5));
    }
}
