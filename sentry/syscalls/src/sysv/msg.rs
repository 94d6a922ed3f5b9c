//! Message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2). ipc/msg.c.

use std::collections::VecDeque;

use sentry_abi::{Errno, Mode, Result, UserAddr};
use sentry_auth::{Access, Caps};
use sentry_kernel::{BlockError, CurrentTask, Restart, Stop, SysResult};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ids::{IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, IpcObject, Permissions, UserPermissions};
use crate::dispatch::System;

const MSG_NOERROR: i32 = 0o10000;
const MSG_EXCEPT: i32 = 0o20000;
const MSG_COPY: i32 = 0o40000;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
const MAX_MESSAGE: u64 = 8192;
const MAX_QUEUE: u64 = 16384;

struct Message {
    kind: i64,
    bytes: Vec<u8>,
}

struct State {
    permissions: Permissions,
    messages: VecDeque<Message>,
    bytes: u64,
    limit: u64,
    sent: i64,
    received: i64,
    changed: i64,
    last_sender: i32,
    last_receiver: i32,
    removed: bool,
}

pub struct MessageQueue {
    state: Mutex<State>,
    queue: WaitQueue,
}

impl IpcObject for MessageQueue {
    fn permissions(&self) -> Permissions {
        self.state.lock().permissions
    }
}

fn now() -> i64 {
    sentry_time::ClockId::Realtime.now().sec
}

/// [msgget(2)](https://man7.org/linux/man-pages/man2/msgget.2.html).
pub fn msgget(task: &mut CurrentTask, key: i32, flags: i32) -> SysResult {
    let system = System::of(task)?;
    let id = system.sysv.queues.get(
        &task.creds(),
        key,
        flags,
        |_| Ok(()),
        |new| {
            let state = State {
                permissions: new.permissions,
                messages: VecDeque::new(),
                bytes: 0,
                limit: MAX_QUEUE,
                sent: 0,
                received: 0,
                changed: now(),
                last_sender: 0,
                last_receiver: 0,
                removed: false,
            };
            Ok(MessageQueue { state: Mutex::new(Level::Leaf, state), queue: WaitQueue::new() })
        },
    )?;
    Ok(id as u64)
}

fn outcome<T>(result: Result<Result<T>, BlockError>) -> Result<T, Stop> {
    match result {
        Ok(value) => value.map_err(Stop::from),
        Err(_) => Err(Stop::Restart(Restart::WithoutHandler)),
    }
}

/// [msgsnd(2)](https://man7.org/linux/man-pages/man2/msgop.2.html).
pub fn msgsnd(task: &mut CurrentTask, id: i32, at: UserAddr, size: u64, flags: i32) -> SysResult {
    if size > MAX_MESSAGE || id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let kind: i64 = task.mm().read_obj(at)?;
    if kind < 1 {
        return Err(Errno::EINVAL.into());
    }
    let bytes = task.mm().read_vec(at.offset(8)?, size as usize)?;
    let queue = System::of(task)?.sysv.queues.find(id)?;
    queue.permissions().check(&task.creds(), Access::WRITE)?;
    let pid = task.task.pid();
    let mut message = Some(Message { kind, bytes });
    outcome(task.block_until(Events::all(), None, |waiter: Option<&Waiter>| {
        if let Some(waiter) = waiter {
            queue.queue.add(waiter);
        }
        let mut state = queue.state.lock();
        if state.removed {
            return Some(Err(Errno::EIDRM));
        }
        if state.bytes + size > state.limit || state.messages.len() as u64 >= state.limit {
            return (flags & IPC_NOWAIT != 0).then_some(Err(Errno::EAGAIN));
        }
        state.bytes += size;
        state.sent = now();
        state.last_sender = pid;
        state.messages.extend(message.take());
        Some(Ok(()))
    }))?;
    queue.queue.wake_all();
    Ok(0)
}

/// Position of the message that msgrcv(2) wants.
fn choose(messages: &VecDeque<Message>, wanted: i64, flags: i32) -> Option<usize> {
    match wanted {
        0 => (!messages.is_empty()).then_some(0),
        w if w > 0 && flags & MSG_EXCEPT != 0 => messages.iter().position(|m| m.kind != w),
        w if w > 0 => messages.iter().position(|m| m.kind == w),
        w => {
            let most = w.checked_neg().unwrap_or(i64::MAX);
            let lowest = messages.iter().map(|m| m.kind).filter(|k| *k <= most).min()?;
            messages.iter().position(|m| m.kind == lowest)
        }
    }
}

/// [msgrcv(2)](https://man7.org/linux/man-pages/man2/msgop.2.html).
pub fn msgrcv(task: &mut CurrentTask, id: i32, at: UserAddr, size: u64, wanted: i64, flags: i32) -> SysResult {
    if flags & MSG_COPY != 0 {
        return Err(Errno::ENOSYS.into());
    }
    if id < 0 || size > i64::MAX as u64 {
        return Err(Errno::EINVAL.into());
    }
    let queue = System::of(task)?.sysv.queues.find(id)?;
    queue.permissions().check(&task.creds(), Access::READ)?;
    let pid = task.task.pid();
    let message = outcome(task.block_until(Events::all(), None, |waiter: Option<&Waiter>| {
        if let Some(waiter) = waiter {
            queue.queue.add(waiter);
        }
        let mut state = queue.state.lock();
        if state.removed {
            return Some(Err(Errno::EIDRM));
        }
        let Some(index) = choose(&state.messages, wanted, flags) else {
            return (flags & IPC_NOWAIT != 0).then_some(Err(Errno::ENOMSG));
        };
        if state.messages[index].bytes.len() as u64 > size && flags & MSG_NOERROR == 0 {
            return Some(Err(Errno::E2BIG));
        }
        let message = state.messages.remove(index)?;
        state.bytes -= message.bytes.len() as u64;
        state.received = now();
        state.last_receiver = pid;
        Some(Ok(message))
    }))?;
    queue.queue.wake_all();
    let n = message.bytes.len().min(size as usize);
    task.mm().write_obj(at, &message.kind)?;
    task.mm().write(at.offset(8)?, &message.bytes[..n])?;
    Ok(n as u64)
}

/// `struct msqid64_ds` of x86-64: 120 bytes.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserQueue {
    permissions: UserPermissions,
    sent: i64,
    received: i64,
    changed: i64,
    bytes: u64,
    count: u64,
    limit: u64,
    last_sender: i32,
    last_receiver: i32,
    unused: [u64; 2],
}

fn to_user(queue: &MessageQueue) -> UserQueue {
    let s = queue.state.lock();
    UserQueue {
        permissions: s.permissions.to_user(0),
        sent: s.sent,
        received: s.received,
        changed: s.changed,
        bytes: s.bytes,
        count: s.messages.len() as u64,
        limit: s.limit,
        last_sender: s.last_sender,
        last_receiver: s.last_receiver,
        unused: [0; 2],
    }
}

/// [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html).
pub fn msgctl(task: &mut CurrentTask, id: i32, command: i32, at: UserAddr) -> SysResult {
    let system = System::of(task)?;
    let table = &system.sysv.queues;
    let who = task.creds();
    match command {
        IPC_INFO | MSG_INFO => {
            let list = table.list();
            let info = [0, 0, MAX_MESSAGE as i32, MAX_QUEUE as i32, 32_000, 0, 0, 0];
            task.mm().write_array(at, &info)?;
            Ok(list.len().saturating_sub(1) as u64)
        }
        MSG_STAT | MSG_STAT_ANY => {
            let list = table.list();
            let (id, queue) = usize::try_from(id).ok().and_then(|i| list.get(i)).ok_or(Errno::EINVAL)?;
            if command == MSG_STAT {
                queue.permissions().check(&who, Access::READ)?;
            }
            task.mm().write_obj(at, &to_user(queue))?;
            Ok(*id as u64)
        }
        IPC_STAT => {
            let queue = table.find(id)?;
            queue.permissions().check(&who, Access::READ)?;
            task.mm().write_obj(at, &to_user(&queue))?;
            Ok(0)
        }
        IPC_SET => {
            let queue = table.find(id)?;
            let new: UserQueue = task.mm().read_obj(at)?;
            queue.permissions().check_owner(&who)?;
            {
                let mut state = queue.state.lock();
                if new.limit > MAX_QUEUE && !who.has(Caps::SYS_RESOURCE) {
                    return Err(Errno::EPERM.into());
                }
                state.limit = new.limit;
                state.permissions.uid = new.permissions.uid;
                state.permissions.gid = new.permissions.gid;
                state.permissions.mode = Mode((new.permissions.mode & 0o777) as u16);
                state.changed = now();
            }
            queue.queue.wake_all();
            Ok(0)
        }
        IPC_RMID => {
            let queue = table.find(id)?;
            queue.permissions().check_owner(&who)?;
            table.remove(id)?;
            queue.state.lock().removed = true;
            queue.queue.wake_all();
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
