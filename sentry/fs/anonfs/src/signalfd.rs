//! signalfd(2): pending signals to read. fs/signalfd.c.

use std::any::Any;
use std::sync::Arc;

use sentry_abi::signal::{SI_QUEUE, SI_TIMER};
use sentry_abi::{Errno, Result, SigInfo, SigSet, Signal};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_vfs::{Caller, FileOps};

/// Where a signalfd finds signals. The kernel implements it, and decides whose: in Linux a read takes the reader's signals (its own and its
/// thread group's), and epoll watches those of the task that registered.
pub trait SignalSource: Send + Sync + 'static {
    /// Takes one pending signal out of its queue.
    fn take(&self, mask: SigSet) -> Option<SigInfo>;
    fn pending(&self, mask: SigSet) -> bool;
    /// `waiter` is to be told, by IN, when a signal becomes pending.
    fn register(&self, waiter: &Waiter);
}

/// `sizeof(struct signalfd_siginfo)`.
pub const SIGNALFD_INFO_SIZE: usize = 128;

pub struct SignalFd {
    mask: Mutex<SigSet>,
    source: Arc<dyn SignalSource>,
    /// Woken when the mask changes.
    queue: WaitQueue,
}

impl SignalFd {
    pub const NAME: &'static str = "anon_inode:[signalfd]";

    pub fn new(mask: SigSet, source: Arc<dyn SignalSource>) -> Arc<SignalFd> {
        let mask = mask.without(SigSet::UNBLOCKABLE);
        Arc::new(SignalFd { mask: Mutex::new(Level::Epoll, mask), source, queue: WaitQueue::new() })
    }

    /// signalfd(2) on an existing descriptor.
    pub fn set_mask(&self, mask: SigSet) {
        *self.mask.lock() = mask.without(SigSet::UNBLOCKABLE);
        self.queue.wake(Events::READ);
    }
}

impl FileOps for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ignores_lseek(&self) -> bool {
        true
    }

    fn read(&self, _: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        if dst.len() < SIGNALFD_INFO_SIZE {
            return Err(Errno::EINVAL);
        }
        let mask = *self.mask.lock();
        let mut done = 0;
        for slot in dst.chunks_exact_mut(SIGNALFD_INFO_SIZE) {
            let Some(info) = self.source.take(mask) else { break };
            slot.copy_from_slice(&encode(&info));
            done += SIGNALFD_INFO_SIZE;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.queue.add(waiter);
            self.source.register(waiter);
        }
        let mask = *self.mask.lock();
        if self.source.pending(mask) { want & Events::READ } else { Events::empty() }
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.mask.lock().0)
    }
}

/// `struct signalfd_siginfo`: siginfo_t with every member at a place of its own.
fn encode(info: &SigInfo) -> [u8; SIGNALFD_INFO_SIZE] {
    let mut out = [0; SIGNALFD_INFO_SIZE];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &info.signo.to_ne_bytes());
    put(4, &info.errno.to_ne_bytes());
    put(8, &info.code.to_ne_bytes());
    let low = |n: usize| (info.fields[n] as u32).to_ne_bytes();
    let high = |n: usize| ((info.fields[n] >> 32) as u32).to_ne_bytes();
    let from_user = info.code <= 0;
    match Signal::new(info.signo as u64) {
        _ if info.code == SI_TIMER => {
            put(24, &low(0));
            put(32, &high(0));
            put(44, &low(1));
            put(48, &info.fields[1].to_ne_bytes());
        }
        Some(Signal::SIGCHLD) if !from_user => {
            put(12, &low(0));
            put(16, &high(0));
            put(40, &low(1));
            put(56, &info.fields[2].to_ne_bytes());
            put(64, &info.fields[3].to_ne_bytes());
        }
        Some(Signal::SIGIO) if !from_user => {
            put(28, &low(0));
            put(20, &low(1));
        }
        Some(signal) if !from_user && info.code != sentry_abi::signal::SI_KERNEL && SigSet::SYNCHRONOUS.contains(signal) => {
            put(72, &info.fields[0].to_ne_bytes());
        }
        _ => {
            put(12, &low(0));
            put(16, &high(0));
            if info.code == SI_QUEUE || info.code < SI_TIMER {
                put(44, &low(1));
                put(48, &info.fields[1].to_ne_bytes());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Count, Nobody};

    struct Source {
        pending: Mutex<Vec<SigInfo>>,
        queue: WaitQueue,
    }

    impl SignalSource for Source {
        fn take(&self, mask: SigSet) -> Option<SigInfo> {
            let mut pending = self.pending.lock();
            let index = pending.iter().position(|i| Signal::new(i.signo as u64).is_some_and(|s| mask.contains(s)))?;
            Some(pending.remove(index))
        }

        fn pending(&self, mask: SigSet) -> bool {
            self.pending.lock().iter().any(|i| Signal::new(i.signo as u64).is_some_and(|s| mask.contains(s)))
        }

        fn register(&self, waiter: &Waiter) {
            self.queue.add(waiter);
        }
    }

    #[test]
    fn reads_what_the_mask_holds() {
        let source = Arc::new(Source { pending: Mutex::new(Level::Signal, Vec::new()), queue: WaitQueue::new() });
        let fd = SignalFd::new(SigSet::of(Signal::SIGUSR1).union(SigSet::of(Signal::SIGKILL)), source.clone());
        let (waiter, count) = Count::waiter(Events::IN);
        assert!(fd.ready(Events::IN, Some(&waiter)).is_empty());
        source.pending.lock().push(SigInfo::from_sender(Signal::SIGUSR2, 0, 5, 6));
        source.pending.lock().push(SigInfo::from_sender(Signal::SIGUSR1, SI_QUEUE, 7, 8).with_value(0x1_0000_0009));
        source.queue.wake(Events::READ);
        assert_eq!((count.get(), fd.ready(Events::IN, None)), (1, Events::IN));
        let mut out = [0; 300];
        assert_eq!(fd.read(&Nobody, 0, &mut out), Ok(128));
        let word = |at: usize| i32::from_ne_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
        assert_eq!((word(0), word(8), word(12), word(16), word(44), word(52)), (10, -1, 7, 8, 9, 1));
        assert_eq!(fd.read(&Nobody, 0, &mut out), Err(Errno::EAGAIN));
        assert_eq!(fd.read(&Nobody, 0, &mut out[..127]), Err(Errno::EINVAL));
        fd.set_mask(SigSet::of(Signal::SIGUSR2));
        assert_eq!(count.get(), 2);
        assert_eq!(fd.read(&Nobody, 0, &mut out), Ok(128));
        assert_eq!(fd.fdinfo(), "sigmask:\t0000000000000800\n");
    }
}
