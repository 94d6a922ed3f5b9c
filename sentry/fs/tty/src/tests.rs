mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentry_abi::uapi::ioctl as nr;
use sentry_abi::{Errno, Signal};
use sentry_sync::Events;
use sentry_vfs::{FileOps, FileSystem, OpenHow, StatusFlags};

use crate::termios::{LocalFlags, cc};
use crate::{DevPtsOptions, Layout, Termios, WindowSize};
use rig::{Rig, Task, poll};

const OPEN: OpenHow = OpenHow { read: true, write: true, truncated: false, nonblocking: false };

fn read(ops: &Arc<dyn FileOps>, task: &Task) -> Result<Vec<u8>, Errno> {
    let mut buf = [0; 4096];
    ops.read(task, 0, &mut buf).map(|n| buf[..n].to_vec())
}

fn set_raw(rig: &Rig, min: u8, time: u8) {
    let mut raw = Termios::default();
    raw.local -= LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
    raw.chars[cc::MIN] = min;
    raw.chars[cc::TIME] = time;
    rig.task.ioctl_with(&rig.slave, nr::TCSETS, &raw.encode(Layout::Plain)).unwrap();
}

#[test]
fn both_ends_talk() {
    let rig = Rig::new();
    assert_eq!(poll(&rig.master), Events::WRITE);
    assert_eq!(read(&rig.slave, &rig.task), Err(Errno::EAGAIN));
    assert_eq!(rig.master.write(&rig.task, 0, b"hi\n"), Ok(3));
    assert_eq!(poll(&rig.slave), Events::READ | Events::WRITE);
    assert_eq!(read(&rig.slave, &rig.task), Ok(b"hi\n".to_vec()));
    assert_eq!(read(&rig.master, &rig.task), Ok(b"hi\r\n".to_vec()));
    assert_eq!(rig.slave.write(&rig.task, 0, b"x\n"), Ok(2));
    assert_eq!(read(&rig.master, &rig.task), Ok(b"x\r\n".to_vec()));
    assert_eq!(read(&rig.master, &rig.task), Err(Errno::EAGAIN));
}

#[test]
fn locked_until_unlocked_and_gone_with_the_master() {
    let rig = Rig::new();
    let inode = rig.devpts.root().lookup(b"0").unwrap();
    let second = rig.devpts.open_master(&rig.task).unwrap();
    let locked = rig.devpts.root().lookup(b"1").unwrap();
    assert_eq!(locked.open(&OPEN, &rig.task).err(), Some(Errno::EIO));
    assert_eq!(rig.names(), [".", "..", "ptmx", "0", "1"]);
    drop(second);
    assert_eq!(rig.names(), [".", "..", "ptmx", "0"]);
    assert!(rig.devpts.root().still_valid(b"0", &inode));
    assert_eq!(rig.devpts.root().lookup(b"00").err(), Some(Errno::ENOENT));
    assert_eq!(inode.attr().unwrap().to_stat().rdev, sentry_abi::stat::make_dev(136, 0));
}

#[test]
fn closing_either_end() {
    let Rig { master, slave, task, devpts, .. } = Rig::new();
    drop(slave);
    assert_eq!(poll(&master), Events::HUP);
    assert_eq!(read(&master, &task), Err(Errno::EIO));
    let slave = devpts.root().lookup(b"0").unwrap().open(&OPEN, &task).unwrap();
    assert_eq!(read(&master, &task), Err(Errno::EAGAIN));
    assert_eq!(poll(&master), Events::WRITE);
    drop(master);
    assert_eq!(read(&slave, &task), Ok(Vec::new()));
    assert_eq!(slave.write(&task, 0, b"x"), Err(Errno::EIO));
    assert_eq!(slave.ioctl(&task, nr::TIOCGWINSZ, 0), Err(Errno::EIO));
    assert_eq!(poll(&slave), Events::READ | Events::WRITE | Events::ERR | Events::HUP);
}

#[test]
fn a_session_gets_a_terminal_signals_and_a_hangup() {
    let rig = Rig::new();
    assert_eq!(rig.task.ioctl_get(&rig.slave, nr::TIOCGPGRP).err(), Some(Errno::ENOTTY));
    assert_eq!(rig.slave.ioctl(&rig.task, nr::TIOCSCTTY, 0), Ok(0));
    assert_eq!(rig.task.ioctl_get(&rig.slave, nr::TIOCGSID), Ok(10));
    assert_eq!(rig.task.ioctl_get(&rig.slave, nr::TIOCGPGRP), Ok(10));
    rig.master.write(&rig.task, 0, b"\x03").unwrap();
    let window = WindowSize { rows: 24, columns: 80, ..WindowSize::default() };
    rig.task.ioctl_with(&rig.master, nr::TIOCSWINSZ, &window.encode()).unwrap();
    rig.task.ioctl_with(&rig.master, nr::TIOCSWINSZ, &window.encode()).unwrap();
    assert_eq!(rig.groups.taken(), [(10, Signal::SIGINT), (10, Signal::SIGWINCH)]);
    let again = rig.terminals.open_controlling(&rig.task, false).unwrap();
    assert_eq!(again.terminal_key(), rig.slave.terminal_key());
    let Rig { master, groups, .. } = rig;
    drop(master);
    assert_eq!(groups.hung_up(), Some((10, 10)));
}

#[test]
fn opening_claims_a_terminal_unless_told_not_to() {
    let rig = Rig::new();
    rig.slave.claim_terminal(&rig.task, false);
    assert_eq!(rig.task.terminal(), None);
    rig.slave.claim_terminal(&rig.task, true);
    assert_eq!(rig.task.terminal(), rig.slave.terminal_key());
    assert_eq!(rig.slave.ioctl(&rig.task, nr::TIOCNOTTY, 0), Ok(0));
    assert_eq!(rig.task.terminal(), None);
    assert_eq!(rig.groups.taken(), [(10, Signal::SIGHUP), (10, Signal::SIGCONT)]);
    let other = Task::new(20, 20);
    assert_eq!(rig.slave.ioctl(&other, nr::TIOCSCTTY, 0), Ok(0));
    assert_eq!(rig.slave.ioctl(&rig.task, nr::TIOCSCTTY, 0), Err(Errno::EPERM));
    assert_eq!(rig.slave.ioctl(&rig.task, nr::TIOCSCTTY, 1), Ok(0));
}

#[test]
fn background_processes_are_stopped() {
    let rig = Rig::new();
    rig.slave.ioctl(&rig.task, nr::TIOCSCTTY, 0).unwrap();
    let mut background = Task::new(10, 11);
    background.set_terminal(rig.slave.terminal_key());
    assert_eq!(read(&rig.slave, &background), Err(Errno::ERESTART));
    assert_eq!(background.signalled(), [(11, Signal::SIGTTIN)]);
    assert_eq!(rig.slave.write(&background, 0, b"x"), Ok(1));
    let mut stop = Termios::default();
    stop.local |= LocalFlags::TOSTOP;
    rig.task.ioctl_with(&rig.slave, nr::TCSETSW, &stop.encode(Layout::Plain)).unwrap();
    assert_eq!(rig.slave.write(&background, 0, b"x"), Err(Errno::ERESTART));
    assert_eq!(background.ioctl_with(&rig.slave, nr::TCSETS, &stop.encode(Layout::Plain)), Err(Errno::ERESTART));
    assert_eq!(background.ioctl_with(&rig.slave, nr::TIOCSPGRP, &11i32.to_ne_bytes()), Err(Errno::ERESTART));
    background.ignoring = true;
    assert_eq!(read(&rig.slave, &background), Err(Errno::EIO));
    assert_eq!(background.ioctl_with(&rig.slave, nr::TIOCSPGRP, &11i32.to_ne_bytes()), Ok(0));
    assert_eq!(read(&rig.slave, &background), Err(Errno::EAGAIN));
    assert_eq!(rig.task.ioctl_with(&rig.slave, nr::TIOCSPGRP, &99i32.to_ne_bytes()), Err(Errno::ERESTART));
    let mut orphan = Task::new(10, 12);
    orphan.set_terminal(rig.slave.terminal_key());
    orphan.orphaned = true;
    assert_eq!(read(&rig.slave, &orphan), Err(Errno::EIO));
    assert_eq!(orphan.ioctl_with(&rig.slave, nr::TIOCSPGRP, &12i32.to_ne_bytes()), Err(Errno::ENOTTY));
}

#[test]
fn settings_travel() {
    let rig = Rig::new();
    for (get, set, layout) in
        [(nr::TCGETS, nr::TCSETS, Layout::Plain), (nr::TCGETS2, nr::TCSETSF2, Layout::WithSpeeds), (nr::TCGETA, nr::TCSETAW, Layout::Old)]
    {
        let bytes = rig.task.ioctl_read(&rig.master, get, layout.size()).unwrap();
        assert_eq!(bytes, Termios::default().encode(layout));
        rig.task.ioctl_with(&rig.master, set, &bytes).unwrap();
    }
    assert_eq!(rig.slave.ioctl(&rig.task, nr::TCFLSH, 3), Err(Errno::EINVAL));
    assert_eq!(rig.slave.ioctl(&rig.task, 0x1234, 0), Err(Errno::ENOTTY));
    rig.master.write(&rig.task, 0, b"abc\n").unwrap();
    assert_eq!(rig.task.ioctl_get(&rig.slave, nr::TIOCINQ), Ok(4));
    assert_eq!(rig.slave.ioctl(&rig.task, nr::TCFLSH, 0), Ok(0));
    assert_eq!(rig.task.ioctl_get(&rig.slave, nr::TIOCINQ), Ok(0));
    assert_eq!(rig.task.ioctl_get(&rig.slave, nr::TIOCGPTN), Err(Errno::ENOTTY));
    assert_eq!(rig.task.ioctl_get(&rig.master, nr::TIOCGPTN), Ok(0));
}

#[test]
fn packet_mode() {
    let rig = Rig::new();
    rig.task.ioctl_with(&rig.master, nr::TIOCPKT, &1i32.to_ne_bytes()).unwrap();
    rig.slave.write(&rig.task, 0, b"ab").unwrap();
    assert_eq!(read(&rig.master, &rig.task), Ok(b"\0ab".to_vec()));
    rig.master.write(&rig.task, 0, b"\x13").unwrap();
    assert!(poll(&rig.master).contains(Events::PRI));
    assert_eq!(read(&rig.master, &rig.task), Ok(vec![4]));
    rig.slave.ioctl(&rig.task, nr::TCFLSH, 0).unwrap();
    assert_eq!(read(&rig.master, &rig.task), Ok(vec![1]));
    assert_eq!(read(&rig.master, &rig.task), Err(Errno::EAGAIN));
}

#[test]
fn peers_are_opened_by_ioctl() {
    let rig = Rig::new();
    assert_eq!(rig.master.ioctl(&rig.task, nr::TIOCGPTPEER, 2), Ok(5));
    let file = rig.task.installed().unwrap();
    assert_eq!(file.ops.terminal_key(), rig.slave.terminal_key());
    assert_eq!(file.path.dentry.name(), b"/dev/pts/0");
    assert_eq!(file.attr().unwrap().ino, 3);
}

#[test]
fn minimum_and_timeout() {
    let rig = Rig::new();
    set_raw(&rig, 3, 0);
    rig.master.write(&rig.task, 0, b"ab").unwrap();
    assert_eq!(read(&rig.slave, &rig.task), Err(Errno::EAGAIN));
    assert_eq!(poll(&rig.slave), Events::WRITE);
    let mut two = [0; 2];
    assert_eq!(rig.slave.read(&rig.task, 0, &mut two), Ok(2));
    rig.master.write(&rig.task, 0, b"ab").unwrap();
    rig.slave.status_changed(StatusFlags::NONBLOCK);
    assert_eq!(read(&rig.slave, &rig.task), Ok(b"ab".to_vec()));
    assert_eq!(read(&rig.slave, &rig.task), Err(Errno::EAGAIN));
    rig.slave.status_changed(StatusFlags::empty());
    set_raw(&rig, 0, 0);
    assert_eq!(read(&rig.slave, &rig.task), Ok(Vec::new()));
    for (min, sent, expected) in [(0, b"".as_slice(), b"".as_slice()), (3, b"a", b"a")] {
        set_raw(&rig, min, 1);
        rig.master.write(&rig.task, 0, sent).unwrap();
        let start = Instant::now();
        let got = loop {
            match read(&rig.slave, &rig.task) {
                Err(Errno::EAGAIN) if start.elapsed() < Duration::from_secs(5) => std::thread::sleep(Duration::from_millis(2)),
                other => break other,
            }
        };
        assert_eq!(got, Ok(expected.to_vec()));
        assert!(start.elapsed() >= Duration::from_millis(95) && start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_full_reader_holds_the_writer() {
    let rig = Rig::new();
    set_raw(&rig, 1, 0);
    let mut sent = 0;
    while let Ok(n) = rig.master.write(&rig.task, 0, &[b'x'; 1000]) {
        sent += n;
    }
    assert_eq!(sent, 4095 + 16384);
    assert_eq!(poll(&rig.master), Events::empty());
    let mut got = 0;
    while let Ok(bytes) = read(&rig.slave, &rig.task) {
        got += bytes.len();
    }
    assert_eq!(got, sent);
    assert_eq!(poll(&rig.master), Events::WRITE);
}

#[test]
fn options() {
    let parsed = DevPtsOptions::parse("newinstance,ptmxmode=0666,mode=0620,gid=5").unwrap();
    assert_eq!((parsed.gid, parsed.mode, parsed.ptmx_mode), (Some(5), 0o620, 0o666));
    assert_eq!(parsed.show(), "gid=5,mode=620,ptmxmode=666");
    assert_eq!(DevPtsOptions::parse("nonsense"), Err(Errno::EINVAL));
    assert_eq!(DevPtsOptions::parse("mode=9"), Err(Errno::EINVAL));
}
