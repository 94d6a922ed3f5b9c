//! Names and numbers of the machine: uname(2), sysinfo(2), sethostname(2).

use sentry_abi::{Errno, UserAddr};
use sentry_auth::Caps;
use sentry_kernel::{CurrentTask, SysResult, uts};
use zerocopy::{Immutable, IntoBytes};

const FIELD: usize = 65;

/// [uname(2)](https://man7.org/linux/man-pages/man2/uname.2.html).
pub fn uname(task: &mut CurrentTask, at: UserAddr) -> SysResult {
    let names = task.kernel().uts.names();
    let mut out = [0u8; 6 * FIELD];
    let fields: [&[u8]; 6] =
        [uts::SYSNAME.as_bytes(), &names.host, uts::RELEASE.as_bytes(), uts::VERSION.as_bytes(), uts::MACHINE.as_bytes(), &names.domain];
    for (slot, value) in out.chunks_exact_mut(FIELD).zip(fields) {
        let n = value.len().min(FIELD - 1);
        slot[..n].copy_from_slice(&value[..n]);
    }
    task.mm().write(at, &out)?;
    Ok(0)
}

fn read_name(task: &CurrentTask, at: UserAddr, len: u64) -> Result<Vec<u8>, Errno> {
    task.creds().require(Caps::SYS_ADMIN)?;
    if len > 64 {
        return Err(Errno::EINVAL);
    }
    task.mm().read_vec(at, len as usize)
}

/// [sethostname(2)](https://man7.org/linux/man-pages/man2/sethostname.2.html).
pub fn sethostname(task: &mut CurrentTask, at: UserAddr, len: u64) -> SysResult {
    let name = read_name(task, at, len)?;
    task.kernel().uts.set_host(&name)?;
    Ok(0)
}

/// [setdomainname(2)](https://man7.org/linux/man-pages/man2/setdomainname.2.html).
pub fn setdomainname(task: &mut CurrentTask, at: UserAddr, len: u64) -> SysResult {
    let name = read_name(task, at, len)?;
    task.kernel().uts.set_domain(&name)?;
    Ok(0)
}

/// `struct sysinfo`: 112 bytes.
#[derive(Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
struct SysInfo {
    uptime: i64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    procs: u16,
    pad: u16,
    pad2: u32,
    total_high: u64,
    free_high: u64,
    unit: u32,
    pad3: u32,
}

/// [sysinfo(2)](https://man7.org/linux/man-pages/man2/sysinfo.2.html).
pub fn sysinfo(task: &mut CurrentTask, at: UserAddr) -> SysResult {
    let kernel = task.kernel();
    let memory = kernel.memory();
    let info = SysInfo {
        uptime: (sentry_time::ClockId::Boottime.now_ns() - kernel.boot_ns) / 1_000_000_000,
        total_ram: memory.total,
        free_ram: memory.free,
        procs: u16::try_from(kernel.processes.task_count()).unwrap_or(u16::MAX),
        unit: 1,
        ..SysInfo::default()
    };
    task.mm().write_obj(at, &info)?;
    Ok(0)
}

/// [syslog(2)](https://man7.org/linux/man-pages/man2/syslog.2.html): the log of this kernel is empty for guests.
pub fn syslog(task: &mut CurrentTask, kind: i32, _buf: UserAddr, _len: i32) -> SysResult {
    const SIZE_BUFFER: i32 = 10;
    const READ_ALL: i32 = 3;
    match kind {
        READ_ALL | 9 => Ok(0),
        SIZE_BUFFER => Ok(1 << 17),
        0..=8 => {
            task.creds().require(Caps::SYSLOG)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
