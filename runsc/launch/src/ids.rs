//! Which user each process runs as.

use std::fs;
use std::io;

use sentry_confine::{IdMap, Privilege};

/// The sentry's id in its own user namespace. Not 0, so that exec drops capabilities by itself.
pub(crate) const SENTRY_ID: u32 = 10;
/// netstack's, in its own.
pub(crate) const NETSTACK_ID: u32 = 10;
/// The first container's id in the sentry's user namespace; those of later containers follow.
pub(crate) const FIRST_STUB_ID: u32 = 100;
/// Maps can be written once, so the sentry's namespace reserves ids for all containers that may ever join.
const STUB_IDS: u32 = 64;

/// Ids of one sandbox, in the host's numbers where there are several.
pub(crate) struct Ids {
    pub privilege: Privilege,
    base: u32,
}

/// Above what hosts give to people and to sub-ids by default, below the kernel's limits.
const RANGE_START: u32 = 0x4000_0000;
const RANGE_BLOCKS: u32 = 0x0040_0000;
const BLOCK: u32 = 256;

impl Ids {
    pub fn choose(privilege: Privilege) -> io::Result<Self> {
        let mut random = [0; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        // Two sandboxes with one block would share per-user counters, nothing more: their namespaces keep them apart.
        let base = RANGE_START + (u32::from_le_bytes(random) % RANGE_BLOCKS) * BLOCK;
        Ok(Self { privilege, base })
    }

    /// uid and gid maps of the sentry's user namespace.
    pub fn sentry_maps(&self) -> (Vec<IdMap>, Vec<IdMap>) {
        match self.privilege {
            Privilege::Root => {
                let maps = vec![
                    IdMap { inside: SENTRY_ID, outside: self.base, count: 1 },
                    IdMap { inside: FIRST_STUB_ID, outside: self.base + FIRST_STUB_ID, count: STUB_IDS },
                ];
                (maps.clone(), maps)
            }
            Privilege::OneId { uid, gid } => (one(SENTRY_ID, uid), one(SENTRY_ID, gid)),
        }
    }

    pub fn netstack_maps(&self) -> (Vec<IdMap>, Vec<IdMap>) {
        match self.privilege {
            Privilege::Root => (one(NETSTACK_ID, self.base + 2), one(NETSTACK_ID, self.base + 2)),
            Privilege::OneId { uid, gid } => (one(NETSTACK_ID, uid), one(NETSTACK_ID, gid)),
        }
    }

    /// The gofer's user and group, in a namespace where ids are the host's own.
    pub fn gofer(&self) -> (u32, u32) {
        match self.privilege {
            Privilege::Root => (self.base + 1, self.base + 1),
            Privilege::OneId { uid, gid } => (uid, gid),
        }
    }

    /// Host user and group of the stubs.
    pub fn stub_host(&self) -> (u32, u32) {
        match self.privilege {
            Privilege::Root => (self.base + FIRST_STUB_ID, self.base + FIRST_STUB_ID),
            Privilege::OneId { uid, gid } => (uid, gid),
        }
    }

    /// What the sentry's namespace shows as the user of a runsc that connects: the overflow id where it is not mapped.
    pub fn control_uid(&self) -> u32 {
        match self.privilege {
            Privilege::Root => overflow("uid"),
            Privilege::OneId { .. } => SENTRY_ID,
        }
    }
}

fn one(inside: u32, outside: u32) -> Vec<IdMap> {
    vec![IdMap { inside, outside, count: 1 }]
}

/// What ids without a mapping show up as.
pub(crate) fn overflow(kind: &str) -> u32 {
    const DEFAULT: u32 = 65534;
    fs::read_to_string(format!("/proc/sys/kernel/overflow{kind}")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT)
}
