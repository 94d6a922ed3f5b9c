//! The birth of a container's zygote: the one order of steps that is safe (ZYGOTE §2).
//!
//! runsc forks **H**, which enters the container's network namespace and the sandbox's namespaces; H forks **I** into the sandbox's pid namespace;
//! I executes the zygote's image in a user namespace of its own, below the sandbox's and owned by the sentry's user. The rest is the image's.
//!
//! Invariants: I is undumpable from its first moment on inside the sandbox, so that a hostile sentry cannot look into this copy of runsc; H waits
//! for I on every path, else the sentry's pid namespace could never end; runsc waits for H.

use std::ffi::CString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};

use crate::{Capabilities, Child, Image, Privilege, StartError, descriptors, sys};

/// A zygote to be made.
pub struct Zygote<'a> {
    pub sentry: &'a Child,
    pub image: BorrowedFd<'a>,
    /// Become 0, 1, … of the image.
    pub fds: Vec<BorrowedFd<'a>>,
    pub privilege: Privilege,
    /// The sentry's user and group in its namespace.
    pub sentry_id: u32,
    /// The container's user and group, in the sentry's user namespace when there are several ids to use, and in the zygote's own in any case.
    pub stub_id: u32,
    /// RLIMIT_NOFILE.
    pub open_files: u64,
    /// The container's network namespace; `None`: a new one.
    pub network: Option<BorrowedFd<'a>>,
}

/// A set-up process under way.
pub struct ZygoteBirth {
    child: Child,
    socket: UnixStream,
}

const NAME: &str = "zygote";
const ADDR_NO_RANDOMIZE: u64 = 0x0004_0000;
const MAX_REPORT: u64 = 4096;

impl Zygote<'_> {
    /// Forks H. The sentry must have been executed already: before, its namespaces still hold the host's files.
    pub fn begin(&self) -> Result<ZygoteBirth, StartError> {
        let host = |what: &'static str| move |source: io::Error| StartError::Host { role: NAME, what, source };
        let (ours, theirs) = UnixStream::pair().map_err(host("socketpair"))?;
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| host("open /proc")(e.into()))?;
        match sys::fork(0).map_err(host("fork"))? {
            sys::Forked::Child => {
                drop(ours);
                match self.run_h(&proc, &theirs) {
                    Ok(()) => sys::exit_now(0),
                    Err(step) => report_and_exit(&theirs, &step),
                }
            }
            sys::Forked::Parent { pid, pidfd } => Ok(ZygoteBirth { child: Child { pid, pidfd }, socket: ours }),
        }
    }

    fn run_h(&self, proc: &OwnedFd, socket: &UnixStream) -> Result<(), String> {
        let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        let join = || sys::setns(self.sentry.pidfd.as_fd(), namespaces as u64).map_err(failed("join the sandbox"));
        sys::reset_signals();
        sys::new_session();
        match self.privilege {
            Privilege::Root => {
                sys::set_undumpable().map_err(failed("make the set-up process undumpable"))?;
                // Before joining: the sandbox's user namespace does not own the container's network namespace.
                match self.network {
                    Some(network) => sys::setns(network, libc::CLONE_NEWNET as u64).map_err(failed("join the network namespace"))?,
                    None => sys::unshare(libc::CLONE_NEWNET as u64).map_err(failed("make a network namespace"))?,
                }
                join()?;
            }
            Privilege::OneId { .. } => {
                join()?;
                match self.network {
                    Some(network) => sys::setns(network, libc::CLONE_NEWNET as u64).map_err(failed("join the network namespace"))?,
                    None => sys::unshare(libc::CLONE_NEWNET as u64).map_err(failed("make a network namespace"))?,
                }
                sys::unshare(libc::CLONE_NEWUSER as u64).map_err(failed("enter a user namespace"))?;
                let map = format!("{} {} 1\n", self.stub_id, self.sentry_id);
                write_below(proc, "self/setgroups", "deny")?;
                write_below(proc, "self/uid_map", &map)?;
                write_below(proc, "self/gid_map", &map)?;
                sys::set_undumpable().map_err(failed("make the set-up process undumpable"))?;
            }
        }
        self.make_i(proc, socket)
    }

    /// Forks I, gives it its maps, waits for its end.
    fn make_i(&self, proc: &OwnedFd, socket: &UnixStream) -> Result<(), String> {
        let (ours, theirs) = UnixStream::pair().map_err(failed("socketpair"))?;
        match sys::fork(0).map_err(failed("fork into the sandbox"))? {
            sys::Forked::Child => {
                drop(ours);
                let Err(step) = self.run_i(&theirs, socket);
                report_and_exit(socket, &step)
            }
            sys::Forked::Parent { pid, pidfd } => {
                drop(theirs);
                let mapped = match self.privilege {
                    Privilege::Root => self.map_i(proc, pid, &ours),
                    Privilege::OneId { .. } => Ok(()),
                };
                if mapped.is_err() {
                    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                }
                // On all paths: while I is a zombie the sentry cannot die.
                let ended = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), rustix::process::WaitIdOptions::EXITED);
                mapped?;
                match ended {
                    Ok(Some(status)) if status.exit_status() == Some(0) => Ok(()),
                    Ok(_) => Err("the zygote's maker died".to_owned()),
                    Err(error) => Err(format!("wait for the zygote's maker: {error}")),
                }
            }
        }
    }

    fn map_i(&self, proc: &OwnedFd, pid: i32, mut socket: &UnixStream) -> Result<(), String> {
        let mut byte = [0];
        if socket.read(&mut byte).map_err(failed("listen to the zygote's maker"))? == 0 {
            return Err("the zygote's maker died".to_owned());
        }
        let map = format!("{0} {0} 1\n", self.stub_id);
        write_below(proc, &format!("{pid}/uid_map"), &map)?;
        write_below(proc, &format!("{pid}/gid_map"), &map)?;
        socket.write_all(b"M").map_err(failed("tell the zygote's maker"))
    }

    fn run_i(&self, mut socket: &UnixStream, report: &UnixStream) -> Result<std::convert::Infallible, String> {
        if self.privilege == Privilege::Root {
            // Clears dumpable, so that the sentry's user cannot look in, though it owns the namespace made next.
            sys::set_ids(self.sentry_id, self.sentry_id, true).map_err(failed("become the sentry's user"))?;
            sys::set_undumpable().map_err(failed("make the zygote's maker undumpable"))?;
            sys::unshare(libc::CLONE_NEWUSER as u64).map_err(failed("enter a user namespace"))?;
            socket.write_all(b"U").map_err(failed("ask for id maps"))?;
            let mut byte = [0];
            if socket.read(&mut byte).map_err(failed("wait for id maps"))? == 0 {
                return Err("the set-up process died".to_owned());
            }
            sys::set_ids(self.stub_id, self.stub_id, true).map_err(failed("become the container's user"))?;
        }
        let kept = descriptors::arrange(&self.fds, &[self.image, report.as_fd()]).map_err(failed("arrange descriptors"))?;
        let [image, report_copy] = kept.as_slice() else { return Err("arrange descriptors: lost one".to_owned()) };
        let result = self.finish_i(image);
        // The socket that the caller reports on is closed by now: put the copy in its place.
        let _ = sys::place(report_copy.as_raw_fd(), report.as_raw_fd());
        result
    }

    fn finish_i(&self, image: &OwnedFd) -> Result<std::convert::Infallible, String> {
        let limits = [(libc::RLIMIT_CORE, 1), (libc::RLIMIT_NOFILE, self.open_files), (libc::RLIMIT_MEMLOCK, 0)];
        for (resource, value) in limits {
            let (_, most) = sys::rlimit(resource).map_err(failed("read a limit"))?;
            if resource == libc::RLIMIT_NOFILE && most < value {
                return Err(format!("the limit on open files is {most}, {value} are needed"));
            }
            sys::set_rlimit(resource, most.min(value), most.min(value)).map_err(failed("set a limit"))?;
        }
        sys::add_personality(ADDR_NO_RANDOMIZE).map_err(failed("set the personality"))?;
        Capabilities::empty().bound().map_err(failed("bound capabilities"))?;
        Capabilities::empty().apply().map_err(failed("drop capabilities"))?;
        sys::no_new_privileges().map_err(failed("no_new_privs"))?;
        let error = Image::exec(image.as_fd(), &[CString::from(c"stub")]);
        Err(format!("exec: {error}"))
    }
}

impl ZygoteBirth {
    /// Waits until the zygote has been handed to the sentry, or could not be made.
    pub fn finish(self) -> Result<(), StartError> {
        let mut step = Vec::new();
        let read = (&self.socket).take(MAX_REPORT).read_to_end(&mut step);
        let ended =
            rustix::process::waitid(rustix::process::WaitId::PidFd(self.child.pidfd.as_fd()), rustix::process::WaitIdOptions::EXITED);
        let failed_at = |step: String| StartError::Step { role: NAME, step };
        read.map_err(|source| StartError::Host { role: NAME, what: "listen to the set-up process", source })?;
        match ended {
            Ok(Some(status)) if status.exit_status() == Some(0) => Ok(()),
            _ if !step.is_empty() => Err(failed_at(String::from_utf8_lossy(&step).into_owned())),
            Ok(_) => Err(failed_at("the set-up process died".to_owned())),
            Err(error) => Err(StartError::Host { role: NAME, what: "wait for the set-up process", source: error.into() }),
        }
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

fn write_below(dir: &OwnedFd, path: &str, text: &str) -> Result<(), String> {
    let write = || -> io::Result<()> {
        let file = rustix::fs::openat(dir, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        // One write: a map may be written once only.
        rustix::io::write(&file, text.as_bytes())?;
        Ok(())
    };
    write().map_err(|error| format!("write {path}: {error}"))
}

fn report_and_exit(mut socket: &UnixStream, step: &str) -> ! {
    // Nobody is left to tell when this fails.
    let _ = socket.write_all(step.as_bytes());
    sys::exit_now(1)
}
