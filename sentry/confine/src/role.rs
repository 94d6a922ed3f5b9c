//! Starting one of our processes: from a fork of runsc to the sealed image in its cage.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bitflags::bitflags;

use crate::{Capabilities, IdMap, Image, Tree, descriptors, mounts, sys, userns};

bitflags! {
    /// Namespaces that a role gets for itself.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Namespaces: u64 {
        const MOUNT = libc::CLONE_NEWNS as u64;
        const IPC = libc::CLONE_NEWIPC as u64;
        const UTS = libc::CLONE_NEWUTS as u64;
        const PID = libc::CLONE_NEWPID as u64;
        const NET = libc::CLONE_NEWNET as u64;
    }
}

/// When the role enters its user namespace and how ids are mapped there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserNamespace {
    /// At birth, so that it owns the role's other namespaces and may mount.
    AtBirth { uids: Vec<IdMap>, gids: Vec<IdMap>, deny_setgroups: bool },
    /// After the root is made, so that the mounts belong to the caller's namespace, where the role has no rights. Needs root.
    AfterMounts { uids: Vec<IdMap>, gids: Vec<IdMap> },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Root {
    Empty,
    Trees(Vec<Tree>),
}

/// A process of ours to be started.
pub struct Role<'a> {
    /// For messages.
    pub name: &'static str,
    pub arguments: Vec<CString>,
    pub namespaces: Namespaces,
    pub user: UserNamespace,
    pub root: Root,
    /// Ids inside the user namespace.
    pub uid: u32,
    pub gid: u32,
    pub capabilities: Capabilities,
    /// Become 0, 1, 2, …; nothing else is inherited.
    pub fds: Vec<BorrowedFd<'a>>,
    pub image: &'a Image,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start {role}: {what}")]
    Host { role: &'static str, what: &'static str, source: io::Error },
    /// A step of the child failed.
    #[error("start {role}: {step}")]
    Step { role: &'static str, step: String },
}

/// A started process. Dropping it does not end it.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Child {
    pub fn kill(&self) {
        // Fails only when it is gone already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// Waits until it has ended, which it must be about to. Nothing happens for a process that is not our child.
    pub fn reap(&self) {
        let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(self.pidfd.as_fd()), rustix::process::WaitIdOptions::EXITED);
    }
}

const ASK_MAPS: u8 = b'U';
const MAPS_DONE: u8 = b'M';
const FAILED: u8 = b'E';
/// Longest report of a failed step.
const MAX_REPORT: u64 = 4096;

impl Role<'_> {
    /// Forks the process, which then works on its own until it needs [`RoleStart::finish`].
    pub fn begin(&self) -> Result<RoleStart, StartError> {
        let host = |what: &'static str| move |source: io::Error| StartError::Host { role: self.name, what, source };
        let (ours, theirs) = UnixStream::pair().map_err(host("socketpair"))?;
        let born_in = match &self.user {
            UserNamespace::AtBirth { .. } => libc::CLONE_NEWUSER as u64,
            UserNamespace::AfterMounts { .. } => 0,
        };
        match sys::fork(self.namespaces.bits() | born_in).map_err(host("clone"))? {
            sys::Forked::Child => {
                // Else the child would hold the end whose closing tells it that the caller is dead.
                drop(ours);
                self.run_child(&theirs)
            }
            sys::Forked::Parent { pid, pidfd } => {
                let mut start = RoleStart { role: self.name, user: self.user.clone(), child: Some(Child { pid, pidfd }), socket: ours };
                if let UserNamespace::AtBirth { uids, gids, deny_setgroups } = &self.user {
                    start.write_maps(pid, uids, gids, *deny_setgroups)?;
                }
                Ok(start)
            }
        }
    }

    fn run_child(&self, socket: &UnixStream) -> ! {
        let Err(step) = self.become_role(socket);
        let mut report = vec![FAILED];
        report.extend_from_slice(step.as_bytes());
        // Nobody is left to tell when this fails.
        let _ = (&*socket).write_all(&report);
        sys::exit_now(1)
    }

    /// All steps of the child, in the order that ZYGOTE §1 proved: mounts before dropping, ids after mounts, exec last.
    fn become_role(&self, socket: &UnixStream) -> Result<std::convert::Infallible, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        sys::reset_signals();
        sys::new_session();
        if matches!(self.user, UserNamespace::AtBirth { .. }) {
            await_maps(socket)?;
        }
        match &self.root {
            Root::Empty => mounts::empty_root()?,
            Root::Trees(trees) => mounts::tree_root(trees)?,
        }
        let clear_groups = match &self.user {
            UserNamespace::AtBirth { deny_setgroups, .. } => !deny_setgroups,
            UserNamespace::AfterMounts { .. } => {
                sys::unshare(libc::CLONE_NEWUSER as u64).map_err(failed("enter a user namespace"))?;
                (&*socket).write_all(&[ASK_MAPS]).map_err(failed("ask for id maps"))?;
                await_maps(socket)?;
                true
            }
        };
        self.capabilities.bound().map_err(failed("bound capabilities"))?;
        sys::keep_capabilities().map_err(failed("keep capabilities"))?;
        sys::set_ids(self.uid, self.gid, clear_groups).map_err(failed("change ids"))?;
        self.capabilities.apply().map_err(failed("drop capabilities"))?;
        sys::no_new_privileges().map_err(failed("no_new_privs"))?;
        set_limits().map_err(failed("set limits"))?;
        let kept = descriptors::arrange(&self.fds, &[self.image.as_fd(), socket.as_fd()]).map_err(failed("arrange descriptors"))?;
        let [image, report] = kept.as_slice() else { return Err("arrange descriptors: lost one".to_owned()) };
        let error = Image::exec(image.as_fd(), &self.arguments);
        // The socket that the caller of this function reports on is closed by now: put the copy in its place.
        let _ = sys::place(report.as_raw_fd(), socket.as_raw_fd());
        Err(format!("exec: {error}"))
    }
}

/// A process on its way to exec. Dropping it kills the process.
pub struct RoleStart {
    role: &'static str,
    user: UserNamespace,
    child: Option<Child>,
    socket: UnixStream,
}

impl RoleStart {
    /// Accompanies the process to its exec. When this returns, the image runs in it; what the image does then it tells by itself.
    pub fn finish(mut self) -> Result<Child, StartError> {
        let role = self.role;
        let host = |what: &'static str| move |source: io::Error| StartError::Host { role, what, source };
        let gone = || StartError::Step { role, step: "already finished".to_owned() };
        let pid = self.child.as_ref().ok_or_else(gone)?.pid;
        let mut kind = [0];
        loop {
            // The socket is close-on-exec: its end is the success of exec, or the child's death, which the caller finds by the role's silence.
            if self.socket.read(&mut kind).map_err(host("listen to the child"))? == 0 {
                return self.child.take().ok_or_else(gone);
            }
            match (kind[0], self.user.clone()) {
                (ASK_MAPS, UserNamespace::AfterMounts { uids, gids }) => self.write_maps(pid, &uids, &gids, false)?,
                _ => {
                    let mut step = Vec::new();
                    (&self.socket).take(MAX_REPORT).read_to_end(&mut step).map_err(host("listen to the child"))?;
                    return Err(StartError::Step { role, step: String::from_utf8_lossy(&step).into_owned() });
                }
            }
        }
    }

    fn write_maps(&mut self, pid: i32, uids: &[IdMap], gids: &[IdMap], deny_setgroups: bool) -> Result<(), StartError> {
        let role = self.role;
        let host = |what: &'static str| move |source: io::Error| StartError::Host { role, what, source };
        userns::write_maps(pid, uids, gids, deny_setgroups).map_err(host("write the id maps"))?;
        self.socket.write_all(&[MAPS_DONE]).map_err(host("tell the child"))
    }
}

impl Drop for RoleStart {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            child.kill();
            child.reap();
        }
    }
}

fn await_maps(mut socket: &UnixStream) -> Result<(), String> {
    let mut byte = [0];
    match socket.read(&mut byte) {
        Ok(1) if byte[0] == MAPS_DONE => Ok(()),
        Ok(_) => Err("the starting process is gone".to_owned()),
        Err(error) => Err(format!("wait for id maps: {error}")),
    }
}

/// No core files (1, not 0, because a piped core pattern ignores 0), and as many descriptors as the host allows.
fn set_limits() -> io::Result<()> {
    let (_, most) = sys::rlimit(libc::RLIMIT_CORE)?;
    sys::set_rlimit(libc::RLIMIT_CORE, most.min(1), most.min(1))?;
    let (_, hard) = sys::rlimit(libc::RLIMIT_NOFILE)?;
    sys::set_rlimit(libc::RLIMIT_NOFILE, hard, hard)
}

/// A copy of /dev/null for the standard descriptors of a role.
impl Role<'_> {
    pub fn null() -> io::Result<OwnedFd> {
        Ok(File::options().read(true).write(true).open("/dev/null")?.into())
    }
}
