//! The same random calls on Linux's own tmpfs, on ours and on an overlay: the same answers, the same tree.
#![allow(clippy::unwrap_used, clippy::unimplemented, clippy::panic, reason = "tests, and what they share")]

#[path = "../../tmpfs/tests/support/mod.rs"]
mod support;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use gofer_client::GoferClient;
use gofer_proto::Rights;
use gofer_server::{Gofer, Submounts, TreeConfig};
use rustix::fs::{AtFlags, Mode as HostMode, OFlags, RenameFlags};
use rustix::process::{Gid, Uid};
use sentry_abi::{Errno, Mode};
use sentry_auth::{Access, Caps, Credentials};
use sentry_fs_goferfs::{GoferFs, GoferFsConfig, Sharing};
use sentry_fs_overlayfs::{OverlayFs, OverlayOptions};
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_ipc::seqpacket_pair;
use sentry_memory::MemfdSource;
use sentry_vfs::{Follow, OpenFlags, RenameMode, Walk};
use support::{Shell, ticking};

#[derive(Clone, Debug)]
enum Op {
    Mkdir(String),
    Open(String, u32, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String, u32),
    Link(String, String),
    Symlink(String, String),
    Stat(String, bool),
    Readlink(String),
    List(String),
    Chmod(String, u16),
    Truncate(String, u64),
    Chown(String, u32, u32),
    Access(String, u8),
}

/// Users whose rights are compared; the last is in the second's group.
const USERS: [u32; 3] = [0, 7, 8];

struct Random {
    state: u64,
    /// Few short names make more calls succeed, many long ones make more ways to fail.
    few: bool,
    /// Owners and modes change, and everybody acts.
    rights: bool,
}

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        let depth = if self.few { self.below(5) / 2 } else { self.below(4) };
        for i in 0..=depth {
            if i > 0 {
                path.push('/');
            }
            path += if self.few { self.pick(&["a", "b", "c"]) } else { self.pick(&["a", "a", "b", "b", "c", "d", "l", "m", "..", "."]) };
        }
        // Never above the test's own directory.
        let mut depth = 0;
        for part in path.split('/') {
            depth += match part {
                ".." => -1,
                "." => 0,
                _ => 1,
            };
            if depth < 0 {
                return "a".to_owned();
            }
        }
        let end = if self.few { self.below(20) } else { self.below(7) };
        path + ["/", "/."].get(usize::try_from(end).unwrap()).unwrap_or(&"")
    }

    fn op(&mut self) -> Op {
        if self.rights && self.below(3) == 0 {
            return match self.below(3) {
                0 => Op::Chown(self.path(), self.pick(&USERS), self.pick(&USERS)),
                1 => Op::Access(self.path(), u8::try_from(self.below(8)).unwrap()),
                // Sticky directories that all may write are left out: fs.protected_* differ between hosts.
                _ => Op::Chmod(self.path(), u16::try_from(self.below(0o10000)).unwrap() & self.pick(&[0o6777, 0o7775])),
            };
        }
        let flags = [
            OpenFlags::CREATE | OpenFlags::WRITE_ONLY,
            OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::WRITE_ONLY,
            OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::WRITE_ONLY,
            OpenFlags::READ_WRITE,
            OpenFlags::empty(),
            OpenFlags::NO_FOLLOW,
            OpenFlags::DIRECTORY,
            OpenFlags::TRUNCATE | OpenFlags::WRITE_ONLY,
        ];
        match self.below(16) {
            0 | 1 => Op::Mkdir(self.path()),
            2..=4 => Op::Open(self.path(), self.pick(&flags).bits(), format!("text{}", self.below(1000))),
            5 => Op::Unlink(self.path()),
            6 => Op::Rmdir(self.path()),
            7..=9 => Op::Rename(self.path(), self.path(), self.pick(&[0, 0, 0, 1, 2, 2])),
            10 => Op::Link(self.path(), self.path()),
            // Links stay inside: a name beside the link or one below it.
            11 => Op::Symlink(self.pick(&["a", "b", "c/d", "l", "a/b", "none", "./d/."]).to_owned(), self.path()),
            12 => Op::Stat(self.path(), self.below(2) == 0),
            13 => Op::Readlink(self.path()),
            14 => Op::List(self.path()),
            _ if self.below(2) == 0 && !self.rights => Op::Chmod(self.path(), u16::try_from(self.below(0o10000)).unwrap()),
            _ => Op::Truncate(self.path(), self.below(100_000)),
        }
    }
}

type Answer = Result<String, i32>;

fn ours(sh: &Shell, op: &Op) -> Answer {
    let (cx, at) = (&sh.cx, &sh.cx.cwd);
    let mode = |flag| match flag {
        1 => RenameMode::NoReplace,
        2 => RenameMode::Exchange,
        _ => RenameMode::Replace,
    };
    let done = |r: Result<(), Errno>| r.map(|()| String::new());
    let result = match op {
        Op::Mkdir(p) => done(sh.mkdir(p)),
        Op::Open(p, flags, text) => sh.open(p, OpenFlags::from_bits_truncate(*flags)).and_then(|file| {
            if file.writable {
                sh.write(&file, 0, text.as_bytes())?;
            }
            if file.attr()?.kind == sentry_abi::FileKind::Regular && file.readable { sh.read(&file) } else { Ok(String::new()) }
        }),
        Op::Unlink(p) => done(sh.rm(p)),
        Op::Rmdir(p) => done(sh.rmdir(p)),
        Op::Rename(a, b, flag) => done(sh.mv_as(a, b, mode(*flag))),
        Op::Link(a, b) => done(sh.ln(a, b)),
        Op::Symlink(t, p) => done(sh.symlink(t, p)),
        Op::Stat(p, follow) => {
            let follow = if *follow { Follow::Yes } else { Follow::No };
            sentry_vfs::stat(cx, at, p.as_bytes(), follow).map(|a| {
                let size = if a.kind == sentry_abi::FileKind::Directory { 0 } else { a.size };
                format!("{:o} {} {size} {}:{}", a.full_mode(), a.nlink, a.uid, a.gid)
            })
        }
        Op::Readlink(p) => sentry_vfs::read_link(cx, at, p.as_bytes()).map(|t| String::from_utf8(t).unwrap()),
        Op::List(p) => sh.open(p, OpenFlags::DIRECTORY).and_then(|_| sh.ls(p)),
        Op::Chmod(p, mode) => done(sh.chmod(p, *mode)),
        Op::Chown(p, uid, gid) => done(sh.chown(p, *uid, *gid)),
        Op::Access(p, want) => done(sh.path(p).and_then(|at| sentry_vfs::access(&cx.credentials, &at, Access::from_bits_truncate(*want)))),
        Op::Truncate(p, len) => {
            done(sentry_vfs::resolve(cx, at, p.as_bytes(), Follow::Yes, Walk::empty()).and_then(|at| sentry_vfs::truncate(cx, &at, *len)))
        }
    };
    result.map_err(|e| e.raw())
}

/// A shell for each of [`USERS`].
fn shells(root: &Shell) -> Vec<Shell> {
    let one = |uid: &u32| {
        let groups: &[u32] = if *uid == USERS[2] { &USERS[1..2] } else { &[] };
        let credentials = Arc::new(Credentials::new(*uid, *uid, groups, Caps::all()));
        let mut shell = root.as_user(*uid);
        (shell.cx.credentials, shell.caller.credentials) = (credentials.clone(), credentials);
        shell
    };
    USERS.iter().map(one).collect()
}

/// Makes this thread one of [`USERS`].
fn become_user(index: usize) {
    let id = USERS[index];
    rustix::thread::set_thread_res_uid(None, Uid::ROOT, None).unwrap();
    let groups = if index == 2 { vec![Gid::from_raw(USERS[1])] } else { Vec::new() };
    rustix::thread::set_thread_groups(&groups).unwrap();
    rustix::thread::set_thread_res_gid(None, Gid::from_raw(id), None).unwrap();
    rustix::thread::set_thread_res_uid(None, Uid::from_raw(id), None).unwrap();
}

fn hosts(dir: &OwnedFd, op: &Op) -> Answer {
    use rustix::fs;
    let done = |r: rustix::io::Result<()>| r.map(|()| String::new());
    let open = |p: &str, flags: OFlags| fs::openat(dir, p, flags | OFlags::CLOEXEC, HostMode::from_raw_mode(0o666));
    let result = match op {
        Op::Mkdir(p) => done(fs::mkdirat(dir, p, HostMode::from_raw_mode(0o777))),
        Op::Open(p, flags, text) => open(p, OFlags::from_bits_retain(*flags)).and_then(|fd| {
            let access = flags & 3;
            if access != 0 {
                rustix::io::pwrite(&fd, text.as_bytes(), 0)?;
            }
            let stat = fs::fstat(&fd)?;
            let mut out = vec![0; usize::try_from(stat.st_size).unwrap()];
            if access == 1 || stat.st_mode & 0o170_000 != 0o100_000 {
                return Ok(String::new());
            }
            rustix::io::pread(&fd, &mut out[..], 0)?;
            Ok(String::from_utf8(out).unwrap())
        }),
        Op::Unlink(p) => done(fs::unlinkat(dir, p, AtFlags::empty())),
        Op::Rmdir(p) => done(fs::unlinkat(dir, p, AtFlags::REMOVEDIR)),
        Op::Rename(a, b, flag) => done(fs::renameat_with(dir, a, dir, b, RenameFlags::from_bits_retain(*flag))),
        Op::Link(a, b) => done(fs::linkat(dir, a, dir, b, AtFlags::empty())),
        Op::Symlink(t, p) => done(fs::symlinkat(t, dir, p)),
        Op::Stat(p, follow) => fs::statat(dir, p, if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }).map(|s| {
            let size = if s.st_mode & 0o170_000 == 0o040_000 { 0 } else { s.st_size };
            format!("{:o} {} {size} {}:{}", s.st_mode, s.st_nlink, s.st_uid, s.st_gid)
        }),
        Op::Readlink(p) => fs::readlinkat(dir, p, Vec::new()).map(|t| t.into_string().unwrap()),
        Op::List(p) => open(p, OFlags::DIRECTORY).and_then(|fd| {
            let mut names: Vec<String> =
                fs::Dir::new(fd)?.map(|e| e.unwrap().file_name().to_str().unwrap().to_owned()).filter(|n| n != "." && n != "..").collect();
            names.sort();
            Ok(names.join(" "))
        }),
        Op::Chmod(p, mode) => done(fs::chmodat(dir, p, HostMode::from_raw_mode(u32::from(*mode)), AtFlags::empty())),
        Op::Chown(p, uid, gid) => done(fs::chownat(dir, p, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)), AtFlags::empty())),
        Op::Access(p, want) => done(fs::accessat(dir, p, fs::Access::from_bits_retain(u32::from(*want)), AtFlags::EACCESS)),
        // truncate(2) has no at-form: a descriptor that only names the file checks what it checks.
        Op::Truncate(p, len) => fs::openat(dir, p, OFlags::PATH | OFlags::CLOEXEC, HostMode::empty()).and_then(|fd| {
            let kind = fs::fstat(&fd)?.st_mode & 0o170_000;
            match kind {
                0o040_000 => Err(rustix::io::Errno::ISDIR),
                0o100_000 => {
                    let fd = open(p, OFlags::WRONLY)?;
                    done(fs::ftruncate(&fd, *len))
                }
                _ => Err(rustix::io::Errno::INVAL),
            }
        }),
    };
    result.map_err(|e| e.raw_os_error())
}

fn tmpfs() -> Arc<TmpFs> {
    TmpFs::new(TmpFsOptions { mode: Mode(0o755), ..TmpFsOptions::default() }, 9, Arc::new(MemfdSource), ticking()).unwrap()
}

/// What is compared with the host.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Tmpfs,
    /// An overlay over a tmpfs.
    Overlay,
    /// An overlay over a directory of the host, through a gofer.
    OverlayOnGofer,
    /// A directory of the host, through a gofer.
    Gofer,
}

/// A directory of the host that goes when dropped.
struct Scratch {
    path: std::path::PathBuf,
    dir: OwnedFd,
}

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::path::PathBuf::from(format!("/dev/shm/sentry-differential-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let dir = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, HostMode::empty()).unwrap();
        Scratch { path, dir }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn goferfs(place: &Scratch, rights: Rights) -> Arc<GoferFs> {
    let root = std::fs::File::open(&place.path).unwrap().into();
    let tree = TreeConfig { root, writable_file: None, rights, submounts: Submounts::Enter };
    let gofer = Arc::new(Gofer::new(vec![tree], 1024).unwrap());
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let (ours, theirs) = seqpacket_pair().unwrap();
        sockets.push(ours);
        let gofer = gofer.clone();
        std::thread::spawn(move || gofer.serve_channel(theirs));
    }
    let client = GoferClient::connect(sockets).unwrap();
    GoferFs::new(&client, &GoferFsConfig { tree: 0, sharing: Sharing::Exclusive, device: 77, max_files: 256 }).unwrap()
}

/// The random calls of one seed and where the host does them.
struct Contest {
    seed: u64,
    kind: Kind,
    random: Random,
    host: Scratch,
    log: Vec<String>,
}

impl Contest {
    fn next(&mut self) -> (Op, usize) {
        let op = self.random.op();
        let user = if self.random.rights { self.random.pick(&[0, 1, 2]) } else { 0 };
        (op, user)
    }

    fn on_host(&self, dir: &OwnedFd, op: &Op, user: usize) -> Answer {
        become_user(user);
        let answer = hosts(dir, op);
        become_user(0);
        answer
    }

    /// The same on both.
    fn compare(&mut self, root: &Shell, count: u32) {
        let users = shells(root);
        for _ in 0..count {
            let (op, user) = self.next();
            let host = self.on_host(&self.host.dir, &op, user);
            let own = ours(&users[user], &op);
            self.log.push(format!("{}: {op:?} -> {host:?}", USERS[user]));
            if host != own {
                let last = self.log[self.log.len().saturating_sub(40)..].join("\n");
                let (seed, kind) = (self.seed, self.kind);
                panic!("seed {seed}, {kind:?}: {}: {op:?}: host {host:?}, ours {own:?}, after\n{last}", USERS[user]);
            }
        }
    }

    /// The same on the host twice, to begin with equal directories.
    fn prepare(&mut self, other: &Scratch, count: u32) {
        for _ in 0..count {
            let (op, user) = self.next();
            assert_eq!(self.on_host(&self.host.dir, &op, user), self.on_host(&other.dir, &op, user));
        }
    }
}

fn run(kind: Kind, seed: u64) {
    let random = Random { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, few: seed.is_multiple_of(2), rights: seed % 4 < 2 };
    let mut contest = Contest { seed, kind, random, host: Scratch::new(&format!("{kind:?}{seed}")), log: Vec::new() };
    let over = |lower| OverlayFs::new(lower, OverlayOptions::default(), 7, Arc::new(MemfdSource), ticking()).unwrap();
    match kind {
        Kind::Tmpfs => contest.compare(&Shell::new(tmpfs()), 400),
        Kind::Overlay => {
            let lower = tmpfs();
            contest.compare(&Shell::new(lower.clone()), 60);
            contest.compare(&Shell::new(over(lower)), 300);
        }
        Kind::OverlayOnGofer => {
            let lower = Scratch::new(&format!("{kind:?}{seed}-lower"));
            contest.prepare(&lower, 100);
            contest.compare(&Shell::new(over(goferfs(&lower, Rights::ReadOnly))), 300);
        }
        Kind::Gofer => {
            let tree = Scratch::new(&format!("{kind:?}{seed}-tree"));
            contest.compare(&Shell::new(goferfs(&tree, Rights::ReadWrite)), 300);
        }
    }
}

/// Only where the host lets us: as root (rights are not what this is about) and with a tmpfs.
fn can_run() -> bool {
    let can = rustix::process::geteuid().is_root() && std::path::Path::new("/dev/shm").is_dir();
    if !can {
        eprintln!("skipped: needs root and /dev/shm");
    }
    can
}

fn run_all(kind: Kind, seeds: std::ops::Range<u64>) {
    if can_run() {
        rustix::process::umask(HostMode::from_raw_mode(0o022));
        seeds.for_each(|seed| run(kind, seed));
    }
}

#[test]
fn tmpfs_answers_as_linux() {
    run_all(Kind::Tmpfs, 1..60);
}

#[test]
fn overlay_answers_as_linux() {
    run_all(Kind::Overlay, 1000..1120);
}

#[test]
fn overlay_on_a_gofer_answers_as_linux() {
    run_all(Kind::OverlayOnGofer, 1..60);
}

#[test]
fn gofer_answers_as_linux() {
    run_all(Kind::Gofer, 1..60);
    // A file that loses the name by which it was found last.
    run_all(Kind::Gofer, 190..191);
}
