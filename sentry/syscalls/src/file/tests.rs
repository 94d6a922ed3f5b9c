//! Calls of the file families against a tmpfs.

use std::time::{Duration, Instant};

use sentry_abi::{Errno, Signal, nr};
use sentry_kernel::{Limit, Resource, Restart, Stop};

use crate::testing::{Guest, World};

const AT_FDCWD: u64 = -100i64 as u64;

/// Runs `act` on a thread after a while.
fn later(act: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        act();
    })
}

#[test]
fn reading_and_writing_at_offsets() {
    let world = World::new();
    let mut g = world.process();
    let fd = g.file("/f", b"hello world");
    assert_eq!(g.read(fd, 5).unwrap(), b"hello");
    assert_eq!(g.ok(nr::LSEEK, &[fd, 1, 1]), 6);
    assert_eq!(g.read(fd, 100).unwrap(), b"world");
    assert_eq!(g.read(fd, 100).unwrap(), b"");
    let at = g.put(b"HELLO");
    assert_eq!(g.ok(nr::PWRITE64, &[fd, at, 5, 0]), 5);
    let room = g.room(11);
    assert_eq!(g.ok(nr::PREAD64, &[fd, room, 11, 0]), 11);
    assert_eq!(g.get(room, 11), b"HELLO world");
    assert_eq!(g.err(nr::PREAD64, &[fd, room, 1, -1i64 as u64]), Errno::EINVAL);
    assert_eq!(g.err(nr::LSEEK, &[fd, -1i64 as u64, 0]), Errno::EINVAL);
    assert_eq!(g.ok(nr::LSEEK, &[fd, 0, 2]), 11);
    assert_eq!(g.err(nr::LSEEK, &[fd, 20, 3]), Errno::ENXIO);
    assert_eq!(g.ok(nr::LSEEK, &[fd, 0, 4]), 11);
    let read_only = g.open("/f", 0);
    assert_eq!(g.write(read_only, b"x"), Err(Errno::EBADF.into()));
    assert_eq!(g.err(nr::READ, &[99, room, 1]), Errno::EBADF);
    assert_eq!(g.err(nr::READ, &[fd, 0x7fff_ffff_0000, 1]), Errno::EFAULT);
}

#[test]
fn a_fault_in_the_middle_is_a_short_count() {
    let world = World::new();
    let mut g = world.process();
    let fd = g.file("/f", &[7; 100]);
    // The guest's memory ends at 0x410000.
    let end = 0x41_0000 - 10;
    assert_eq!(g.ok(nr::READ, &[fd, end, 100]), 10);
    assert_eq!(g.ok(nr::LSEEK, &[fd, 0, 1]), 10);
    assert_eq!(g.ok(nr::WRITE, &[fd, end, 100]), 10);
    assert_eq!(g.err(nr::WRITE, &[fd, end + 10, 100]), Errno::EFAULT);
    assert_eq!(g.ok(nr::LSEEK, &[fd, 0, 1]), 20);
}

#[test]
fn vectors_and_large_transfers() {
    let world = World::new();
    let mut g = world.process();
    let fd = g.file("/f", b"");
    let big: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    assert_eq!(g.write(fd, &big), Ok(300_000));
    g.ok(nr::LSEEK, &[fd, 0, 0]);
    let (a, b) = (g.room(3), g.room(400_000));
    let vector = [a.to_le_bytes(), 3u64.to_le_bytes(), 0u64.to_le_bytes(), 0u64.to_le_bytes(), b.to_le_bytes(), 400_000u64.to_le_bytes()];
    let iov = g.put(&vector.concat());
    assert_eq!(g.ok(nr::READV, &[fd, iov, 3]), 300_000);
    assert_eq!(g.get(a, 3), big[..3]);
    assert_eq!(g.get(b, 299_997), big[3..]);
    assert_eq!(g.err(nr::READV, &[fd, iov, 1025]), Errno::EINVAL);
    assert_eq!(g.ok(nr::PREADV2, &[fd, iov, 3, 299_999, 0, 0]), 1);
    assert_eq!(g.err(nr::PREADV2, &[fd, iov, 3, 0, 0, 0x40]), Errno::EOPNOTSUPP);
}

#[test]
fn append_and_the_file_size_limit() {
    let world = World::new();
    let mut g = world.process();
    g.file("/f", b"0123456789");
    let fd = g.open("/f", 0o2001);
    assert_eq!(g.write(fd, b"ab"), Ok(2));
    assert_eq!(g.ok(nr::LSEEK, &[fd, 0, 1]), 12);
    g.task.task.group.limits.lock().set(Resource::FileSize, Limit { soft: 15, hard: 15 });
    assert_eq!(g.write(fd, b"cdefgh"), Ok(3));
    let blocked = g.put(&(1u64 << 24).to_le_bytes());
    g.ok(nr::RT_SIGPROCMASK, &[0, blocked, 0, 8]);
    assert_eq!(g.write(fd, b"x"), Err(Errno::EFBIG.into()));
    assert!(g.task.task.pending_set().contains(Signal::SIGXFSZ));
}

#[test]
fn a_read_of_an_empty_pipe_waits() {
    let world = World::new();
    let mut g = world.process();
    let (r, w) = g.pipe();
    let files = g.task.files();
    let helper = later(move || {
        let world = World::new();
        let mut other = world.sharing(files);
        assert_eq!(other.write(w, b"late"), Ok(4));
    });
    assert_eq!(g.read(r, 100).unwrap(), b"late");
    helper.join().unwrap();
    g.ok(nr::FCNTL, &[r, 4, 0o4000]);
    assert_eq!(g.read(r, 1), Err(Errno::EAGAIN.into()));
    g.ok(nr::CLOSE, &[w]);
    assert_eq!(g.read(r, 1).unwrap(), b"");
}

#[test]
fn a_blocking_write_to_a_pipe_writes_all() {
    let world = World::new();
    let mut g = world.process();
    let (r, w) = g.pipe();
    let files = g.task.files();
    let helper = std::thread::spawn(move || {
        let world = World::new();
        let mut other = world.sharing(files);
        let mut all = Vec::new();
        while all.len() < 500_000 {
            all.extend(other.read(r, 30_000).unwrap());
            other = world.sharing(other.task.files());
        }
        all
    });
    let big: Vec<u8> = (0..500_000u32).map(|i| (i / 7) as u8).collect();
    assert_eq!(g.write(w, &big), Ok(500_000));
    assert!(helper.join().unwrap() == big);
}

#[test]
fn signals_end_waits_and_say_how_they_go_on() {
    let world = World::new();
    let mut g = world.process();
    let (r, _w) = g.pipe();
    let task = g.task.task.clone();
    let helper = later(move || Guest::signal(&task, Signal::SIGUSR1));
    assert_eq!(g.read(r, 1), Err(Stop::Restart(Restart::IfAllowed)));
    helper.join().unwrap();
    // The signal is still pending: no one has delivered it.
    let fds = g.put(&[r as u8, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(g.call(nr::POLL, &[fds, 1, 10_000]), Err(Stop::Restart(Restart::Block)));
    let time = g.put(&[5u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
    assert_eq!(g.call(nr::PPOLL, &[fds, 1, time, 0, 8]), Err(Stop::Restart(Restart::WithoutHandler)));
    assert!(g.word(time) == 4, "the time left is told");
    let epoll = g.ok(nr::EPOLL_CREATE1, &[0]);
    let events = g.room(12);
    assert_eq!(g.err(nr::EPOLL_WAIT, &[epoll, events, 1, -1i64 as u64]), Errno::EINTR);
    let mask = g.put(&u64::MAX.to_le_bytes());
    let time = g.put(&[0u64.to_le_bytes(), 20_000_000u64.to_le_bytes()].concat());
    assert_eq!(g.ok(nr::PPOLL, &[fds, 1, time, mask, 8]), 0);
    assert!(g.task.task.mask().is_empty(), "the mask is back");
}

#[test]
fn poll_and_select_tell_what_is_ready() {
    let world = World::new();
    let mut g = world.process();
    let (r, w) = g.pipe();
    let one = |fd: u64, events: u16| [&(fd as i32).to_le_bytes()[..], &events.to_le_bytes(), &[9, 9]].concat();
    let fds = g.put(&[one(r, 1), one(w, 4), one(77, 1), one(u64::MAX, 1)].concat());
    assert_eq!(g.ok(nr::POLL, &[fds, 4, 0]), 2);
    let revents = |g: &Guest, i: u64| u16::from_le_bytes(g.get(fds + i * 8 + 6, 2).try_into().unwrap());
    assert_eq!([0, 1, 2, 3].map(|i| revents(&g, i)), [0, 4, 0x20, 0]);
    g.write(w, b"x").unwrap();
    assert_eq!(g.ok(nr::POLL, &[fds, 2, 0]), 2);
    assert_eq!(revents(&g, 0), 1);
    assert_eq!(g.err(nr::POLL, &[fds, 100_000, 0]), Errno::EINVAL);

    let sets = g.put(&[(1u64 << r).to_le_bytes(), (1u64 << w).to_le_bytes()].concat());
    assert_eq!(g.ok(nr::SELECT, &[w + 1, sets, sets + 8, 0, 0]), 2);
    assert_eq!((g.word(sets), g.word(sets + 8)), (1 << r, 1 << w));
    let bad = g.put(&(1u64 << 50).to_le_bytes());
    assert_eq!(g.err(nr::SELECT, &[64, bad, 0, 0, 0]), Errno::EBADF);
    g.read(r, 1).unwrap();
    let time = g.put(&[0u64.to_le_bytes(), 20_000u64.to_le_bytes()].concat());
    let before = Instant::now();
    assert_eq!(g.ok(nr::SELECT, &[r + 1, sets, 0, 0, time]), 0);
    assert!(before.elapsed() >= Duration::from_millis(20));
    assert_eq!((g.word(sets), g.word(time), g.word(time + 8)), (0, 0, 0));
}

#[test]
fn epoll_reports_data_and_waits() {
    let world = World::new();
    let mut g = world.process();
    let (r, w) = g.pipe();
    let epoll = g.ok(nr::EPOLL_CREATE1, &[0]);
    let event = g.put(&[&1u32.to_le_bytes()[..], &0xdead_beef_0000_0001u64.to_le_bytes()].concat());
    g.ok(nr::EPOLL_CTL, &[epoll, 1, r, event]);
    assert_eq!(g.err(nr::EPOLL_CTL, &[epoll, 1, r, event]), Errno::EEXIST);
    assert_eq!(g.err(nr::EPOLL_CTL, &[epoll, 1, epoll, event]), Errno::EINVAL);
    let file = g.file("/f", b"");
    assert_eq!(g.err(nr::EPOLL_CTL, &[epoll, 1, file, event]), Errno::EPERM);
    let out = g.room(24);
    assert_eq!(g.ok(nr::EPOLL_WAIT, &[epoll, out, 2, 0]), 0);
    let files = g.task.files();
    let helper = later(move || {
        let world = World::new();
        world.sharing(files).write(w, b"x").unwrap();
    });
    assert_eq!(g.ok(nr::EPOLL_WAIT, &[epoll, out, 2, -1i64 as u64]), 1);
    helper.join().unwrap();
    assert_eq!(g.get(out, 12), [&1u32.to_le_bytes()[..], &0xdead_beef_0000_0001u64.to_le_bytes()].concat());
    assert_eq!(g.err(nr::EPOLL_WAIT, &[epoll, out, 0, 0]), Errno::EINVAL);
    assert_eq!(g.err(nr::EPOLL_WAIT, &[r, out, 1, 0]), Errno::EINVAL);
}

#[test]
fn names_and_attributes() {
    let world = World::new();
    let mut g = world.process();
    let (d, f) = (g.string("/d"), g.string("/d/f"));
    g.ok(nr::MKDIR, &[d, 0o777]);
    let fd = g.file("/d/f", b"abc");
    let stat = g.room(144);
    g.ok(nr::FSTAT, &[fd, stat]);
    assert_eq!((g.int(stat + 24) as u32, g.word(stat + 48)), (0o100644, 3));
    g.ok(nr::STAT, &[d, stat]);
    assert_eq!(g.int(stat + 24) as u32, 0o040755);
    let empty = g.string("");
    assert_eq!(g.err(nr::NEWFSTATAT, &[fd, empty, stat, 0]), Errno::ENOENT);
    g.ok(nr::NEWFSTATAT, &[fd, empty, stat, 0x1000]);
    assert_eq!(g.err(nr::STAT, &[f, 0]), Errno::EFAULT);
    let statx = g.room(256);
    g.ok(nr::STATX, &[AT_FDCWD, f, 0, 0xfff, statx]);
    assert_eq!((g.int(statx + 16), g.word(statx + 40)), (1, 3));
    assert_eq!(g.err(nr::STATX, &[AT_FDCWD, f, 0x8000, 0, statx]), Errno::EINVAL);
    let l = g.string("/l");
    g.ok(nr::SYMLINK, &[f, l]);
    let buf = g.room(100);
    assert_eq!(g.ok(nr::READLINK, &[l, buf, 100]), 4);
    assert_eq!(g.get(buf, 4), b"/d/f");
    assert_eq!(g.ok(nr::READLINK, &[l, buf, 2]), 2);
    assert_eq!(g.err(nr::READLINK, &[f, buf, 100]), Errno::EINVAL);
    let new = g.string("/new");
    g.ok(nr::RENAME, &[f, new]);
    assert_eq!(g.err(nr::OPEN, &[l, 0, 0]), Errno::ENOENT);
    g.ok(nr::LINK, &[new, f]);
    g.ok(nr::STAT, &[f, stat]);
    assert_eq!(g.word(stat + 16), 2);
    assert_eq!(g.err(nr::RMDIR, &[d]), Errno::ENOTEMPTY);
    g.ok(nr::UNLINK, &[f]);
    g.ok(nr::CHDIR, &[d]);
    assert_eq!(g.ok(nr::GETCWD, &[buf, 100]), 3);
    assert_eq!(g.get(buf, 3), b"/d\0");
    assert_eq!(g.err(nr::GETCWD, &[buf, 2]), Errno::ERANGE);
    g.ok(nr::RMDIR, &[d]);
    assert_eq!(g.err(nr::GETCWD, &[buf, 100]), Errno::ENOENT);
    g.ok(nr::CHMOD, &[new, 0o4755]);
    g.ok(nr::STAT, &[new, stat]);
    assert_eq!(g.int(stat + 24) as u32, 0o104755);
    let times = g.put(&[1u64, 2, 3, 4].map(u64::to_le_bytes).concat());
    g.ok(nr::UTIMENSAT, &[AT_FDCWD, new, times, 0]);
    g.ok(nr::STAT, &[new, stat]);
    assert_eq!([72, 80, 88, 96].map(|at| g.word(stat + at)), [1, 2, 3, 4]);
}

#[test]
fn directories_are_listed_whatever_the_buffer() {
    let world = World::new();
    let mut g = world.process();
    for name in ["/a", "/bb", "/a-rather-long-name-here"] {
        g.file(name, b"");
    }
    let fd = g.open("/", 0o200000);
    let mut names = Vec::new();
    loop {
        let buf = g.room(64);
        let n = g.ok(nr::GETDENTS64, &[fd, buf, 64]) as usize;
        if n == 0 {
            break;
        }
        let bytes = g.get(buf, n);
        let mut at = 0;
        while at < n {
            let len = u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]) as usize;
            let name = bytes[at + 19..at + len].split(|b| *b == 0).next().unwrap();
            names.push(String::from_utf8(name.to_vec()).unwrap());
            at += len;
        }
    }
    names.sort();
    assert_eq!(names, [".", "..", "a", "a-rather-long-name-here", "bb"]);
    g.ok(nr::LSEEK, &[fd, 0, 0]);
    let buf = g.room(64);
    assert_eq!(g.err(nr::GETDENTS64, &[fd, buf, 10]), Errno::EINVAL);
    assert_eq!(g.err(nr::READ, &[fd, buf, 10]), Errno::EISDIR);
    let file = g.open("/a", 0);
    assert_eq!(g.err(nr::GETDENTS64, &[file, buf, 64]), Errno::ENOTDIR);
}

#[test]
fn descriptors() {
    let world = World::new();
    let mut g = world.process();
    let fd = g.file("/f", b"abc");
    let two = g.ok(nr::DUP, &[fd]);
    g.read(fd, 2).unwrap();
    assert_eq!(g.read(two, 2).unwrap(), b"c");
    assert_eq!(g.ok(nr::DUP2, &[fd, 9]), 9);
    assert_eq!(g.ok(nr::DUP2, &[9, 9]), 9);
    assert_eq!(g.err(nr::DUP3, &[9, 9, 0]), Errno::EINVAL);
    assert_eq!(g.err(nr::DUP2, &[fd, 100_000]), Errno::EBADF);
    assert_eq!(g.ok(nr::FCNTL, &[fd, 0, 20]), 20);
    assert_eq!(g.ok(nr::FCNTL, &[fd, 1030, 20]), 21);
    assert_eq!((g.ok(nr::FCNTL, &[20, 1]), g.ok(nr::FCNTL, &[21, 1])), (0, 1));
    assert_eq!(g.err(nr::FCNTL, &[fd, 0, 1024]), Errno::EINVAL);
    assert_eq!(g.ok(nr::FCNTL, &[fd, 3]), 0o100002);
    g.ok(nr::FCNTL, &[fd, 4, 0o4000 | 0o2000 | 1]);
    assert_eq!(g.ok(nr::FCNTL, &[two, 3]), 0o106002);
    assert_eq!(g.ok(nr::FCNTL, &[fd, 1027, two]), 1);
    g.ok(nr::CLOSE_RANGE, &[9, u32::MAX as u64, 0]);
    assert_eq!(g.err(nr::CLOSE, &[9]), Errno::EBADF);
    assert_eq!(g.err(nr::CLOSE_RANGE, &[9, 8, 0]), Errno::EINVAL);
    let path = g.string("/f");
    let by_path = g.ok(nr::OPENAT, &[AT_FDCWD, path, 0o10000000, 0]);
    assert_eq!(g.read(by_path, 1), Err(Errno::EBADF.into()));
    let stat = g.room(144);
    g.ok(nr::FSTAT, &[by_path, stat]);
    assert_eq!(g.err(nr::FCNTL, &[by_path, 4, 0]), Errno::EBADF);
    let how = g.put(&[2u64, 0, 8].map(u64::to_le_bytes).concat());
    assert_eq!(g.err(nr::OPENAT2, &[AT_FDCWD, path, how, 24]), Errno::EXDEV);
    assert_eq!(g.err(nr::OPENAT2, &[AT_FDCWD, path, how, 23]), Errno::EINVAL);
    let relative = g.string("f");
    let opened = g.ok(nr::OPENAT2, &[AT_FDCWD, relative, how, 24]);
    assert_eq!(g.read(opened, 1).unwrap(), b"a");
}

#[test]
fn record_locks_conflict_wait_and_deadlock() {
    let world = World::new();
    let mut g = world.process();
    let fd = g.file("/f", &[0; 100]);
    let lock =
        |kind: i16, start: i64, len: i64| [&kind.to_le_bytes()[..], &[0; 6], &start.to_le_bytes(), &len.to_le_bytes(), &[0; 8]].concat();
    let first = g.put(&lock(1, 0, 10));
    g.ok(nr::FCNTL, &[fd, 6, first]);
    let (to_main, from_other) = std::sync::mpsc::channel();
    let task = g.task.task.clone();
    std::thread::scope(|scope| {
        let world = &world;
        scope.spawn(move || {
            let mut other = world.process();
            let fd = other.open("/f", 2);
            let mine = other.put(&lock(1, 50, 10));
            other.ok(nr::FCNTL, &[fd, 6, mine]);
            let asked = other.put(&lock(1, 5, 10));
            assert_eq!(other.err(nr::FCNTL, &[fd, 6, asked]), Errno::EAGAIN);
            let test = other.put(&lock(0, 5, 10));
            other.ok(nr::FCNTL, &[fd, 5, test]);
            assert_eq!((other.int(test + 24), other.word(test + 8)), (task.pid(), 0));
            to_main.send(()).unwrap();
            other.ok(nr::FCNTL, &[fd, 7, asked]);
            other.ok(nr::CLOSE, &[fd]);
        });
        from_other.recv().unwrap();
        std::thread::sleep(Duration::from_millis(30));
        // It waits for us; if we waited for it, neither would go on.
        let asked = g.put(&lock(1, 55, 1));
        assert_eq!(g.err(nr::FCNTL, &[fd, 7, asked]), Errno::EDEADLK);
        g.ok(nr::CLOSE, &[fd]);
    });
    let fd = g.open("/f", 2);
    let again = g.put(&lock(1, 0, 0));
    g.ok(nr::FCNTL, &[fd, 6, again]);
    g.ok(nr::FLOCK, &[fd, 2]);
    let second = g.open("/f", 2);
    assert_eq!(g.err(nr::FLOCK, &[second, 2 | 4]), Errno::EAGAIN);
    g.ok(nr::FLOCK, &[fd, 8]);
    g.ok(nr::FLOCK, &[second, 2 | 4]);
}

#[test]
fn bytes_move_between_files() {
    let world = World::new();
    let mut g = world.process();
    let from = g.file("/from", b"0123456789");
    let to = g.file("/to", b"");
    let offset = g.put(&3u64.to_le_bytes());
    assert_eq!(g.ok(nr::SENDFILE, &[to, from, offset, 4]), 4);
    assert_eq!((g.word(offset), g.ok(nr::LSEEK, &[from, 0, 1])), (7, 0));
    let (r, w) = g.pipe();
    assert_eq!(g.ok(nr::SPLICE, &[from, 0, w, 0, 100, 0]), 10);
    let (r2, w2) = g.pipe();
    assert_eq!(g.ok(nr::TEE, &[r, w2, 5, 0]), 5);
    assert_eq!(g.read(r2, 100).unwrap(), b"01234");
    assert_eq!(g.ok(nr::SPLICE, &[r, 0, to, 0, 6, 0]), 6);
    assert_eq!(g.ok(nr::SPLICE, &[r, 0, w2, 0, 100, 0]), 4);
    assert_eq!(g.err(nr::SPLICE, &[r, 0, w2, 0, 100, 2]), Errno::EAGAIN);
    assert_eq!(g.err(nr::SPLICE, &[from, 0, to, 0, 100, 0]), Errno::EINVAL);
    assert_eq!(g.read(r2, 100).unwrap(), b"6789");
    g.ok(nr::LSEEK, &[to, 0, 0]);
    assert_eq!(g.read(to, 100).unwrap(), b"3456012345");
    let (zero, five) = (g.put(&0u64.to_le_bytes()), g.put(&5u64.to_le_bytes()));
    assert_eq!(g.ok(nr::COPY_FILE_RANGE, &[from, zero, to, five, 3, 0]), 3);
    assert_eq!((g.word(zero), g.word(five)), (3, 8));
    assert_eq!(g.err(nr::COPY_FILE_RANGE, &[from, zero, from, five, 9, 0]), Errno::EINVAL);
    g.ok(nr::LSEEK, &[to, 0, 0]);
    assert_eq!(g.read(to, 100).unwrap(), b"3456001245");
}

#[test]
fn anonymous_files() {
    let world = World::new();
    let mut g = world.process();
    let event = g.ok(nr::EVENTFD2, &[5, 0o4000]);
    assert_eq!(g.read(event, 8).unwrap(), 5u64.to_le_bytes());
    assert_eq!(g.read(event, 8), Err(Errno::EAGAIN.into()));
    // Only eight of sixteen bytes are taken.
    assert_eq!(g.write(event, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]), Ok(8));
    assert_eq!(g.read(event, 16).unwrap(), 1u64.to_le_bytes());
    let timer = g.ok(nr::TIMERFD_CREATE, &[1, 0]);
    let spec = g.put(&[0u64, 0, 0, 20_000_000].map(u64::to_le_bytes).concat());
    g.ok(nr::TIMERFD_SETTIME, &[timer, 0, spec, 0]);
    assert_eq!(g.read(timer, 8).unwrap(), 1u64.to_le_bytes());
    let mask = g.put(&(1u64 << 9).to_le_bytes());
    g.ok(nr::RT_SIGPROCMASK, &[0, mask, 0, 8]);
    let signals = g.ok(nr::SIGNALFD4, &[-1i64 as u64, mask, 8, 0]);
    Guest::signal(&g.task.task.clone(), Signal::SIGUSR1);
    assert_eq!(g.read(signals, 128).unwrap()[..4], 10u32.to_le_bytes());
    let name = g.string("x");
    let memfd = g.ok(nr::MEMFD_CREATE, &[name, 2]);
    g.ok(nr::FTRUNCATE, &[memfd, 4096]);
    g.ok(nr::FCNTL, &[memfd, 1033, 2 | 4]);
    assert_eq!(g.err(nr::FTRUNCATE, &[memfd, 0]), Errno::EPERM);
    assert_eq!(g.ok(nr::FCNTL, &[memfd, 1034]), 6);
    let inotify = g.ok(nr::INOTIFY_INIT1, &[0o4000]);
    let root = g.string("/");
    assert_eq!(g.ok(nr::INOTIFY_ADD_WATCH, &[inotify, root, 0x100 | 0x2]), 1);
    g.file("/n", b"x");
    let events = g.read(inotify, 1000).unwrap();
    assert_eq!(events[4..8], 0x100u32.to_le_bytes());
    assert_eq!(events[32 + 4..32 + 8], 2u32.to_le_bytes());
}

#[test]
fn fifos_meet() {
    let world = World::new();
    let mut g = world.process();
    let path = g.string("/fifo");
    g.ok(nr::MKNOD, &[path, 0o010644, 0]);
    assert_eq!(g.err(nr::OPEN, &[path, 1 | 0o4000, 0]), Errno::ENXIO);
    std::thread::scope(|scope| {
        let world = &world;
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            let mut other = world.process();
            let w = other.open("/fifo", 1);
            other.write(w, b"hi").unwrap();
        });
        let r = g.open("/fifo", 0);
        assert_eq!(g.read(r, 10).unwrap(), b"hi");
    });
}

#[test]
fn permissions_and_mounts() {
    let world = World::new();
    let mut root = world.process();
    root.file("/secret", b"x");
    let secret = root.string("/secret");
    root.ok(nr::CHMOD, &[secret, 0o600]);
    let (mnt, kind) = (root.string("/mnt"), root.string("tmpfs"));
    root.ok(nr::MKDIR, &[mnt, 0o755]);
    root.ok(nr::MOUNT, &[kind, mnt, kind, 1, 0]);
    let inside = root.string("/mnt/x");
    assert_eq!(root.err(nr::OPEN, &[inside, 0o102, 0o644]), Errno::EROFS);
    root.ok(nr::MOUNT, &[0, mnt, 0, 32, 0]);
    root.ok(nr::OPEN, &[inside, 0o102, 0o644]);
    let statfs = root.room(120);
    root.ok(nr::STATFS, &[mnt, statfs]);
    assert_eq!(root.word(statfs), 0x0102_1994);
    let bound = root.string("/bound");
    root.ok(nr::MKDIR, &[bound, 0o755]);
    root.ok(nr::MOUNT, &[mnt, bound, 0, 4096, 0]);
    let through = root.string("/bound/x");
    root.ok(nr::ACCESS, &[through, 0]);
    root.ok(nr::UMOUNT2, &[bound, 0]);
    assert_eq!(root.err(nr::ACCESS, &[through, 0]), Errno::ENOENT);
    assert_eq!(root.err(nr::UMOUNT2, &[bound, 0]), Errno::EINVAL);
    let unknown = root.string("ext4");
    assert_eq!(root.err(nr::MOUNT, &[kind, mnt, unknown, 0, 0]), Errno::ENODEV);
    let mut user = world.process_of(1000);
    let secret = user.string("/secret");
    assert_eq!(user.err(nr::OPEN, &[secret, 0, 0]), Errno::EACCES);
    assert_eq!(user.err(nr::ACCESS, &[secret, 4]), Errno::EACCES);
    assert_eq!(user.err(nr::CHMOD, &[secret, 0o777]), Errno::EPERM);
    let (mnt, kind) = (user.string("/mnt"), user.string("tmpfs"));
    assert_eq!(user.err(nr::MOUNT, &[kind, mnt, kind, 0, 0]), Errno::EPERM);
    assert_eq!(user.err(nr::CHROOT, &[mnt]), Errno::EPERM);
}

#[test]
fn attributes_by_name() {
    let world = World::new();
    let mut g = world.process();
    let fd = g.file("/f", b"");
    let (path, key, value) = (g.string("/f"), g.string("user.k"), g.put(b"value"));
    g.ok(nr::SETXATTR, &[path, key, value, 5, 1]);
    assert_eq!(g.err(nr::SETXATTR, &[path, key, value, 5, 1]), Errno::EEXIST);
    assert_eq!(g.err(nr::SETXATTR, &[path, key, value, 5, 4]), Errno::EINVAL);
    let buf = g.room(100);
    assert_eq!(g.ok(nr::FGETXATTR, &[fd, key, 0, 0]), 5);
    assert_eq!(g.err(nr::GETXATTR, &[path, key, buf, 4]), Errno::ERANGE);
    assert_eq!(g.ok(nr::GETXATTR, &[path, key, buf, 100]), 5);
    assert_eq!(g.ok(nr::LISTXATTR, &[path, buf, 100]), 7);
    assert_eq!(g.get(buf, 7), b"user.k\0");
    g.ok(nr::REMOVEXATTR, &[path, key]);
    assert_eq!(g.err(nr::GETXATTR, &[path, key, buf, 100]), Errno::ENODATA);
}
