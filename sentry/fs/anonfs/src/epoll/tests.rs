use std::sync::Arc;

use sentry_abi::Errno;
use sentry_sync::Events;
use sentry_vfs::{FileDescription, FileOps, StatusFlags};

use super::{Epoll, EpollEvents, EpollOp};
use crate::testing::{Count, Nobody};
use crate::{AnonFs, EventFd};

struct Rig {
    fs: Arc<AnonFs>,
    epoll: Arc<Epoll>,
}

impl Rig {
    fn new() -> Rig {
        Rig { fs: AnonFs::new(9), epoll: Epoll::new() }
    }

    fn file(&self, ops: Arc<dyn FileOps>) -> Arc<FileDescription> {
        self.fs.file(ops, "anon_inode:[test]", StatusFlags::empty())
    }

    fn eventfd(&self) -> Arc<FileDescription> {
        self.file(EventFd::new(0, false))
    }
}

fn set(file: &FileDescription, n: u64) {
    file.ops.write(&Nobody, 0, &n.to_ne_bytes()).unwrap();
}

fn clear(file: &FileDescription) {
    file.ops.read(&Nobody, 0, &mut [0; 8]).unwrap();
}

const IN: EpollEvents = EpollEvents::IN;

#[test]
fn level_triggered_stays_until_it_is_not_ready() {
    let rig = Rig::new();
    let file = rig.eventfd();
    rig.epoll.ctl(EpollOp::Add, 3, &file, IN, 77).unwrap();
    assert_eq!(rig.epoll.ctl(EpollOp::Add, 3, &file, IN, 77), Err(Errno::EEXIST));
    assert!(rig.epoll.collect(8, None).is_empty());
    let (waiter, count) = Count::waiter(Events::IN);
    assert!(rig.epoll.collect(8, Some(&waiter)).is_empty());
    set(&file, 1);
    assert_eq!(count.get(), 1);
    for _ in 0..3 {
        assert_eq!(rig.epoll.collect(8, None), vec![(IN, 77)]);
    }
    clear(&file);
    assert!(rig.epoll.collect(8, None).is_empty());
    assert!(rig.epoll.shared.state.lock().ready.is_empty());
    rig.epoll.ctl(EpollOp::Delete, 3, &file, IN, 0).unwrap();
    assert_eq!(rig.epoll.ctl(EpollOp::Delete, 3, &file, IN, 0), Err(Errno::ENOENT));
    assert_eq!(rig.epoll.ctl(EpollOp::Modify, 3, &file, IN, 0), Err(Errno::ENOENT));
    set(&file, 1);
    assert!(rig.epoll.collect(8, None).is_empty());
}

#[test]
fn edge_triggered_tells_each_wake_up_once() {
    let rig = Rig::new();
    let file = rig.eventfd();
    set(&file, 1);
    rig.epoll.ctl(EpollOp::Add, 3, &file, IN | EpollEvents::EDGE, 1).unwrap();
    assert_eq!(rig.epoll.collect(8, None).len(), 1);
    assert!(rig.epoll.collect(8, None).is_empty());
    set(&file, 1);
    assert_eq!(rig.epoll.collect(8, None).len(), 1);
    assert!(rig.epoll.collect(8, None).is_empty());
    rig.epoll.ctl(EpollOp::Modify, 3, &file, IN | EpollEvents::OUT | EpollEvents::EDGE, 2).unwrap();
    assert_eq!(rig.epoll.collect(8, None), vec![(IN | EpollEvents::OUT, 2)]);
}

#[test]
fn one_shot_is_silent_until_modified() {
    let rig = Rig::new();
    let file = rig.eventfd();
    rig.epoll.ctl(EpollOp::Add, 3, &file, IN | EpollEvents::ONESHOT, 1).unwrap();
    set(&file, 1);
    assert_eq!(rig.epoll.collect(8, None).len(), 1);
    set(&file, 1);
    assert!(rig.epoll.collect(8, None).is_empty());
    rig.epoll.ctl(EpollOp::Modify, 3, &file, IN | EpollEvents::ONESHOT, 5).unwrap();
    assert_eq!(rig.epoll.collect(8, None), vec![(IN, 5)]);
}

#[test]
fn max_events_rotate_fairly() {
    let rig = Rig::new();
    let files: Vec<_> = (0..200).map(|_| rig.eventfd()).collect();
    for (index, file) in files.iter().enumerate() {
        rig.epoll.ctl(EpollOp::Add, index as i32, file, IN, index as u64).unwrap();
        set(file, 1);
    }
    let first: Vec<u64> = rig.epoll.collect(150, None).iter().map(|e| e.1).collect();
    assert_eq!(first, (0..150).collect::<Vec<_>>());
    let second: Vec<u64> = rig.epoll.collect(100, None).iter().map(|e| e.1).collect();
    assert_eq!(second, (150..200).chain(0..50).collect::<Vec<_>>());
}

#[test]
fn closed_files_leave() {
    let rig = Rig::new();
    let file = rig.eventfd();
    set(&file, 1);
    rig.epoll.ctl(EpollOp::Add, 3, &file, IN, 1).unwrap();
    let dup = file.clone();
    rig.epoll.ctl(EpollOp::Add, 4, &dup, IN, 2).unwrap();
    drop((file, dup));
    assert!(rig.epoll.collect(8, None).is_empty());
    for fd in 0..500 {
        rig.epoll.ctl(EpollOp::Add, fd, &rig.eventfd(), IN, 0).unwrap();
    }
    assert!(rig.epoll.shared.state.lock().entries.len() <= 64);
    assert_eq!(rig.epoll.fdinfo(), "");
}

#[test]
fn nested_epolls_pass_readiness_and_refuse_loops() {
    let rig = Rig::new();
    let inner = Epoll::new();
    let inner_file = rig.file(inner.clone());
    let outer_file = rig.file(rig.epoll.clone());
    let file = rig.eventfd();
    rig.epoll.ctl(EpollOp::Add, 5, &inner_file, IN, 9).unwrap();
    inner.ctl(EpollOp::Add, 6, &file, IN, 1).unwrap();
    let (waiter, count) = Count::waiter(Events::IN);
    assert!(rig.epoll.collect(8, Some(&waiter)).is_empty());
    set(&file, 1);
    assert_eq!(count.get(), 1);
    assert_eq!(rig.epoll.collect(8, None), vec![(IN, 9)]);
    clear(&file);
    assert!(rig.epoll.collect(8, None).is_empty());
    assert_eq!(inner.ctl(EpollOp::Add, 7, &outer_file, IN, 0), Err(Errno::ELOOP));
    assert_eq!(inner.ctl(EpollOp::Add, 7, &inner_file, IN, 0), Err(Errno::EINVAL));
    rig.epoll.ctl(EpollOp::Delete, 5, &inner_file, IN, 0).unwrap();
    inner.ctl(EpollOp::Add, 7, &outer_file, IN, 0).unwrap();
}

/// Chains built from either end are bounded.
#[test]
fn depth_is_bounded() {
    let rig = Rig::new();
    for downwards in [false, true] {
        let epolls: Vec<_> = (0..7).map(|_| Epoll::new()).collect();
        let files: Vec<_> = epolls.iter().map(|e| rig.file(e.clone())).collect();
        let mut results = Vec::new();
        for step in 0..6 {
            let (parent, child) = if downwards { (step, step + 1) } else { (step + 1, step) };
            results.push(epolls[parent].ctl(EpollOp::Add, 1, &files[child], IN, 0));
        }
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 4 + 1, "{results:?}");
        assert_eq!(results[4], Err(Errno::ELOOP));
    }
    let leaves: Vec<_> = (0..40).map(|_| Epoll::new()).collect();
    let middle: Vec<_> = (0..40).map(|_| Epoll::new()).collect();
    let mut refused = 0;
    let base = rig.file(Epoll::new());
    for (m_index, m) in middle.iter().enumerate() {
        let m_file = rig.file(m.clone());
        refused += m.ctl(EpollOp::Add, 1, &base, IN, 0).is_err() as u32;
        for leaf in &leaves {
            refused += leaf.ctl(EpollOp::Add, m_index as i32, &m_file, IN, 0).is_err() as u32;
        }
        std::mem::forget(m_file);
    }
    assert!(refused > 0);
}

#[test]
fn exclusive_rules() {
    let rig = Rig::new();
    let file = rig.eventfd();
    let exclusive = IN | EpollEvents::EXCLUSIVE;
    assert_eq!(rig.epoll.ctl(EpollOp::Add, 1, &file, exclusive | EpollEvents::ONESHOT, 0), Err(Errno::EINVAL));
    rig.epoll.ctl(EpollOp::Add, 1, &file, exclusive, 0).unwrap();
    assert_eq!(rig.epoll.ctl(EpollOp::Modify, 1, &file, IN, 0), Err(Errno::EINVAL));
    assert_eq!(EpollOp::from_raw(4), Err(Errno::EINVAL));
}

/// Writers and two edge-triggered collectors: no wake-up is lost.
#[test]
fn no_edge_is_lost_between_threads() {
    let rig = Rig::new();
    let file = rig.eventfd();
    rig.epoll.ctl(EpollOp::Add, 1, &file, IN | EpollEvents::EDGE, 0).unwrap();
    let writer = {
        let file = file.clone();
        std::thread::spawn(move || {
            for _ in 0..20_000 {
                set(&file, 1);
            }
        })
    };
    let mut total = 0;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while total < 20_000 && std::time::Instant::now() < end {
        if rig.epoll.collect(4, None).is_empty() {
            continue;
        }
        let mut out = [0; 8];
        while file.ops.read(&Nobody, 0, &mut out).is_ok() {
            total += u64::from_ne_bytes(out);
        }
    }
    writer.join().unwrap();
    assert_eq!(total, 20_000);
}
