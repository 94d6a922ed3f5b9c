//! Standard input and output of a container, and terminals.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, bail};
use runsc_control::ConsoleSize;
use runsc_launch::Console;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Our own standard descriptors. A directory among them becomes /dev/null: a descriptor of one leads anywhere.
pub(crate) fn inherited() -> anyhow::Result<Console> {
    let copy = |fd: io::Result<OwnedFd>| -> anyhow::Result<OwnedFd> {
        let usable =
            fd.ok().filter(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory));
        match usable {
            Some(fd) => Ok(fd),
            None => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context("/dev/null"),
        }
    };
    Ok(Console::Stdio([
        copy(rustix::stdio::stdin().try_clone_to_owned())?,
        copy(rustix::stdio::stdout().try_clone_to_owned())?,
        copy(rustix::stdio::stderr().try_clone_to_owned())?,
    ]))
}

/// Whether standard input, output and error are one and the same terminal: then a command gets one of its own in its place. Where some go
/// elsewhere, as in a pipeline, others share the terminal and raw mode would disturb them.
pub(crate) fn is_one_terminal() -> bool {
    let device = |fd: BorrowedFd<'_>| isatty(fd).then(|| rustix::fs::fstat(fd).ok().map(|stat| stat.st_rdev)).flatten();
    let stdin = device(rustix::stdio::stdin());
    stdin.is_some() && stdin == device(rustix::stdio::stdout()) && stdin == device(rustix::stdio::stderr())
}

/// Makes a terminal, sends its master to whoever listens at `socket`, and returns the other side, raw.
pub(crate) fn sent_to(socket: &Path, size: Option<ConsoleSize>) -> anyhow::Result<Console> {
    let (master, slave) = open_pty().context("make a terminal")?;
    if let Some(size) = size {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).context("set the terminal's size")?;
    }
    send(socket, &master).with_context(|| format!("console socket {}", socket.display()))?;
    Ok(Console::Terminal(slave))
}

fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut modes = tcgetattr(&slave)?;
    modes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    Ok((master, slave))
}

/// One byte with the descriptor, to a stream socket, as runc does.
fn send(path: &Path, master: &OwnedFd) -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    rustix::net::sendmsg(&socket, &[IoSlice::new(b"/dev/console")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Our own terminal, in raw mode while this lives, for a container that has one of its own.
pub(crate) struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Fails when standard input is none.
    pub fn enter() -> anyhow::Result<(Self, Console)> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            bail!("the container wants a terminal, but standard input is none and no --console-socket is given");
        }
        let terminal = stdin.try_clone_to_owned().context("copy standard input")?;
        let before = tcgetattr(&terminal).context("read the terminal's modes")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw).context("set the terminal's modes")?;
        let console = Console::Terminal(terminal.try_clone().context("copy the terminal")?);
        Ok((Self { terminal, before }, console))
    }

    pub fn size(&self) -> Option<ConsoleSize> {
        tcgetwinsize(&self.terminal).ok().map(|size| ConsoleSize { rows: size.ws_row, columns: size.ws_col })
    }

    /// Gives the terminal back as it was.
    pub fn restore(&self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}
