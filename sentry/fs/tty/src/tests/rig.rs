//! A terminal with both ends open, a task, and a process tree that remembers what it was told.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use sentry_abi::uapi::ioctl as nr;
use sentry_abi::{Errno, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_sync::Events;
use sentry_time::TimerQueue;
use sentry_vfs::{Caller, FileDescription, FileOps, FileSystem, JobControl};

use super::OPEN;
use crate::{DevPts, DevPtsOptions, Groups, Terminals};

#[derive(Default)]
pub struct Told {
    signals: Mutex<Vec<(i32, Signal)>>,
    hung_up: Mutex<Option<(i32, i32)>>,
}

impl Told {
    pub fn taken(&self) -> Vec<(i32, Signal)> {
        std::mem::take(&mut self.signals.lock().unwrap())
    }

    pub fn hung_up(&self) -> Option<(i32, i32)> {
        *self.hung_up.lock().unwrap()
    }
}

impl Groups for Told {
    fn signal_group(&self, group: i32, signal: Signal) {
        self.signals.lock().unwrap().push((group, signal));
    }

    fn hang_up_session(&self, session: i32, foreground: i32) {
        *self.hung_up.lock().unwrap() = Some((session, foreground));
    }

    fn take_terminal_from(&self, _: i32) {}
}

/// A task with a little memory: ioctl arguments live at made-up addresses.
pub struct Task {
    session: i32,
    group: i32,
    terminal: Mutex<Option<u64>>,
    memory: Mutex<HashMap<u64, Vec<u8>>>,
    signals: Mutex<Vec<(i32, Signal)>>,
    installed: Mutex<Option<Arc<FileDescription>>>,
    pub ignoring: bool,
    pub orphaned: bool,
}

const ARGUMENT: u64 = 0x1000;

impl Task {
    pub fn new(session: i32, group: i32) -> Task {
        Task {
            session,
            group,
            terminal: Mutex::default(),
            memory: Mutex::default(),
            signals: Mutex::default(),
            installed: Mutex::default(),
            ignoring: false,
            orphaned: false,
        }
    }

    pub fn terminal(&self) -> Option<u64> {
        *self.terminal.lock().unwrap()
    }

    pub fn set_terminal(&mut self, key: Option<u64>) {
        *self.terminal.lock().unwrap() = key;
    }

    pub fn signalled(&self) -> Vec<(i32, Signal)> {
        std::mem::take(&mut self.signals.lock().unwrap())
    }

    pub fn installed(&self) -> Option<Arc<FileDescription>> {
        self.installed.lock().unwrap().clone()
    }

    pub fn ioctl_with(&self, ops: &Arc<dyn FileOps>, command: u32, argument: &[u8]) -> Result<u64> {
        self.memory.lock().unwrap().insert(ARGUMENT, argument.to_vec());
        ops.ioctl(self, command, ARGUMENT)
    }

    pub fn ioctl_read(&self, ops: &Arc<dyn FileOps>, command: u32, size: usize) -> Result<Vec<u8>> {
        self.ioctl_with(ops, command, &vec![0; size])?;
        Ok(self.memory.lock().unwrap()[&ARGUMENT].clone())
    }

    pub fn ioctl_get(&self, ops: &Arc<dyn FileOps>, command: u32) -> Result<i32> {
        let bytes = self.ioctl_read(ops, command, 4)?;
        Ok(i32::from_ne_bytes(bytes.try_into().unwrap()))
    }
}

impl Caller for Task {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::new(0, 0, &[], Caps::all()))
    }

    fn pid(&self) -> i32 {
        self.session
    }

    fn copy_in(&self, at: UserAddr, dst: &mut [u8]) -> Result<()> {
        let memory = self.memory.lock().unwrap();
        let bytes = memory.get(&at.0).ok_or(Errno::EFAULT)?;
        dst.copy_from_slice(bytes.get(..dst.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn copy_out(&self, at: UserAddr, src: &[u8]) -> Result<()> {
        let mut memory = self.memory.lock().unwrap();
        let bytes = memory.get_mut(&at.0).ok_or(Errno::EFAULT)?;
        bytes.get_mut(..src.len()).ok_or(Errno::EFAULT)?.copy_from_slice(src);
        Ok(())
    }

    fn signal_self(&self, _: Signal) {}

    fn job_control(&self) -> &dyn JobControl {
        self
    }

    fn now(&self) -> Timespec {
        Timespec::new(1, 2)
    }

    fn install_file(&self, file: Arc<FileDescription>, _: bool) -> Result<i32> {
        *self.installed.lock().unwrap() = Some(file);
        Ok(5)
    }
}

impl JobControl for Task {
    fn session(&self) -> i32 {
        self.session
    }

    fn process_group(&self) -> i32 {
        self.group
    }

    fn is_session_leader(&self) -> bool {
        self.session == self.group
    }

    fn controlling_terminal(&self) -> Option<u64> {
        self.terminal()
    }

    fn set_controlling_terminal(&self, key: Option<u64>) -> Result<()> {
        *self.terminal.lock().unwrap() = key;
        Ok(())
    }

    fn group_in_session(&self, group: i32) -> bool {
        (10..20).contains(&group)
    }

    fn group_is_orphaned(&self) -> bool {
        self.orphaned
    }

    fn ignores(&self, _: Signal) -> bool {
        self.ignoring
    }

    fn signal_group(&self, group: i32, signal: Signal) {
        self.signals.lock().unwrap().push((group, signal));
    }

    fn to_user(&self, id: i32) -> i32 {
        id
    }

    fn from_user(&self, id: i32) -> Option<i32> {
        Some(id)
    }
}

pub struct Rig {
    pub task: Task,
    pub groups: Arc<Told>,
    pub terminals: Arc<Terminals>,
    pub devpts: Arc<DevPts>,
    pub master: Arc<dyn FileOps>,
    pub slave: Arc<dyn FileOps>,
}

impl Rig {
    pub fn new() -> Rig {
        let groups = Arc::new(Told::default());
        let terminals = Terminals::new(groups.clone(), TimerQueue::new());
        let devpts = DevPts::new(7, DevPtsOptions::default(), terminals.clone(), Timespec::default());
        let task = Task::new(10, 10);
        let master = devpts.root().lookup(b"ptmx").unwrap().open(&OPEN, &task).unwrap();
        task.ioctl_with(&master, nr::TIOCSPTLCK, &0i32.to_ne_bytes()).unwrap();
        let slave = devpts.root().lookup(b"0").unwrap().open(&OPEN, &task).unwrap();
        Rig { task, groups, terminals, devpts, master, slave }
    }

    pub fn names(&self) -> Vec<String> {
        let directory = self.devpts.root().open(&OPEN, &self.task).unwrap();
        let mut names = Vec::new();
        let mut emit = |entry: &sentry_vfs::DirEntry<'_>| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            ControlFlow::Continue(())
        };
        directory.iterate(&self.task, 0, &mut emit).unwrap();
        names
    }
}

pub fn poll(ops: &Arc<dyn FileOps>) -> Events {
    ops.ready(Events::all(), None)
}
