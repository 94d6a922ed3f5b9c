//! select(2), pselect6(2). fs/select.c.

use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_sync::Events;

use super::poll::{Interest, Unit, finish, set_mask, wait};
use super::wait_time::Limit;

/// What each of the three sets waits for, and what it shows.
const IN: Events = Events::READ.union(Events::RDBAND).union(Events::HUP).union(Events::ERR);
const OUT: Events = Events::WRITE.union(Events::WRBAND).union(Events::ERR);
const EX: Events = Events::PRI;
const KINDS: [Events; 3] = [IN, OUT, EX];

/// A bitmap of descriptors, as many words as `nfds` needs.
#[derive(Clone, PartialEq, Eq, Debug)]
struct FdSet(Vec<u64>);

impl FdSet {
    fn new(nfds: usize) -> FdSet {
        FdSet(vec![0; nfds.div_ceil(64)])
    }

    fn contains(&self, fd: usize) -> bool {
        self.0.get(fd / 64).is_some_and(|word| word >> (fd % 64) & 1 != 0)
    }

    fn insert(&mut self, fd: usize) {
        if let Some(word) = self.0.get_mut(fd / 64) {
            *word |= 1 << (fd % 64);
        }
    }
}

/// The three sets of a call.
struct Sets {
    at: [UserAddr; 3],
    nfds: usize,
    asked: [Option<FdSet>; 3],
}

impl Sets {
    fn read(task: &CurrentTask, nfds: usize, at: [UserAddr; 3]) -> Result<Sets> {
        let mut asked = [None, None, None];
        for (set, at) in asked.iter_mut().zip(at) {
            if !at.is_null() {
                *set = Some(FdSet(task.mm().read_array(at, nfds.div_ceil(64))?));
            }
        }
        Ok(Sets { at, nfds, asked })
    }

    /// Which events are wanted of a descriptor.
    fn wanted(&self, fd: usize) -> Events {
        let sets = self.asked.iter().zip(KINDS);
        sets.filter(|(set, _)| set.as_ref().is_some_and(|s| s.contains(fd))).fold(Events::empty(), |all, (_, kind)| all | kind)
    }

    /// Descriptors in any set, with what is wanted.
    fn watched(&self) -> Vec<(usize, Events)> {
        (0..self.nfds).map(|fd| (fd, self.wanted(fd))).filter(|(_, want)| !want.is_empty()).collect()
    }

    /// The sets to write back and the number of bits in them.
    fn results(&self, found: &[(usize, Events)]) -> ([Option<FdSet>; 3], u64) {
        let mut count = 0;
        let mut out = [None, None, None];
        for ((result, asked), kind) in out.iter_mut().zip(&self.asked).zip(KINDS) {
            let Some(asked) = asked else { continue };
            let mut set = FdSet::new(self.nfds);
            for (fd, events) in found {
                if asked.contains(*fd) && events.intersects(kind) {
                    set.insert(*fd);
                    count += 1;
                }
            }
            *result = Some(set);
        }
        (out, count)
    }

    fn write(&self, task: &CurrentTask, results: &[Option<FdSet>; 3]) -> Result<()> {
        for (at, set) in self.at.iter().zip(results) {
            if let Some(set) = set {
                task.mm().write_array(*at, &set.0)?;
            }
        }
        Ok(())
    }
}

/// The number of bits set, written back; nothing when a signal came first.
fn select_files(task: &CurrentTask, nfds: i32, at: [UserAddr; 3], limit: Limit) -> Result<Option<u64>> {
    let nfds = usize::try_from(nfds).map_err(|_| Errno::EINVAL)?.min(table_size(task));
    let sets = Sets::read(task, nfds, at)?;
    let watched = sets.watched();
    let mut interests = Vec::with_capacity(watched.len());
    for (fd, want) in &watched {
        let file = task.file(*fd as i32)?;
        interests.push(Interest { file: Some(file), want: *want });
    }
    let Ok(found) = wait(task, &interests, limit) else { return Ok(None) };
    let found: Vec<(usize, Events)> = watched.iter().map(|(fd, _)| *fd).zip(found).collect();
    let (results, count) = sets.results(&found);
    sets.write(task, &results)?;
    Ok(Some(count))
}

/// Numbers beyond the table are ignored, however many the guest names; the table grows by powers of two, from 64.
fn table_size(task: &CurrentTask) -> usize {
    let highest = task.files().numbers().last().copied().unwrap_or(0);
    (highest as usize + 1).next_power_of_two().max(64)
}

/// [select(2)](https://man7.org/linux/man-pages/man2/select.2.html).
pub fn select(
    task: &mut CurrentTask,
    nfds: i32,
    readfds: UserAddr,
    writefds: UserAddr,
    exceptfds: UserAddr,
    timeout: UserAddr,
) -> SysResult {
    let limit = Limit::read_timeval(task, timeout)?;
    let result = select_files(task, nfds, [readfds, writefds, exceptfds], limit);
    finish(task, timeout, limit, result, Unit::Microseconds)
}

/// [pselect6(2)](https://man7.org/linux/man-pages/man2/select.2.html). `sig` points to a pair: the mask's address and its size.
pub fn pselect6(
    task: &mut CurrentTask,
    nfds: i32,
    readfds: UserAddr,
    writefds: UserAddr,
    exceptfds: UserAddr,
    timeout: UserAddr,
    sig: UserAddr,
) -> SysResult {
    let [mask, size]: [u64; 2] = if sig.is_null() { [0, 0] } else { task.mm().read_obj(sig)? };
    let limit = Limit::read_timespec(task, timeout)?;
    set_mask(task, UserAddr(mask), size)?;
    let result = select_files(task, nfds, [readfds, writefds, exceptfds], limit);
    finish(task, timeout, limit, result, Unit::Nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(nfds: usize, asked: [Option<&[usize]>; 3]) -> Sets {
        let asked = asked.map(|fds| {
            fds.map(|fds| {
                let mut set = FdSet::new(nfds);
                fds.iter().for_each(|fd| set.insert(*fd));
                set
            })
        });
        Sets { at: [UserAddr::NULL; 3], nfds, asked }
    }

    #[test]
    fn bitmaps_across_words() {
        let mut set = FdSet::new(65);
        assert_eq!(set.0.len(), 2);
        set.insert(0);
        set.insert(64);
        set.insert(1000);
        assert_eq!(set.0, [1, 1]);
        assert!(set.contains(64) && !set.contains(63) && !set.contains(1000));
    }

    #[test]
    fn bits_beyond_nfds_are_not_watched() {
        let mut sets = sets(64, [Some(&[3, 5]), Some(&[5]), None]);
        sets.nfds = 5;
        assert_eq!(sets.watched(), vec![(3, IN)]);
        sets.nfds = 6;
        assert_eq!(sets.watched(), vec![(3, IN), (5, IN | OUT)]);
    }

    #[test]
    fn a_file_counts_once_for_each_set() {
        let sets = sets(64, [Some(&[3, 5]), Some(&[5]), Some(&[3])]);
        let (results, count) = sets.results(&[(3, Events::HUP), (5, Events::IN | Events::OUT)]);
        assert_eq!(count, 3);
        assert_eq!(results[0].as_ref().map(|s| s.0.clone()), Some(vec![1 << 3 | 1 << 5]));
        assert_eq!(results[1].as_ref().map(|s| s.0.clone()), Some(vec![1 << 5]));
        assert_eq!(results[2].as_ref().map(|s| s.0.clone()), Some(vec![0]));
    }
}
