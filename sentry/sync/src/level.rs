//! The lock order: this enum *is* the order. A lock may be taken while holding only locks of lower levels.

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Boot and control state.
    Control = 0,
    /// What parents and children learn of each other: an end or a stop is seen by wait(2) and told by SIGCHLD as one step; processes are made
    /// and signals to many processes are sent one after the other (Linux's `tasklist_lock`).
    Lineage = 5,
    /// Process tree: parents, children, sessions, process groups, pid tables.
    ProcessTree = 10,
    /// A process's interval and POSIX timers.
    ProcessTimers = 15,
    /// One thread group's state.
    ThreadGroup = 20,
    /// One task's state.
    Task = 30,
    /// Signal queues and handlers.
    Signal = 40,
    FdTable = 50,
    /// Working directory, root, umask.
    FsContext = 55,
    /// Mount table of a namespace.
    Mounts = 60,
    /// rename(2) across directories: serialises tree surgery of one file system.
    Rename = 65,
    /// A directory's cached children.
    Dentry = 70,
    /// The offset of an open file; held over the read or write it belongs to.
    FileOffset = 75,
    /// A directory or file of a stacking file system (overlay), above the inodes it stacks.
    Overlay = 80,
    Inode = 90,
    /// Second inode in an operation on two (parent before child).
    InodeChild = 91,
    /// Advisory locks and watches of an inode.
    InodeState = 95,
    /// The VMA tree of an address space.
    Mm = 100,
    Socket = 110,
    /// The other end of a socket or terminal pair.
    SocketPeer = 111,
    Pipe = 115,
    Tty = 120,
    Epoll = 130,
    Timer = 140,
    /// Host-backed memory files.
    Memory = 150,
    WaitQueue = 160,
    /// A platform's order channel to its zygote; held while the zygote works, like a turn in a queue.
    PlatformZygote = 170,
    /// Who is who by host thread id.
    PlatformTable = 180,
    /// Life of a host process, its threads and slots.
    PlatformProcess = 185,
    /// What one stub thread may do.
    PlatformStub = 190,
    /// Takes no other lock while held.
    Leaf = 200,
}
