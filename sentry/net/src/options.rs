//! Options of level SOL_SOCKET that all families share (socket(7)).

use std::time::Duration;

use sentry_abi::{Errno, Result};
use sentry_auth::Caps;
use sentry_sync::{Level, Mutex};
use sentry_vfs::Caller;

pub const SOL_SOCKET: i32 = 1;

/// `SO_*` numbers of x86-64.
pub mod so {
    pub const DEBUG: i32 = 1;
    pub const REUSEADDR: i32 = 2;
    pub const TYPE: i32 = 3;
    pub const ERROR: i32 = 4;
    pub const DONTROUTE: i32 = 5;
    pub const BROADCAST: i32 = 6;
    pub const SNDBUF: i32 = 7;
    pub const RCVBUF: i32 = 8;
    pub const KEEPALIVE: i32 = 9;
    pub const OOBINLINE: i32 = 10;
    pub const NO_CHECK: i32 = 11;
    pub const PRIORITY: i32 = 12;
    pub const LINGER: i32 = 13;
    pub const REUSEPORT: i32 = 15;
    pub const PASSCRED: i32 = 16;
    pub const PEERCRED: i32 = 17;
    pub const RCVLOWAT: i32 = 18;
    pub const SNDLOWAT: i32 = 19;
    pub const RCVTIMEO: i32 = 20;
    pub const SNDTIMEO: i32 = 21;
    pub const BINDTODEVICE: i32 = 25;
    pub const TIMESTAMP: i32 = 29;
    pub const ACCEPTCONN: i32 = 30;
    pub const SNDBUFFORCE: i32 = 32;
    pub const RCVBUFFORCE: i32 = 33;
    pub const PASSSEC: i32 = 34;
    pub const TIMESTAMPNS: i32 = 35;
    pub const MARK: i32 = 36;
    pub const PROTOCOL: i32 = 38;
    pub const DOMAIN: i32 = 39;
    pub const RXQ_OVFL: i32 = 40;
    pub const PEEK_OFF: i32 = 42;
    pub const BUSY_POLL: i32 = 46;
    pub const INCOMING_CPU: i32 = 49;
    pub const COOKIE: i32 = 57;
    pub const PEERGROUPS: i32 = 59;
    pub const RCVTIMEO_NEW: i32 = 66;
    pub const SNDTIMEO_NEW: i32 = 67;
}

/// net.core.{w,r}mem_default and _max.
const DEFAULT_BUFFER: usize = 212_992;
const MAX_BUFFER: usize = 212_992;
const MIN_SEND_BUFFER: usize = 4608;
const MIN_RECEIVE_BUFFER: usize = 2304;

/// Options that are a flag and nothing else here.
const FLAGS: [i32; 12] = [
    so::DEBUG,
    so::REUSEADDR,
    so::DONTROUTE,
    so::BROADCAST,
    so::KEEPALIVE,
    so::OOBINLINE,
    so::NO_CHECK,
    so::REUSEPORT,
    so::PASSCRED,
    so::TIMESTAMP,
    so::PASSSEC,
    so::TIMESTAMPNS,
];

struct Values {
    /// Bit n for option n of [`FLAGS`].
    flags: u64,
    send_buffer: usize,
    receive_buffer: usize,
    linger: (i32, i32),
    priority: i32,
    mark: i32,
    receive_low: i32,
    receive_timeout_us: i64,
    send_timeout_us: i64,
}

pub struct Options {
    values: Mutex<Values>,
}

impl Default for Options {
    fn default() -> Options {
        let values = Values {
            flags: 0,
            send_buffer: DEFAULT_BUFFER,
            receive_buffer: DEFAULT_BUFFER,
            linger: (0, 0),
            priority: 0,
            mark: 0,
            receive_low: 1,
            receive_timeout_us: 0,
            send_timeout_us: 0,
        };
        Options { values: Mutex::new(Level::Leaf, values) }
    }
}

impl Options {
    pub fn flag(&self, option: i32) -> bool {
        self.values.lock().flags & 1 << option != 0
    }

    pub fn send_buffer(&self) -> usize {
        self.values.lock().send_buffer
    }

    pub fn receive_buffer(&self) -> usize {
        self.values.lock().receive_buffer
    }

    pub fn receive_timeout(&self) -> Option<Duration> {
        timeout(self.values.lock().receive_timeout_us)
    }

    pub fn send_timeout(&self) -> Option<Duration> {
        timeout(self.values.lock().send_timeout_us)
    }

    /// A new connection starts with the listener's options.
    pub fn inherit(&self, from: &Options) {
        let (flags, send_buffer, receive_buffer) = {
            let from = from.values.lock();
            (from.flags, from.send_buffer, from.receive_buffer)
        };
        let mut values = self.values.lock();
        values.flags = flags;
        values.send_buffer = send_buffer;
        values.receive_buffer = receive_buffer;
    }

    /// `ENOPROTOOPT` for what is not shared by all families.
    pub fn get(&self, option: i32) -> Result<Vec<u8>> {
        let values = self.values.lock();
        if FLAGS.contains(&option) {
            return Ok(int(values.flags >> option & 1));
        }
        Ok(match option {
            so::SNDBUF => int(values.send_buffer as u64),
            so::RCVBUF => int(values.receive_buffer as u64),
            so::PRIORITY => values.priority.to_ne_bytes().to_vec(),
            so::MARK => values.mark.to_ne_bytes().to_vec(),
            so::LINGER => [values.linger.0.to_ne_bytes(), values.linger.1.to_ne_bytes()].concat(),
            so::RCVLOWAT => values.receive_low.to_ne_bytes().to_vec(),
            so::SNDLOWAT => int(1),
            so::RCVTIMEO | so::RCVTIMEO_NEW => timeval(values.receive_timeout_us),
            so::SNDTIMEO | so::SNDTIMEO_NEW => timeval(values.send_timeout_us),
            so::BINDTODEVICE => Vec::new(),
            so::RXQ_OVFL | so::BUSY_POLL => int(0),
            so::PEEK_OFF | so::INCOMING_CPU => (-1i32).to_ne_bytes().to_vec(),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    pub fn set(&self, caller: &dyn Caller, option: i32, value: &[u8]) -> Result<()> {
        if option == so::BINDTODEVICE {
            return Err(Errno::ENODEV);
        }
        let number = first_int(value)?;
        let who = caller.credentials();
        let mut values = self.values.lock();
        if FLAGS.contains(&option) {
            values.flags = values.flags & !(1 << option) | ((number != 0) as u64) << option;
            return Ok(());
        }
        match option {
            so::SNDBUF => values.send_buffer = buffer(number, MIN_SEND_BUFFER),
            so::RCVBUF => values.receive_buffer = buffer(number, MIN_RECEIVE_BUFFER),
            so::SNDBUFFORCE | so::RCVBUFFORCE => {
                who.require(Caps::NET_ADMIN)?;
                // No more than without force: the memory is the sentry's.
                if option == so::SNDBUFFORCE {
                    values.send_buffer = buffer(number, MIN_SEND_BUFFER);
                } else {
                    values.receive_buffer = buffer(number, MIN_RECEIVE_BUFFER);
                }
            }
            so::PRIORITY => {
                if !(0..=6).contains(&number) {
                    who.require(Caps::NET_ADMIN)?;
                }
                values.priority = number;
            }
            so::MARK => {
                who.require(Caps::NET_ADMIN)?;
                values.mark = number;
            }
            so::LINGER => {
                let seconds = value.get(4..8).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes).ok_or(Errno::EINVAL)?;
                values.linger = ((number != 0) as i32, seconds);
            }
            so::RCVLOWAT => values.receive_low = if number < 0 { i32::MAX } else { number.max(1) },
            so::RCVTIMEO | so::RCVTIMEO_NEW => values.receive_timeout_us = parse_timeout(value)?,
            so::SNDTIMEO | so::SNDTIMEO_NEW => values.send_timeout_us = parse_timeout(value)?,
            so::RXQ_OVFL | so::BUSY_POLL | so::INCOMING_CPU | so::PEEK_OFF => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}

pub fn int(value: u64) -> Vec<u8> {
    (value as i32).to_ne_bytes().to_vec()
}

/// `EINVAL` when it is too short for an int.
pub fn first_int(value: &[u8]) -> Result<i32> {
    value.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes).ok_or(Errno::EINVAL)
}

/// Doubled, for the kernel's own overhead.
fn buffer(asked: i32, least: usize) -> usize {
    ((asked.max(0) as usize).min(MAX_BUFFER) * 2).max(least)
}

fn timeval(us: i64) -> Vec<u8> {
    [(us / 1_000_000).to_ne_bytes(), (us % 1_000_000).to_ne_bytes()].concat()
}

/// 0 for no timeout; a negative one has passed already. `EINVAL`, `EDOM`.
fn parse_timeout(value: &[u8]) -> Result<i64> {
    let word = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map(i64::from_ne_bytes).ok_or(Errno::EINVAL);
    let (sec, usec) = (word(0)?, word(8)?);
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    if sec < 0 {
        return Ok(1);
    }
    Ok(sec.saturating_mul(1_000_000).saturating_add(usec))
}

fn timeout(us: i64) -> Option<Duration> {
    (us > 0).then(|| Duration::from_micros(us as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Person;

    #[test]
    fn values_are_kept_as_linux_keeps_them() {
        let (options, root) = (Options::default(), Person::root());
        let set = |option: i32, value: i32| options.set(&root, option, &value.to_ne_bytes());
        for (given, kept) in [(1000, 4608), (100_000, 200_000), (i32::MAX, 425_984), (-1, 4608)] {
            set(so::SNDBUF, given).unwrap();
            assert_eq!(options.get(so::SNDBUF), Ok(int(kept)));
        }
        set(so::PASSCRED, 5).unwrap();
        assert_eq!(options.get(so::PASSCRED), Ok(int(1)));
        assert!(options.flag(so::PASSCRED) && !options.flag(so::KEEPALIVE));
        assert_eq!(set(999, 1), Err(Errno::ENOPROTOOPT));
        assert_eq!(options.set(&root, so::SNDBUF, &[1, 2]), Err(Errno::EINVAL));
        let half = [0i64.to_ne_bytes(), 500_000i64.to_ne_bytes()].concat();
        options.set(&root, so::RCVTIMEO, &half).unwrap();
        assert_eq!(options.receive_timeout(), Some(Duration::from_millis(500)));
        assert_eq!(options.get(so::RCVTIMEO), Ok(half));
        assert_eq!(options.set(&root, so::RCVTIMEO, &[0xff; 16]), Err(Errno::EDOM));
        assert_eq!(options.set(&Person::user(5), so::MARK, &[0; 4]), Err(Errno::EPERM));
    }
}
