//! /proc/pid and /proc/pid/task/tid.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, FileKind, Result, UserAddr};
use sentry_auth::Credentials;
use sentry_kernel::loader::Executable;
use sentry_kernel::task::current_ids;
use sentry_kernel::{AccessIds, Kernel, Task, ThreadGroup};
use sentry_mm::Mm;
use sentry_vfs::{Caller, Inode, Path};

use super::{fd, namespaces, status};
use crate::pseudo::{Children, Common, Directory, Link, OwnerFn, Target, Text, WriteFn};

/// Longest command line or environment that is shown.
const MAX_STRINGS: u64 = 1 << 20;

pub fn ino(pid: i32, index: u64) -> u64 {
    0x1_0000_0000 + ((pid as u64) << 16) + index
}

/// Which task a directory is about: a process's leader (or whoever is left), or one thread.
#[derive(Clone)]
pub struct Subject {
    pub kernel: Arc<Kernel>,
    group: Weak<ThreadGroup>,
    thread: Option<Weak<Task>>,
    pub device: u64,
    /// Part of the inode numbers.
    id: i32,
}

impl Subject {
    pub fn group(&self) -> Result<Arc<ThreadGroup>> {
        let group = self.group.upgrade().ok_or(Errno::ESRCH)?;
        let known = self.kernel.processes.group(group.id).is_some_and(|g| Arc::ptr_eq(&g, &group));
        if known { Ok(group) } else { Err(Errno::ESRCH) }
    }

    /// `ESRCH` for a zombie, which has no task left.
    pub fn task(&self) -> Result<Arc<Task>> {
        match &self.thread {
            None => self.group()?.any_task().ok_or(Errno::ESRCH),
            Some(thread) => {
                let task = thread.upgrade().ok_or(Errno::ESRCH)?;
                let lives = self.kernel.processes.task(task.tid()).is_some_and(|t| Arc::ptr_eq(&t, &task));
                if lives { Ok(task) } else { Err(Errno::ESRCH) }
            }
        }
    }

    fn alive(&self) -> bool {
        match &self.thread {
            None => self.group().is_ok(),
            Some(_) => self.task().is_ok(),
        }
    }

    pub fn is_thread(&self) -> bool {
        self.thread.is_some()
    }

    fn owner(&self) -> OwnerFn {
        let subject = self.clone();
        Arc::new(move || {
            let dumpable = subject.group().is_ok_and(|g| g.dumpable.load(Ordering::Relaxed));
            match subject.task() {
                // proc_fd_permission(): a process reaches its own entries, dumpable or not.
                Ok(task) if dumpable || current_ids().is_some_and(|(pid, _)| pid == task.pid()) => {
                    let c = task.credentials();
                    (c.euid, c.egid)
                }
                _ => (0, 0),
            }
        })
    }

    pub fn common(&self, index: u64, mode: u16) -> Common {
        Common::new(self.device, ino(self.id, index), mode, Some(self.owner()))
    }

    /// PTRACE_MODE_READ_FSCREDS: may `caller` look into this process? What it wants to see has been taken already.
    pub fn check_access(&self, caller: &dyn Caller) -> Result<()> {
        self.check_access_of(&caller.credentials(), caller.pid())
    }

    fn check_access_of(&self, who: &Credentials, pid: i32) -> Result<()> {
        if self.task()?.group.may_access(who, pid, AccessIds::FileSystem) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// A link to an object of the process, which only those can follow who may look into it.
    pub fn link_target(&self, target: impl Fn(&Subject) -> Result<Path> + Send + Sync + 'static) -> Target {
        let subject = self.clone();
        Target::Object(Arc::new(move |who: &Arc<Credentials>| {
            let place = target(&subject)?;
            // Name resolution knows the credentials but not the process, which may always look at itself.
            let pid = current_ids().map_or(0, |(pid, _)| pid);
            subject.check_access_of(who, pid)?;
            Ok(place)
        }))
    }
}

pub fn directory(kernel: &Arc<Kernel>, device: u64, group: &Arc<ThreadGroup>) -> Arc<dyn Inode> {
    let subject = Subject { kernel: kernel.clone(), group: Arc::downgrade(group), thread: None, device, id: group.id };
    make(subject)
}

fn make(subject: Subject) -> Arc<dyn Inode> {
    let common = subject.common(0, 0o555);
    Directory::new(common, Arc::new(Entries(subject)))
}

/// What a row of the table below makes.
enum Row {
    /// Only for those who may look into the process, at opening and at each reading.
    Guarded(u16, fn(&Task, &Mm) -> Result<Vec<u8>>),
    Text(u16, fn(&Subject, &dyn Caller) -> Result<Vec<u8>>),
    Writable(u16, fn(&Subject, &dyn Caller) -> Result<Vec<u8>>, fn(&Subject, &dyn Caller, &[u8]) -> Result<()>),
    Object(fn(&Subject) -> Result<Path>),
    Directory(fn(&Subject) -> Arc<dyn Inode>),
    /// The process's memory.
    Memory,
    /// Only below /proc/pid, not below a thread.
    ProcessOnly(fn(&Subject) -> Arc<dyn Inode>),
}

const TABLE: &[(&str, Row)] = &[
    ("auxv", Row::Guarded(0o400, |_, mm| Ok(mm.exec_layout().auxv.to_vec()))),
    ("cgroup", Row::Text(0o444, |_, _| Ok(b"0::/\n".to_vec()))),
    ("cmdline", Row::Text(0o444, cmdline)),
    ("comm", Row::Writable(0o644, comm, set_comm)),
    ("coredump_filter", Row::Text(0o644, |_, _| Ok(b"00000033\n".to_vec()))),
    ("cwd", Row::Object(|s| Ok(s.task()?.fs().places().cwd))),
    ("environ", Row::Guarded(0o400, environ)),
    ("exe", Row::Object(exe)),
    ("fd", Row::Directory(fd::descriptors)),
    ("fdinfo", Row::Directory(fd::information)),
    ("gid_map", Row::Text(0o444, id_map)),
    ("io", Row::Text(0o400, io)),
    ("limits", Row::Text(0o444, status::limits)),
    ("loginuid", Row::Text(0o644, |_, _| Ok(b"4294967295".to_vec()))),
    ("maps", Row::Guarded(0o444, |_, mm| Ok(mm.maps()))),
    ("mem", Row::Memory),
    ("mountinfo", Row::Text(0o444, |s, _| status::mountinfo(s))),
    ("mounts", Row::Text(0o444, |s, _| status::mounts(s))),
    ("net", Row::Directory(status::net)),
    ("ns", Row::Directory(namespaces::directory)),
    ("oom_adj", Row::Text(0o644, |s, _| Ok(format!("{}\n", s.group()?.oom_score_adj.load(Ordering::Relaxed) * 15 / 1000).into_bytes()))),
    ("oom_score", Row::Text(0o444, |_, _| Ok(b"0\n".to_vec()))),
    ("oom_score_adj", Row::Writable(0o644, oom_score_adj, set_oom_score_adj)),
    ("personality", Row::Text(0o400, |s, _| Ok(format!("{:08x}\n", s.group()?.personality.load(Ordering::Relaxed)).into_bytes()))),
    ("projid_map", Row::Text(0o444, |_, _| Ok(Vec::new()))),
    ("root", Row::Object(|s| Ok(s.task()?.fs().places().root))),
    ("schedstat", Row::Text(0o444, |_, _| Ok(b"0 0 0\n".to_vec()))),
    ("sessionid", Row::Text(0o444, |_, _| Ok(b"4294967295".to_vec()))),
    ("setgroups", Row::Text(0o644, |_, _| Ok(b"allow\n".to_vec()))),
    ("smaps", Row::Guarded(0o444, |_, mm| Ok(mm.smaps()))),
    ("smaps_rollup", Row::Guarded(0o444, |_, mm| Ok(rollup(&mm.smaps())))),
    ("stat", Row::Text(0o444, status::stat)),
    ("statm", Row::Text(0o444, |s, _| Ok(s.task()?.mm().statm()))),
    ("status", Row::Text(0o444, status::status)),
    ("task", Row::ProcessOnly(threads)),
    ("timers", Row::Text(0o444, |_, _| Ok(Vec::new()))),
    ("timerslack_ns", Row::Text(0o666, |s, _| Ok(format!("{}\n", s.task()?.timer_slack_ns.load(Ordering::Relaxed)).into_bytes()))),
    ("uid_map", Row::Text(0o444, id_map)),
    ("wchan", Row::Text(0o444, |_, _| Ok(b"0".to_vec()))),
];

struct Entries(Subject);

impl Entries {
    fn make(&self, index: usize, row: &Row) -> Arc<dyn Inode> {
        let s = &self.0;
        let index = index as u64 + 1;
        match row {
            Row::Guarded(mode, read) => guarded(s, index, *mode, *read),
            Row::Text(mode, read) => text(s, index, *mode, *read, None),
            Row::Writable(mode, read, write) => text(s, index, *mode, *read, Some(*write)),
            Row::Object(target) => Link::new(s.common(index, 0o777), s.link_target(*target)),
            Row::Memory => super::memory::file(s, index),
            Row::Directory(make) | Row::ProcessOnly(make) => make(s),
        }
    }
}

type Read = fn(&Subject, &dyn Caller) -> Result<Vec<u8>>;
type Write = fn(&Subject, &dyn Caller, &[u8]) -> Result<()>;

fn text(subject: &Subject, index: u64, mode: u16, read: Read, write: Option<Write>) -> Arc<dyn Inode> {
    let reader = subject.clone();
    let write = write.map(|write| {
        let writer = subject.clone();
        Arc::new(move |caller: &dyn Caller, bytes: &[u8]| write(&writer, caller, bytes)) as WriteFn
    });
    Text::new(subject.common(index, mode), Arc::new(move |caller| read(&reader, caller)), write)
}

impl Children for Entries {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if !self.0.alive() {
            return Err(Errno::ENOENT);
        }
        let found = TABLE.iter().enumerate().find(|(_, (n, _))| n.as_bytes() == name);
        match found {
            Some((_, (_, Row::ProcessOnly(_)))) if self.0.is_thread() => Err(Errno::ENOENT),
            Some((index, (_, row))) => Ok(self.make(index, row)),
            None => Err(Errno::ENOENT),
        }
    }

    fn list(&self, _: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)> {
        let rows = TABLE.iter().enumerate().filter(|(_, (_, row))| !(self.0.is_thread() && matches!(row, Row::ProcessOnly(_))));
        rows.map(|(index, (name, row))| {
            let kind = match row {
                Row::Guarded(..) | Row::Text(..) | Row::Writable(..) | Row::Memory => FileKind::Regular,
                Row::Object(_) => FileKind::Symlink,
                Row::Directory(_) | Row::ProcessOnly(_) => FileKind::Directory,
            };
            (name.as_bytes().to_vec(), kind, ino(self.0.id, index as u64 + 1))
        })
        .collect()
    }

    fn alive(&self) -> bool {
        self.0.alive()
    }
}

/// /proc/pid/task.
struct Threads(Subject);

fn threads(subject: &Subject) -> Arc<dyn Inode> {
    Directory::new(subject.common(200, 0o555), Arc::new(Threads(subject.clone())))
}

impl Children for Threads {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let tid = super::root::number(name).ok_or(Errno::ENOENT)?;
        let group = self.0.group().map_err(|_| Errno::ENOENT)?;
        let task = group.tasks().into_iter().find(|t| t.tid() == tid).ok_or(Errno::ENOENT)?;
        Ok(make(Subject { thread: Some(Arc::downgrade(&task)), id: tid, ..self.0.clone() }))
    }

    fn list(&self, _: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)> {
        let Ok(group) = self.0.group() else { return Vec::new() };
        group.tasks().iter().map(|t| (t.tid().to_string().into_bytes(), FileKind::Directory, ino(t.tid(), 0))).collect()
    }

    fn alive(&self) -> bool {
        self.0.alive()
    }
}

/// /proc/pid/smaps_rollup: the sums of what smaps says of each area.
fn rollup(smaps: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(smaps);
    let is_area = |line: &&str| line.split_whitespace().next().is_some_and(|word| word.contains('-'));
    let ends = |line: &str, at: usize| line.split_whitespace().next().and_then(|range| range.split('-').nth(at)).unwrap_or("0").to_owned();
    let first = text.lines().find(is_area).map_or("0".to_owned(), |line| ends(line, 0));
    let last = text.lines().rfind(is_area).map_or("0".to_owned(), |line| ends(line, 1));
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(Ok(number)), Some("kB")) = (words.next(), words.next().map(str::parse::<u64>), words.next()) else {
            continue;
        };
        if matches!(name, "Size:" | "KernelPageSize:" | "MMUPageSize:") {
            continue;
        }
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += number,
            None => sums.push((name, number)),
        }
    }
    let mut out = format!("{first}-{last} ---p 00000000 00:00 0                                  [rollup]\n");
    for (name, sum) in sums {
        out.push_str(&format!("{name:<16}{sum:>8} kB\n"));
    }
    out.into_bytes()
}

fn guarded(subject: &Subject, index: u64, mode: u16, read: fn(&Task, &Mm) -> Result<Vec<u8>>) -> Arc<dyn Inode> {
    let (reader, opener) = (subject.clone(), subject.clone());
    let read = move |caller: &dyn Caller| {
        let task = reader.task()?;
        let mm = task.mm();
        reader.check_access(caller)?;
        read(&task, &mm)
    };
    Text::guarded(subject.common(index, mode), Arc::new(read), Arc::new(move |caller| opener.check_access(caller)))
}

fn io(_: &Subject, _: &dyn Caller) -> Result<Vec<u8>> {
    Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".to_vec())
}

fn id_map(_: &Subject, _: &dyn Caller) -> Result<Vec<u8>> {
    Ok(format!("{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX).into_bytes())
}

fn strings(mm: &Mm, start: u64, end: u64) -> Vec<u8> {
    let len = end.saturating_sub(start).min(MAX_STRINGS) as usize;
    let mut bytes = vec![0; len];
    let n = mm.read_partial(UserAddr(start), &mut bytes).unwrap_or(0);
    bytes.truncate(n);
    bytes
}

fn cmdline(s: &Subject, _: &dyn Caller) -> Result<Vec<u8>> {
    let Ok(task) = s.task() else { return Ok(Vec::new()) };
    let mm = task.mm();
    let layout = mm.exec_layout();
    let mut bytes = strings(&mm, layout.arg_start, layout.arg_end);
    // A program that wrote over its arguments (setproctitle) may have gone on into the environment.
    if bytes.last().is_some_and(|b| *b != 0) {
        bytes.extend(strings(&mm, layout.arg_end, layout.env_end));
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn environ(_: &Task, mm: &Mm) -> Result<Vec<u8>> {
    let layout = mm.exec_layout();
    Ok(strings(mm, layout.env_start, layout.env_end))
}

fn exe(s: &Subject) -> Result<Path> {
    let exe = s.task().map_err(|_| Errno::ENOENT)?.mm().exe().ok_or(Errno::ENOENT)?;
    exe.downcast_ref::<Executable>().map(|e| e.path.clone()).ok_or(Errno::ENOENT)
}

fn comm(s: &Subject, _: &dyn Caller) -> Result<Vec<u8>> {
    let mut name = s.task()?.comm();
    name.push(b'\n');
    Ok(name)
}

fn set_comm(s: &Subject, caller: &dyn Caller, bytes: &[u8]) -> Result<()> {
    let task = s.task()?;
    if task.pid() != caller.pid() {
        return Err(Errno::EINVAL);
    }
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    task.set_comm(&bytes[..end]);
    Ok(())
}

fn oom_score_adj(s: &Subject, _: &dyn Caller) -> Result<Vec<u8>> {
    Ok(format!("{}\n", s.group()?.oom_score_adj.load(Ordering::Relaxed)).into_bytes())
}

fn set_oom_score_adj(s: &Subject, caller: &dyn Caller, bytes: &[u8]) -> Result<()> {
    let value: i32 = std::str::from_utf8(bytes).ok().and_then(|t| t.trim().parse().ok()).ok_or(Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let group = s.group()?;
    let old = group.oom_score_adj.load(Ordering::Relaxed);
    if value < old && !caller.credentials().has(sentry_auth::Caps::SYS_RESOURCE) {
        return Err(Errno::EACCES);
    }
    group.oom_score_adj.store(value, Ordering::Relaxed);
    Ok(())
}
