//! Semaphore sets: semget(2), semop(2), semctl(2). ipc/sem.c.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use sentry_abi::{Errno, Mode, Result, Timespec, UserAddr};
use sentry_auth::Access;
use sentry_kernel::{BlockError, CurrentTask, Restart, Stop, SysResult};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ids::{IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, IpcObject, Permissions, UserPermissions};
use crate::dispatch::System;

const SEM_UNDO: i16 = 0x1000;
const MAX_SEMS: i32 = 32_000;
const MAX_OPS: u64 = 500;
const MAX_VALUE: i32 = 32_767;
const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

#[derive(Clone, Copy, Default)]
struct Semaphore {
    value: i32,
    pid: i32,
    waiting_increase: u32,
    waiting_zero: u32,
}

struct State {
    permissions: Permissions,
    semaphores: Vec<Semaphore>,
    /// Per process and semaphore: what its end is to add back.
    undo: HashMap<(i32, u16), i32>,
    operated: i64,
    changed: i64,
    removed: bool,
}

pub struct SemaphoreSet {
    state: Mutex<State>,
    queue: WaitQueue,
}

impl IpcObject for SemaphoreSet {
    fn permissions(&self) -> Permissions {
        self.state.lock().permissions
    }
}

/// `struct sembuf`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Operation {
    number: u16,
    change: i16,
    flags: i16,
}

enum Attempt {
    Done,
    /// Must wait for semaphore `.0`, to become zero or to grow.
    Wait(u16, bool),
}

fn now() -> i64 {
    sentry_time::ClockId::Realtime.now().sec
}

impl State {
    /// All operations or none.
    fn attempt(&mut self, operations: &[Operation], pid: i32) -> Result<Attempt> {
        let mut new = self.semaphores.clone();
        for op in operations {
            let s = new.get_mut(op.number as usize).ok_or(Errno::EFBIG)?;
            let change = op.change as i32;
            if change == 0 && s.value != 0 {
                return if op.flags as i32 & IPC_NOWAIT != 0 { Err(Errno::EAGAIN) } else { Ok(Attempt::Wait(op.number, true)) };
            }
            if s.value + change < 0 {
                return if op.flags as i32 & IPC_NOWAIT != 0 { Err(Errno::EAGAIN) } else { Ok(Attempt::Wait(op.number, false)) };
            }
            if s.value + change > MAX_VALUE {
                return Err(Errno::ERANGE);
            }
            s.value += change;
            s.pid = pid;
        }
        let undo = self.undo_after(operations, pid)?;
        self.semaphores = new;
        self.undo.extend(undo);
        self.operated = now();
        Ok(Attempt::Done)
    }

    /// The adjustments that `operations` change, as they will be. `ERANGE` beyond what a semaphore can hold (SEMAEM).
    fn undo_after(&self, operations: &[Operation], pid: i32) -> Result<HashMap<(i32, u16), i32>> {
        let mut undo: HashMap<(i32, u16), i32> = HashMap::new();
        for op in operations.iter().filter(|o| o.flags & SEM_UNDO != 0) {
            let key = (pid, op.number);
            let old = undo.get(&key).or_else(|| self.undo.get(&key)).copied().unwrap_or(0);
            let new = old - op.change as i32;
            if !(-MAX_VALUE - 1..=MAX_VALUE).contains(&new) {
                return Err(Errno::ERANGE);
            }
            undo.insert(key, new);
        }
        Ok(undo)
    }

    fn count_waiter(&mut self, number: u16, zero: bool, by: i32) {
        if let Some(s) = self.semaphores.get_mut(number as usize) {
            let count = if zero { &mut s.waiting_zero } else { &mut s.waiting_increase };
            *count = count.saturating_add_signed(by);
        }
    }
}

impl SemaphoreSet {
    /// A process has ended: its SEM_UNDO adjustments.
    pub fn process_ended(&self, pid: i32) {
        {
            let mut state = self.state.lock();
            let mine: Vec<((i32, u16), i32)> = state.undo.iter().filter(|((p, _), _)| *p == pid).map(|(k, v)| (*k, *v)).collect();
            if mine.is_empty() {
                return;
            }
            for (key, adjust) in mine {
                state.undo.remove(&key);
                if let Some(s) = state.semaphores.get_mut(key.1 as usize) {
                    s.value = (s.value + adjust).clamp(0, MAX_VALUE);
                    s.pid = pid;
                }
            }
        }
        self.queue.wake_all();
    }
}

/// [semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html).
pub fn semget(task: &mut CurrentTask, key: i32, count: i32, flags: i32) -> SysResult {
    if !(0..=MAX_SEMS).contains(&count) {
        return Err(Errno::EINVAL.into());
    }
    let system = System::of(task)?;
    let check = |s: &SemaphoreSet| if count as usize > s.state.lock().semaphores.len() { Err(Errno::EINVAL) } else { Ok(()) };
    let id = system.sysv.semaphores.get(&task.creds(), key, flags, check, |new| {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let state = State {
            permissions: new.permissions,
            semaphores: vec![Semaphore::default(); count as usize],
            undo: HashMap::new(),
            operated: 0,
            changed: now(),
            removed: false,
        };
        Ok(SemaphoreSet { state: Mutex::new(Level::Leaf, state), queue: WaitQueue::new() })
    })?;
    Ok(id as u64)
}

/// [semop(2)](https://man7.org/linux/man-pages/man2/semop.2.html).
pub fn semop(task: &mut CurrentTask, id: i32, operations: UserAddr, count: u64) -> SysResult {
    operate(task, id, operations, count, None)
}

/// [semtimedop(2)](https://man7.org/linux/man-pages/man2/semop.2.html).
pub fn semtimedop(task: &mut CurrentTask, id: i32, operations: UserAddr, count: u64, timeout: UserAddr) -> SysResult {
    let limit = if timeout.is_null() { None } else { Some(task.mm().read_obj::<Timespec>(timeout)?.duration()?) };
    operate(task, id, operations, count, limit.and_then(|l| Instant::now().checked_add(l)))
}

fn operate(task: &mut CurrentTask, id: i32, at: UserAddr, count: u64, deadline: Option<Instant>) -> SysResult {
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL.into());
    }
    if count > MAX_OPS {
        return Err(Errno::E2BIG.into());
    }
    let operations: Vec<Operation> = task.mm().read_array(at, count as usize)?;
    let set = System::of(task)?.sysv.semaphores.find(id)?;
    let alters = operations.iter().any(|o| o.change != 0);
    set.permissions().check(&task.creds(), if alters { Access::WRITE } else { Access::READ })?;
    let pid = task.task.pid();
    let mut counted: Option<(u16, bool)> = None;
    let outcome = task.block_until(Events::all(), deadline, |waiter: Option<&Waiter>| {
        if let Some(waiter) = waiter {
            set.queue.add(waiter);
        }
        let mut state = set.state.lock();
        if let Some((number, zero)) = counted.take() {
            state.count_waiter(number, zero, -1);
        }
        if state.removed {
            return Some(Err(Errno::EIDRM));
        }
        match state.attempt(&operations, pid) {
            Ok(Attempt::Done) => Some(Ok(())),
            Ok(Attempt::Wait(number, zero)) => {
                state.count_waiter(number, zero, 1);
                counted = Some((number, zero));
                None
            }
            Err(errno) => Some(Err(errno)),
        }
    });
    if let Some((number, zero)) = counted {
        set.state.lock().count_waiter(number, zero, -1);
    }
    match outcome {
        Ok(Ok(())) => {
            set.queue.wake_all();
            Ok(0)
        }
        Ok(Err(errno)) => Err(errno.into()),
        Err(BlockError::TimedOut) => Err(Errno::EAGAIN.into()),
        Err(BlockError::Interrupted) => Err(Stop::Restart(Restart::WithoutHandler)),
    }
}

/// `struct semid64_ds` of x86-64: 104 bytes.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserSet {
    permissions: UserPermissions,
    operated: i64,
    unused1: u64,
    changed: i64,
    unused2: u64,
    count: u64,
    unused: [u64; 2],
}

fn to_user(set: &SemaphoreSet) -> UserSet {
    let state = set.state.lock();
    UserSet {
        permissions: state.permissions.to_user(0),
        operated: state.operated,
        unused1: 0,
        changed: state.changed,
        unused2: 0,
        count: state.semaphores.len() as u64,
        unused: [0; 2],
    }
}

/// [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html).
pub fn semctl(task: &mut CurrentTask, id: i32, number: i32, command: i32, argument: u64) -> SysResult {
    let system = System::of(task)?;
    let at = UserAddr(argument);
    match command {
        IPC_INFO | SEM_INFO => {
            let list = system.sysv.semaphores.list();
            let info = [0, 32_000, 1_024_000_000, 1_024_000_000, MAX_SEMS, MAX_OPS as i32, 500, 20, MAX_VALUE, MAX_VALUE];
            task.mm().write_array(at, &info)?;
            return Ok(list.len().saturating_sub(1) as u64);
        }
        SEM_STAT | SEM_STAT_ANY => {
            let list = system.sysv.semaphores.list();
            let (id, set) = usize::try_from(id).ok().and_then(|i| list.get(i)).ok_or(Errno::EINVAL)?;
            if command == SEM_STAT {
                set.permissions().check(&task.creds(), Access::READ)?;
            }
            task.mm().write_obj(at, &to_user(set))?;
            return Ok(*id as u64);
        }
        _ => {}
    }
    let set = system.sysv.semaphores.find(id)?;
    let who = task.creds();
    match command {
        IPC_STAT => {
            set.permissions().check(&who, Access::READ)?;
            task.mm().write_obj(at, &to_user(&set))?;
            Ok(0)
        }
        IPC_SET => {
            let new: UserSet = task.mm().read_obj(at)?;
            set.permissions().check_owner(&who)?;
            let mut state = set.state.lock();
            state.permissions.uid = new.permissions.uid;
            state.permissions.gid = new.permissions.gid;
            state.permissions.mode = Mode((new.permissions.mode & 0o777) as u16);
            state.changed = now();
            Ok(0)
        }
        IPC_RMID => {
            set.permissions().check_owner(&who)?;
            system.sysv.semaphores.remove(id)?;
            set.state.lock().removed = true;
            set.queue.wake_all();
            Ok(0)
        }
        GETALL | SETALL => all_values(task, &set, command, at),
        GETPID | GETVAL | GETNCNT | GETZCNT => {
            set.permissions().check(&who, Access::READ)?;
            let state = set.state.lock();
            let s = usize::try_from(number).ok().and_then(|n| state.semaphores.get(n)).ok_or(Errno::EINVAL)?;
            Ok(match command {
                GETPID => s.pid as u64,
                GETVAL => s.value as u64,
                GETNCNT => s.waiting_increase as u64,
                _ => s.waiting_zero as u64,
            })
        }
        SETVAL => {
            set.permissions().check(&who, Access::WRITE)?;
            let value = argument as i32;
            if !(0..=MAX_VALUE).contains(&value) {
                return Err(Errno::ERANGE.into());
            }
            {
                let mut state = set.state.lock();
                let pid = task.task.pid();
                let index = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
                let s = state.semaphores.get_mut(index).ok_or(Errno::EINVAL)?;
                (s.value, s.pid) = (value, pid);
                state.undo.retain(|(_, n), _| *n as usize != index);
                state.changed = now();
            }
            set.queue.wake_all();
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn all_values(task: &CurrentTask, set: &Arc<SemaphoreSet>, command: i32, at: UserAddr) -> SysResult {
    let count = set.state.lock().semaphores.len();
    if command == GETALL {
        set.permissions().check(&task.creds(), Access::READ)?;
        let values: Vec<u16> = set.state.lock().semaphores.iter().map(|s| s.value as u16).collect();
        task.mm().write_array(at, &values)?;
        return Ok(0);
    }
    set.permissions().check(&task.creds(), Access::WRITE)?;
    let values: Vec<u16> = task.mm().read_array(at, count)?;
    if values.iter().any(|v| *v as i32 > MAX_VALUE) {
        return Err(Errno::ERANGE.into());
    }
    {
        let mut state = set.state.lock();
        let pid = task.task.pid();
        for (s, value) in state.semaphores.iter_mut().zip(values) {
            (s.value, s.pid) = (value as i32, pid);
        }
        state.undo.clear();
        state.changed = now();
    }
    set.queue.wake_all();
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjustments_stay_within_what_a_semaphore_holds() {
        let permissions = Permissions { key: 0, uid: 0, gid: 0, creator_uid: 0, creator_gid: 0, mode: Mode(0o600), sequence: 0 };
        let semaphores = vec![Semaphore::default()];
        let mut state = State { permissions, semaphores, undo: HashMap::new(), operated: 0, changed: 0, removed: false };
        let up = Operation { number: 0, change: 32_767, flags: SEM_UNDO };
        let down = Operation { number: 0, change: -32_767, flags: 0 };
        assert!(matches!(state.attempt(&[up, down], 7), Ok(Attempt::Done)));
        // The process's end would take away more than there can be: as often as it is tried, nothing adds up.
        for _ in 0..100_000 {
            assert_eq!(state.attempt(&[up, down], 7).err(), Some(Errno::ERANGE));
        }
        assert_eq!(state.undo[&(7, 0)], -32_767);
        assert_eq!(state.semaphores[0].value, 0);
    }
}
