//! Who waits for whose record lock, so that F_SETLKW can answer EDEADLK (fcntl(2)).

use std::collections::HashMap;
use std::sync::Arc;

use sentry_sync::{Level, Mutex};
use sentry_vfs::{Inode, LockKind, LockOwner, LockRange};

/// Chains longer than this are not followed, as in Linux (MAX_DEADLK_ITERATIONS).
const MAX_CHAIN: usize = 10;

#[derive(Clone)]
struct Wait {
    inode: Arc<dyn Inode>,
    owner: LockOwner,
    kind: LockKind,
    range: LockRange,
}

/// Waits by descriptor table, the owner of a process's record locks.
pub(crate) struct LockWaits(Mutex<HashMap<u64, Wait>>);

impl Default for LockWaits {
    fn default() -> LockWaits {
        LockWaits(Mutex::new(Level::Leaf, HashMap::new()))
    }
}

impl LockWaits {
    /// Notes that `owner` waits, unless whoever is in its way waits, directly or through others, for `owner` itself: then false.
    pub(super) fn begin(&self, inode: &Arc<dyn Inode>, owner: LockOwner, kind: LockKind, range: LockRange) -> bool {
        let LockOwner::Process { table, .. } = owner else { return true };
        let wait = Wait { inode: inode.clone(), owner, kind, range };
        let mut at = wait.clone();
        for _ in 0..MAX_CHAIN {
            let Some(blocker) = at.inode.state().locks.test_record(at.owner, at.kind, at.range) else { break };
            let LockOwner::Process { table: holder, .. } = blocker.owner else { break };
            if holder == table {
                return false;
            }
            let next = self.0.lock().get(&holder).cloned();
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        self.0.lock().insert(table, wait);
        true
    }

    pub(super) fn end(&self, owner: LockOwner) {
        let LockOwner::Process { table, .. } = owner else { return };
        let old = self.0.lock().remove(&table);
        drop(old);
    }
}
