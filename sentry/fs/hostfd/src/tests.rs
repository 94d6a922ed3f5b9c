use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl};
use sentry_abi::{Errno, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_sync::{Events, Level, Mutex, Parker, Waiter};
use sentry_vfs::{Caller, FileDescription, JobControl, OpenHow, StatusFlags};

use crate::{HostFs, Poller, terminal_of};

/// A process of session 10; its memory is one buffer at address 0.
struct Process {
    group: i32,
    terminal: Mutex<Option<u64>>,
    memory: Mutex<[u8; 64]>,
    signals: AtomicU32,
    stopped_group: AtomicI32,
}

impl Process {
    fn new(group: i32) -> Process {
        Process {
            group,
            terminal: Mutex::new(Level::Leaf, None),
            memory: Mutex::new(Level::Leaf, [0; 64]),
            signals: AtomicU32::new(0),
            stopped_group: AtomicI32::new(0),
        }
    }
}

impl Caller for Process {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::new(0, 0, &[], Caps::empty()))
    }
    fn pid(&self) -> i32 {
        10
    }
    fn copy_in(&self, at: UserAddr, dst: &mut [u8]) -> Result<()> {
        let at = at.0 as usize;
        dst.copy_from_slice(self.memory.lock().get(at..at + dst.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }
    fn copy_out(&self, at: UserAddr, src: &[u8]) -> Result<()> {
        let at = at.0 as usize;
        self.memory.lock().get_mut(at..at + src.len()).ok_or(Errno::EFAULT)?.copy_from_slice(src);
        Ok(())
    }
    fn signal_self(&self, signal: Signal) {
        self.signals.fetch_or(1 << signal.number(), Ordering::Relaxed);
    }
    fn job_control(&self) -> &dyn JobControl {
        self
    }
    fn now(&self) -> Timespec {
        Timespec::default()
    }
    fn install_file(&self, _: Arc<FileDescription>, _: bool) -> Result<i32> {
        Err(Errno::EMFILE)
    }
}

impl JobControl for Process {
    fn session(&self) -> i32 {
        10
    }
    fn process_group(&self) -> i32 {
        self.group
    }
    fn is_session_leader(&self) -> bool {
        self.group == 10
    }
    fn controlling_terminal(&self) -> Option<u64> {
        *self.terminal.lock()
    }
    fn set_controlling_terminal(&self, key: Option<u64>) -> Result<()> {
        *self.terminal.lock() = key;
        Ok(())
    }
    fn group_in_session(&self, group: i32) -> bool {
        group == 10 || group == 11
    }
    fn group_is_orphaned(&self) -> bool {
        false
    }
    fn ignores(&self, _: Signal) -> bool {
        false
    }
    fn signal_group(&self, group: i32, signal: Signal) {
        self.stopped_group.store(group * 100 + i32::from(signal.number()), Ordering::Relaxed);
    }
    fn to_user(&self, id: i32) -> i32 {
        id
    }
    fn from_user(&self, id: i32) -> Option<i32> {
        Some(id)
    }
}

fn host() -> Arc<HostFs> {
    HostFs::new(9, Poller::new().expect("poller"))
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe")
}

fn scratch() -> (File, std::path::PathBuf) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let path = std::env::temp_dir().join(format!("hostfd-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    (File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("opens"), path)
}

/// Waits as the kernel does; panics after five seconds.
fn wait_for(file: &FileDescription, want: Events) -> Events {
    let waiter = Waiter::new(Arc::new(Parker::current()), want);
    let mut ready = file.ops.ready(want, Some(&waiter));
    let end = Instant::now() + Duration::from_secs(5);
    while ready.is_empty() {
        assert!(Instant::now() < end, "nothing happened");
        Parker::park(Some(end));
        ready = file.ops.ready(want, None);
    }
    ready
}

#[test]
fn an_empty_pipe_does_not_block_and_wakes() {
    let (read, write) = pipe();
    let file = host().import(read, None).expect("imports");
    let me = Process::new(10);
    assert!(file.readable && !file.writable);
    assert_eq!(file.ops.read(&me, 0, &mut [0; 10]), Err(Errno::EAGAIN));
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        rustix::io::write(&write, b"hello").expect("writes");
        std::thread::sleep(Duration::from_millis(30));
    });
    assert!(wait_for(&file, Events::READ).contains(Events::IN));
    let mut buffer = [0; 10];
    assert_eq!(file.ops.read(&me, 0, &mut buffer), Ok(5));
    assert_eq!(&buffer[..5], b"hello");
    assert!(wait_for(&file, Events::READ).contains(Events::HUP));
    assert_eq!(file.ops.read(&me, 0, &mut buffer), Ok(0));
    writer.join().expect("joins");
}

#[test]
fn a_full_pipe_takes_what_fits_and_breaks_with_a_signal() {
    let (read, write) = pipe();
    let twin = write.try_clone().expect("dup");
    let file = host().import(write, None).expect("imports");
    let me = Process::new(10);
    let big = vec![7; 1 << 20];
    let n = file.ops.write(&me, 0, &big).expect("writes");
    assert!(n >= 4096 && n < big.len());
    assert_eq!(file.ops.write(&me, 0, &big), Err(Errno::EAGAIN));
    assert!(!fcntl_getfl(&twin).expect("flags").contains(OFlags::NONBLOCK));
    let drain = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        let mut all = vec![0; n];
        File::from(read).read_exact(&mut all).expect("reads");
    });
    assert!(wait_for(&file, Events::WRITE).intersects(Events::WRITE | Events::ERR));
    drain.join().expect("joins");
    assert_eq!(file.ops.write(&me, 0, b"x"), Err(Errno::EPIPE));
    assert_eq!(me.signals.load(Ordering::Relaxed), 1 << 13);
}

#[test]
fn regular_files_share_their_offset_with_the_host() {
    let (mut outside, path) = scratch();
    outside.write_all(b"before ").expect("writes");
    let (out, err) = (outside.try_clone().expect("dup").into(), outside.try_clone().expect("dup").into());
    let other: OwnedFd = File::options().write(true).open(&path).expect("opens").into();
    let files = host().import_stdio(vec![out, err, other], &[], &[(5, 6)]).expect("imports");
    assert!(Arc::ptr_eq(&files[0], &files[1]) && !Arc::ptr_eq(&files[0], &files[2]));
    let owner = files[0].attr().expect("attr");
    assert_eq!((owner.uid, owner.gid), (5, 6));
    let me = Process::new(10);
    let at = *files[0].offset.lock();
    assert_eq!(at, 7);
    assert_eq!(files[0].ops.write(&me, at, b"inside "), Ok(7));
    outside.write_all(b"after").expect("writes");
    assert_eq!(std::fs::read(&path).expect("reads"), b"before inside after");
    assert_eq!(outside.stream_position().expect("position"), 19);
    let mut buffer = [0; 6];
    assert_eq!(files[0].ops.read(&me, 7, &mut buffer), Ok(6));
    assert_eq!(&buffer, b"inside");
    assert!(!files[0].ops.pollable());
    let append: OwnedFd = File::options().append(true).open(&path).expect("opens").into();
    let append = host().import(append, None).expect("imports");
    assert!(append.status().contains(StatusFlags::APPEND) && !append.readable);
    assert_eq!(append.ops.append(&me, b"!"), Ok((1, 20)));
    assert_eq!(append.ops.mapping(false).err(), Some(Errno::EACCES));
    std::fs::remove_file(path).expect("removes");
}

#[test]
fn directories_and_extra_rights_are_refused() {
    let fs = host();
    assert_eq!(fs.import(File::open("/").expect("opens").into(), None).err(), Some(Errno::EISDIR));
    let (read, _write) = pipe();
    let file = fs.import(read, None).expect("imports");
    let me = Process::new(10);
    let how = |read, write| OpenHow { read, write, truncated: false, nonblocking: false };
    assert_eq!(file.path.inode().clone().open(&how(true, true), &me).err(), Some(Errno::EACCES));
    assert!(file.path.inode().clone().open(&how(true, false), &me).is_ok());
    assert_eq!(file.ops.ioctl(&me, 0x5401, 0), Err(Errno::ENOTTY));
    let null = fs.import(File::options().read(true).write(true).open("/dev/null").expect("opens").into(), None).expect("imports");
    assert_eq!(null.ops.read(&me, 0, &mut [0; 4]), Ok(0));
    assert_eq!(null.ops.write(&me, 0, b"x"), Ok(1));
    assert_eq!(null.ops.ready(Events::READ | Events::WRITE, None), Events::READ | Events::WRITE);
}

#[test]
fn sockets_are_read_and_written() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
    let file = host().import(theirs.into(), None).expect("imports");
    let me = Process::new(10);
    assert_eq!(file.ops.read(&me, 0, &mut [0; 4]), Err(Errno::EAGAIN));
    (&ours).write_all(b"ab").expect("writes");
    assert_eq!(file.ops.read(&me, 0, &mut [0; 4]), Ok(2));
    assert_eq!(file.ops.write(&me, 0, b"cd"), Ok(2));
    drop(ours);
    assert_eq!(file.ops.write(&me, 0, b"cd"), Err(Errno::EPIPE));
    assert_ne!(me.signals.load(Ordering::Relaxed), 0);
}

#[test]
fn a_terminal_keeps_the_hosts_modes_and_the_sandboxs_jobs() {
    let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).expect("ptmx");
    rustix::pty::grantpt(&master).expect("grants");
    rustix::pty::unlockpt(&master).expect("unlocks");
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).expect("slave");
    let outside = slave.try_clone().expect("dup");
    let file = host().import(slave, None).expect("imports");
    let me = Process::new(10);
    assert_eq!(file.ops.ioctl(&me, 0x5401, 0), Ok(0));
    let before = *me.memory.lock();
    assert_eq!(file.ops.ioctl(&me, 0x5413, 60), Err(Errno::EFAULT));
    // Raw mode: no ECHO, no ICANON; the host sees it.
    me.memory.lock()[12] &= !0o12;
    assert_eq!(file.ops.ioctl(&me, 0x5402, 0), Ok(0));
    let modes = rustix::termios::tcgetattr(&outside).expect("modes");
    assert!(!modes.local_modes.contains(rustix::termios::LocalModes::ICANON));
    assert_eq!(before[8..12], me.memory.lock()[8..12], "speeds stay");
    rustix::io::write(&master, b"k").expect("types");
    assert!(wait_for(&file, Events::READ).contains(Events::IN));
    assert_eq!(file.ops.read(&me, 0, &mut [0; 9]), Ok(1));
    assert_eq!(file.ops.write(&me, 0, b"out"), Ok(3));
    let mut buffer = [0; 9];
    assert_eq!(rustix::io::read(&master, &mut buffer).expect("reads"), 3);
    // Job control.
    assert_eq!(file.ops.ioctl(&me, 0x540f, 0), Err(Errno::ENOTTY));
    assert_eq!(file.ops.ioctl(&me, 0x540e, 0), Ok(0));
    assert_eq!(*me.terminal.lock(), file.ops.terminal_key());
    me.memory.lock()[..4].copy_from_slice(&11_i32.to_ne_bytes());
    assert_eq!(file.ops.ioctl(&me, 0x5410, 0), Ok(0));
    assert_eq!(terminal_of(&file).expect("terminal").foreground(), Some(11));
    assert_eq!(file.ops.read(&me, 0, &mut [0; 9]), Err(Errno::ERESTART));
    assert_eq!(me.stopped_group.load(Ordering::Relaxed), 10 * 100 + 21);
    let child = Process::new(11);
    *child.terminal.lock() = file.ops.terminal_key();
    assert_eq!(file.ops.read(&child, 0, &mut [0; 9]), Err(Errno::EAGAIN));
    // TIOCSTI pushes input to whoever reads next, perhaps outside: never passed on.
    assert_eq!(file.ops.ioctl(&child, 0x5412, 0), Err(Errno::ENOTTY));
}
