//! A queue of signals that wait to be delivered.

use sentry_abi::{Errno, Result, SigInfo, SigSet, Signal};

#[derive(Default)]
pub struct Pending {
    set: SigSet,
    queue: Vec<(Signal, SigInfo)>,
}

impl Pending {
    pub fn set(&self) -> SigSet {
        self.set
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Standard signals are queued once; real-time ones each time, up to `limit` in this queue (`EAGAIN`).
    pub fn push(&mut self, signal: Signal, info: SigInfo, limit: u64) -> Result<()> {
        if !signal.is_realtime() && self.set.contains(signal) {
            return Ok(());
        }
        if signal.is_realtime() && self.queue.len() as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
        self.set = self.set.union(SigSet::of(signal));
        self.queue.push((signal, info));
        Ok(())
    }

    /// The next signal out of `wanted`: those raised by instructions first, then by number, then by age.
    pub fn take(&mut self, wanted: SigSet) -> Option<(Signal, SigInfo)> {
        let there = self.set.intersect(wanted);
        let signal = there.intersect(SigSet::SYNCHRONOUS).first().or_else(|| there.first())?;
        let index = self.queue.iter().position(|(s, _)| *s == signal)?;
        let taken = self.queue.remove(index);
        if !self.queue.iter().any(|(s, _)| *s == signal) {
            self.set = self.set.without(SigSet::of(signal));
        }
        Some(taken)
    }

    pub fn discard(&mut self, signals: SigSet) {
        self.queue.retain(|(s, _)| !signals.contains(*s));
        self.set = self.set.without(signals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(p: &mut Pending, n: u64) {
        let s = Signal::new(n).unwrap();
        p.push(s, SigInfo::new(s, 0), 3).unwrap();
    }

    #[test]
    fn order_and_merging() {
        let mut p = Pending::default();
        push(&mut p, 15);
        push(&mut p, 15);
        push(&mut p, 11);
        push(&mut p, 2);
        let order: Vec<u8> = std::iter::from_fn(|| p.take(SigSet::ALL)).map(|(s, _)| s.number()).collect();
        assert_eq!(order, [11, 2, 15]);
        assert!(p.is_empty() && p.set().is_empty());
    }

    #[test]
    fn real_time_signals_queue_up_to_the_limit() {
        let mut p = Pending::default();
        push(&mut p, 40);
        push(&mut p, 40);
        push(&mut p, 40);
        let s = Signal::new(40).unwrap();
        assert_eq!(p.push(s, SigInfo::new(s, 0), 3), Err(Errno::EAGAIN));
        assert!(p.take(SigSet::of(s)).is_some());
        assert!(p.set().contains(s));
    }
}
