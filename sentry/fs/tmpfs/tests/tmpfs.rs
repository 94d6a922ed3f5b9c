//! tmpfs through the virtual file system's operations.
#![allow(clippy::unwrap_used, clippy::unimplemented, reason = "tests, and what they share")]

mod support;

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Mode};
use sentry_fs_tmpfs::memfd::{self, Memfds};
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_memory::MemfdSource;
use sentry_platform::Prot;
use sentry_vfs::{FileSystem, NewNode, OpenFlags, RenameMode, TimeChange};
use support::{READ, Shell, WRITE, ticking};

fn shell_with(options: TmpFsOptions) -> (Shell, Arc<TmpFs>) {
    let fs = TmpFs::new(options, 42, Arc::new(MemfdSource), ticking()).unwrap();
    (Shell::new(fs.clone()), fs)
}

fn shell() -> Shell {
    shell_with(TmpFsOptions::default()).0
}

#[test]
fn files_hold_what_is_written() {
    let sh = shell();
    sh.put("/a", "hello").unwrap();
    assert_eq!(sh.get("/a").unwrap(), "hello");
    let big = "0123456789abcdef".repeat(20_000);
    sh.put("a", &big).unwrap();
    assert_eq!(sh.get("/a").unwrap(), big);
    let attr = sh.stat("/a").unwrap();
    assert_eq!((attr.size, attr.nlink, attr.dev, attr.mode.0), (big.len() as u64, 1, 42, 0o644));
    assert_eq!(attr.blocks, (big.len() as u64).div_ceil(4096) * 8);
    let file = sh.open("/a", WRITE).unwrap();
    assert_eq!(file.ops.append(&sh.caller, b"xyz").unwrap(), (3, big.len() as u64 + 3));
    sh.put("/a", "").unwrap();
    assert_eq!(sh.stat("/a").unwrap().size, 0);
}

#[test]
fn link_counts() {
    let sh = shell();
    assert_eq!(sh.stat("/").unwrap().nlink, 2);
    sh.mkdir("/d").unwrap();
    sh.mkdir("/d/e").unwrap();
    assert_eq!(sh.stat("/").unwrap().nlink, 3);
    assert_eq!(sh.stat("/d").unwrap().nlink, 3);
    sh.mv("/d/e", "/e").unwrap();
    assert_eq!((sh.stat("/").unwrap().nlink, sh.stat("/d").unwrap().nlink), (4, 2));
    sh.mv("/e", "/d").unwrap();
    assert_eq!((sh.stat("/").unwrap().nlink, sh.stat("/d").unwrap().nlink), (3, 2));
    sh.put("/f", "x").unwrap();
    sh.ln("/f", "/g").unwrap();
    let file = sh.open("/f", READ).unwrap();
    assert_eq!(sh.stat("/g").unwrap().nlink, 2);
    sh.rm("/f").unwrap();
    sh.rm("/g").unwrap();
    assert_eq!(file.attr().unwrap().nlink, 0);
    assert_eq!(sh.read(&file).unwrap(), "x");
    assert_eq!(file.path.display(&sh.cx.root), b"/f (deleted)");
    sh.rmdir("/d").unwrap();
    assert_eq!(sh.stat("/").unwrap().nlink, 2);
}

#[test]
fn errors_of_names() {
    let sh = shell();
    sh.mkdir("/d").unwrap();
    sh.put("/d/f", "").unwrap();
    assert_eq!(sh.mkdir("/d"), Err(Errno::EEXIST));
    assert_eq!(sh.rmdir("/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(sh.rm("/d"), Err(Errno::EISDIR));
    assert_eq!(sh.rmdir("/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(sh.rm("/x"), Err(Errno::ENOENT));
    assert_eq!(sh.stat("/d/f/g").err(), Some(Errno::ENOTDIR));
    assert_eq!(sh.mv("/d", "/d/e"), Err(Errno::EINVAL));
    assert_eq!(sh.mv("/d/f", "/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(sh.mkdir(&format!("/{}", "n".repeat(256))), Err(Errno::ENAMETOOLONG));
    sh.mkdir(&format!("/{}", "n".repeat(255))).unwrap();
    sh.mkdir("/e").unwrap();
    assert_eq!(sh.mv("/e", "/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(sh.mv("/e", "/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(sh.mv("/d/f", "/e"), Err(Errno::EISDIR));
    assert_eq!(sh.mv_as("/e", "/d", RenameMode::NoReplace), Err(Errno::EEXIST));
    assert_eq!(sh.mv_as("/e", "/none", RenameMode::Exchange), Err(Errno::ENOENT));
    assert_eq!(sh.open("/new/", WRITE | OpenFlags::CREATE).err(), Some(Errno::EISDIR));
    assert_eq!(sh.open("/d", WRITE).err(), Some(Errno::EISDIR));
    assert_eq!(sh.open("/d/f", READ | OpenFlags::DIRECTORY).err(), Some(Errno::ENOTDIR));
    assert_eq!(sh.open("/d/f", WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE).err(), Some(Errno::EEXIST));
    assert_eq!(sh.ln("/d", "/dd"), Err(Errno::EPERM));
}

#[test]
fn rename_keeps_open_files_and_names() {
    let sh = shell();
    sh.mkdir("/a").unwrap();
    sh.mkdir("/a/b").unwrap();
    sh.put("/a/b/f", "1").unwrap();
    let file = sh.open("/a/b/f", READ).unwrap();
    sh.mv("/a/b", "/c").unwrap();
    assert_eq!(file.path.display(&sh.cx.root), b"/c/f");
    assert_eq!(sh.get("/c/f").unwrap(), "1");
    assert_eq!(sh.get("/c/../a/../c/f").unwrap(), "1");
    assert_eq!(sh.stat("/a/b").err(), Some(Errno::ENOENT));
    sh.put("/x", "x").unwrap();
    sh.mv_as("/x", "/c/f", RenameMode::Exchange).unwrap();
    assert_eq!((sh.get("/x").unwrap(), sh.get("/c/f").unwrap()), ("1".to_owned(), "x".to_owned()));
    sh.mv_as("/a", "/c/f", RenameMode::Exchange).unwrap();
    assert_eq!(sh.get("/a").unwrap(), "x");
    assert_eq!(sh.stat("/c/f").unwrap().kind, FileKind::Directory);
    assert_eq!((sh.stat("/").unwrap().nlink, sh.stat("/c").unwrap().nlink), (3, 3));
    sh.mv("/x", "/a").unwrap();
    assert_eq!(sh.get("/a").unwrap(), "1");
    assert_eq!(sh.ls("/").unwrap(), "a c");
    assert_eq!(sh.mv("/a", "/a"), Ok(()));
    sh.ln("/a", "/same").unwrap();
    assert_eq!(sh.mv("/a", "/same"), Ok(()));
    assert_eq!(sh.ls("/").unwrap(), "a c same");
}

#[test]
fn listings_survive_changes() {
    let sh = shell();
    for i in 0..300 {
        sh.put(&format!("/f{i:03}"), "").unwrap();
    }
    let dir = sh.open("/", READ).unwrap();
    let mut seen = Vec::new();
    let mut at = 0;
    loop {
        let some = sh.entries(&dir, at, 7).unwrap();
        let Some(last) = some.last() else { break };
        at = last.2;
        for (name, ino, _) in &some {
            seen.push(name.clone());
            if name.starts_with('f') {
                assert_eq!(sh.stat(name).unwrap().ino, *ino);
                sh.rm(&format!("/{name}")).unwrap();
            }
        }
        if seen.len() < 100 {
            sh.put(&format!("/late{}", seen.len()), "").unwrap();
        }
    }
    assert_eq!(seen.iter().filter(|n| n.starts_with('f')).count(), 300);
    seen.sort();
    let before = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), before);
    assert_eq!(seen[0], ".");
}

#[test]
fn a_removed_directory_takes_nothing_more() {
    let sh = shell();
    sh.mkdir("/d").unwrap();
    let dir = sh.open("/d", READ).unwrap();
    sh.rmdir("/d").unwrap();
    let node = NewNode { kind: FileKind::Regular, mode: Mode(0o600), uid: 0, gid: 0, rdev: 0 };
    assert_eq!(dir.path.inode().create(b"x", &node).err(), Some(Errno::ENOENT));
    let inside = sentry_vfs::mkdir(&sh.cx, &dir.path, b"x", Mode(0o777));
    assert_eq!(inside, Err(Errno::ENOENT));
    assert_eq!(sh.entries(&dir, 0, 9).err(), Some(Errno::ENOENT));
}

#[test]
fn size_and_inode_limits() {
    let (sh, fs) = shell_with(TmpFsOptions { size: Some(16 * 4096), nr_inodes: Some(4), ..TmpFsOptions::default() });
    let file = sh.open("/a", WRITE | OpenFlags::CREATE).unwrap();
    assert_eq!(file.ops.write(&sh.caller, 0, &[1; 20 * 4096]).unwrap(), 16 * 4096);
    assert_eq!(file.ops.write(&sh.caller, 16 * 4096, b"x"), Err(Errno::ENOSPC));
    assert_eq!(file.ops.write(&sh.caller, 5, b"x"), Ok(1));
    let stat = fs.stat_fs().unwrap();
    assert_eq!((stat.kind, stat.blocks, stat.bfree, stat.files, stat.ffree), (0x0102_1994, 16, 0, 4, 2));
    file.ops.truncate(10 * 4096).unwrap();
    assert_eq!(fs.stat_fs().unwrap().bfree, 6);
    // Holes cost nothing, what is written into them does.
    file.ops.truncate(1000 * 4096).unwrap();
    assert_eq!(fs.stat_fs().unwrap().bfree, 6);
    assert_eq!(file.ops.write(&sh.caller, 500 * 4096, &[1; 4 * 4096]).unwrap(), 4 * 4096);
    assert_eq!(fs.stat_fs().unwrap().bfree, 2);
    assert_eq!(file.ops.allocate(0, 600 * 4096, 3 * 4096), Err(Errno::ENOSPC));
    file.ops.allocate(3, 500 * 4096, 4 * 4096).unwrap();
    assert_eq!(fs.stat_fs().unwrap().bfree, 6);
    assert_eq!(fs.reconfigure(b"size=4k", 1 << 30), Err(Errno::EINVAL));
    fs.reconfigure(b"size=128k", 1 << 30).unwrap();
    assert_eq!(fs.stat_fs().unwrap().blocks, 32);
    sh.put("/b", "").unwrap();
    sh.mkdir("/c").unwrap();
    assert_eq!(sh.put("/d", ""), Err(Errno::ENOSPC));
    sh.rm("/a").unwrap();
    // Still open: still counted.
    assert_eq!(sh.put("/d", ""), Err(Errno::ENOSPC));
    drop(file);
    sh.put("/d", "").unwrap();
    assert_eq!(fs.stat_fs().unwrap().bfree, 32);
}

#[test]
fn holes_are_found() {
    let sh = shell();
    let file = sh.open("/a", WRITE | OpenFlags::CREATE).unwrap();
    sh.write(&file, 0, &[1; 4096]).unwrap();
    sh.write(&file, 1 << 20, &[1; 4096]).unwrap();
    assert_eq!(file.ops.seek_data_or_hole(0, true), Ok(4096));
    assert_eq!(file.ops.seek_data_or_hole(4096, false), Ok(1 << 20));
    assert_eq!(file.ops.seek_data_or_hole(2 << 20, false), Err(Errno::ENXIO));
    assert_eq!(file.attr().unwrap().blocks, 16);
}

#[test]
fn times_follow_what_happens() {
    let sh = shell();
    sh.put("/f", "abc").unwrap();
    let made = sh.stat("/f").unwrap();
    let dir = sh.stat("/").unwrap();
    assert_eq!(sh.get("/f").unwrap(), "abc");
    let read = sh.stat("/f").unwrap();
    assert!(read.atime > made.atime && read.mtime == made.mtime && read.ctime == made.ctime);
    sh.chmod("/f", 0o600).unwrap();
    let changed = sh.stat("/f").unwrap();
    assert!(changed.ctime > read.ctime && changed.mtime == read.mtime);
    sh.mv("/f", "/g").unwrap();
    assert!(sh.stat("/g").unwrap().ctime > changed.ctime);
    assert!(sh.stat("/").unwrap().mtime > dir.mtime);
    let at = sentry_abi::Timespec::new(77, 123_456_789);
    sentry_vfs::set_times(&sh.cx, &sh.path("/g").unwrap(), Some(TimeChange::At(at)), Some(TimeChange::At(at))).unwrap();
    let set = sh.stat("/g").unwrap();
    assert_eq!((set.atime, set.mtime), (at, at));
}

#[test]
fn extended_attributes() {
    let sh = shell();
    sh.put("/f", "").unwrap();
    let at = sh.path("/f").unwrap();
    let set = |name: &str, value: &[u8], create, replace| sentry_vfs::set_xattr(&sh.cx, &at, name.as_bytes(), value, create, replace);
    let get = |name: &str| sentry_vfs::get_xattr(&sh.cx, &at, name.as_bytes());
    set("user.a", b"1", true, false).unwrap();
    assert_eq!(set("user.a", b"2", true, false), Err(Errno::EEXIST));
    assert_eq!(set("user.b", b"2", false, true), Err(Errno::ENODATA));
    set("user.a", b"2", false, true).unwrap();
    set("trusted.t", b"t", false, false).unwrap();
    set("security.s", b"", false, false).unwrap();
    assert_eq!(get("user.a").unwrap(), b"2");
    assert_eq!(get("user.none"), Err(Errno::ENODATA));
    assert_eq!(get("system.posix_acl_access"), Err(Errno::EOPNOTSUPP));
    assert_eq!(get("what.ever"), Err(Errno::EOPNOTSUPP));
    assert_eq!(get("user."), Err(Errno::EINVAL));
    assert_eq!(set("user.big", &vec![0; 65537], false, false), Err(Errno::E2BIG));
    set("user.big", &vec![0; 65536], false, false).unwrap();
    assert_eq!(set("user.big2", &vec![0; 65536], false, false), Err(Errno::ENOSPC));
    let names = sentry_vfs::list_xattr(&sh.cx, &at).unwrap();
    assert_eq!(names.len(), 4);
    let other = sh.as_user(7);
    assert_eq!(sentry_vfs::list_xattr(&other.cx, &at).unwrap().len(), 3);
    assert_eq!(sentry_vfs::get_xattr(&other.cx, &at, b"trusted.t"), Err(Errno::ENODATA));
    assert_eq!(sentry_vfs::set_xattr(&other.cx, &at, b"user.a", b"", false, false), Err(Errno::EACCES));
    sentry_vfs::remove_xattr(&sh.cx, &at, b"user.a").unwrap();
    assert_eq!(sentry_vfs::remove_xattr(&sh.cx, &at, b"user.a"), Err(Errno::ENODATA));
}

#[test]
fn unnamed_files_may_get_a_name_once() {
    let sh = shell();
    sh.mkdir("/d").unwrap();
    let flags = OpenFlags::READ_WRITE | OpenFlags::TEMPORARY | OpenFlags::DIRECTORY;
    let file = sh.open("/d", flags).unwrap();
    sh.write(&file, 0, b"data").unwrap();
    assert_eq!(file.attr().unwrap().nlink, 0);
    assert_eq!(sh.ls("/d").unwrap(), "");
    sentry_vfs::link(&sh.cx, &file.path, &sh.cx.cwd, b"/d/named").unwrap();
    assert_eq!(sh.get("/d/named").unwrap(), "data");
    assert_eq!(file.attr().unwrap().nlink, 1);
    sh.rm("/d/named").unwrap();
    assert_eq!(sentry_vfs::link(&sh.cx, &file.path, &sh.cx.cwd, b"/d/again"), Err(Errno::ENOENT));
    assert_eq!(sh.open("/d", OpenFlags::TEMPORARY | OpenFlags::DIRECTORY).err(), Some(Errno::EINVAL));
}

#[test]
fn nodes_of_every_kind() {
    let sh = shell();
    for (name, kind, rdev) in
        [("p", FileKind::Fifo, 0), ("s", FileKind::Socket, 0), ("c", FileKind::CharDevice, 0x103), ("b", FileKind::BlockDevice, 0x800)]
    {
        sentry_vfs::mknod(&sh.cx, &sh.cx.cwd, name.as_bytes(), kind, Mode(0o640), rdev).unwrap();
        let attr = sh.stat(name).unwrap();
        assert_eq!((attr.kind, attr.rdev, attr.mode.0, attr.nlink), (kind, rdev, 0o640, 1));
    }
    assert_eq!(sh.open("/s", READ).err(), Some(Errno::ENXIO));
    assert_eq!(sh.open("/c", READ).err(), Some(Errno::ENXIO));
    sh.symlink("c", "/l").unwrap();
    assert_eq!((sh.lstat("/l").unwrap().kind, sh.lstat("/l").unwrap().size), (FileKind::Symlink, 1));
    assert_eq!(sentry_vfs::read_link(&sh.cx, &sh.cx.cwd, b"/l").unwrap(), b"c");
}

#[test]
fn mappings_have_the_rights_of_the_open() {
    let sh = shell();
    let file = sh.open("/a", OpenFlags::READ_WRITE | OpenFlags::CREATE).unwrap();
    sh.write(&file, 0, b"mapped").unwrap();
    let write = file.ops.mapping(true).unwrap();
    assert!(write.max_prot.contains(Prot::WRITE));
    assert_eq!(write.label.id(), (42, file.attr().unwrap().ino));
    let read = file.mapping(false, &sh.cx.root).unwrap();
    assert_eq!(read.label.path().unwrap(), b"/a");
    sh.mv("/a", "/b").unwrap();
    assert_eq!(read.label.path().unwrap(), b"/b");
    assert!(!read.max_prot.contains(Prot::WRITE));
    // What is written through the host file is the file's contents.
    let mut text = [0; 6];
    let host = std::fs::File::from(read.fd.try_clone().unwrap());
    std::os::unix::fs::FileExt::read_exact_at(&host, &mut text, 0).unwrap();
    assert_eq!(&text, b"mapped");
}

#[test]
fn deep_trees_end_without_recursion() {
    let (sh, fs) = shell_with(TmpFsOptions::default());
    let mut at = sh.cx.root.clone();
    for _ in 0..60_000 {
        sentry_vfs::mkdir(&sh.cx, &at, b"d", Mode(0o777)).unwrap();
        let dentry = at.dentry.child(b"d").unwrap();
        at = sentry_vfs::Path::new(at.mount.clone(), dentry);
    }
    assert_eq!(at.parent(&sh.cx.root).dentry.name(), b"d");
    let weak = Arc::downgrade(&fs);
    drop(fs);
    drop(at);
    drop(sh);
    // Nothing of the dropped mount holds the file system.
    assert!(weak.upgrade().is_none());
}

#[test]
fn memfds_and_seals() {
    const SEAL: u32 = 1;
    const SHRINK: u32 = 2;
    const GROW: u32 = 4;
    const WRITE_SEAL: u32 = 8;
    let sh = shell();
    let memfds = Memfds::new(7, Arc::new(MemfdSource), ticking()).unwrap();
    let file = memfds.create(b"name", 2, 1, 2).unwrap();
    assert_eq!(file.path.display(&sh.cx.root), b"/memfd:name (deleted)");
    let attr = file.attr().unwrap();
    assert_eq!((attr.mode.0, attr.uid, attr.gid, attr.nlink, attr.dev), (0o777, 1, 2, 0, 7));
    sh.write(&file, 0, b"abc").unwrap();
    assert_eq!(memfd::seals(&file), Ok(0));
    memfd::add_seals(&file, SHRINK).unwrap();
    assert_eq!(file.ops.truncate(1), Err(Errno::EPERM));
    file.ops.truncate(5).unwrap();
    memfd::add_seals(&file, GROW).unwrap();
    assert_eq!(file.ops.write(&sh.caller, 3, b"abc"), Err(Errno::EPERM));
    assert_eq!(file.ops.write(&sh.caller, 2, b"abc"), Ok(3));
    let mapping = file.ops.mapping(true).unwrap();
    assert_eq!(memfd::add_seals(&file, WRITE_SEAL), Err(Errno::EBUSY));
    let copy = mapping.clone();
    drop(mapping);
    assert_eq!(memfd::add_seals(&file, WRITE_SEAL), Err(Errno::EBUSY));
    drop(copy);
    memfd::add_seals(&file, WRITE_SEAL | SEAL).unwrap();
    assert_eq!(memfd::add_seals(&file, SHRINK), Err(Errno::EPERM));
    assert_eq!(file.ops.write(&sh.caller, 0, b"x"), Err(Errno::EPERM));
    assert!(!file.ops.mapping(true).unwrap().max_prot.contains(Prot::WRITE));
    assert_eq!(memfd::seals(&file), Ok(15));
    assert_eq!(memfd::seals(&memfds.create(b"", 0, 0, 0).unwrap()), Ok(SEAL));
    assert_eq!(memfds.create(b"", 4, 0, 0).err(), Some(Errno::EINVAL));
    assert_eq!(memfds.create(&[b'n'; 250], 0, 0, 0).err(), Some(Errno::EINVAL));
    sh.put("/f", "").unwrap();
    assert_eq!(memfd::seals(&sh.open("/f", READ).unwrap()), Ok(SEAL));
}
