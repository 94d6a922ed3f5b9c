//! Resource limits of a process: getrlimit(2).

use sentry_abi::{Errno, Result};

pub const INFINITY: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Resource {
    Cpu = 0,
    FileSize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Rss = 5,
    Processes = 6,
    Files = 7,
    LockedMemory = 8,
    AddressSpace = 9,
    Locks = 10,
    PendingSignals = 11,
    MessageQueues = 12,
    Nice = 13,
    RealtimePriority = 14,
    RealtimeTime = 15,
}

impl Resource {
    pub const COUNT: usize = 16;

    pub fn from_number(number: u64) -> Result<Resource> {
        const ALL: [Resource; Resource::COUNT] = [
            Resource::Cpu,
            Resource::FileSize,
            Resource::Data,
            Resource::Stack,
            Resource::Core,
            Resource::Rss,
            Resource::Processes,
            Resource::Files,
            Resource::LockedMemory,
            Resource::AddressSpace,
            Resource::Locks,
            Resource::PendingSignals,
            Resource::MessageQueues,
            Resource::Nice,
            Resource::RealtimePriority,
            Resource::RealtimeTime,
        ];
        usize::try_from(number).ok().and_then(|n| ALL.get(n).copied()).ok_or(Errno::EINVAL)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits([Limit; Resource::COUNT]);

impl Default for Limits {
    /// Linux's initial values (include/asm-generic/resource.h), with the usual number of processes and signals of a middling machine.
    fn default() -> Limits {
        let open = Limit { soft: INFINITY, hard: INFINITY };
        let mut limits = Limits([open; Resource::COUNT]);
        limits.set(Resource::Stack, Limit { soft: 8 << 20, hard: INFINITY });
        limits.set(Resource::Core, Limit { soft: 0, hard: INFINITY });
        limits.set(Resource::Processes, Limit { soft: 31_000, hard: 31_000 });
        limits.set(Resource::Files, Limit { soft: 1024, hard: 1 << 20 });
        limits.set(Resource::LockedMemory, Limit { soft: 8 << 20, hard: 8 << 20 });
        limits.set(Resource::PendingSignals, Limit { soft: 31_000, hard: 31_000 });
        limits.set(Resource::MessageQueues, Limit { soft: 819_200, hard: 819_200 });
        limits.set(Resource::Nice, Limit { soft: 0, hard: 0 });
        limits.set(Resource::RealtimePriority, Limit { soft: 0, hard: 0 });
        limits
    }
}

impl Limits {
    pub fn get(&self, resource: Resource) -> Limit {
        self.0[resource as usize]
    }

    pub fn set(&mut self, resource: Resource, limit: Limit) {
        self.0[resource as usize] = limit;
    }

    pub fn soft(&self, resource: Resource) -> u64 {
        self.get(resource).soft
    }
}
