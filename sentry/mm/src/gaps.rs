//! The holes between ranges, filed by size, so that the highest hole that fits is found without walking all ranges.

use std::collections::BTreeSet;

use sentry_abi::PAGE_SIZE;

const CLASSES: usize = 48;

/// Holes as (start, len), disjoint; class `k` holds those of 2^k ..= 2^(k+1)-1 pages.
pub(crate) struct Gaps {
    classes: [BTreeSet<(u64, u64)>; CLASSES],
}

impl Gaps {
    pub fn new() -> Gaps {
        Gaps { classes: [const { BTreeSet::new() }; CLASSES] }
    }

    pub fn add(&mut self, start: u64, end: u64) {
        if end > start {
            self.classes[class(end - start)].insert((start, end - start));
        }
    }

    pub fn remove(&mut self, start: u64, end: u64) {
        if end > start {
            self.classes[class(end - start)].remove(&(start, end - start));
        }
    }

    /// The highest start of `len` bytes aligned to `align` (a power of two) that lie in one hole and in `low..high`.
    pub fn highest(&self, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
        let mut best: Option<u64> = None;
        for holes in &self.classes[class(len)..] {
            for (start, size) in holes.range(..(high, 0)).rev() {
                if best.is_some_and(|b| start + size <= b) || start + size <= low {
                    break;
                }
                if let Some(at) = fit_high(*start, start + size, len, low, high, align) {
                    best = best.max(Some(at));
                    break;
                }
            }
        }
        best
    }

    /// The lowest such start.
    pub fn lowest(&self, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
        let mut best: Option<u64> = None;
        for holes in &self.classes[class(len)..] {
            // One hole may begin below `low` and reach into the window.
            let before = holes.range(..(low, 0)).next_back();
            for (start, size) in before.into_iter().chain(holes.range((low, 0)..(high, 0))) {
                if best.is_some_and(|b| *start >= b) {
                    break;
                }
                if let Some(at) = fit_low(*start, start + size, len, low, high, align) {
                    best = Some(best.map_or(at, |b| b.min(at)));
                    break;
                }
            }
        }
        best
    }

    #[cfg(test)]
    pub fn all(&self) -> BTreeSet<(u64, u64)> {
        self.classes.iter().flatten().copied().collect()
    }
}

fn class(len: u64) -> usize {
    let pages = (len / PAGE_SIZE).max(1);
    (pages.ilog2() as usize).min(CLASSES - 1)
}

fn fit_high(start: u64, end: u64, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
    let (start, end) = (start.max(low), end.min(high));
    let at = end.checked_sub(len)? & !(align - 1);
    (at >= start).then_some(at)
}

fn fit_low(start: u64, end: u64, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
    let (start, end) = (start.max(low), end.min(high));
    let at = start.checked_add(align - 1)? & !(align - 1);
    (at.checked_add(len)? <= end).then_some(at)
}
