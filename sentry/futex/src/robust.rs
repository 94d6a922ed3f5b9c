//! The robust list of a thread that dies (set_robust_list(2)): its locks are marked, and one waiter of each is woken.

use sentry_abi::uapi::general as uapi;
use sentry_abi::{Errno, Result, UserAddr};

use crate::FutexMemory;

/// `sizeof(struct robust_list_head)`: what set_robust_list(2) takes as length.
pub const ROBUST_LIST_HEAD_SIZE: u64 = 24;
/// A list may be circular or hostile: Linux stops here too.
const LIMIT: u32 = uapi::ROBUST_LIST_LIMIT;
/// Low bit of an entry's address: a lock with priority inheritance.
const PI: u64 = 1;

/// One entry's address without its mark, and the mark.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    at: u64,
    pi: bool,
}

impl Entry {
    fn fetch(memory: &mut impl FutexMemory, at: UserAddr) -> Result<Entry> {
        memory.read_u64(at).map(Entry::new)
    }

    fn new(raw: u64) -> Entry {
        Entry { at: raw & !PI, pi: raw & PI != 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listed,
    /// The thread may have died between taking or releasing the lock and telling the list.
    Pending,
}

/// Walks the list at `head` for the dying thread `tid` (as the guest numbers it). Stops silently at the first bad address, as Linux does.
pub fn walk_robust_list(head: UserAddr, tid: u32, memory: &mut impl FutexMemory) {
    // A fault ends the walk; there is nobody to tell.
    let _ = walk(head, tid, memory);
}

fn walk(head: UserAddr, tid: u32, memory: &mut impl FutexMemory) -> Result<()> {
    let [first, offset, pending] = memory.read_u64s(head)?;
    let (mut entry, pending) = (Entry::new(first), Entry::new(pending));
    let mut walked = Ok(());
    for _ in 0..LIMIT {
        if entry.at == head.0 {
            break;
        }
        // Fetched first: once the lock is free, its new owner may take the entry away.
        let next = Entry::fetch(memory, UserAddr(entry.at));
        if entry.at != pending.at {
            walked = death(UserAddr(entry.at.wrapping_add(offset)), entry.pi, Kind::Listed, tid, memory);
        }
        match (walked, next) {
            (Ok(()), Ok(next)) => entry = next,
            (Err(errno), _) => return Err(errno),
            (_, Err(_)) => break,
        }
    }
    if pending.at != 0 {
        death(UserAddr(pending.at.wrapping_add(offset)), pending.pi, Kind::Pending, tid, memory)?;
    }
    walked
}

/// Marks one lock as left by its dead owner.
fn death(at: UserAddr, pi: bool, kind: Kind, tid: u32, memory: &mut impl FutexMemory) -> Result<()> {
    if !at.0.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mut word = memory.read_u32(at)?;
    // Each failed attempt means that another thread changed the word; the owner's tid in it makes that rare.
    for _ in 0..LIMIT {
        if kind == Kind::Pending && !pi && word == 0 {
            // Released, but perhaps its waiter was not woken any more.
            memory.wake(at, 1)?;
            return Ok(());
        }
        if word & uapi::FUTEX_TID_MASK != tid {
            return Ok(());
        }
        match memory.replace_u32(at, word, (word & uapi::FUTEX_WAITERS) | uapi::FUTEX_OWNER_DIED)? {
            Ok(()) => {
                // Also without the waiters' bit: one that came while the word was replaced has lost its own.
                if !pi {
                    memory.wake(at, 1)?;
                }
                return Ok(());
            }
            Err(now) => word = now,
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    pub struct Fake {
        pub words: BTreeMap<u64, u32>,
        pub woken: Vec<(u64, u32)>,
        pub reads: u32,
    }

    impl Fake {
        pub fn put(&mut self, at: u64, value: u64) {
            self.words.insert(at, value as u32);
            self.words.insert(at + 4, (value >> 32) as u32);
        }
    }

    impl FutexMemory for Fake {
        fn read_u64(&mut self, at: UserAddr) -> Result<u64> {
            let low = self.read_u32(at)?;
            Ok(u64::from(low) | u64::from(self.read_u32(at.offset(4)?)?) << 32)
        }
        fn read_u32(&mut self, at: UserAddr) -> Result<u32> {
            self.reads += 1;
            self.words.get(&at.0).copied().ok_or(Errno::EFAULT)
        }
        fn replace_u32(&mut self, at: UserAddr, old: u32, new: u32) -> Result<std::result::Result<(), u32>> {
            let word = self.words.get_mut(&at.0).ok_or(Errno::EFAULT)?;
            if *word != old {
                return Ok(Err(*word));
            }
            *word = new;
            Ok(Ok(()))
        }
        fn wake(&mut self, at: UserAddr, count: u32) -> Result<u32> {
            self.woken.push((at.0, count));
            Ok(count)
        }
    }

    const TID: u32 = 42;
    const WAITERS: u32 = 0x8000_0000;
    const DIED: u32 = 0x4000_0000;

    fn list(entries: &[u64], pending: u64) -> Fake {
        let mut fake = Fake::default();
        let mut at = 0x1000;
        for entry in entries {
            fake.put(at, *entry);
            at = *entry & !PI;
        }
        fake.put(at, 0x1000);
        fake.put(0x1008, 16);
        fake.put(0x1010, pending);
        fake
    }

    #[test]
    fn own_locks_are_marked_and_waiters_woken() {
        let mut fake = list(&[0x2000, 0x3000, 0x4000], 0x5000);
        fake.words.extend([(0x2010, TID), (0x3010, TID | WAITERS), (0x4010, 7 | WAITERS), (0x5010, 0)]);
        walk_robust_list(UserAddr(0x1000), TID, &mut fake);
        assert_eq!(fake.words[&0x2010], DIED);
        assert_eq!(fake.words[&0x3010], DIED | WAITERS);
        assert_eq!(fake.words[&0x4010], 7 | WAITERS);
        // Also the one without a waiter: a bit set meanwhile may have been lost.
        assert_eq!(fake.woken, [(0x2010, 1), (0x3010, 1), (0x5010, 1)]);
    }

    #[test]
    fn a_pending_entry_on_the_list_is_handled_once() {
        let mut fake = list(&[0x2000], 0x2000);
        fake.words.insert(0x2010, TID | WAITERS);
        walk_robust_list(UserAddr(0x1000), TID, &mut fake);
        assert_eq!(fake.words[&0x2010], DIED | WAITERS);
        assert_eq!(fake.woken, [(0x2010, 1)]);
    }

    #[test]
    fn hostile_lists_end() {
        let mut fake = list(&[0x2000], 0);
        fake.put(0x2000, 0x2000);
        fake.words.insert(0x2010, 1);
        walk_robust_list(UserAddr(0x1000), TID, &mut fake);
        assert!(fake.reads < 4 * LIMIT);
        for head in [0, 1, u64::MAX, u64::MAX - 7] {
            walk_robust_list(UserAddr(head), TID, &mut Fake::default());
        }
        let mut fake = list(&[0x2000 | PI], 0x2002);
        fake.put(0x1008, u64::MAX);
        walk_robust_list(UserAddr(0x1000), TID, &mut fake);
        assert!(fake.woken.is_empty());
    }
}
