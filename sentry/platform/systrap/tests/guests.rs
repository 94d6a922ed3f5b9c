//! Real guest programs on the systrap platform under a minimal kernel. Needs root (pid namespace) and gcc; skips with a message otherwise.
//!
//! `cargo test -p sentry-platform-systrap --test guests [-- FILTER]`

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/kernel.rs"]
mod kernel;
#[path = "support/launch.rs"]
mod launch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::Machine;
use sentry_platform_systrap::{Reaper, SystrapPlatform};

const PROGRAMS: &[&str] =
    &["hello", "memory", "forks", "threads", "fault", "vector", "timing", "vfork", "bad", "churn", "ways", "futexes", "hook", "restorer"];

type Test = fn(&Context);
type Programs = HashMap<&'static str, Vec<u8>>;

struct Context {
    reaper: Arc<Reaper>,
    platform: Arc<SystrapPlatform>,
    programs: Programs,
}

impl Context {
    fn run(&self, program: &str) -> (Machine, i32) {
        let machine = Machine::new();
        let status = machine.run(&*self.platform, &self.programs[program], &[program]);
        (machine, status)
    }

    fn expect(&self, program: &str, status: i32, output: &str) {
        let (machine, got) = self.run(program);
        assert_eq!((got, machine.output().as_str()), (status, output), "{program}");
    }
}

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
        run_all(programs);
        std::process::exit(0);
    }
    let mut status = 0;
    // SAFETY: waits for our child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "tests failed");
}

fn compile() -> Option<Programs> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut programs = HashMap::new();
    for name in PROGRAMS {
        let target = out.join(name);
        let done = Command::new("gcc")
            .args(["-O1", "-static", "-no-pie", "-pthread", "-mavx", "-w", "-o"])
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

fn run_all(programs: Programs) {
    let reaper = Reaper::start().expect("reaper");
    let platform = launch::platform(&reaper);
    let context = Context { reaper, platform, programs };
    let filter = std::env::args().nth(1);
    let tests: &[(&str, Test)] = &[
        ("hello", |c| c.expect("hello", 7 << 8, "hello 1\n")),
        ("memory", |c| c.expect("memory", 0, "memory ok\n")),
        ("forks", |c| c.expect("forks", 0, "forks ok\n")),
        ("threads", |c| c.expect("threads", 0, "threads ok\n")),
        ("vfork", |c| c.expect("vfork", 0, "vfork ok\n")),
        ("vector", |c| c.expect("vector", 0, "vector ok\n")),
        ("fault", fault),
        ("bad", |c| c.expect("bad", 0, "bad ok\n")),
        ("ways", |c| c.expect("ways", 0, "ways ok\n")),
        ("futexes", |c| c.expect("futexes", 0, "futexes ok\n")),
        ("files", files),
        ("torture", torture),
        ("killed", killed),
        ("stopped", stopped),
        ("restorer", restorer),
        ("direct", direct),
        ("stub_copies", stub_copies),
        ("kills", kills),
        ("timing", timing),
        ("zygote_death", zygote_death),
    ];
    for (name, test) in tests {
        if filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            continue;
        }
        let started = Instant::now();
        test(&context);
        no_leak(&context, *name == "zygote_death");
        println!("test {name} ... ok ({} ms)", started.elapsed().as_millis());
    }
}

/// Only the zygote and the address spaces kept ready may be left.
fn no_leak(context: &Context, none: bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if stat.contains("(stub)") {
                children.push(stat.chars().take(40).collect::<String>());
            }
        }
        let _ = context;
        if children.len() <= if none { 0 } else { 5 } {
            return;
        }
        assert!(Instant::now() < deadline, "left over: {children:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn fault(context: &Context) {
    let (machine, status) = context.run("fault");
    assert_eq!(status, libc::SIGSEGV);
    let faults = machine.shared.faults.lock().unwrap();
    let (fault, registers) = &faults[0];
    assert_eq!((fault.signo, fault.addr, fault.trapno, fault.cr2), (libc::SIGSEGV, 0x1234, 14, 0x1234), "{fault:x?}");
    assert_eq!((registers.rbx, registers.r15, registers.rdi), (0x1111_2222_3333_4444, 0x5555, 0x1234), "{registers:x?}");
}

/// Throws the interrupt signal at random stub threads while `act` runs.
fn under_torture(machine: &Machine, act: impl FnOnce(&Machine) -> i32) -> i32 {
    under_signals(machine, &[libc::SIGUSR1], act)
}

/// Throws these signals, one after the other, at random stub threads.
fn under_signals(machine: &Machine, signals: &'static [i32], act: impl FnOnce(&Machine) -> i32) -> i32 {
    let stop = Arc::new(AtomicBool::new(false));
    let (shared, stopped) = (machine.shared.clone(), stop.clone());
    let thrower = std::thread::spawn(move || {
        let mut seed = 12345u64;
        let mut thrown = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let tid = {
                let tids = shared.tids.lock().unwrap();
                if tids.is_empty() { 0 } else { tids[(seed >> 33) as usize % tids.len()] }
            };
            if tid > 1 {
                for signal in signals {
                    // SAFETY: a signal to one of our stubs.
                    unsafe { libc::syscall(libc::SYS_tkill, tid, *signal) };
                    std::hint::spin_loop();
                }
                thrown += 1;
            }
            for _ in 0..(seed >> 50) % 4000 {
                std::hint::spin_loop();
            }
        }
        thrown
    });
    let status = act(machine);
    stop.store(true, Ordering::Relaxed);
    let thrown = thrower.join().unwrap();
    println!("  {thrown} interrupts thrown, {} seen", machine.shared.interrupted.load(Ordering::Relaxed));
    status
}

fn torture(context: &Context) {
    for program in ["vector", "threads", "forks", "memory", "vfork", "futexes"] {
        let machine = Machine::new();
        let status = under_torture(&machine, |m| m.run(&*context.platform, &context.programs[program], &[program]));
        assert_eq!((status, machine.output()), (0, format!("{program} ok\n")), "{program}: {:x?}", machine.shared.faults.lock().unwrap());
    }
}

/// Anonymous memory calls made by the stub itself.
fn direct(context: &Context) {
    for program in ["memory", "threads", "forks", "churn"] {
        let machine = Machine::new();
        machine.shared.use_direct.store(true, Ordering::Relaxed);
        let status = under_torture(&machine, |m| m.run(&*context.platform, &context.programs[program], &[program]));
        assert_eq!((status, machine.output()), (0, format!("{program} ok\n")), "{program}: {:x?}", machine.shared.faults.lock().unwrap());
        println!("  {program}: {} direct requests", machine.shared.direct.load(Ordering::Relaxed));
    }
}

/// Copies made by the stubs.
fn stub_copies(context: &Context) {
    let platform = launch::platform(&context.reaper);
    platform.copy_by_stubs();
    for (program, status, output) in [("hello", 7 << 8, "hello 1\n"), ("threads", 0, "threads ok\n"), ("forks", 0, "forks ok\n")] {
        let machine = Machine::new();
        let got = machine.run(&*platform, &context.programs[program], &[program]);
        assert_eq!((got, machine.output().as_str()), (status, output));
    }
}

/// A file enters by its descriptor, and keeps the rights of the descriptor.
fn files(context: &Context) {
    use sentry_abi::{UserAddr, UserRange};
    use sentry_platform::{MapSource, Prot, Share};
    use std::io::Write;
    use std::os::fd::AsFd;
    let path = std::env::temp_dir().join(format!("systrap-{}", std::process::id()));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&[0, 1, 2, 42]).unwrap();
    file.set_len(8192).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let machine = Machine::new();
    *machine.shared.hook.lock().unwrap() = Some(Box::new(move |thread| {
        let range = |page: u64| UserRange::new(UserAddr(0x5000_0000_0000 + page * 4096), 4096).unwrap();
        let source = |offset| MapSource::File { fd: file.as_fd(), offset, populate: false };
        thread.map(range(0), source(0), Share::Private, Prot::READ).unwrap();
        thread.map(range(1), source(4096), Share::Shared, Prot::READ).unwrap();
        assert_eq!(thread.protect(range(1), Prot::READ | Prot::WRITE).unwrap_err().errno(), sentry_abi::Errno::EACCES);
        assert!(thread.map(range(2), source(0), Share::Shared, Prot::READ | Prot::WRITE).is_err());
        assert_eq!(thread.map_fresh(range(0), source(0), Share::Private, Prot::READ).unwrap_err().errno(), sentry_abi::Errno::EEXIST);
        thread.remap(range(1), range(5), false).unwrap();
        let mut byte = [0; 8];
        assert!(thread.space().read(UserAddr(range(5).start()), &mut byte).is_ok());
        assert_eq!(thread.space().read(UserAddr(range(0).end() - 4), &mut byte).unwrap_err().done, 4);
        assert_eq!(thread.space().write(UserAddr(range(0).start()), &byte).unwrap_err().done, 0);
        let stub = UserRange::from_bounds(0x7ffd_0000_0000, 0x7ffd_0000_1000).unwrap();
        assert!(thread.unmap(stub).is_err() && thread.map(stub, MapSource::Anonymous, Share::Private, Prot::READ).is_err());
        assert!(thread.membarrier(0, 0).unwrap() > 0);
        assert!(thread.cpu_time() > Duration::ZERO && thread.space().cpu_time() > Duration::ZERO);
    }));
    let status = machine.run(&*context.platform, &context.programs["hook"], &["hook"]);
    assert_eq!(status, 42 << 8);
}

/// SIGSTOP and SIGCONT from outside: every notified call may come twice, timed waits go on (restart_syscall).
fn stopped(context: &Context) {
    for program in ["futexes", "memory", "forks", "threads", "vfork"] {
        let machine = Machine::new();
        let status = under_signals(&machine, &[libc::SIGSTOP, libc::SIGCONT, libc::SIGTERM], |m| {
            m.run(&*context.platform, &context.programs[program], &[program])
        });
        assert_eq!((status, machine.output()), (0, format!("{program} ok\n")), "{program}");
    }
}

/// However a guest overwrites the words that the sentry waits on, its sentry threads end with it.
fn restorer(context: &Context) {
    for _ in 0..5 {
        let machine = Machine::new();
        let victim = Arc::new(std::sync::Mutex::new(0));
        let found = victim.clone();
        *machine.shared.hook.lock().unwrap() = Some(Box::new(move |thread| *found.lock().unwrap() = thread.host_tid()));
        let killer = std::thread::spawn(move || {
            while *victim.lock().unwrap() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(30));
            // SAFETY: a stub of ours; it may be dead already.
            unsafe { libc::kill(*victim.lock().unwrap(), libc::SIGKILL) };
        });
        let status = machine.run(&*context.platform, &context.programs["restorer"], &["restorer"]);
        assert_eq!(status, libc::SIGKILL);
        killer.join().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while machine.shared.live_threads.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < deadline, "sentry threads hang");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn killed(context: &Context) {
    let machine = Machine::new();
    *machine.shared.hook.lock().unwrap() = Some(Box::new(|thread| {
        // SAFETY: a stub of ours.
        unsafe { libc::kill(thread.host_tid(), libc::SIGKILL) };
    }));
    let status = machine.run(&*context.platform, &context.programs["hello"], &["hello", "hook"]);
    assert_eq!(status, libc::SIGKILL);
}

/// Random SIGKILLs of forked children: the forker goes on, nothing hangs.
fn kills(context: &Context) {
    let machine = Machine::new();
    let stop = Arc::new(AtomicBool::new(false));
    let (shared, stopped) = (machine.shared.clone(), stop.clone());
    let zygote = context.platform.zygote_pid();
    let killer = std::thread::spawn(move || {
        let mut kills = 0;
        let mut seed = 99u64;
        while !stopped.load(Ordering::Relaxed) {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            std::thread::sleep(Duration::from_micros(100 + (seed >> 54)));
            // Any stub but the zygote and the first guest, known or not yet.
            let Some(first) = shared.tids.lock().unwrap().first().copied() else { continue };
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
                if pid == 1 || pid == zygote || pid == first || seed >> 40 & 3 != 0 {
                    continue;
                }
                // SAFETY: a stub of ours.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                kills += 1;
                break;
            }
        }
        kills
    });
    let status = machine.run(&*context.platform, &context.programs["forks"], &["forks", "lenient"]);
    stop.store(true, Ordering::Relaxed);
    println!("  {} kills", killer.join().unwrap());
    assert_eq!(status, 0, "{}", machine.output());
}

fn timing(context: &Context) {
    for direct in [false, true] {
        let machine = Machine::new();
        machine.shared.use_direct.store(direct, Ordering::Relaxed);
        let status = machine.run(&*context.platform, &context.programs["timing"], &["timing"]);
        assert_eq!(status, 0);
        print!(" direct {direct}\n{}", machine.output());
    }
}

fn zygote_death(context: &Context) {
    let told = Arc::new(AtomicBool::new(false));
    let flag = told.clone();
    context.platform.on_failure(Box::new(move || flag.store(true, Ordering::SeqCst)));
    // SAFETY: the zygote is ours.
    unsafe { libc::kill(context.platform.zygote_pid(), libc::SIGKILL) };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !told.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    use sentry_platform::Platform;
    assert!(context.platform.new_space().is_err());
}
