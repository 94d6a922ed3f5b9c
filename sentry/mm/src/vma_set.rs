//! The ranges of one address space, disjoint and in order, with the sums that limits and /proc ask for.

use std::collections::BTreeMap;

use sentry_abi::UserRange;
use sentry_platform::Prot;

use crate::gaps::Gaps;
use crate::vma::{Vma, VmaFlags};

/// Sums over all ranges, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub all: u64,
    pub data: u64,
    pub exec: u64,
    pub stack: u64,
    pub locked: u64,
}

/// Disjoint ranges in order of address, inside one window.
pub struct VmaSet {
    window: UserRange,
    ranges: BTreeMap<u64, Vma>,
    gaps: Gaps,
    totals: Totals,
}

impl VmaSet {
    pub fn new(window: UserRange) -> VmaSet {
        let mut gaps = Gaps::new();
        gaps.add(window.start(), window.end());
        VmaSet { window, ranges: BTreeMap::new(), gaps, totals: Totals::default() }
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.ranges.values()
    }

    /// The range that holds `at`.
    pub fn find(&self, at: u64) -> Option<&Vma> {
        self.ranges.range(..=at).next_back().map(|(_, v)| v).filter(|v| at < v.end)
    }

    /// Ranges that overlap `start..end`, in order.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |v| v.start);
        // An inverted window would panic in BTreeMap::range.
        self.ranges.range(first..end.max(first)).map(|(_, v)| v)
    }

    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// The last range that ends at or below `at`, or holds it.
    pub fn before(&self, at: u64) -> Option<&Vma> {
        self.ranges.range(..at).next_back().map(|(_, v)| v)
    }

    /// The first range that starts at or above `at`.
    pub fn after(&self, at: u64) -> Option<&Vma> {
        self.ranges.range(at..).next().map(|(_, v)| v)
    }

    /// Where the part of `start..end` that is mapped without a hole ends.
    pub fn covered_until(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        for vma in self.overlapping(start, end) {
            if vma.start > at {
                break;
            }
            at = vma.end.min(end);
        }
        at
    }

    /// The parts of `range` that are mapped, each without a hole.
    pub fn runs(&self, range: UserRange) -> Vec<UserRange> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for vma in self.overlapping(range.start(), range.end()) {
            let (start, end) = (vma.start.max(range.start()), vma.end.min(range.end()));
            match runs.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => runs.push((start, end)),
            }
        }
        runs.into_iter().filter_map(|(start, end)| UserRange::from_bounds(start, end)).collect()
    }

    /// Adds a range over free addresses of the window, without merging.
    pub fn insert(&mut self, vma: Vma) {
        debug_assert!(!vma.is_empty() && self.is_free(vma.start, vma.end), "overlap at {:x}", vma.start);
        let (low, high) = self.hole_around(vma.start, vma.end);
        self.gaps.remove(low, high);
        self.gaps.add(low, vma.start);
        self.gaps.add(vma.end, high);
        self.count(&vma, true);
        self.ranges.insert(vma.start, vma);
    }

    /// Adds a range over free addresses and merges it with equal neighbours.
    pub fn insert_merging(&mut self, mut vma: Vma) {
        if let Some(prev) = self.before(vma.start).filter(|p| p.merges_with(&vma)) {
            let start = prev.start;
            if let Some(prev) = self.take(start) {
                vma.offset = prev.offset;
                vma.start = prev.start;
            }
        }
        if let Some(next) = self.ranges.get(&vma.end).filter(|n| vma.merges_with(n)) {
            let start = next.start;
            if let Some(next) = self.take(start) {
                vma.end = next.end;
            }
        }
        self.insert(vma);
    }

    /// Removes everything in `start..end`, splitting at its edges. The removed parts are returned so that the caller drops them without the lock.
    #[must_use = "drop the removed ranges after the lock"]
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        let keys: Vec<u64> = self.overlapping(start, end).map(|v| v.start).collect();
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(vma) = self.take(key) else { continue };
            if vma.start < start {
                self.insert(vma.clip(vma.start, start));
            }
            if vma.end > end {
                self.insert(vma.clip(end, vma.end));
            }
            removed.push(vma.clip(start, end));
        }
        removed
    }

    /// Changes every range in `start..end` by `change`, splitting at the edges and merging again.
    pub fn update(&mut self, start: u64, end: u64, change: impl Fn(&mut Vma)) {
        let parts = self.remove(start, end);
        for mut part in parts {
            change(&mut part);
            self.insert_merging(part);
        }
        // The last part may now equal what follows; insert_merging saw to it, and to the first one.
    }

    /// How many ranges more there would be after cutting `start..end` out of the set (0, 1 or 2 splits).
    pub fn splits(&self, start: u64, end: u64) -> u64 {
        let cut = |at: u64| u64::from(self.find(at).is_some_and(|v| v.start < at));
        cut(start) + cut(end)
    }

    pub fn highest_gap(&self, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
        self.gaps.highest(len, low, high, align)
    }

    pub fn lowest_gap(&self, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
        self.gaps.lowest(len, low, high, align)
    }

    /// The hole that contains `start..end`.
    fn hole_around(&self, start: u64, end: u64) -> (u64, u64) {
        let low = self.before(start).map_or(self.window.start(), |v| v.end);
        let high = self.after(end).map_or(self.window.end(), |v| v.start);
        (low, high)
    }

    fn take(&mut self, key: u64) -> Option<Vma> {
        let vma = self.ranges.remove(&key)?;
        let (low, high) = self.hole_around(vma.start, vma.end);
        self.gaps.remove(low, vma.start);
        self.gaps.remove(vma.end, high);
        self.gaps.add(low, high);
        self.count(&vma, false);
        Some(vma)
    }

    fn count(&mut self, vma: &Vma, add: bool) {
        let len = vma.len();
        let apply = |sum: &mut u64, yes: bool| {
            if yes {
                *sum = if add { *sum + len } else { *sum - len };
            }
        };
        apply(&mut self.totals.all, true);
        apply(&mut self.totals.data, vma.is_data());
        apply(&mut self.totals.exec, vma.prot.contains(Prot::EXEC) && !vma.prot.contains(Prot::WRITE));
        apply(&mut self.totals.stack, vma.flags.contains(VmaFlags::GROWSDOWN));
        apply(&mut self.totals.locked, vma.flags.contains(VmaFlags::LOCKED));
    }

    #[cfg(test)]
    pub fn gaps_for_test(&self) -> std::collections::BTreeSet<(u64, u64)> {
        self.gaps.all()
    }
}
