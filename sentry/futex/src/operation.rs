//! Decoding of futex(2), and the operations made of wakes.

use sentry_abi::uapi::general as uapi;
use sentry_abi::{Errno, Result, UserAddr};

use crate::FutexMemory;

const PRIVATE: u32 = uapi::FUTEX_PRIVATE_FLAG;
const CLOCK_REALTIME: u32 = uapi::FUTEX_CLOCK_REALTIME;
/// How often a word that others keep changing is tried.
const ATTEMPTS: u32 = 10_000;

/// The arguments of futex(2), raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexCall {
    pub at: UserAddr,
    pub op: u32,
    pub val: u32,
    /// The time-out's address, or `val2`.
    pub val2: u64,
    pub at2: UserAddr,
    pub val3: u32,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The host executes it: WAIT, WAIT_BITSET.
    Wait {
        realtime: bool,
    },
    Wake {
        count: u32,
    },
    /// FUTEX_REQUEUE and FUTEX_CMP_REQUEUE (with `expected`).
    Requeue {
        wake: u32,
        requeue: u32,
        expected: Option<u32>,
    },
    WakeOp {
        wake: u32,
        wake2: u32,
        op: WakeOp,
    },
}

impl FutexCall {
    /// `ENOSYS` for unknown operations and priority inheritance, `EINVAL` for a bad argument, as Linux answers.
    pub fn decode(&self) -> Result<Request> {
        let op = self.op & !(PRIVATE | CLOCK_REALTIME);
        let realtime = self.op & CLOCK_REALTIME != 0;
        // Only waits have a clock.
        if realtime && !matches!(op, uapi::FUTEX_WAIT | uapi::FUTEX_WAIT_BITSET) {
            return Err(Errno::ENOSYS);
        }
        if !self.at.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let request = match op {
            uapi::FUTEX_WAIT => Request::Wait { realtime },
            uapi::FUTEX_WAIT_BITSET | uapi::FUTEX_WAKE_BITSET if self.val3 == 0 => return Err(Errno::EINVAL),
            uapi::FUTEX_WAIT_BITSET => Request::Wait { realtime },
            uapi::FUTEX_WAKE | uapi::FUTEX_WAKE_BITSET => Request::Wake { count: at_least_one(self.val) },
            uapi::FUTEX_REQUEUE | uapi::FUTEX_CMP_REQUEUE => {
                // Counts are signed.
                if (self.val as i32) < 0 || (self.val2 as i32) < 0 || !self.at2.0.is_multiple_of(4) {
                    return Err(Errno::EINVAL);
                }
                let expected = (op == uapi::FUTEX_CMP_REQUEUE).then_some(self.val3);
                Request::Requeue { wake: self.val, requeue: self.val2 as u32, expected }
            }
            uapi::FUTEX_WAKE_OP => {
                if !self.at2.0.is_multiple_of(4) {
                    return Err(Errno::EINVAL);
                }
                Request::WakeOp { wake: at_least_one(self.val), wake2: at_least_one(self.val2 as u32), op: WakeOp::decode(self.val3)? }
            }
            _ => return Err(Errno::ENOSYS),
        };
        Ok(request)
    }
}

/// Linux wakes one waiter when asked for none.
fn at_least_one(count: u32) -> u32 {
    count.clamp(1, i32::MAX as u32)
}

/// The operation and comparison packed into FUTEX_WAKE_OP's `val3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeOp {
    op: u32,
    arg: u32,
    cmp: u32,
    cmparg: i32,
}

impl WakeOp {
    pub fn decode(val3: u32) -> Result<WakeOp> {
        let signed12 = |v: u32| ((v << 20) as i32) >> 20;
        let (op, cmp) = ((val3 >> 28) & 7, (val3 >> 24) & 15);
        let mut arg = signed12(val3 >> 12) as u32;
        if val3 >> 31 != 0 {
            // FUTEX_OP_OPARG_SHIFT; Linux masks a shift that is out of range.
            arg = 1 << (arg & 31);
        }
        if op > uapi::FUTEX_OP_XOR || cmp > uapi::FUTEX_OP_CMP_GE {
            return Err(Errno::ENOSYS);
        }
        Ok(WakeOp { op, arg, cmp, cmparg: signed12(val3) })
    }

    pub fn apply(&self, old: u32) -> u32 {
        match self.op {
            uapi::FUTEX_OP_SET => self.arg,
            uapi::FUTEX_OP_ADD => old.wrapping_add(self.arg),
            uapi::FUTEX_OP_OR => old | self.arg,
            uapi::FUTEX_OP_ANDN => old & !self.arg,
            _ => old ^ self.arg,
        }
    }

    /// Whether the second futex is woken too.
    pub fn holds(&self, old: u32) -> bool {
        let old = old as i32;
        match self.cmp {
            uapi::FUTEX_OP_CMP_EQ => old == self.cmparg,
            uapi::FUTEX_OP_CMP_NE => old != self.cmparg,
            uapi::FUTEX_OP_CMP_LT => old < self.cmparg,
            uapi::FUTEX_OP_CMP_LE => old <= self.cmparg,
            uapi::FUTEX_OP_CMP_GT => old > self.cmparg,
            _ => old >= self.cmparg,
        }
    }
}

/// Executes everything but waits, which are the host's (`None`). The result is the call's.
pub fn execute(call: &FutexCall, memory: &mut impl FutexMemory) -> Option<Result<u64>> {
    match call.decode() {
        Err(errno) => Some(Err(errno)),
        Ok(Request::Wait { .. }) => None,
        Ok(Request::Wake { count }) => Some(memory.wake(call.at, count).map(u64::from)),
        Ok(Request::Requeue { wake, requeue, expected }) => Some(requeue_as_wake(call, memory, wake, requeue, expected)),
        Ok(Request::WakeOp { wake, wake2, op }) => Some(wake_op(call, memory, wake, wake2, op)),
    }
}

fn requeue_as_wake(call: &FutexCall, memory: &mut impl FutexMemory, wake: u32, requeue: u32, expected: Option<u32>) -> Result<u64> {
    if let Some(expected) = expected
        && memory.read_u32(call.at)? != expected
    {
        return Err(Errno::EAGAIN);
    }
    let count = wake.saturating_add(requeue).min(i32::MAX as u32);
    if count == 0 { Ok(0) } else { memory.wake(call.at, count).map(u64::from) }
}

fn wake_op(call: &FutexCall, memory: &mut impl FutexMemory, wake: u32, wake2: u32, op: WakeOp) -> Result<u64> {
    let mut old = memory.read_u32(call.at2)?;
    for _ in 0..ATTEMPTS {
        match memory.replace_u32(call.at2, old, op.apply(old))? {
            Ok(()) => {
                let mut woken = u64::from(memory.wake(call.at, wake)?);
                if op.holds(old) {
                    woken += u64::from(memory.wake(call.at2, wake2)?);
                }
                return Ok(woken);
            }
            Err(now) => old = now,
        }
    }
    Err(Errno::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::robust::tests::Fake;

    fn call(op: u32) -> FutexCall {
        FutexCall { at: UserAddr(0x100), op, val: 1, val2: 2, at2: UserAddr(0x200), val3: 7 }
    }

    #[test]
    fn decoding() {
        assert_eq!(call(0).decode(), Ok(Request::Wait { realtime: false }));
        assert_eq!(call(9 | 128 | 256).decode(), Ok(Request::Wait { realtime: true }));
        assert_eq!(FutexCall { val3: 0, ..call(9) }.decode(), Err(Errno::EINVAL));
        assert_eq!(call(1 | 256).decode(), Err(Errno::ENOSYS));
        assert_eq!(call(6).decode(), Err(Errno::ENOSYS));
        assert_eq!(call(99).decode(), Err(Errno::ENOSYS));
        assert_eq!(FutexCall { at: UserAddr(2), ..call(1) }.decode(), Err(Errno::EINVAL));
        assert_eq!(FutexCall { val: u32::MAX, ..call(3) }.decode(), Err(Errno::EINVAL));
    }

    #[test]
    fn requeue_wakes_both() {
        let mut memory = Fake::default();
        memory.words.insert(0x100, 7);
        assert_eq!(execute(&call(3), &mut memory), Some(Ok(3)));
        assert_eq!(execute(&call(4), &mut memory), Some(Ok(3)));
        memory.words.insert(0x100, 8);
        assert_eq!(execute(&call(4), &mut memory), Some(Err(Errno::EAGAIN)));
        assert_eq!(memory.woken, [(0x100, 3), (0x100, 3)]);
    }

    #[test]
    fn wake_op_changes_compares_and_wakes() {
        let mut memory = Fake::default();
        memory.words.insert(0x200, 5);
        // ADD 3, second wake if old > 4.
        let val3 = (1 << 28) | (4 << 24) | (3 << 12) | 4;
        assert_eq!(execute(&FutexCall { val3, ..call(5) }, &mut memory), Some(Ok(3)));
        assert_eq!(memory.words[&0x200], 8);
        // OR 1<<4, compare equal to -1: no.
        let val3 = (10u32 << 28) | (4 << 12) | 0xfff;
        assert_eq!(execute(&FutexCall { val3, ..call(5) }, &mut memory), Some(Ok(1)));
        assert_eq!(memory.words[&0x200], 24);
        assert_eq!(WakeOp::decode(7 << 28), Err(Errno::ENOSYS));
    }
}
