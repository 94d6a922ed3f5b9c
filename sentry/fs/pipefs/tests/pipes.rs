//! Pipes and FIFOs as their users see them.
#![allow(clippy::unwrap_used, clippy::unimplemented, reason = "tests, and what they share")]

#[path = "../../tmpfs/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sentry_abi::{Errno, FileKind, Mode, Result, Signal};
use sentry_fs_pipefs::{PipeEnd, Pipes};
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_memory::MemfdSource;
use sentry_sync::{Events, Waiter};
use sentry_vfs::{Caller, FileDescription, FileOps, Inode, OpenFlags, OpenHow, SpecialFiles, StatusFlags};
use support::{READ, Shell, TestCaller, WRITE, ticking};

fn pair() -> (Arc<FileDescription>, Arc<FileDescription>) {
    Pipes::new(12, ticking()).pair(StatusFlags::empty(), 5, 6)
}

fn end(file: &FileDescription) -> &PipeEnd {
    file.ops.as_any().downcast_ref().unwrap()
}

fn ready(file: &FileDescription) -> Events {
    file.ops.ready(Events::READ | Events::WRITE, None)
}

struct Count(AtomicU32);

impl sentry_sync::Notify for Count {
    fn notify(&self, _: Events) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn bytes_and_readiness() {
    let caller = TestCaller::new(0);
    let (r, w) = pair();
    let mut buf = [0; 100];
    assert_eq!(r.ops.read(&caller, 0, &mut buf), Err(Errno::EAGAIN));
    assert_eq!((ready(&r), ready(&w)), (Events::empty(), Events::WRITE));
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waiter = Waiter::new(count.clone(), Events::READ);
    assert_eq!(r.ops.ready(Events::READ, Some(&waiter)), Events::empty());
    assert_eq!(w.ops.write(&caller, 0, b"hello"), Ok(5));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert_eq!(ready(&r), Events::READ);
    r.ops.ioctl(&caller, 0x541b, 0).unwrap();
    assert_eq!(*caller.written.lock().unwrap(), 5i32.to_ne_bytes());
    assert_eq!(r.ops.read(&caller, 0, &mut buf), Ok(5));
    assert_eq!(w.ops.read(&caller, 0, &mut buf), Err(Errno::EBADF));
    assert_eq!(w.ops.write(&caller, 0, &[7; 100_000]), Ok(65536));
    assert_eq!(w.ops.write(&caller, 0, b"x"), Err(Errno::EAGAIN));
    assert_eq!(ready(&w), Events::empty());
    // Room for less than PIPE_BUF: not ready, small writes whole, larger ones not at all.
    r.ops.read(&caller, 0, &mut buf).unwrap();
    assert_eq!(ready(&w), Events::empty());
    assert_eq!(w.ops.write(&caller, 0, &[7; 101]), Err(Errno::EAGAIN));
    assert_eq!(w.ops.write(&caller, 0, &[7; 5000]), Ok(100));
    drop(w);
    assert_eq!(ready(&r), Events::READ | Events::HUP);
    let mut rest = vec![0; 100_000];
    assert_eq!(r.ops.read(&caller, 0, &mut rest), Ok(65536));
    assert_eq!(r.ops.read(&caller, 0, &mut rest), Ok(0));
    assert_eq!(ready(&r), Events::HUP);
}

#[test]
fn without_readers_a_writer_is_told() {
    let caller = TestCaller::new(0);
    let (r, w) = pair();
    drop(r);
    assert_eq!(ready(&w), Events::WRITE | Events::ERR);
    assert_eq!(w.ops.write(&caller, 0, b"x"), Err(Errno::EPIPE));
    assert_eq!(*caller.signals.lock().unwrap(), [Signal::SIGPIPE]);
}

#[test]
fn identity_and_names() {
    let (r, w) = pair();
    let attr = r.attr().unwrap();
    assert_eq!((attr.kind, attr.mode.0, attr.uid, attr.gid, attr.dev, attr.size), (FileKind::Fifo, 0o600, 5, 6, 12, 0));
    assert_eq!(w.attr().unwrap().ino, attr.ino);
    let name = format!("pipe:[{}]", attr.ino).into_bytes();
    assert_eq!(r.path.display(&r.path), name);
    assert_eq!((r.flags() & 3, w.flags() & 3), (0, 1));
}

#[test]
fn capacity() {
    let caller = TestCaller::new(0);
    let (_r, w) = pair();
    let pipe = end(&w).pipe();
    assert_eq!(pipe.capacity(), 65536);
    assert_eq!(pipe.set_capacity(70_000, false), Ok(131_072));
    assert_eq!(w.ops.write(&caller, 0, &[0; 200_000]), Ok(131_072));
    assert_eq!(pipe.set_capacity(1, false), Err(Errno::EBUSY));
    assert_eq!(pipe.set_capacity(2 << 20, false), Err(Errno::EPERM));
    assert_eq!(pipe.set_capacity(2 << 20, true), Ok(2 << 20));
    assert_eq!(pipe.set_capacity(usize::MAX, true), Err(Errno::EINVAL));
    assert_eq!(pipe.set_capacity(1 << 30, true), Err(Errno::ENOMEM));
    let (_r, w) = pair();
    assert_eq!(end(&w).pipe().set_capacity(0, false), Ok(4096));
}

#[test]
fn packets() {
    let caller = TestCaller::new(0);
    let (r, w) = Pipes::new(12, ticking()).pair(StatusFlags::DIRECT, 0, 0);
    let mut buf = [0; 10_000];
    w.ops.write(&caller, 0, b"one").unwrap();
    w.ops.write(&caller, 0, b"two!").unwrap();
    assert_eq!(r.ops.read(&caller, 0, &mut buf), Ok(3));
    assert_eq!(r.ops.read(&caller, 0, &mut buf[..2]), Ok(2));
    assert_eq!(r.ops.read(&caller, 0, &mut buf), Err(Errno::EAGAIN));
    assert_eq!(w.ops.write(&caller, 0, &[1; 5000]), Ok(5000));
    assert_eq!(r.ops.read(&caller, 0, &mut buf), Ok(4096));
    assert_eq!(r.ops.read(&caller, 0, &mut buf), Ok(904));
    for _ in 0..16 {
        assert_eq!(w.ops.write(&caller, 0, b"x"), Ok(1));
    }
    assert_eq!(w.ops.write(&caller, 0, b"x"), Err(Errno::EAGAIN));
    w.set_status(StatusFlags::empty());
    r.ops.read(&caller, 0, &mut buf).unwrap();
    assert_eq!(w.ops.write(&caller, 0, b"stream"), Ok(6));
}

#[test]
fn splice_and_tee() {
    let caller = TestCaller::new(0);
    let (r, w) = pair();
    let (r2, w2) = pair();
    w.ops.write(&caller, 0, b"0123456789").unwrap();
    assert_eq!(end(&r).tee(&caller, end(&w2), 4), Ok(4));
    assert_eq!(end(&r).tee(&caller, end(&w), 4), Err(Errno::EINVAL));
    let mut taken = Vec::new();
    let mut sink = |bytes: &[u8]| -> Result<usize> {
        let n = bytes.len().min(3);
        taken.extend_from_slice(&bytes[..n]);
        Ok(n)
    };
    assert_eq!(end(&r).read_into(100, &mut sink), Ok(3));
    assert_eq!(end(&r).read_into(2, &mut sink), Ok(2));
    assert_eq!(end(&r).read_into(2, &mut |_| Err(Errno::EIO)), Err(Errno::EIO));
    assert_eq!(taken, b"01234");
    let mut buf = [0; 100];
    assert_eq!(r.ops.read(&caller, 0, &mut buf), Ok(5));
    assert_eq!(&buf[..5], b"56789");
    assert_eq!(end(&r).read_into(2, &mut |b| Ok(b.len())), Err(Errno::EAGAIN));
    assert_eq!(r2.ops.read(&caller, 0, &mut buf), Ok(4));
    let mut left = 70_000usize;
    let mut source = |dst: &mut [u8]| {
        let n = dst.len().min(left);
        left -= n;
        Ok(n)
    };
    assert_eq!(end(&w).write_from(&caller, 100_000, &mut source), Ok(65536));
    assert_eq!(end(&w).write_from(&caller, 1, &mut source), Err(Errno::EAGAIN));
    assert_eq!(end(&r).read_into(usize::MAX, &mut |b| Ok(b.len())), Ok(65536));
    assert_eq!(end(&w).write_from(&caller, 100_000, &mut source), Ok(70_000 - 65536));
    drop(r);
    assert_eq!(end(&w).write_from(&caller, 1, &mut source), Err(Errno::EPIPE));
}

struct Specials(Pipes);

impl SpecialFiles for Specials {
    fn open_fifo(&self, inode: &Arc<dyn Inode>, how: &OpenHow) -> Result<Arc<dyn FileOps>> {
        self.0.open_fifo(inode, how)
    }
    fn open_device(&self, _: &Arc<dyn Inode>, _: FileKind, _: u64, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

fn shell_with_fifo() -> Shell {
    let fs = TmpFs::new(TmpFsOptions::default(), 1, Arc::new(MemfdSource), ticking()).unwrap();
    let mut sh = Shell::new(fs);
    sh.cx.special = Arc::new(Specials(Pipes::new(12, ticking())));
    sentry_vfs::mknod(&sh.cx, &sh.cx.cwd, b"/fifo", FileKind::Fifo, Mode(0o666), 0).unwrap();
    sh
}

#[test]
fn fifos_meet() {
    let sh = shell_with_fifo();
    assert_eq!(sh.open("/fifo", WRITE | OpenFlags::NONBLOCK).err(), Some(Errno::ENXIO));
    let r = sh.open("/fifo", READ).unwrap();
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waiter = Waiter::new(count.clone(), Events::READ);
    assert!(!r.ops.opened(Some(&waiter)));
    let w = sh.open("/fifo", WRITE).unwrap();
    assert!(count.0.load(Ordering::SeqCst) > 0);
    assert!(r.ops.opened(None) && w.ops.opened(None));
    w.ops.write(&sh.caller, 0, b"through").unwrap();
    drop(w);
    // The writer came and went: the reader's opening is complete all the same, the bytes are there.
    assert!(r.ops.opened(None));
    let mut buf = [0; 9];
    assert_eq!(r.ops.read(&sh.caller, 0, &mut buf), Ok(7));
    assert_eq!(r.ops.read(&sh.caller, 0, &mut buf), Ok(0));
    drop(r);
    // A reader that does not wait sees no hang-up before there was a writer.
    let r = sh.open("/fifo", READ | OpenFlags::NONBLOCK).unwrap();
    assert!(r.ops.opened(None));
    assert_eq!(ready(&r), Events::empty());
    assert_eq!(r.ops.read(&sh.caller, 0, &mut buf), Ok(0));
    let w = sh.open("/fifo", WRITE | OpenFlags::NONBLOCK).unwrap();
    assert_eq!(r.ops.read(&sh.caller, 0, &mut buf), Err(Errno::EAGAIN));
    w.ops.write(&sh.caller, 0, b"lost").unwrap();
    drop(w);
    assert_eq!(ready(&r), Events::READ | Events::HUP);
    drop(r);
    // Bytes do not outlive the last end.
    let both = sh.open("/fifo", OpenFlags::READ_WRITE).unwrap();
    assert!(both.ops.opened(None));
    assert_eq!(both.ops.read(&sh.caller, 0, &mut buf), Err(Errno::EAGAIN));
    both.ops.write(&sh.caller, 0, b"self").unwrap();
    assert_eq!(both.ops.read(&sh.caller, 0, &mut buf), Ok(4));
    assert_eq!(sh.stat("/fifo").unwrap().size, 0);
}

#[test]
fn pipes_open_again_through_their_path() {
    let sh = shell_with_fifo();
    let pipes = Pipes::new(12, ticking());
    let (r, w) = pipes.pair(StatusFlags::empty(), 0, 0);
    let how = OpenHow { read: false, write: true, truncated: false, nonblocking: false };
    let again = r.path.inode().clone().open(&how, &sh.caller).unwrap();
    assert!(again.opened(None));
    again.write(&sh.caller, 0, b"a").unwrap();
    drop(w);
    let mut buf = [0; 9];
    assert_eq!(r.ops.read(&sh.caller, 0, &mut buf), Ok(1));
    assert_eq!(r.ops.read(&sh.caller, 0, &mut buf), Err(Errno::EAGAIN));
    drop(again);
    assert_eq!(r.ops.read(&sh.caller, 0, &mut buf), Ok(0));
    // No side is waited for, even if it has gone for good: the last bytes and the end are there (bash's <(command)).
    w_gone(&pipes, &sh);
}

fn w_gone(pipes: &Pipes, sh: &Shell) {
    let (r, w) = pipes.pair(StatusFlags::empty(), 0, 0);
    w.ops.write(&sh.caller, 0, b"rest").unwrap();
    drop(w);
    let how = OpenHow { read: true, write: false, truncated: false, nonblocking: false };
    let again = pipes.open_fifo(r.path.inode(), &how).unwrap();
    assert!(again.opened(None));
    let mut buf = [0; 9];
    assert_eq!((again.read(&sh.caller, 0, &mut buf), again.read(&sh.caller, 0, &mut buf)), (Ok(4), Ok(0)));
    drop((r, again));
    let (r, w) = pipes.pair(StatusFlags::empty(), 0, 0);
    drop(r);
    let how = OpenHow { read: false, write: true, truncated: false, nonblocking: true };
    assert!(pipes.open_fifo(w.path.inode(), &how).unwrap().opened(None));
}
