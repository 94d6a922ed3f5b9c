//! Names of the machine: uname(2), sethostname(2).

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, Mutex};

/// What guests are told they run on.
pub const SYSNAME: &str = "Linux";
pub const RELEASE: &str = "6.12.0";
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC";
pub const MACHINE: &str = "x86_64";
const NAME_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Names {
    pub host: Vec<u8>,
    pub domain: Vec<u8>,
}

pub struct Uts(Mutex<Names>);

impl Uts {
    pub fn new(host: &[u8]) -> Uts {
        let host = host[..host.len().min(NAME_MAX)].to_vec();
        Uts(Mutex::new(Level::Leaf, Names { host, domain: b"(none)".to_vec() }))
    }

    pub fn names(&self) -> Names {
        self.0.lock().clone()
    }

    pub fn set_host(&self, name: &[u8]) -> Result<()> {
        check(name)?;
        self.0.lock().host = name.to_vec();
        Ok(())
    }

    pub fn set_domain(&self, name: &[u8]) -> Result<()> {
        check(name)?;
        self.0.lock().domain = name.to_vec();
        Ok(())
    }
}

fn check(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX { Err(Errno::EINVAL) } else { Ok(()) }
}
