//! Epolls that watch epolls: no loops, at most [`MAX_DEPTH`] deep, at most [`MAX_PATHS`] ways up from each, so that a wake-up and a look have a
//! bounded cost.

use std::collections::HashMap;
use std::sync::Arc;

use sentry_abi::{Errno, Result};

use super::{Shared, nested};

/// Epolls on one path (EP_MAX_NESTS and one).
const MAX_DEPTH: usize = 5;
/// Paths from one epoll up to all that watch it, directly or not.
const MAX_PATHS: u64 = 1000;

/// May `parent` watch `child`? The edge is in the graph already. `ELOOP`, `EINVAL` for too many paths.
pub(super) fn check(parent: &Arc<Shared>, child: &Arc<Shared>) -> Result<()> {
    let mut below = HashMap::new();
    let down = depth_below(child, parent, MAX_DEPTH, &mut below)?;
    let up = depth_above(parent, MAX_DEPTH, &mut HashMap::new())?;
    if down + up > MAX_DEPTH {
        return Err(Errno::ELOOP);
    }
    let mut paths = HashMap::new();
    for (_, epoll) in below.values() {
        if paths_up(epoll, MAX_DEPTH, &mut paths) > MAX_PATHS {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

fn address(epoll: &Arc<Shared>) -> usize {
    Arc::as_ptr(epoll) as usize
}

fn children(epoll: &Arc<Shared>) -> Vec<Arc<Shared>> {
    let files: Vec<_> = epoll.state.lock().entries.values().filter_map(|e| e.file.upgrade()).collect();
    files.iter().filter_map(|f| nested(&f.ops).map(|n| n.shared.clone())).collect()
}

fn parents(epoll: &Arc<Shared>) -> Vec<Arc<Shared>> {
    let mut state = epoll.state.lock();
    state.parents.retain(|p| p.strong_count() != 0);
    state.parents.iter().filter_map(|p| p.upgrade()).collect()
}

/// Epolls on the longest path from `from` down, itself included. `ELOOP` when `forbidden` is met.
fn depth_below(from: &Arc<Shared>, forbidden: &Arc<Shared>, left: usize, seen: &mut HashMap<usize, (usize, Arc<Shared>)>) -> Result<usize> {
    if Arc::ptr_eq(from, forbidden) || left == 0 {
        return Err(Errno::ELOOP);
    }
    if let Some((depth, _)) = seen.get(&address(from)) {
        return if *depth > left { Err(Errno::ELOOP) } else { Ok(*depth) };
    }
    let mut deepest = 0;
    for child in children(from) {
        deepest = deepest.max(depth_below(&child, forbidden, left - 1, seen)?);
    }
    seen.insert(address(from), (deepest + 1, from.clone()));
    Ok(deepest + 1)
}

fn depth_above(from: &Arc<Shared>, left: usize, seen: &mut HashMap<usize, usize>) -> Result<usize> {
    if left == 0 {
        return Err(Errno::ELOOP);
    }
    if let Some(depth) = seen.get(&address(from)) {
        return if *depth > left { Err(Errno::ELOOP) } else { Ok(*depth) };
    }
    let mut highest = 0;
    for parent in parents(from) {
        highest = highest.max(depth_above(&parent, left - 1, seen)?);
    }
    seen.insert(address(from), highest + 1);
    Ok(highest + 1)
}

fn paths_up(from: &Arc<Shared>, left: usize, seen: &mut HashMap<usize, u64>) -> u64 {
    if let Some(paths) = seen.get(&address(from)) {
        return *paths;
    }
    let mut paths = 1u64;
    if left > 0 {
        for parent in parents(from) {
            paths = paths.saturating_add(paths_up(&parent, left - 1, seen));
        }
    }
    seen.insert(address(from), paths);
    paths
}

/// Takes one edge out.
pub(super) fn forget_parent(child: &Arc<Shared>, parent: &Arc<Shared>) {
    let mut state = child.state.lock();
    if let Some(index) = state.parents.iter().position(|p| std::ptr::eq(p.as_ptr(), Arc::as_ptr(parent))) {
        state.parents.swap_remove(index);
    }
}
