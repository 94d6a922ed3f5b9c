//! futex(2) of the guest, executed by the host in the guest's process, as systrap's stub does.

use sentry_abi::UserAddr;
use sentry_platform::{AddressSpace, SyscallArgs};

use crate::host::{self, Gone};
use crate::space::Space;
use crate::tracee::{Injected, Tracee};

pub const NR_FUTEX: u64 = 202;
const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const PRIVATE: u64 = 128;
const CLOCK_REALTIME: u64 = 256;
const SECOND: i64 = 1_000_000_000;
const EAGAIN: i64 = -11;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const EINTR: i64 = -4;
/// Results of calls that the host would restart.
const RESTART: std::ops::RangeInclusive<i64> = -516..=-512;

/// A wait that can be resumed: all registers of the call, with an absolute deadline.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    args: [u64; 6],
    deadline: Option<(i64, i64)>,
}

impl Wait {
    pub fn timed(&self) -> bool {
        self.deadline.is_some()
    }
}

/// What to do with a call.
pub enum Plan {
    /// The sentry's business.
    HandOver,
    Answer(i64),
    Wait(Wait),
    /// These arguments, by the host.
    Inject([u64; 6]),
}

pub fn plan(space: &Space, call: &SyscallArgs) -> Plan {
    let [addr, op, val, fourth, addr2, val3] = call.args;
    let (op, val, val3) = (op & 0xffff_ffff, val & 0xffff_ffff, val3 & 0xffff_ffff);
    let private = op & PRIVATE;
    if op & CLOCK_REALTIME != 0 && op & !(PRIVATE | CLOCK_REALTIME) != WAIT_BITSET {
        return Plan::HandOver;
    }
    match op & !(PRIVATE | CLOCK_REALTIME) {
        WAIT => match deadline(space, fourth, true) {
            Ok(deadline) => Plan::Wait(Wait { args: [addr, WAIT_BITSET | private, val, 0, 0, 0xffff_ffff], deadline }),
            Err(error) => Plan::Answer(error),
        },
        WAIT_BITSET => match deadline(space, fourth, false) {
            Ok(deadline) => Plan::Wait(Wait { args: [addr, op, val, 0, 0, val3], deadline }),
            Err(error) => Plan::Answer(error),
        },
        WAKE => Plan::Inject([addr, op, val, 0, 0, 0]),
        WAKE_BITSET => Plan::Inject([addr, op, val, 0, 0, val3]),
        WAKE_OP => Plan::Inject([addr, op, val, fourth, addr2, val3]),
        REQUEUE | CMP_REQUEUE => {
            if op & !PRIVATE == CMP_REQUEUE {
                let mut word = [0; 4];
                if space.read(UserAddr(addr), &mut word).is_err() {
                    return Plan::Answer(EFAULT);
                }
                if u64::from(u32::from_le_bytes(word)) != val3 {
                    return Plan::Answer(EAGAIN);
                }
            }
            let (wakes, moves) = (val as u32 as i32, fourth as u32 as i32);
            if wakes < 0 || moves < 0 || addr2 & 3 != 0 {
                return Plan::Answer(EINVAL);
            }
            Plan::Inject([addr, WAKE | private, wakes.saturating_add(moves) as u64, 0, 0, 0])
        }
        _ => Plan::HandOver,
    }
}

fn deadline(space: &Space, at: u64, relative: bool) -> Result<Option<(i64, i64)>, i64> {
    if at == 0 {
        return Ok(None);
    }
    let mut bytes = [0; 16];
    space.read(UserAddr(at), &mut bytes).map_err(|_| EFAULT)?;
    let (seconds, nanos) = bytes.split_at(8);
    let word = |b: &[u8]| b.try_into().map(i64::from_le_bytes).unwrap_or_default();
    let (seconds, nanos) = (word(seconds), word(nanos));
    if seconds < 0 || !(0..SECOND).contains(&nanos) {
        return Err(EINVAL);
    }
    if !relative {
        return Ok(Some((seconds, nanos)));
    }
    let now = host::now();
    let sum = now.1 + nanos;
    Ok(Some((seconds.saturating_add(now.0).saturating_add(sum / SECOND), sum % SECOND)))
}

/// Waits, with the deadline in the thread's scratch memory.
pub fn wait(tracee: &mut Tracee, space: &Space, scratch: u64, wait: &Wait) -> Result<Injected, Gone> {
    let mut args = wait.args;
    if let Some((seconds, nanos)) = wait.deadline {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&seconds.to_le_bytes());
        bytes[8..].copy_from_slice(&nanos.to_le_bytes());
        if host::write(tracee.tid, scratch, &bytes).ok() != Some(bytes.len()) {
            return Ok(Injected::Done(EFAULT));
        }
        args[3] = scratch;
    }
    let result = tracee.try_inject(&space.container, space.container.call_site, NR_FUTEX, args, true)?;
    Ok(match result {
        Injected::Done(value) if value == EINTR || RESTART.contains(&value) => Injected::Interrupted,
        other => other,
    })
}
