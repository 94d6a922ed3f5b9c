//! The overlay over a tmpfs as its lower.
#![allow(clippy::unwrap_used, clippy::unimplemented, reason = "tests, and what they share")]

#[path = "../../tmpfs/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sentry_abi::{Errno, FileKind, Mode};
use sentry_fs_overlayfs::{OverlayFs, OverlayOptions};
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_memory::MemfdSource;
use sentry_vfs::{FileSystem, OpenFlags, RenameMode};
use support::{READ, Shell, WRITE, ticking};

const DEVICE: u64 = 77;

/// (the lower, to prepare and to look at; the overlay)
fn pair(options: OverlayOptions, prepare: impl Fn(&Shell)) -> (Shell, Shell, Arc<OverlayFs>) {
    let lower = TmpFs::new(TmpFsOptions { mode: Mode(0o755), ..TmpFsOptions::default() }, 9, Arc::new(MemfdSource), ticking()).unwrap();
    let below = Shell::new(lower.clone());
    prepare(&below);
    let fs = OverlayFs::new(lower, options, DEVICE, Arc::new(MemfdSource), ticking()).unwrap();
    (below, Shell::new(fs.clone()), fs)
}

fn image(sh: &Shell) {
    sh.mkdir("/etc").unwrap();
    sh.mkdir("/etc/sub").unwrap();
    sh.put("/etc/sub/deep", "deep").unwrap();
    sh.put("/etc/passwd", "root").unwrap();
    sh.put("/etc/group", "wheel").unwrap();
    sh.symlink("passwd", "/etc/link").unwrap();
    sh.put("/one", "linked").unwrap();
    sh.ln("/one", "/etc/two").unwrap();
    sh.mkdir("/empty").unwrap();
}

fn shells() -> (Shell, Shell) {
    let (below, sh, _) = pair(OverlayOptions::default(), image);
    (below, sh)
}

/// The whole lower as text, to see that it never changes.
fn dump(sh: &Shell, dir: &str) -> String {
    let mut out = String::new();
    for name in sh.ls(&format!("{dir}/")).unwrap().split(' ').filter(|n| !n.is_empty()) {
        let path = format!("{dir}/{name}");
        let attr = sh.lstat(&path).unwrap();
        out += &format!("{path} {:?} {:o} {} {} {} {}\n", attr.kind, attr.mode.0, attr.uid, attr.nlink, attr.size, attr.mtime.sec);
        match attr.kind {
            FileKind::Directory => out += &dump(sh, &path),
            FileKind::Regular => out += &sh.get(&path).unwrap(),
            _ => {}
        }
    }
    out
}

#[test]
fn the_lower_shines_through_and_never_changes() {
    let (below, sh) = shells();
    let before = dump(&below, "");
    assert_eq!(sh.ls("/etc").unwrap(), "group link passwd sub two");
    assert_eq!(sh.get("/etc/link").unwrap(), "root");
    assert_eq!(sh.stat("/etc/passwd").unwrap().dev, DEVICE);
    sh.put("/etc/passwd", "changed").unwrap();
    sh.put("/etc/new", "new").unwrap();
    sh.rm("/etc/group").unwrap();
    sh.mkdir("/etc/dir").unwrap();
    sh.chmod("/etc/sub/deep", 0o600).unwrap();
    sh.chown("/etc/sub", 5, 6).unwrap();
    sh.mv("/etc/sub", "/moved").unwrap();
    sh.ln("/one", "/three").unwrap();
    sh.rmdir("/empty").unwrap();
    assert_eq!(sh.ls("/etc").unwrap(), "dir link new passwd two");
    assert_eq!(sh.get("/etc/link").unwrap(), "changed");
    assert_eq!(sh.get("/moved/deep").unwrap(), "deep");
    assert_eq!(sh.ls("/").unwrap(), "etc moved one three");
    assert_eq!(dump(&below, ""), before);
}

#[test]
fn identity_survives_copy_up() {
    let (_, sh) = shells();
    let before = sh.stat("/etc/passwd").unwrap();
    let old = sh.open("/etc/passwd", READ).unwrap();
    let old_map = old.ops.mapping(false).unwrap();
    let file = sh.open("/etc/passwd", WRITE).unwrap();
    assert_eq!(sh.stat("/etc/passwd").unwrap(), before);
    file.ops.append(&sh.caller, b"+").unwrap();
    let after = sh.stat("/etc/passwd").unwrap();
    assert_eq!((after.ino, after.dev, after.mode, after.nlink, after.size), (before.ino, DEVICE, before.mode, 1, 5));
    assert_eq!(old.attr().unwrap(), after);
    // Who had it open keeps the lower's bytes, as with Linux's overlayfs; who opens it now does not.
    assert_eq!(sh.read(&old).unwrap(), "root");
    assert_eq!(sh.get("/etc/passwd").unwrap(), "root+");
    assert_eq!(old_map.label.id(), (DEVICE, before.ino));
    let new_map = sh.open("/etc/passwd", READ).unwrap().ops.mapping(false).unwrap();
    assert!(!Arc::ptr_eq(&old_map.fd, &new_map.fd));
    assert!(Arc::ptr_eq(sh.path("/etc/passwd").unwrap().inode(), old.path.inode()));
}

#[test]
fn attributes_change_without_copying_bytes() {
    let (below, sh) = shells();
    let big = "x".repeat(1 << 20);
    below.put("/big", &big).unwrap();
    sh.chmod("/big", 0o4711).unwrap();
    sh.chown("/big", 3, 4).unwrap();
    let attr = sh.stat("/big").unwrap();
    assert_eq!((attr.mode.0, attr.uid, attr.gid, attr.size, attr.blocks), (0o711, 3, 4, 1 << 20, 2048));
    let lower_map = below.open("/big", READ).unwrap().ops.mapping(false).unwrap();
    let map = sh.open("/big", READ).unwrap().ops.mapping(false).unwrap();
    assert!(Arc::ptr_eq(&lower_map.fd, &map.fd));
    sh.mv("/big", "/etc/big2").unwrap();
    let map = sh.open("/etc/big2", READ).unwrap().ops.mapping(false).unwrap();
    assert!(Arc::ptr_eq(&lower_map.fd, &map.fd));
    sentry_vfs::truncate(&sh.cx, &sh.path("/etc/big2").unwrap(), 10).unwrap();
    assert_eq!(sh.get("/etc/big2").unwrap(), "x".repeat(10));
    let file = sh.open("/etc/big2", WRITE).unwrap();
    file.ops.append(&sh.caller, b"end").unwrap();
    assert_eq!(sh.get("/etc/big2").unwrap(), "xxxxxxxxxxend");
    assert_eq!(sh.stat("/etc/big2").unwrap().mode.0, 0o711);
}

#[test]
fn copies_are_exact_and_keep_holes() {
    let (below, sh) = shells();
    let file = below.open("/sparse", WRITE | OpenFlags::CREATE).unwrap();
    below.write(&file, 0, b"start").unwrap();
    below.write(&file, 3 << 20, b"middle").unwrap();
    file.ops.truncate((5 << 20) + 1).unwrap();
    let copy = sh.open("/sparse", OpenFlags::READ_WRITE).unwrap();
    let attr = sh.stat("/sparse").unwrap();
    assert_eq!(attr.size, (5 << 20) + 1);
    assert!(attr.blocks < 2048, "{}", attr.blocks);
    let mut a = vec![0; 6 << 20];
    let mut b = vec![1; 6 << 20];
    let (n, m) =
        (below.open("/sparse", READ).unwrap().ops.read(&sh.caller, 0, &mut a).unwrap(), copy.ops.read(&sh.caller, 0, &mut b).unwrap());
    assert_eq!(n, m);
    assert!(a[..n] == b[..n]);
}

#[test]
fn hard_links_stay_one_file() {
    let (_, sh) = shells();
    assert_eq!(sh.stat("/one").unwrap().ino, sh.stat("/etc/two").unwrap().ino);
    assert_eq!(sh.stat("/one").unwrap().nlink, 2);
    sh.put("/one", "through one").unwrap();
    assert_eq!(sh.get("/etc/two").unwrap(), "through one");
    sh.ln("/etc/two", "/three").unwrap();
    assert_eq!(sh.stat("/one").unwrap().nlink, 3);
    sh.rm("/one").unwrap();
    sh.rm("/etc/two").unwrap();
    assert_eq!(sh.stat("/three").unwrap().nlink, 1);
    assert_eq!(sh.get("/three").unwrap(), "through one");
    let file = sh.open("/three", READ).unwrap();
    sh.rm("/three").unwrap();
    assert_eq!(file.attr().unwrap().nlink, 0);
    assert_eq!(sh.read(&file).unwrap(), "through one");
    assert_eq!(sentry_vfs::link(&sh.cx, &file.path, &sh.cx.cwd, b"/again"), Err(Errno::ENOENT));
}

#[test]
fn unlinking_one_name_is_remembered() {
    let (_, sh) = shells();
    sh.rm("/one").unwrap();
    assert_eq!(sh.stat("/etc/two").unwrap().nlink, 1);
    assert_eq!(sh.get("/etc/two").unwrap(), "linked");
    sh.put("/one", "other").unwrap();
    assert_ne!(sh.stat("/one").unwrap().ino, sh.stat("/etc/two").unwrap().ino);
    assert_eq!(sh.get("/etc/two").unwrap(), "linked");
}

#[test]
fn whiteouts_and_their_end() {
    let (_, sh) = shells();
    assert_eq!(sh.rmdir("/etc/sub"), Err(Errno::ENOTEMPTY));
    sh.rm("/etc/sub/deep").unwrap();
    assert_eq!(sh.stat("/etc/sub/deep").err(), Some(Errno::ENOENT));
    sh.put("/etc/sub/x", "").unwrap();
    assert_eq!(sh.rmdir("/etc/sub"), Err(Errno::ENOTEMPTY));
    sh.rm("/etc/sub/x").unwrap();
    sh.rmdir("/etc/sub").unwrap();
    // Made again, it is empty: the lower's names do not come back.
    sh.mkdir("/etc/sub").unwrap();
    assert_eq!(sh.ls("/etc/sub").unwrap(), "");
    sh.rmdir("/etc/sub").unwrap();
    assert_eq!(sh.stat("/etc/sub").err(), Some(Errno::ENOENT));
    sh.put("/etc/passwd2", "").unwrap();
    sh.mv("/etc/passwd2", "/etc/passwd").unwrap();
    sh.rm("/etc/passwd").unwrap();
    assert_eq!(sh.stat("/etc/passwd").err(), Some(Errno::ENOENT));
    assert_eq!(sh.ls("/etc").unwrap(), "group link two");
    sh.mkdir("/etc/passwd").unwrap();
    assert_eq!(sh.ls("/etc").unwrap(), "group link passwd two");
}

#[test]
fn directories_of_the_lower_move() {
    let (_, sh) = shells();
    let ino = sh.stat("/etc/sub").unwrap().ino;
    sh.mv("/etc", "/conf").unwrap();
    assert_eq!(sh.ls("/").unwrap(), "conf empty one");
    assert_eq!(sh.get("/conf/sub/deep").unwrap(), "deep");
    assert_eq!(sh.stat("/conf/sub").unwrap().ino, ino);
    sh.mv("/conf/sub", "/conf/sub2").unwrap();
    sh.mkdir("/etc").unwrap();
    assert_eq!(sh.ls("/etc").unwrap(), "");
    sh.mv("/conf/sub2", "/etc/sub").unwrap();
    assert_eq!(sh.get("/etc/sub/../sub/deep").unwrap(), "deep");
    assert_eq!(sh.ls("/conf").unwrap(), "group link passwd two");
    assert_eq!(sh.mv("/etc", "/etc/sub/x"), Err(Errno::EINVAL));
    assert_eq!(sh.mv("/conf", "/etc"), Err(Errno::ENOTEMPTY));
    sh.mv("/conf", "/empty").unwrap();
    assert_eq!(sh.ls("/").unwrap(), "empty etc one");
    assert_eq!(sh.get("/empty/passwd").unwrap(), "root");
    sh.mv_as("/empty", "/etc/sub", RenameMode::Exchange).unwrap();
    assert_eq!(sh.ls("/empty").unwrap(), "deep");
    assert_eq!(sh.ls("/etc/sub").unwrap(), "group link passwd two");
    sh.mv_as("/one", "/etc/sub/passwd", RenameMode::Exchange).unwrap();
    assert_eq!((sh.get("/one").unwrap(), sh.get("/etc/sub/two").unwrap()), ("root".to_owned(), "linked".to_owned()));
    sh.rm("/one").unwrap();
    assert_eq!(sh.stat("/one").err(), Some(Errno::ENOENT));
}

#[test]
fn directory_links_are_counted() {
    let (_, sh) = shells();
    assert_eq!((sh.stat("/").unwrap().nlink, sh.stat("/etc").unwrap().nlink), (4, 3));
    sh.mkdir("/etc/new").unwrap();
    assert_eq!(sh.stat("/etc").unwrap().nlink, 4);
    sh.mv("/etc/sub", "/sub").unwrap();
    assert_eq!((sh.stat("/").unwrap().nlink, sh.stat("/etc").unwrap().nlink), (5, 3));
    let open = sh.open("/empty", READ).unwrap();
    sh.rmdir("/empty").unwrap();
    assert_eq!((sh.stat("/").unwrap().nlink, open.attr().unwrap().nlink), (4, 0));
    assert_eq!(sh.entries(&open, 0, 9).err(), Some(Errno::ENOENT));
    assert_eq!(sentry_vfs::mkdir(&sh.cx, &open.path, b"x", Mode(0o777)), Err(Errno::ENOENT));
}

#[test]
fn listings_survive_changes() {
    let (_, sh, _) = pair(OverlayOptions::default(), |below| {
        for i in 0..200 {
            below.put(&format!("/low{i:03}"), "").unwrap();
        }
    });
    for i in 0..200 {
        sh.put(&format!("/up{i:03}"), "").unwrap();
    }
    sh.put("/low007", "changed").unwrap();
    sh.rm("/low009").unwrap();
    sh.put("/low009", "again").unwrap();
    sh.rm("/low011").unwrap();
    let dir = sh.open("/", READ).unwrap();
    let mut seen = Vec::new();
    let mut at = 0;
    loop {
        let some = sh.entries(&dir, at, 7).unwrap();
        let Some(last) = some.last() else { break };
        assert!(last.2 > at && i64::try_from(last.2).is_ok());
        at = last.2;
        for (name, ino, _) in some {
            if !name.starts_with('.') {
                assert_eq!(sh.stat(&name).unwrap().ino, ino);
                sh.rm(&name).unwrap();
                seen.push(name);
            }
        }
    }
    assert_eq!(seen.len(), 399);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 399);
    assert_eq!(sh.ls("/").unwrap(), "");
}

#[test]
fn extended_attributes_come_along() {
    let (below, sh, _) = pair(OverlayOptions::default(), image);
    let low = below.path("/one").unwrap();
    sentry_vfs::set_xattr(&below.cx, &low, b"user.k", b"v", false, false).unwrap();
    let at = sh.path("/one").unwrap();
    assert_eq!(sentry_vfs::get_xattr(&sh.cx, &at, b"user.k").unwrap(), b"v");
    sentry_vfs::set_xattr(&sh.cx, &at, b"user.l", b"w", false, false).unwrap();
    assert_eq!(sentry_vfs::get_xattr(&sh.cx, &at, b"user.k").unwrap(), b"v");
    sentry_vfs::remove_xattr(&sh.cx, &at, b"user.k").unwrap();
    assert_eq!(sentry_vfs::get_xattr(&sh.cx, &at, b"user.k"), Err(Errno::ENODATA));
    assert_eq!(sentry_vfs::get_xattr(&below.cx, &low, b"user.k").unwrap(), b"v");
    assert_eq!(sh.get("/one").unwrap(), "linked");
}

#[test]
fn the_upper_has_limits() {
    let (_, sh, fs) = pair(OverlayOptions { size: Some(8 * 4096), nr_inodes: Some(3) }, image);
    let file = sh.open("/one", WRITE).unwrap();
    assert_eq!(file.ops.write(&sh.caller, 0, &[1; 9 * 4096]), Ok(8 * 4096));
    assert_eq!(file.ops.append(&sh.caller, b"x"), Err(Errno::ENOSPC));
    let stat = fs.stat_fs().unwrap();
    assert_eq!((stat.kind, stat.blocks, stat.bfree), (0x794c_7630, 8, 0));
    sh.mkdir("/d").unwrap();
    assert_eq!(sh.mkdir("/e"), Err(Errno::ENOSPC));
    assert_eq!(sh.get("/etc/passwd").unwrap(), "root");
}

#[test]
fn unnamed_files_and_special_nodes() {
    let (_, sh) = shells();
    let file = sh.open("/etc", OpenFlags::READ_WRITE | OpenFlags::TEMPORARY | OpenFlags::DIRECTORY).unwrap();
    sh.write(&file, 0, b"t").unwrap();
    sentry_vfs::link(&sh.cx, &file.path, &sh.cx.cwd, b"/etc/t").unwrap();
    assert_eq!(sh.get("/etc/t").unwrap(), "t");
    sentry_vfs::mknod(&sh.cx, &sh.cx.cwd, b"/pipe", FileKind::Fifo, Mode(0o600), 0).unwrap();
    let once = sh.path("/pipe").unwrap().inode().clone();
    assert!(Arc::ptr_eq(&once, sh.path("/pipe").unwrap().inode()));
    assert_eq!(sh.stat("/pipe").unwrap().kind, FileKind::Fifo);
}

#[test]
fn the_end_of_the_file_system_frees_all() {
    let (below, sh, fs) = pair(OverlayOptions::default(), image);
    sh.put("/etc/passwd", "x").unwrap();
    sh.mv("/etc/sub", "/sub").unwrap();
    let inode = Arc::downgrade(sh.path("/etc").unwrap().inode());
    let weak = Arc::downgrade(&fs);
    drop((sh, fs));
    assert!(weak.upgrade().is_none());
    assert!(inode.upgrade().is_none());
    drop(below);
}

#[test]
fn many_at_once() {
    let (below, sh) = shells();
    for i in 0..4 {
        below.put(&format!("/low{i}"), "low").unwrap();
    }
    let before = dump(&below, "");
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4u32)
        .map(|n| {
            let (sh, stop) = (sh.as_user(0), stop.clone());
            std::thread::spawn(move || {
                let mut i = n;
                while !stop.load(Ordering::Relaxed) {
                    i = i.wrapping_mul(1_103_515_245).wrapping_add(12345);
                    let x = format!("/low{}", i >> 20 & 3);
                    let y = format!("{}/low{}", ["", "/etc", "/empty"][(i >> 22) as usize % 3], i >> 18 & 3);
                    match i >> 26 & 7 {
                        0 => drop(sh.put(&x, "new")),
                        1 => drop(sh.rm(&y)),
                        2 | 3 => drop(sh.mv(&x, &y)),
                        4 => drop(sh.mv_as(&x, &y, RenameMode::Exchange)),
                        5 => drop(sh.chmod(&y, 0o600)),
                        6 => drop(sh.mv(&y, &x)),
                        _ => drop(sh.get(&x)),
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(800));
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    for dir in ["", "/etc", "/empty"] {
        let there = sh.ls(&format!("{dir}/")).unwrap();
        for i in 0..4 {
            let path = format!("{dir}/low{i}");
            assert_eq!(sh.stat(&path).is_ok(), there.contains(&format!("low{i}")), "{path}: {there}");
            if let Ok(text) = sh.get(&path) {
                assert!(text == "low" || text == "new" || text.is_empty(), "{text}");
            }
        }
    }
    assert_eq!(dump(&below, ""), before);
}
