//! What is to run, and how the processes are started from it.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use runsc_control::{
    GoferBoot, GoferTree, Mount, NetstackBoot, PlatformKind, Process, Root as ContainerRoot, RootOverlay, SandboxConfig, SentryBoot,
    SentryFds,
};
use sentry_confine::{Capabilities, IdMap, Image, Namespaces, Privilege, Role, RoleStart, Root, Tree, UserNamespace, Zygote};
use sentry_ipc::seqpacket_pair;
use sentry_platform_systrap::zygote;

use crate::ids::{FIRST_STUB_ID, Ids, NETSTACK_ID, SENTRY_ID};
use crate::sandbox::Sandbox;
use crate::{LaunchError, boot_file, host};

/// Channels between sentry and gofer: calls of as many guest threads are served at a time.
const GOFER_CHANNELS: usize = 4;

/// A sandbox with one container, to be launched.
pub struct Plan {
    pub privilege: Privilege,
    pub config: SandboxConfig,
    pub container_id: String,
    pub process: Process,
    pub hostname: Vec<u8>,
    pub domainname: Vec<u8>,
    pub root: ContainerRoot,
    pub mounts: Vec<Mount>,
    pub masked_paths: Vec<Vec<u8>>,
    pub read_only_paths: Vec<Vec<u8>>,
    pub sysctls: Vec<(String, String)>,
    /// In the order of the numbers in `root` and `mounts`.
    pub trees: Vec<PlannedTree>,
    pub console: Console,
    /// Where the processes log.
    pub log: OwnedFd,
    /// A listening `SOCK_SEQPACKET` socket.
    pub control: OwnedFd,
    /// The container's network namespace; `None`: a new one.
    pub network: Option<OwnedFd>,
}

/// A file or directory of the host that the container gets to see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedTree {
    pub source: PathBuf,
    pub directory: bool,
    pub writable: bool,
    /// It is the container's root.
    pub is_root: bool,
}

/// The container's standard input, output and error.
pub enum Console {
    Stdio([OwnedFd; 3]),
    /// The raw side of a terminal.
    Terminal(OwnedFd),
}

/// Pairs of sockets between the processes: the sentry's ends and the others'.
struct Sockets {
    gofer: Vec<(OwnedFd, OwnedFd)>,
    netstack: (OwnedFd, OwnedFd),
    status: (OwnedFd, OwnedFd),
    zygote: (OwnedFd, OwnedFd),
}

impl Sockets {
    fn make() -> Result<Self, LaunchError> {
        let pair = || seqpacket_pair().map_err(host("make a pair of sockets"));
        let gofer = (0..GOFER_CHANNELS).map(|_| pair()).collect::<Result<_, _>>()?;
        Ok(Self { gofer, netstack: pair()?, status: pair()?, zygote: pair()? })
    }
}

impl Plan {
    /// Starts everything and waits until the container is created. This process must have one thread only.
    pub fn launch(self) -> Result<Sandbox, LaunchError> {
        sentry_confine::require_static().map_err(host("look at the binary"))?;
        let ids = Ids::choose(self.privilege).map_err(host("choose user ids"))?;
        let image = Image::of_self().map_err(host("copy the binary"))?;
        let null = Role::null().map_err(host("open /dev/null"))?;
        let sockets = Sockets::make()?;
        let sentry = self.begin_sentry(&ids, &image, &null, &sockets)?;
        let gofer = self.begin_gofer(&ids, &image, &null, &sockets)?;
        let netstack = self.begin_netstack(&ids, &image, &null, &sockets)?;
        let parts = match self.config.platform {
            PlatformKind::Systrap => zygote::prepare(),
            PlatformKind::Ptrace => zygote::prepare_traced(),
        };
        let parts = parts.map_err(host("prepare the zygote"))?;
        let (uid, gid) = ids.stub_host();
        rustix::fs::fchown(&parts.image, Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)))
            .map_err(|e| host("give the zygote's image away")(e.into()))?;
        let mut sandbox = Sandbox::new(sentry.finish()?);
        let birth = Zygote {
            sentry: sandbox.sentry(),
            image: parts.image.as_fd(),
            fds: vec![sockets.zygote.1.as_fd(), parts.area.as_fd()],
            privilege: self.privilege,
            sentry_id: SENTRY_ID,
            stub_id: FIRST_STUB_ID,
            open_files: zygote::STUB_NOFILE,
            network: self.network.as_ref().map(|fd| fd.as_fd()),
        }
        .begin()?;
        // Our copies of the ends that others hold: while they are open, nobody would see a peer die.
        let Sockets { gofer: gofer_ends, netstack: netstack_ends, status: (status, sentry_end), zygote: zygote_ends } = sockets;
        drop((gofer_ends, netstack_ends, sentry_end, zygote_ends, parts));
        sandbox.set_gofer(gofer.finish()?);
        sandbox.set_netstack(netstack.finish()?);
        sandbox.await_created(status, birth.finish())?;
        Ok(sandbox)
    }

    fn begin_sentry(&self, ids: &Ids, image: &Image, null: &OwnedFd, sockets: &Sockets) -> Result<RoleStart, LaunchError> {
        let mut fds = FdList::new(null, &self.log);
        let mut numbers = SentryFds::default();
        match &self.console {
            Console::Stdio(stdio) => {
                numbers.stdio = stdio.iter().map(|fd| fds.add(fd)).collect();
                numbers.stdio_names = stdio.iter().map(path_of).collect();
                numbers.stdio_owners =
                    stdio.iter().map(|fd| rustix::fs::fstat(fd).map_or((0, 0), |stat| (stat.st_uid, stat.st_gid))).collect();
            }
            Console::Terminal(terminal) => numbers.terminal = Some(fds.add(terminal)),
        }
        numbers.gofer = sockets.gofer.iter().map(|(ours, _)| fds.add(ours)).collect();
        numbers.netstack = fds.add(&sockets.netstack.0);
        numbers.status = fds.add(&sockets.status.1);
        numbers.zygote = fds.add(&sockets.zygote.0);
        numbers.control = fds.add(&self.control);
        let boot = boot_file::make(&self.sentry_boot(ids, numbers))?;
        let (uids, gids) = ids.sentry_maps();
        let role = Role {
            name: "sentry",
            arguments: arguments("boot", &self.container_id),
            namespaces: Namespaces::all(),
            user: UserNamespace::AtBirth { uids, gids, deny_setgroups: self.privilege != Privilege::Root },
            root: Root::Empty,
            uid: SENTRY_ID,
            gid: SENTRY_ID,
            capabilities: Capabilities::empty(),
            fds: fds.with_boot(&boot),
            image,
        };
        Ok(role.begin()?)
    }

    fn sentry_boot(&self, ids: &Ids, fds: SentryFds) -> SentryBoot {
        SentryBoot {
            container_id: self.container_id.clone(),
            config: self.config.clone(),
            process: self.process.clone(),
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            root: self.root.clone(),
            mounts: self.mounts.clone(),
            masked_paths: self.masked_paths.clone(),
            read_only_paths: self.read_only_paths.clone(),
            sysctls: self.sysctls.clone(),
            fds,
            control_uid: ids.control_uid(),
        }
    }

    fn begin_gofer(&self, ids: &Ids, image: &Image, null: &OwnedFd, sockets: &Sockets) -> Result<RoleStart, LaunchError> {
        let mut fds = FdList::new(null, &self.log);
        let channels = sockets.gofer.iter().map(|(_, theirs)| fds.add(theirs)).collect();
        let writable = |tree: &PlannedTree| tree.writable && !(tree.is_root && self.root_is_kept());
        let trees = self.trees.iter().map(|tree| GoferTree { writable: writable(tree), directory: tree.directory }).collect::<Vec<_>>();
        let boot = boot_file::make(&GoferBoot { trees, channels })?;
        let (uid, gid) = ids.gofer();
        let mut capabilities = Capabilities::DAC_READ_SEARCH;
        if self.trees.iter().any(writable) {
            capabilities |= Capabilities::CHOWN | Capabilities::DAC_OVERRIDE | Capabilities::FOWNER | Capabilities::FSETID;
        }
        let mounts = self.trees.iter().map(|tree| Tree {
            source: tree.source.clone(),
            writable: writable(tree),
            hide_kernel_mounts: tree.is_root,
            follow: !tree.is_root,
        });
        let role = Role {
            name: "gofer",
            arguments: arguments("gofer", &self.container_id),
            namespaces: Namespaces::all(),
            user: match self.privilege {
                Privilege::Root => UserNamespace::AfterMounts { uids: vec![IdMap::IDENTITY], gids: vec![IdMap::IDENTITY] },
                Privilege::OneId { uid, gid } => {
                    let one = |id| vec![IdMap { inside: id, outside: id, count: 1 }];
                    UserNamespace::AtBirth { uids: one(uid), gids: one(gid), deny_setgroups: true }
                }
            },
            root: Root::Trees(mounts.collect()),
            uid,
            gid,
            capabilities,
            fds: fds.with_boot(&boot),
            image,
        };
        Ok(role.begin()?)
    }

    /// Whether the root's files stay as they are, because something else takes the writes or none are allowed.
    fn root_is_kept(&self) -> bool {
        self.root.read_only || self.config.root_overlay == RootOverlay::Memory
    }

    fn begin_netstack(&self, ids: &Ids, image: &Image, null: &OwnedFd, sockets: &Sockets) -> Result<RoleStart, LaunchError> {
        let mut fds = FdList::new(null, &self.log);
        let channel = fds.add(&sockets.netstack.1);
        let boot = boot_file::make(&NetstackBoot { channel })?;
        let (uids, gids) = ids.netstack_maps();
        let role = Role {
            name: "netstack",
            arguments: arguments("netstack", &self.container_id),
            namespaces: Namespaces::all(),
            user: UserNamespace::AtBirth { uids, gids, deny_setgroups: self.privilege != Privilege::Root },
            root: Root::Empty,
            uid: NETSTACK_ID,
            gid: NETSTACK_ID,
            capabilities: Capabilities::empty(),
            fds: fds.with_boot(&boot),
            image,
        };
        Ok(role.begin()?)
    }
}

fn arguments(verb: &str, id: &str) -> Vec<CString> {
    // An id holds no NUL, it was checked as a name; without it the process is only harder to recognise.
    ["runsc", verb, id].into_iter().filter_map(|argument| CString::new(argument).ok()).collect()
}

/// Descriptors of a role in the order of their final numbers: null, null, log, boot message, then the role's own.
struct FdList<'a> {
    head: [BorrowedFd<'a>; 3],
    own: Vec<BorrowedFd<'a>>,
}

impl<'a> FdList<'a> {
    fn new(null: &'a OwnedFd, log: &'a OwnedFd) -> Self {
        Self { head: [null.as_fd(), null.as_fd(), log.as_fd()], own: Vec::new() }
    }

    /// The number that `fd` will have.
    fn add(&mut self, fd: &'a OwnedFd) -> i32 {
        self.own.push(fd.as_fd());
        runsc_control::BOOT_FD + self.own.len() as i32
    }

    fn with_boot(self, boot: &'a OwnedFd) -> Vec<BorrowedFd<'a>> {
        self.head.into_iter().chain([boot.as_fd()]).chain(self.own).collect()
    }
}

/// The path of an open file or terminal, for the guest's /proc/self/fd; empty for pipes, sockets and the like, which are numbered inside.
fn path_of(fd: &OwnedFd) -> Vec<u8> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map(|path| path.into_os_string().into_vec());
    link.ok().filter(|path| path.starts_with(b"/") && path.len() < 4096).unwrap_or_default()
}
