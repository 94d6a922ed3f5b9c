//! ioctl(2): what is the same for all files; the rest is the file's own.

use sentry_abi::{Errno, FileKind, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::{FileDescription, StatusFlags};

const FIBMAP: u32 = 1;
const FIGETBSZ: u32 = 2;
const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOASYNC: u32 = 0x5452;
const FIOQSIZE: u32 = 0x5460;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;
const FIDEDUPERANGE: u32 = 0xc018_9436;
const FS_IOC_FIEMAP: u32 = 0xc020_660b;
const FIFREEZE: u32 = 0xc004_5877;
const FITHAW: u32 = 0xc004_5878;

/// [ioctl(2)](https://man7.org/linux/man-pages/man2/ioctl.2.html).
pub fn ioctl(task: &mut CurrentTask, fd: i32, request: u32, arg: u64) -> SysResult {
    let file = task.file(fd)?;
    let at = UserAddr(arg);
    match request {
        FIOCLEX => task.files().set_close_on_exec(fd, true)?,
        FIONCLEX => task.files().set_close_on_exec(fd, false)?,
        FIONBIO => {
            let on: i32 = task.mm().read_obj(at)?;
            switch(&file, StatusFlags::NONBLOCK, on != 0);
        }
        FIOASYNC => {
            let on: i32 = task.mm().read_obj(at)?;
            switch(&file, StatusFlags::ASYNC, on != 0);
        }
        FIOQSIZE => match file.path.inode().kind() {
            FileKind::Regular | FileKind::Directory | FileKind::Symlink => task.mm().write_obj(at, &file.attr()?.size)?,
            _ => return Err(Errno::ENOTTY.into()),
        },
        FIGETBSZ => task.mm().write_obj(at, &file.attr()?.blksize)?,
        FICLONE | FICLONERANGE | FIDEDUPERANGE | FS_IOC_FIEMAP => return Err(Errno::EOPNOTSUPP.into()),
        FIFREEZE | FITHAW => return Err(Errno::EPERM.into()),
        FIBMAP if is_plain(&file) => return Err(Errno::EINVAL.into()),
        FIONREAD if is_plain(&file) => {
            let size = file.attr()?.size as i64;
            let left = size.wrapping_sub(*file.offset.lock() as i64);
            task.mm().write_obj(at, &(left as i32))?;
        }
        _ => return file.ops.ioctl(task, request, arg).map_err(Into::into),
    }
    Ok(0)
}

/// A regular file of a file system, not an anonymous one.
fn is_plain(file: &FileDescription) -> bool {
    file.path.inode().kind() == FileKind::Regular && file.ops.seek_kind() == sentry_vfs::Seek::Offset
}

fn switch(file: &FileDescription, flag: StatusFlags, on: bool) {
    let mut flags = file.status();
    flags.set(flag, on);
    file.set_status(flags);
}
