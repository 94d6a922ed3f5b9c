//! A gofer on a temporary directory, spoken to over a real socket.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use gofer_proto::{
    Access, Attach, AttrChange, Close, Create, Creation, GetXattr, Link, ListDirs, ListXattr, MAX_CLOSE, Mkdir, Mknod, Name, NodeId, Open,
    Outcome, Owner, PROTOCOL, ReadDir, ReadDirDetail, Rename, RenameMode, Rights, Rmdir, SetAttr, SetXattr, SpecialKind, Stat, StatFs,
    Stop, Symlink, Target, TimeChange, Unlink, Walk, Walked, XattrMode, XattrName, XattrValue,
};
use rustix::fs::{CWD, Mode, OFlags};
use sentry_abi::{Errno, FileKind};
use sentry_ipc::{Call, Channel, seqpacket_pair};

use crate::{Gofer, Submounts, TreeConfig};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!("gofer-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).expect("scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Rig {
    gofer: Arc<Gofer>,
    channel: Option<Channel>,
    worker: Option<JoinHandle<()>>,
    root: NodeId,
    dir: PathBuf,
    _scratch: Scratch,
}

fn path_fd(path: &Path) -> OwnedFd {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opens")
}

fn config(dir: &Path, rights: Rights) -> TreeConfig {
    TreeConfig { root: path_fd(dir), writable_file: None, rights, submounts: Submounts::Enter }
}

impl Rig {
    /// The tree is `tree` inside a scratch directory, so that there is an outside.
    fn new(rights: Rights, open_files: u64) -> Rig {
        let scratch = Scratch::new();
        let dir = scratch.0.join("tree");
        fs::create_dir(&dir).expect("tree");
        fs::write(scratch.0.join("secret"), "outside").expect("secret");
        let gofer = Arc::new(Gofer::new(vec![config(&dir, rights)], open_files).expect("gofer"));
        let (ours, theirs) = seqpacket_pair().expect("pair");
        let server = gofer.clone();
        let worker = std::thread::spawn(move || {
            let _ = server.serve_channel(theirs);
        });
        let channel = Channel::new(ours);
        channel.hello(PROTOCOL).expect("greets");
        let root = channel.call(&Attach { tree: 0 }).expect("call").expect("attaches").root.node;
        Rig { gofer, channel: Some(channel), worker: Some(worker), root, dir, _scratch: scratch }
    }

    fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("alive")
    }

    fn call<C: Call<Reply = Outcome<T>>, T>(&self, call: C) -> Result<T, Errno> {
        self.channel().call(&call).expect("the channel holds").map_err(|e| e.errno())
    }

    fn walk(&self, path: &str) -> Result<Walked, Errno> {
        let names = path.split('/').map(name).collect();
        self.call(Walk { from: self.root, names, open: None })
    }

    fn find(&self, path: &str) -> NodeId {
        let walked = self.walk(path).expect("walks");
        assert_eq!(walked.stop, Stop::Complete, "{path}");
        walked.nodes.last().expect("a node").node
    }

    fn open(&self, node: NodeId, access: Access) -> Result<fs::File, Errno> {
        let (reply, mut fds) = self.channel().call_with_fds(&Open { node, access }, &[]).expect("the channel holds");
        reply.map_err(|e| e.errno())?;
        assert_eq!(fds.len(), 1);
        Ok(fds.remove(0).into())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.channel = None;
        if let Some(worker) = self.worker.take() {
            worker.join().expect("the gofer did not panic");
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn me() -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

fn with(mode: u32) -> Creation {
    Creation { mode, owner: me() }
}

fn rw() -> Rig {
    Rig::new(Rights::ReadWrite, 1024)
}

fn ro() -> Rig {
    Rig::new(Rights::ReadOnly, 1024)
}

#[test]
fn a_walk_goes_as_far_as_it_can_and_says_why() {
    let rig = ro();
    fs::create_dir_all(rig.dir.join("a/b")).expect("dirs");
    fs::write(rig.dir.join("a/b/file"), "text").expect("file");
    symlink("/etc/passwd", rig.dir.join("a/link")).expect("link");
    let check = |path: &str, found: usize, stop: Stop| {
        let walked = rig.walk(path).expect("walks");
        assert_eq!((walked.nodes.len(), walked.stop), (found, stop), "{path}");
        walked
    };
    check("a/b/file", 3, Stop::Complete);
    check("a/b/none/x", 2, Stop::Missing);
    check("none", 0, Stop::Missing);
    check("a/b/file/x", 3, Stop::NotDirectory);
    let link = check("a/link", 2, Stop::Complete);
    assert_eq!(link.nodes[1].target, Some(Target::new(b"/etc/passwd").expect("target")));
    check("a/link/x", 2, Stop::Symlink);
    let file = check("a/b/file", 3, Stop::Complete).nodes[2].clone();
    assert_eq!(file.attr.size, 4);
    assert_eq!(file.attr.ino, fs::metadata(rig.dir.join("a/b/file")).expect("stat").ino());
}

#[test]
fn a_walk_can_bring_the_file() {
    let rig = ro();
    fs::write(rig.dir.join("file"), "text").expect("file");
    let call = Walk { from: rig.root, names: vec![name("file")], open: Some(Access::Read) };
    let (reply, fds) = rig.channel().call_with_fds(&call, &[]).expect("call");
    assert!(reply.expect("walks").opened);
    let flags = rustix::fs::fcntl_getfl(&fds[0]).expect("flags");
    assert_eq!(flags & (OFlags::RWMODE | OFlags::NONBLOCK), OFlags::RDONLY);
    let file: fs::File = fds.into_iter().next().expect("one").into();
    assert_eq!(std::io::read_to_string(file).expect("reads"), "text");
    let call = Walk { from: rig.root, names: vec![name("file")], open: Some(Access::ReadWrite) };
    let (reply, fds) = rig.channel().call_with_fds(&call, &[]).expect("call");
    let reply = reply.expect("walks");
    assert!(!reply.opened && fds.is_empty() && reply.nodes.len() == 1);
    assert_eq!(rig.open(reply.nodes[0].node, Access::ReadWrite).expect_err("read-only"), Errno::EROFS);
}

#[test]
fn special_files_are_seen_but_not_opened() {
    let rig = ro();
    rustix::fs::mknodat(CWD, rig.dir.join("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).expect("fifo");
    symlink("../secret", rig.dir.join("out")).expect("link");
    fs::create_dir(rig.dir.join("d")).expect("dir");
    let check = |path: &str, expected: Errno| assert_eq!(rig.open(rig.find(path), Access::Read).expect_err(path), expected, "{path}");
    check("fifo", Errno::ENXIO);
    check("out", Errno::ELOOP);
    check("d", Errno::EISDIR);
}

#[test]
fn listings_come_in_pages_with_attributes() {
    let rig = ro();
    for index in 0..1000 {
        fs::write(rig.dir.join(format!("a-file-with-a-rather-long-name-{index:04}")), "x").expect("file");
    }
    fs::create_dir(rig.dir.join("dir")).expect("dir");
    let (mut names, mut pages, mut cookie) = (Vec::new(), 0, 0);
    loop {
        let page = rig.call(ReadDir { node: rig.root, cookie, detail: ReadDirDetail::Attributes }).expect("lists");
        pages += 1;
        for entry in page.entries {
            let attr = entry.attr.expect("attributes");
            assert_eq!(FileKind::from_mode(attr.mode).map(FileKind::dirent_type), Some(entry.kind));
            names.push(entry.name.as_bytes().to_vec());
        }
        match page.next {
            Some(next) => cookie = next,
            None => break,
        }
    }
    assert!(pages > 3);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1001);
    let page = rig.call(ReadDir { node: rig.root, cookie: 0, detail: ReadDirDetail::Plain }).expect("lists");
    assert!(page.entries.iter().all(|e| e.attr.is_none() && e.kind != 0));
}

#[test]
fn several_directories_are_listed_in_one_message() {
    let rig = ro();
    for (dir, count) in [("many", 300), ("few", 3), ("none", 0)] {
        fs::create_dir(rig.dir.join(dir)).expect("dir");
        for index in 0..count {
            fs::write(rig.dir.join(format!("{dir}/{index}")), "x").expect("file");
        }
    }
    fs::write(rig.dir.join("file"), "x").expect("file");
    let list = |names: &[&str]| {
        let names = names.iter().map(|name| Name::new(name.as_bytes()).expect("name")).collect();
        let counts = |reply: gofer_proto::ListedDirs| reply.dirs.iter().map(|dir| dir.listing.entries.len()).collect::<Vec<_>>();
        rig.call(ListDirs { dir: rig.root, names }).map(counts)
    };
    assert_eq!(list(&["few", "none"]), Ok(vec![3, 0]));
    // What does not fit or is no directory ends the answer.
    assert_eq!(list(&["few", "many", "none"]), Ok(vec![3]));
    assert_eq!(list(&["few", "file", "none"]), Ok(vec![3]));
    assert_eq!(list(&["many", "few"]).map(|counts| counts[0] > 200), Ok(true));
    assert_eq!(list(&["file"]), Err(Errno::ENOTDIR));
    assert_eq!(list(&["missing", "few"]), Err(Errno::ENOENT));
    assert_eq!(list(&[]), Err(Errno::EINVAL));
    assert_eq!(list(&["few"; 17]), Err(Errno::EINVAL));
}

#[test]
fn a_writable_tree_can_be_changed() {
    let rig = rw();
    let call = Create { dir: rig.root, name: name("new"), with: with(0o4711), access: Access::ReadWrite };
    let (reply, fds) = rig.channel().call_with_fds(&call, &[]).expect("call");
    let new = reply.expect("creates");
    assert_eq!((new.attr.mode, fds.len()), (0o104711, 1));
    assert_eq!(rig.call(call).expect_err("exists"), Errno::EEXIST);
    rustix::io::pwrite(&fds[0], b"12345", 0).expect("writes");
    let dir = rig.call(Mkdir { dir: rig.root, name: name("dir"), with: with(0o1755) }).expect("makes");
    assert_eq!(dir.attr.mode, 0o041755);
    let link = rig.call(Symlink { dir: dir.node, name: name("link"), target: Target::new(b"x").expect("t"), owner: me() }).expect("links");
    assert_eq!(link.attr.mode & 0o170000, 0o120000);
    let linked = rig.call(Link { node: new.node, dir: dir.node, name: name("hard") }).expect("links");
    assert_eq!(linked.nlink, 2);
    let fifo = rig.call(Mknod { dir: dir.node, name: name("fifo"), kind: SpecialKind::Fifo, with: with(0o600) }).expect("makes");
    assert_eq!(fifo.attr.mode & 0o170000, 0o010000);
    let rename = |n: &str, to: NodeId, new: &str, mode, moved| {
        rig.call(Rename { from: rig.root, name: name(n), to, new_name: name(new), mode, moved, exchanged: None })
    };
    assert_eq!(rename("new", dir.node, "hard", RenameMode::NoReplace, None).expect_err("there"), Errno::EEXIST);
    rename("new", dir.node, "moved", RenameMode::Replace, Some(new.node)).expect("moves");
    let change = AttrChange {
        size: Some(3),
        mode: Some(0o600),
        mtime: Some(TimeChange::At(gofer_proto::Time { sec: 5, nsec: 6 })),
        ..AttrChange::default()
    };
    let attr = rig.call(SetAttr { node: new.node, change }).expect("changes");
    assert_eq!((attr.size, attr.mode & 0o7777, attr.mtime.sec), (3, 0o600, 5));
    assert_eq!(fs::read(rig.dir.join("dir/moved")).expect("reads"), b"123");
    assert_eq!(rig.call(Rmdir { dir: rig.root, name: name("dir") }).expect_err("full"), Errno::ENOTEMPTY);
    for entry in ["moved", "hard", "link", "fifo"] {
        rig.call(Unlink { dir: dir.node, name: name(entry) }).expect("unlinks");
    }
    rig.call(Rmdir { dir: rig.root, name: name("dir") }).expect("removes");
    assert_eq!(rig.call(Stat { node: new.node }).expect_err("gone"), Errno::ESTALE);
    assert!(rig.call(StatFs { node: rig.root }).expect("statfs").blocks > 0);
}

#[test]
fn a_read_only_tree_stays_as_it_is() {
    let rig = ro();
    fs::write(rig.dir.join("file"), "text").expect("file");
    let node = rig.find("file");
    let file = name("file");
    assert_eq!(rig.call(Create { dir: rig.root, name: name("x"), with: with(0o644), access: Access::Read }).err(), Some(Errno::EROFS));
    assert_eq!(rig.call(Mkdir { dir: rig.root, name: name("x"), with: with(0o644) }).err(), Some(Errno::EROFS));
    assert_eq!(rig.call(Unlink { dir: rig.root, name: file.clone() }).err(), Some(Errno::EROFS));
    assert_eq!(rig.call(Link { node, dir: rig.root, name: name("x") }).err(), Some(Errno::EROFS));
    let rename =
        Rename { from: rig.root, name: file, to: rig.root, new_name: name("x"), mode: RenameMode::Replace, moved: None, exchanged: None };
    assert_eq!(rig.call(rename).err(), Some(Errno::EROFS));
    assert_eq!(rig.call(SetAttr { node, change: AttrChange { mode: Some(0o777), ..AttrChange::default() } }).err(), Some(Errno::EROFS));
    assert_eq!(rig.open(node, Access::ReadWrite).err(), Some(Errno::EROFS));
    let user = XattrName::new(b"user.x").expect("name");
    let value = XattrValue::new(b"v").expect("value");
    assert_eq!(rig.call(SetXattr { node, name: user, value, mode: XattrMode::Set }).err(), Some(Errno::EROFS));
}

#[test]
fn only_user_attributes_are_reached() {
    let rig = rw();
    fs::write(rig.dir.join("file"), "text").expect("file");
    let node = rig.find("file");
    let user = XattrName::new(b"user.x").expect("name");
    let set = SetXattr { node, name: user.clone(), value: XattrValue::new(b"v").expect("value"), mode: XattrMode::Create };
    match rig.call(set.clone()) {
        Err(Errno::EOPNOTSUPP) => return eprintln!("skipped: the temporary directory has no user attributes"),
        other => other.expect("sets"),
    }
    assert_eq!(rig.call(set.clone()).err(), Some(Errno::EEXIST));
    assert_eq!(rig.call(GetXattr { node, name: user }).expect("gets").as_bytes(), b"v");
    assert_eq!(rig.call(ListXattr { node }).expect("lists").as_bytes(), b"user.x\0");
    for bad in ["trusted.x", "security.capability", "system.posix_acl_access", "user."] {
        let name = XattrName::new(bad.as_bytes()).expect("name");
        assert_eq!(rig.call(SetXattr { name, ..set.clone() }).err(), Some(Errno::EOPNOTSUPP), "{bad}");
    }
}

#[test]
fn ids_and_counts_of_a_liar_are_refused() {
    let rig = rw();
    assert_eq!(rig.call(Stat { node: NodeId(999) }).err(), Some(Errno::EBADF));
    assert_eq!(rig.call(Stat { node: NodeId(0) }).err(), Some(Errno::EBADF));
    assert_eq!(rig.call(Attach { tree: 1 }).err(), Some(Errno::ENOENT));
    assert_eq!(rig.call(Attach { tree: u32::MAX }).err(), Some(Errno::ENOENT));
    assert_eq!(rig.call(Walk { from: rig.root, names: vec![name("x"); 65], open: None }).err(), Some(Errno::EINVAL));
    assert_eq!(rig.call(Walk { from: rig.root, names: Vec::new(), open: None }).err(), Some(Errno::EINVAL));
    assert_eq!(rig.call(Close { nodes: vec![NodeId(1); MAX_CLOSE + 1] }).err(), Some(Errno::E2BIG));
    rig.call(Close { nodes: vec![NodeId(77); MAX_CLOSE] }).expect("unknown ids are passed over");
    let change = AttrChange { uid: Some(u32::MAX), ..AttrChange::default() };
    assert_eq!(rig.call(SetAttr { node: rig.root, change }).err(), Some(Errno::EINVAL));
    let change = AttrChange { atime: Some(TimeChange::At(gofer_proto::Time { sec: 0, nsec: u32::MAX })), ..AttrChange::default() };
    assert_eq!(rig.call(SetAttr { node: rig.root, change }).err(), Some(Errno::EINVAL));
    assert_ne!(rig.call(ReadDir { node: rig.root, cookie: u64::MAX, detail: ReadDirDetail::Plain }).err(), None);
    rig.call(Close { nodes: vec![rig.root] }).expect("closes");
    assert_eq!(rig.call(Stat { node: rig.root }).err(), Some(Errno::EBADF));
    rig.call(Attach { tree: 0 }).expect("attaches again");
}

#[test]
fn a_replaced_file_is_stale() {
    let rig = ro();
    fs::write(rig.dir.join("file"), "one").expect("file");
    fs::write(rig.dir.join("other"), "two").expect("file");
    let node = rig.find("file");
    fs::rename(rig.dir.join("other"), rig.dir.join("file")).expect("renames");
    assert_eq!(rig.open(node, Access::Read).err(), Some(Errno::ESTALE));
    assert_eq!(rig.call(Stat { node }).err(), Some(Errno::ESTALE));
    fs::remove_file(rig.dir.join("file")).expect("removes");
    symlink("../secret", rig.dir.join("file")).expect("link");
    assert_eq!(rig.open(node, Access::Read).err(), Some(Errno::ESTALE));
}

#[test]
fn descriptors_are_bounded_and_come_back() {
    let rig = Rig::new(Rights::ReadOnly, 64);
    let mut path = rig.dir.clone();
    for _ in 0..60 {
        path.push("d");
        fs::create_dir(&path).expect("dir");
    }
    fs::write(path.join("file"), "deep").expect("file");
    let names = |n: usize| vec![name("d"); n];
    let deep = rig.call(Walk { from: rig.root, names: names(60), open: None }).expect("walks");
    assert_eq!(deep.nodes.len(), 60);
    for node in &deep.nodes {
        rig.call(ReadDir { node: node.node, cookie: 0, detail: ReadDirDetail::Plain }).expect("lists");
    }
    let last = deep.nodes.last().expect("some").node;
    let file = rig.call(Walk { from: last, names: vec![name("file")], open: None }).expect("walks").nodes[0].node;
    assert_eq!(std::io::read_to_string(rig.open(file, Access::Read).expect("opens")).expect("reads"), "deep");
    let open = fs::read_dir("/proc/self/fd")
        .expect("fds")
        .filter(|e| e.as_ref().is_ok_and(|e| fs::read_link(e.path()).is_ok_and(|to| to.starts_with(&rig.dir))));
    assert!(open.count() <= 40);
    let all: Vec<NodeId> = deep.nodes.iter().map(|n| n.node).chain([file]).collect();
    rig.call(Close { nodes: all }).expect("closes");
    assert_eq!(rig.gofer.nodes.alive(), 1);
}

#[test]
fn a_moved_node_never_hangs_below_itself() {
    let rig = rw();
    fs::create_dir_all(rig.dir.join("a/b")).expect("dirs");
    let (a, b) = (rig.find("a"), rig.find("a/b"));
    // The host moves b out and a below it, behind the gofer's back; then the client renames what it knows.
    fs::rename(rig.dir.join("a/b"), rig.dir.join("b")).expect("out");
    let rename =
        Rename { from: rig.root, name: name("a"), to: b, new_name: name("a"), mode: RenameMode::Replace, moved: Some(a), exchanged: None };
    let _ = rig.call(rename);
    for node in [a, b] {
        let _ = rig.call(Stat { node });
    }
    rig.call(Close { nodes: vec![a, b] }).expect("closes");
    assert!(rig.gofer.nodes.alive() <= 2);
}

#[test]
fn races_with_links_do_not_lead_out() {
    let rig = ro();
    let inside = rig.dir.join("inside");
    fs::create_dir(&inside).expect("dir");
    fs::write(inside.join("secret"), "inside").expect("file");
    let (door, aside) = (rig.dir.join("door"), rig.dir.join("aside"));
    fs::create_dir(&door).expect("dir");
    fs::write(door.join("secret"), "inside").expect("file");
    symlink("..", rig.dir.join("evil")).expect("link");
    symlink("../../secret", inside.join("evil")).expect("link");
    let stop = Arc::new(AtomicBool::new(false));
    let flip = {
        let (stop, evil) = (stop.clone(), rig.dir.join("evil"));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(CWD, &door, CWD, &evil, rustix::fs::RenameFlags::EXCHANGE);
                let _ = rustix::fs::renameat_with(CWD, inside.join("secret"), CWD, inside.join("evil"), rustix::fs::RenameFlags::EXCHANGE);
                let _ = fs::rename(&aside, &evil);
            }
        })
    };
    let mut opened = 0;
    for _ in 0..3000 {
        for path in ["door/secret", "inside/secret"] {
            let names = path.split('/').map(name).collect();
            let call = Walk { from: rig.root, names, open: Some(Access::Read) };
            let (_, fds) = rig.channel().call_with_fds(&call, &[]).expect("call");
            if let Some(fd) = fds.into_iter().next() {
                opened += 1;
                assert_eq!(std::io::read_to_string(fs::File::from(fd)).expect("reads"), "inside");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    flip.join().expect("flips");
    assert!(opened > 0);
}

#[test]
fn a_file_can_be_a_tree() {
    let scratch = Scratch::new();
    let path = scratch.0.join("hosts");
    fs::write(&path, "127.0.0.1").expect("file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    let open = |flags| rustix::fs::openat(CWD, &path, flags | OFlags::CLOEXEC, Mode::empty()).expect("opens");
    let tree = TreeConfig {
        root: open(OFlags::RDONLY),
        writable_file: Some(open(OFlags::RDWR)),
        rights: Rights::ReadWrite,
        submounts: Submounts::Refuse,
    };
    let gofer = Gofer::new(vec![tree], 1024).expect("gofer");
    let root = gofer.attach(&Attach { tree: 0 }).expect("attaches").root.node;
    let file = gofer.open(&Open { node: root, access: Access::ReadWrite }).expect("opens");
    rustix::io::pwrite(&file, b"::1", 0).expect("writes");
    let file = gofer.open(&Open { node: root, access: Access::Read }).expect("opens");
    assert_eq!(rustix::fs::fcntl_getfl(&file).expect("flags") & OFlags::RWMODE, OFlags::RDONLY);
    assert_eq!(gofer.stat(&Stat { node: root }).expect("stat").size, 9);
    let change = AttrChange { size: Some(3), mode: Some(0o640), ..AttrChange::default() };
    assert_eq!(gofer.set_attr(&SetAttr { node: root, change }).expect("changes").mode & 0o777, 0o640);
    assert_eq!(fs::read(&path).expect("reads"), b"::1");
    assert_eq!(gofer.walk(&Walk { from: root, names: vec![name("x")], open: None }).map(|_| ()).err(), Some(Errno::ENOTDIR));
}

#[test]
fn garbage_ends_the_channel_not_the_gofer() {
    let rig = ro();
    let (ours, theirs) = seqpacket_pair().expect("pair");
    let server = rig.gofer.clone();
    let worker = std::thread::spawn(move || server.serve_channel(theirs));
    rustix::io::write(ours.as_fd(), &[0xff; 100]).expect("writes");
    assert!(worker.join().expect("no panic").is_err());
    rig.walk("nothing").expect("others go on");
}

#[test]
fn memory_files_come_with_a_description_that_cannot_write() {
    let scratch = Scratch::new();
    let tree = TreeConfig::read_only(path_fd(&scratch.0));
    let gofer = Gofer::new(vec![tree], 1024).expect("gofer").with_memory(path_fd(&scratch.0));
    let files = gofer.memory_files(&gofer_proto::MemoryFiles { count: 2 }).expect("files");
    assert_eq!(files.len(), 4);
    rustix::io::pwrite(&files[0], b"abc", 0).expect("the first can write");
    assert!(rustix::io::pwrite(&files[1], b"abc", 0).is_err());
    let mut buffer = [0; 3];
    rustix::io::pread(&files[1], &mut buffer, 0).expect("the second can read");
    assert_eq!(&buffer, b"abc");
    assert_eq!(fs::read_dir(&scratch.0).expect("directory").count(), 0, "no name is left");
    for count in [0, 17, u32::MAX] {
        assert!(gofer.memory_files(&gofer_proto::MemoryFiles { count }).is_err());
    }
}
