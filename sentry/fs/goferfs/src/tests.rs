//! The file system over a real gofer on a temporary directory.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gofer_client::GoferClient;
use gofer_proto::Rights;
use gofer_server::{Gofer, Submounts, TreeConfig};
use sentry_abi::{Errno, FileKind, Mode, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_ipc::seqpacket_pair;
use sentry_vfs::{AttrChange, Caller, FileDescription, FileSystem, Inode, JobControl, NewNode, OpenHow, RenameMode, TimeChange};

use crate::{GoferFs, GoferFsConfig, Sharing};

struct Nobody;

impl Caller for Nobody {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::new(0, 0, &[], Caps::empty()))
    }
    fn pid(&self) -> i32 {
        1
    }
    fn copy_in(&self, _: UserAddr, _: &mut [u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }
    fn copy_out(&self, _: UserAddr, _: &[u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }
    fn signal_self(&self, _: Signal) {}
    fn job_control(&self) -> &dyn JobControl {
        unreachable!("not a terminal")
    }
    fn now(&self) -> Timespec {
        Timespec::default()
    }
    fn install_file(&self, _: Arc<FileDescription>, _: bool) -> Result<i32> {
        Err(Errno::EMFILE)
    }
}

struct Rig {
    fs: Arc<GoferFs>,
    dir: PathBuf,
}

impl Rig {
    fn new(sharing: Sharing, rights: Rights, max_files: usize) -> Rig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join(format!("goferfs-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).expect("scratch directory");
        Rig::on(dir, sharing, rights, max_files)
    }

    fn on(dir: PathBuf, sharing: Sharing, rights: Rights, max_files: usize) -> Rig {
        let root = fs::File::open(&dir).expect("opens").into();
        let tree = TreeConfig { root, writable_file: None, rights, submounts: Submounts::Enter };
        let gofer = Arc::new(Gofer::new(vec![tree], 1024).expect("gofer"));
        let mut sockets = Vec::new();
        for _ in 0..2 {
            let (ours, theirs) = seqpacket_pair().expect("pair");
            sockets.push(ours);
            let gofer = gofer.clone();
            std::thread::spawn(move || gofer.serve_channel(theirs));
        }
        let client = GoferClient::connect(sockets).expect("connects");
        let fs = GoferFs::new(&client, &GoferFsConfig { tree: 0, sharing, device: 77, max_files }).expect("attaches");
        Rig { fs, dir }
    }

    fn exclusive() -> Rig {
        Rig::new(Sharing::Exclusive, Rights::ReadWrite, 256)
    }

    fn shared() -> Rig {
        Rig::new(Sharing::Shared, Rights::ReadWrite, 256)
    }

    fn find(&self, path: &str) -> Result<Arc<dyn Inode>> {
        let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let mut at = self.fs.root();
        at.prefetch(&names);
        for name in names {
            at = at.lookup(name)?;
        }
        Ok(at)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.dir.join(path), text).expect("writes");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.dir.starts_with(std::env::temp_dir()) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

const READ: OpenHow = OpenHow { read: true, write: false, truncated: false, nonblocking: false };
const WRITE: OpenHow = OpenHow { read: true, write: true, truncated: false, nonblocking: false };

fn new_file() -> NewNode {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    NewNode { kind: FileKind::Regular, mode: Mode(0o640), uid, gid, rdev: 0 }
}

fn read(inode: &Arc<dyn Inode>) -> Result<String> {
    let file = inode.clone().open(&READ, &Nobody)?;
    let mut bytes = vec![0; 100];
    let n = file.read(&Nobody, 0, &mut bytes)?;
    bytes.truncate(n);
    Ok(String::from_utf8(bytes).expect("text"))
}

fn list(dir: &Arc<dyn Inode>) -> Vec<String> {
    let file = dir.clone().open(&READ, &Nobody).expect("opens");
    let mut names = Vec::new();
    let mut from = 0;
    loop {
        let before = names.len();
        // Three at a time, as a small buffer would.
        file.iterate(&Nobody, from, &mut |entry| {
            if names.len() - before == 3 {
                return ControlFlow::Break(());
            }
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            from = entry.next;
            ControlFlow::Continue(())
        })
        .expect("iterates");
        if names.len() == before {
            names.sort();
            return names;
        }
    }
}

#[test]
fn files_are_read_and_known_ones_need_no_gofer() {
    let rig = Rig::new(Sharing::Exclusive, Rights::ReadOnly, 256);
    fs::create_dir_all(rig.dir.join("a/b")).expect("dirs");
    rig.write("a/b/file", "text");
    std::os::unix::fs::symlink("b/file", rig.dir.join("a/link")).expect("link");
    let file = rig.find("a/b/file").expect("finds");
    assert_eq!(read(&file).expect("reads"), "text");
    assert_eq!(rig.find("a/link").expect("finds").read_link().expect("link"), b"b/file");
    let attr = file.attr().expect("attr");
    assert_eq!((attr.dev, attr.size, attr.kind), (77, 4, FileKind::Regular));
    assert_eq!(rig.find("a/none").err(), Some(Errno::ENOENT));
    assert_eq!(rig.find("a/b/file/x").err(), Some(Errno::ENOTDIR));
    // Exclusive: what the host does meanwhile is not seen, since nothing is asked again.
    fs::rename(rig.dir.join("a"), rig.dir.join("gone")).expect("renames");
    let again = rig.find("a/b/file").expect("finds");
    assert!(Arc::ptr_eq(&again, &file));
    assert_eq!(read(&again).expect("reads"), "text");
    assert_eq!(rig.find("gone").err(), None);
    assert_eq!(file.clone().open(&WRITE, &Nobody).err(), Some(Errno::EROFS));
}

#[test]
fn a_shared_tree_is_asked_again() {
    let rig = Rig::shared();
    fs::create_dir(rig.dir.join("d")).expect("dir");
    rig.write("d/file", "one");
    let root = rig.fs.root();
    let dir = rig.find("d").expect("finds");
    let file = rig.find("d/file").expect("finds");
    assert_eq!(read(&file).expect("reads"), "one");
    rig.write("d/other", "second");
    fs::rename(rig.dir.join("d/other"), rig.dir.join("d/file")).expect("renames");
    std::thread::sleep(crate::FRESH * 2);
    assert!(!dir.still_valid(b"file", &file));
    assert!(root.still_valid(b"d", &dir));
    assert_eq!(read(&rig.find("d/file").expect("finds")).expect("reads"), "second");
    assert_eq!(file.attr().expect("by descriptor").nlink, 0);
    fs::remove_file(rig.dir.join("d/file")).expect("removes");
    std::thread::sleep(crate::FRESH * 2);
    assert_eq!(rig.find("d/file").err(), Some(Errno::ENOENT));
    rig.write("d/file", "third");
    std::thread::sleep(crate::FRESH * 2);
    assert_eq!(rig.find("d/file").expect("finds").attr().expect("attr").size, 5);
}

#[test]
fn listings_hold_everything_and_follow_changes() {
    for rig in [Rig::exclusive(), Rig::shared()] {
        for index in 0..700 {
            rig.write(&format!("file-{index}"), "x");
        }
        let root = rig.fs.root();
        assert_eq!(list(&root).len(), 702);
        root.create(b"new", &new_file()).expect("creates");
        root.unlink(b"file-3").expect("unlinks");
        let names = list(&root);
        assert_eq!(names.len(), 702);
        assert!(names.contains(&"new".to_owned()) && !names.contains(&"file-3".to_owned()));
        // Found from the listing, by name only; then opened in one message.
        assert_eq!(read(&root.lookup(b"file-9").expect("finds")).expect("reads"), "x");
        assert_eq!(root.lookup(b"file-3").err(), Some(Errno::ENOENT));
    }
}

#[test]
fn misses_make_a_directory_listed() {
    let rig = Rig::exclusive();
    let root = rig.fs.root();
    for index in 0..4 {
        assert_eq!(root.lookup(format!("none-{index}").as_bytes()).err(), Some(Errno::ENOENT));
    }
    // Behind our back, to see that it is no longer asked for.
    rig.write("late", "x");
    assert_eq!(root.lookup(b"late").err(), Some(Errno::ENOENT));
    root.create(b"mine", &new_file()).expect("creates");
    root.lookup(b"mine").expect("finds");
}

#[test]
fn writing_is_seen_in_attributes() {
    let rig = Rig::exclusive();
    let root = rig.fs.root();
    let inode = root.create(b"file", &new_file()).expect("creates");
    assert_eq!(inode.attr().expect("attr").mode, Mode(0o640));
    let file = inode.clone().open(&WRITE, &Nobody).expect("opens");
    assert_eq!(file.write(&Nobody, 2, b"abc").expect("writes"), 3);
    assert_eq!(inode.attr().expect("attr").size, 5);
    assert_eq!(file.append(&Nobody, b"de").expect("appends"), (2, 7));
    file.truncate(6).expect("truncates");
    let change = AttrChange { mode: Some(Mode(0o600)), mtime: Some(TimeChange::At(Timespec::new(9, 8))), ..AttrChange::default() };
    inode.set_attr(&change).expect("changes");
    let attr = inode.attr().expect("attr");
    assert_eq!((attr.size, attr.mode, attr.mtime), (6, Mode(0o600), Timespec::new(9, 8)));
    assert_eq!(fs::read(rig.dir.join("file")).expect("reads"), b"\0\0abcd");
    assert_eq!(root.create(b"file", &new_file()).err(), Some(Errno::EEXIST));
    let map = file.mapping(true).expect("maps");
    assert_eq!(map.label.id(), (77, attr.ino));
    let flags = rustix::fs::fcntl_getfl(&file.mapping(false).expect("maps").fd).expect("flags");
    assert_eq!(flags & rustix::fs::OFlags::RWMODE, rustix::fs::OFlags::RDONLY);
    assert!(!Arc::ptr_eq(&map.fd, &file.mapping(false).expect("maps").fd));
    root.unlink(b"file").expect("unlinks");
    assert_eq!(file.attr().expect("own").expect("attr").nlink, 0);
    assert_eq!(file.read(&Nobody, 0, &mut [0; 10]).expect("reads"), 6);
}

#[test]
fn names_move_and_multiply() {
    let rig = Rig::exclusive();
    let root = rig.fs.root();
    let made = root.create(b"tmp", &new_file()).expect("creates");
    made.clone().open(&WRITE, &Nobody).expect("opens").write(&Nobody, 0, b"data").expect("writes");
    // As git does: link, then unlink the first name, then open by the second.
    root.link(b"final", &made).expect("links");
    assert_eq!(made.attr().expect("attr").nlink, 2);
    root.unlink(b"tmp").expect("unlinks");
    drop(made);
    assert_eq!(read(&root.lookup(b"final").expect("finds")).expect("reads"), "data");
    let dir = root.create(b"dir", &NewNode { kind: FileKind::Directory, mode: Mode(0o755), ..new_file() }).expect("makes");
    root.rename(b"final", &dir, b"moved", RenameMode::Replace).expect("moves");
    assert_eq!(root.lookup(b"final").err(), Some(Errno::ENOENT));
    let moved = dir.lookup(b"moved").expect("finds");
    assert_eq!(moved.attr().expect("attr").nlink, 1);
    root.create(b"other", &new_file()).expect("creates");
    assert_eq!(root.rename(b"other", &dir, b"moved", RenameMode::NoReplace).err(), Some(Errno::EEXIST));
    root.rename(b"other", &dir, b"moved", RenameMode::Exchange).expect("exchanges");
    assert_eq!(read(&root.lookup(b"other").expect("finds")).expect("reads"), "data");
    assert_eq!(dir.lookup(b"moved").expect("finds").attr().expect("attr").size, 0);
    assert_eq!(root.rmdir(b"dir").err(), Some(Errno::ENOTEMPTY));
    root.rename(b"other", &dir, b"moved", RenameMode::Replace).expect("replaces");
    // A directory that moved still leads to what is in it.
    root.rename(b"dir", &root, b"dir2", RenameMode::Replace).expect("moves");
    rig.find("dir2").expect("finds").create(b"more", &new_file()).expect("creates");
    assert_eq!(fs::read(rig.dir.join("dir2/moved")).expect("reads"), b"data");
    assert!(rig.dir.join("dir2/more").exists());
    root.symlink(b"link", b"dir2", 0, 0).expect("links");
    assert_eq!(root.lookup(b"link").expect("finds").read_link().expect("reads"), b"dir2");
}

#[test]
fn a_very_deep_tree_is_dropped() {
    let rig = Rig::exclusive();
    let mut dir = rig.fs.root();
    for _ in 0..6_000 {
        dir = dir.create(b"d", &NewNode { kind: FileKind::Directory, mode: Mode(0o755), ..new_file() }).expect("makes");
    }
    drop(dir);
    std::process::Command::new("rm").arg("-rf").arg(rig.dir.join("d")).status().expect("rm");
}

#[test]
fn descriptors_are_bounded() {
    let rig = Rig::new(Sharing::Exclusive, Rights::ReadOnly, 8);
    for index in 0..40 {
        rig.write(&format!("f{index}"), "x");
    }
    let inodes: Vec<_> = (0..40).map(|index| rig.find(&format!("f{index}")).expect("finds")).collect();
    for inode in &inodes {
        assert_eq!(read(inode).expect("reads"), "x");
    }
    let open: Vec<_> = inodes.iter().map_while(|inode| inode.clone().open(&READ, &Nobody).ok()).collect();
    assert_eq!(open.len(), 8);
    assert_eq!(inodes[20].clone().open(&READ, &Nobody).err(), Some(Errno::ENFILE));
    drop(open);
    inodes[20].clone().open(&READ, &Nobody).expect("opens");
}

#[test]
fn special_files_are_names_only() {
    let rig = Rig::exclusive();
    let root = rig.fs.root();
    let fifo = root.create(b"fifo", &NewNode { kind: FileKind::Fifo, ..new_file() }).expect("makes");
    assert_eq!(fifo.clone().open(&READ, &Nobody).err(), Some(Errno::ENXIO));
    assert_eq!(root.create(b"null", &NewNode { kind: FileKind::CharDevice, rdev: 0x103, ..new_file() }).err(), Some(Errno::EPERM));
    assert_eq!(fifo.get_xattr(b"user.x").err(), Some(Errno::ENODATA));
    assert_eq!(root.get_xattr(b"system.posix_acl_access").err(), Some(Errno::EOPNOTSUPP));
    assert!(rig.fs.stat_fs().expect("statfs").blocks > 0);
}

/// Walks the machine's own /usr through the file system and compares with the host. Slow, so by hand: `cargo test -p sentry-fs-goferfs -- --ignored`.
#[test]
#[ignore = "reads all of /usr; run by hand"]
fn the_hosts_usr_is_seen_as_it_is() {
    let rig = Rig::on(PathBuf::from("/usr"), Sharing::Exclusive, Rights::ReadOnly, 256);
    let began = std::time::Instant::now();
    let mut todo = vec![(rig.fs.root(), PathBuf::from("/usr"))];
    let (mut files, mut bytes) = (0_u64, 0_u64);
    while let Some((dir, path)) = todo.pop() {
        let names = list(&dir);
        let mut host: Vec<_> =
            fs::read_dir(&path).expect("reads").map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        host.extend([".".to_owned(), "..".to_owned()]);
        host.sort();
        assert_eq!(names, host, "{path:?}");
        for name in names.iter().filter(|n| *n != "." && *n != "..") {
            let (inode, path) = (dir.lookup(name.as_bytes()).expect("finds"), path.join(name));
            let (attr, meta) = (inode.attr().expect("attr"), fs::symlink_metadata(&path).expect("stat"));
            use std::os::unix::fs::MetadataExt;
            assert_eq!(
                (attr.full_mode(), attr.size, attr.ino, attr.mtime.sec),
                (meta.mode(), meta.size(), meta.ino(), meta.mtime()),
                "{path:?}"
            );
            files += 1;
            match attr.kind {
                FileKind::Directory => todo.push((inode, path)),
                FileKind::Symlink => {
                    assert_eq!(inode.read_link().expect("link"), fs::read_link(&path).expect("link").as_os_str().as_encoded_bytes())
                }
                FileKind::Regular => {
                    let mut buffer = [0; 4096];
                    bytes += inode.open(&READ, &Nobody).expect("opens").read(&Nobody, 0, &mut buffer).expect("reads") as u64;
                }
                _ => {}
            }
        }
    }
    eprintln!("{files} files, first pages {bytes} bytes, {:?}", began.elapsed());
}

#[test]
fn a_file_that_loses_one_name_is_known_by_the_other() {
    let rig = Rig::exclusive();
    let root = rig.fs.root();
    let file = root.create(b"a", &new_file()).expect("creates");
    root.link(b"b", &file).expect("links");
    assert!(Arc::ptr_eq(&rig.find("b").expect("finds"), &file));
    root.unlink(b"b").expect("unlinks");
    // Whoever holds the file by its first name does not look it up again.
    let change = AttrChange { mode: Some(Mode(0o600)), ..AttrChange::default() };
    file.set_attr(&change).expect("changes");
    root.rename(b"a", &root, b"c", RenameMode::Replace).expect("renames");
    file.set_attr(&change).expect("changes");
    assert_eq!(file.attr().expect("attr").nlink, 1);
}

#[test]
fn a_walked_tree_is_listed_ahead_and_stays_true() {
    let rig = Rig::exclusive();
    for index in 0..40 {
        std::fs::create_dir(rig.dir.join(format!("d{index:02}"))).expect("makes");
        rig.write(&format!("d{index:02}/only-{index}"), "x");
    }
    let root = rig.fs.root();
    assert_eq!(list(&root).len(), 42);
    for index in 0..4 {
        assert!(list(&root.lookup(format!("d{index:02}").as_bytes()).expect("finds")).contains(&format!("only-{index}")));
    }
    // Behind our back, which an exclusive tree does not expect: proof that what follows was there before.
    std::fs::remove_file(rig.dir.join("d05/only-5")).expect("removes");
    assert!(list(&root.lookup(b"d05").expect("finds")).contains(&"only-5".to_owned()));
    // A change of ours is seen.
    let next = root.lookup(b"d06").expect("finds");
    next.create(b"more", &new_file()).expect("creates");
    assert_eq!(list(&next).len(), 4);
    for index in 7..40 {
        assert!(list(&root.lookup(format!("d{index:02}").as_bytes()).expect("finds")).contains(&format!("only-{index}")));
    }
}
