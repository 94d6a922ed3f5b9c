//! Path walk, permissions, dentries and mounts of the virtual file system, on a tmpfs.
#![allow(clippy::unwrap_used, clippy::unimplemented, reason = "tests, and what they share")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sentry_abi::{Errno, FileKind, Mode};
use sentry_auth::Access;
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_memory::MemfdSource;
use sentry_vfs::{Dentry, Follow, Mount, MountFlags, OpenFlags, Walk, WatchEvent, WatchSink, open, resolve, watch_event};
use support::{READ, Shell, WRITE, ticking};

fn tmpfs() -> Arc<TmpFs> {
    TmpFs::new(TmpFsOptions { mode: Mode(0o755), ..TmpFsOptions::default() }, 9, Arc::new(MemfdSource), ticking()).unwrap()
}

fn shell() -> Shell {
    Shell::new(tmpfs())
}

#[test]
fn links_are_followed_and_bounded() {
    let sh = shell();
    sh.mkdir("/d").unwrap();
    sh.put("/d/f", "1").unwrap();
    sh.symlink("d", "/l").unwrap();
    sh.symlink("/l/f", "/d/abs").unwrap();
    sh.symlink("../l/abs", "/d/rel").unwrap();
    assert_eq!(sh.get("/l/rel").unwrap(), "1");
    assert_eq!(sh.get("l/../l/./rel").unwrap(), "1");
    assert_eq!(sh.lstat("/l").unwrap().kind, FileKind::Symlink);
    assert_eq!(sh.lstat("/l/").unwrap().kind, FileKind::Directory);
    sh.symlink("loop", "/loop").unwrap();
    assert_eq!(sh.stat("/loop").err(), Some(Errno::ELOOP));
    assert_eq!(sh.open("/l", READ | OpenFlags::NO_FOLLOW).err(), Some(Errno::ELOOP));
    // A link to nothing is where a file is made.
    sh.symlink("d/new", "/dangling").unwrap();
    assert_eq!(sh.stat("/dangling").err(), Some(Errno::ENOENT));
    sh.put("/dangling", "2").unwrap();
    assert_eq!(sh.get("/d/new").unwrap(), "2");
    assert_eq!(sh.open("/dangling", WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE).err(), Some(Errno::EEXIST));
    let mut last = "d".to_owned();
    for i in 0..41 {
        sh.symlink(&last, &format!("/c{i}")).unwrap();
        last = format!("c{i}");
    }
    assert!(sh.stat("/c39").is_ok());
    assert_eq!(sh.stat("/c40").err(), Some(Errno::ELOOP));
    assert_eq!(sh.stat("").err(), Some(Errno::ENOENT));
    assert_eq!(sh.stat(&"a/".repeat(2048)).err(), Some(Errno::ENAMETOOLONG));
}

#[test]
fn walks_stay_where_they_are_told() {
    let sh = shell();
    sh.mkdir("/box").unwrap();
    sh.mkdir("/box/in").unwrap();
    sh.put("/secret", "s").unwrap();
    sh.put("/box/f", "f").unwrap();
    sh.symlink("/secret", "/box/abs").unwrap();
    sh.symlink("../secret", "/box/up").unwrap();
    sh.symlink("../f", "/box/in/ok").unwrap();
    sh.symlink("/f", "/box/root").unwrap();
    let start = sh.path("/box").unwrap();
    let try_it = |path: &str, walk| resolve(&sh.cx, &start, path.as_bytes(), Follow::Yes, walk).map(|p| p.display(&sh.cx.root));
    assert_eq!(try_it("../secret", Walk::BENEATH), Err(Errno::EXDEV));
    assert_eq!(try_it("up", Walk::BENEATH), Err(Errno::EXDEV));
    assert_eq!(try_it("abs", Walk::BENEATH), Err(Errno::EXDEV));
    assert_eq!(try_it("in/ok", Walk::BENEATH), Ok(b"/box/f".to_vec()));
    assert_eq!(try_it("in/ok", Walk::NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(try_it("root", Walk::IN_ROOT), Ok(b"/box/f".to_vec()));
    assert_eq!(try_it("../../f", Walk::IN_ROOT), Ok(b"/box/f".to_vec()));
    assert_eq!(try_it("abs", Walk::IN_ROOT), Err(Errno::ENOENT));
    let made = open(&sh.cx, &sh.caller, &start, b"abs", WRITE | OpenFlags::CREATE, Mode(0o600), Walk::IN_ROOT).unwrap();
    assert_eq!(made.path.display(&sh.cx.root), b"/box/secret");
    // chroot: ".." stops at the root.
    let mut jailed = sh.cx.clone();
    jailed.root = start.clone();
    jailed.cwd = start.clone();
    assert_eq!(resolve(&jailed, &start, b"/../../f", Follow::Yes, Walk::empty()).unwrap().display(&jailed.root), b"/f");
    assert_eq!(sh.path("/secret").unwrap().display(&jailed.root), b"(unreachable)/secret".to_vec());
}

#[test]
fn rights_are_checked() {
    let sh = shell();
    let joe = sh.as_user(7);
    sh.mkdir("/d").unwrap();
    sh.put("/d/f", "x").unwrap();
    sh.chmod("/d/f", 0o640).unwrap();
    assert_eq!(joe.get("/d/f").err(), Some(Errno::EACCES));
    assert_eq!(joe.put("/d/new", ""), Err(Errno::EACCES));
    assert_eq!(joe.rm("/d/f"), Err(Errno::EACCES));
    assert_eq!(joe.chmod("/d/f", 0o777), Err(Errno::EPERM));
    assert_eq!(joe.chown("/d/f", 7, 7), Err(Errno::EPERM));
    sh.chown("/d/f", 7, 7).unwrap();
    assert_eq!(joe.get("/d/f").unwrap(), "x");
    sh.chmod("/d", 0o700).unwrap();
    assert_eq!(joe.stat("/d/f").err(), Some(Errno::EACCES));
    sh.chmod("/d", 0o1777).unwrap();
    sh.put("/d/root", "").unwrap();
    assert_eq!(joe.rm("/d/root"), Err(Errno::EPERM));
    assert_eq!(joe.mv("/d/root", "/d/mine"), Err(Errno::EPERM));
    joe.put("/d/own", "").unwrap();
    assert_eq!(joe.stat("/d/own").unwrap().uid, 7);
    // Sticky and shared: somebody else's files and links are not for O_CREAT and following.
    let eve = sh.as_user(8);
    sh.chmod("/d/own", 0o666).unwrap();
    assert_eq!(eve.put("/d/own", "evil"), Err(Errno::EACCES));
    sh.put("/target", "t").unwrap();
    eve.symlink("/target", "/d/trap").unwrap();
    assert_eq!(joe.get("/d/trap").err(), Some(Errno::EACCES));
    assert_eq!(eve.get("/d/trap").unwrap(), "t");
    assert_eq!(joe.put("/d/trap", ""), Err(Errno::EACCES));
    assert_eq!(joe.ln("/target", "/d/hard"), Err(Errno::EPERM));
    joe.ln("/d/own", "/d/hard").unwrap();
    let at = sh.path("/target").unwrap();
    assert_eq!(sentry_vfs::access(&joe.cx.credentials, &at, Access::WRITE), Err(Errno::EACCES));
    assert_eq!(sentry_vfs::access(&joe.cx.credentials, &at, Access::READ), Ok(()));
    assert_eq!(sentry_vfs::access(&sh.cx.credentials, &at, Access::EXEC), Err(Errno::EACCES));
}

#[test]
fn a_directory_that_moves_is_written_to() {
    let sh = shell();
    sh.mkdir("/a").unwrap();
    sh.mkdir("/b").unwrap();
    for d in ["/a", "/b"] {
        sh.chown(d, 7, 7).unwrap();
    }
    let joe = sh.as_user(7);
    sh.mkdir("/a/d").unwrap();
    assert_eq!(joe.mv("/a/d", "/b/d"), Err(Errno::EACCES));
    joe.mv("/a/d", "/a/e").unwrap();
    sh.chown("/a/e", 7, 7).unwrap();
    joe.mv("/a/e", "/b/e").unwrap();
}

#[test]
fn set_id_bits_go_with_changes() {
    let sh = shell();
    let joe = sh.as_user(7);
    sh.put("/f", "x").unwrap();
    sh.chown("/f", 7, 7).unwrap();
    sh.chmod("/f", 0o6775).unwrap();
    joe.chown("/f", 7, 7).unwrap();
    assert_eq!(sh.stat("/f").unwrap().mode.0, 0o775);
    sh.chmod("/f", 0o6775).unwrap();
    let file = joe.open("/f", WRITE).unwrap();
    joe.write(&file, 0, b"y").unwrap();
    assert_eq!(sh.stat("/f").unwrap().mode.0, 0o775);
    sh.chmod("/f", 0o6775).unwrap();
    joe.put("/f", "").unwrap();
    assert_eq!(sh.stat("/f").unwrap().mode.0, 0o775);
    sh.chmod("/f", 0o6775).unwrap();
    sh.put("/f", "by root").unwrap();
    assert_eq!(sh.stat("/f").unwrap().mode.0, 0o6775);
    sh.mkdir("/g").unwrap();
    sh.chown("/g", 7, 50).unwrap();
    sh.chmod("/g", 0o2777).unwrap();
    joe.mkdir("/g/sub").unwrap();
    joe.put("/g/file", "").unwrap();
    assert_eq!((sh.stat("/g/sub").unwrap().gid, sh.stat("/g/sub").unwrap().mode.0), (50, 0o2755));
    assert_eq!((sh.stat("/g/file").unwrap().gid, sh.stat("/g/file").unwrap().mode.0), (50, 0o644));
}

#[test]
fn mounts_cover_and_uncover() {
    let sh = shell();
    sh.mkdir("/m").unwrap();
    sh.put("/m/below", "").unwrap();
    let other = tmpfs();
    let weak = Arc::downgrade(&other);
    let mount = Mount::new(Dentry::root(other), MountFlags::empty(), b"tmpfs".to_vec());
    sh.cx.namespace.mount(mount.clone(), &sh.path("/m").unwrap());
    assert_eq!(sh.ls("/m").unwrap(), "");
    sh.mkdir("/m/x").unwrap();
    sh.put("/m/x/y", "").unwrap();
    assert_eq!(sh.path("/m/x/y").unwrap().display(&sh.cx.root), b"/m/x/y");
    assert_eq!(sh.ls("/m/x/../..").unwrap(), "m");
    assert_eq!(sh.rmdir("/m"), Err(Errno::EBUSY));
    assert_eq!(sh.mv("/m", "/n"), Err(Errno::EBUSY));
    assert_eq!(sh.mv("/m/x", "/x"), Err(Errno::EXDEV));
    let beneath = resolve(&sh.cx, &sh.cx.root, b"m/x", Follow::Yes, Walk::NO_XDEV);
    assert_eq!(beneath.err(), Some(Errno::EXDEV));
    mount.set_flags(MountFlags::READ_ONLY);
    assert_eq!(sh.put("/m/z", ""), Err(Errno::EROFS));
    assert_eq!(sh.rm("/m/x/y"), Err(Errno::EROFS));
    assert_eq!(sh.chmod("/m/x", 0), Err(Errno::EROFS));
    assert_eq!(sh.open("/m/x/y", WRITE).err(), Some(Errno::EROFS));
    assert_eq!(sh.cx.namespace.unmount(&sh.path("/m/x").unwrap(), false), Err(Errno::EINVAL));
    sh.cx.namespace.unmount(&sh.path("/m").unwrap(), false).unwrap();
    assert_eq!(sh.ls("/m").unwrap(), "below");
    drop(mount);
    assert!(weak.upgrade().is_none());
}

struct Sink(std::sync::Mutex<Vec<(u32, String)>>);

impl WatchSink for Sink {
    fn event(&self, e: &WatchEvent<'_>) {
        let name = e.name.map_or(String::new(), |n| String::from_utf8_lossy(n).into_owned());
        self.0.lock().unwrap().push((e.mask, name));
    }
}

#[test]
fn watchers_hear() {
    let sh = shell();
    sh.mkdir("/d").unwrap();
    let sink = Arc::new(Sink(std::sync::Mutex::new(Vec::new())));
    let dynamic: Arc<dyn WatchSink> = sink.clone();
    sh.path("/d").unwrap().inode().state().watches.add(&dynamic);
    let heard = || std::mem::take(&mut *sink.0.lock().unwrap());
    let named = |mask, name: &str| (mask, name.to_owned());
    sh.put("/d/f", "x").unwrap();
    assert_eq!(heard(), [named(watch_event::CREATE, "f"), named(watch_event::OPEN, "f"), named(watch_event::CLOSE_WRITE, "f")]);
    sh.chmod("/d/f", 0o600).unwrap();
    sh.mv("/d/f", "/d/g").unwrap();
    sh.rm("/d/g").unwrap();
    let masks: Vec<u32> = heard().into_iter().map(|(m, _)| m).collect();
    assert_eq!(masks, [watch_event::ATTRIB, watch_event::MOVED_FROM, watch_event::MOVED_TO, watch_event::DELETE]);
    sh.rmdir("/d").unwrap();
    assert_eq!(heard(), [named(watch_event::DELETE_SELF, "")]);
}

/// Threads that make, find, move and remove the same few names: afterwards what the cache shows must be what the file system has.
#[test]
fn kept_names_stay_true_under_races() {
    let sh = Arc::new(shell());
    sh.mkdir("/a").unwrap();
    sh.mkdir("/b").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..6u32)
        .map(|n| {
            let (sh, stop) = (Arc::new(sh.as_user(0)), stop.clone());
            std::thread::spawn(move || {
                let mut i = n;
                while !stop.load(Ordering::Relaxed) {
                    i = i.wrapping_mul(1_103_515_245).wrapping_add(12345);
                    let (dir, other) = if i & 0x10000 == 0 { ("/a", "/b") } else { ("/b", "/a") };
                    let (x, y) = (format!("{dir}/x{}", i >> 20 & 1), format!("{other}/x{}", i >> 21 & 1));
                    match i >> 24 & 7 {
                        0 | 1 => drop(sh.put(&x, "")),
                        2 => drop(sh.rm(&x)),
                        3 => drop(sh.mv(&x, &y)),
                        4 => drop(sh.mv_as(&x, &y, sentry_vfs::RenameMode::Exchange)),
                        5 => drop(sh.ln(&x, &y)),
                        _ => drop(sh.stat(&x)),
                    }
                }
            })
        })
        .collect();
    for _ in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        if threads.iter().any(|t| t.is_finished()) {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    for dir in ["/a", "/b"] {
        let there = sh.ls(dir).unwrap();
        for name in ["x0", "x1"] {
            let shown = sh.stat(&format!("{dir}/{name}"));
            assert_eq!(shown.is_ok(), there.contains(name), "{dir}/{name} {there}");
            if let Ok(attr) = shown {
                let open = sh.open(dir, READ).unwrap();
                let listed = sh.entries(&open, 0, 99).unwrap().into_iter().find(|e| e.0 == name).unwrap();
                assert_eq!(listed.1, attr.ino);
                assert!(attr.nlink > 0);
            }
        }
    }
}

#[test]
fn unused_names_are_let_go() {
    let sh = shell();
    let mut inodes = Vec::new();
    for d in 0..40 {
        sh.mkdir(&format!("/{d}")).unwrap();
        for f in 0..1000 {
            sh.put(&format!("/{d}/{f}"), "").unwrap();
        }
    }
    // One that is used stays.
    let used = sh.open("/0/0", READ).unwrap();
    for d in 0..40 {
        for f in 0..1000 {
            inodes.push(Arc::downgrade(&sh.path(&format!("/{d}/{f}")).unwrap().dentry));
        }
    }
    let kept = inodes.iter().filter(|w| w.strong_count() > 0).count();
    assert!((1000..20_000).contains(&kept), "{kept}");
    assert!(Arc::ptr_eq(&used.path.dentry, &sh.path("/0/0").unwrap().dentry));
    assert_eq!(sh.ls("/7").unwrap().split(' ').count(), 1000);
    for f in 0..1000 {
        sh.rm(&format!("/7/{f}")).unwrap();
    }
    sh.rmdir("/7").unwrap();
}
