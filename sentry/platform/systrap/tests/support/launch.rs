//! A zygote without runsc: no namespaces, the test's own credentials.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use sentry_platform_systrap::{Reaper, SystrapPlatform, zygote};

#[allow(clippy::zombie_processes, reason = "the reaper collects it")]
pub fn platform(reaper: &Arc<Reaper>) -> Arc<SystrapPlatform> {
    let parts = zygote::prepare().expect("image and area");
    let (ours, theirs) = UnixStream::pair().expect("socket pair");
    let (image, area, socket) = (parts.image.as_raw_fd(), parts.area.as_raw_fd(), theirs.as_raw_fd());
    let mut maker = Command::new(format!("/proc/self/fd/{image}"));
    // SAFETY: only async-signal-safe calls.
    unsafe {
        maker.pre_exec(move || {
            // High numbers first, so that no source is overwritten.
            let (s, a) = (libc::fcntl(socket, libc::F_DUPFD_CLOEXEC, 100), libc::fcntl(area, libc::F_DUPFD_CLOEXEC, 100));
            if s < 0 || a < 0 || libc::dup2(s, 0) < 0 || libc::dup2(a, 1) < 0 {
                return Err(io::Error::last_os_error());
            }
            let limit = libc::rlimit { rlim_cur: zygote::STUB_NOFILE, rlim_max: zygote::STUB_NOFILE };
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            libc::personality(0x0040000);
            Ok(())
        });
    }
    // The reaper collects it.
    let _ = maker.spawn().expect("maker starts");
    drop(theirs);
    use std::os::fd::AsFd;
    let handles = zygote::receive(ours.as_fd()).expect("zygote");
    SystrapPlatform::adopt(handles, reaper).expect("adopted")
}
