use std::sync::Arc;

use sentry_abi::stat::make_dev;
use sentry_abi::{Errno, FileKind, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_memory::MemfdSource;
use sentry_platform::Prot;
use sentry_vfs::{Caller, FileDescription, FileOps, FileSystem, Inode, JobControl, OpenHow};

use crate::{Console, DeviceClass, Devices, populate};

struct Nobody;

impl Caller for Nobody {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::new(0, 0, &[], Caps::empty()))
    }
    fn pid(&self) -> i32 {
        1
    }
    fn copy_in(&self, _: UserAddr, _: &mut [u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }
    fn copy_out(&self, _: UserAddr, _: &[u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }
    fn signal_self(&self, _: Signal) {}
    fn job_control(&self) -> &dyn JobControl {
        unreachable!("not a terminal")
    }
    fn now(&self) -> Timespec {
        Timespec::default()
    }
    fn install_file(&self, _: Arc<FileDescription>, _: bool) -> Result<i32> {
        Err(Errno::EMFILE)
    }
}

const HOW: OpenHow = OpenHow { read: true, write: true, truncated: false, nonblocking: false };

fn dev() -> Arc<dyn Inode> {
    let clock = Arc::new(Timespec::default);
    let fs = TmpFs::new(TmpFsOptions::default(), 5, Arc::new(MemfdSource), clock).expect("tmpfs");
    let root = fs.root();
    populate(&root, Console::Absent).expect("populates");
    populate(&root, Console::Absent).expect("a second time too");
    root
}

fn open(root: &Arc<dyn Inode>, name: &str) -> Arc<dyn FileOps> {
    let inode = root.lookup(name.as_bytes()).expect("is there");
    // As vfs does: first the inode itself, then the number.
    assert_eq!(inode.clone().open(&HOW, &Nobody).err(), Some(Errno::ENXIO));
    let attr = inode.attr().expect("attr");
    Devices::with_memory_devices().open(&inode, attr.kind, attr.rdev, &HOW, &Nobody).expect(name)
}

#[test]
fn devices_do_what_their_pages_say() {
    let root = dev();
    let check = |name: &str, read: Result<usize>, write: Result<usize>| {
        let file = open(&root, name);
        assert_eq!((file.read(&Nobody, 0, &mut [7; 16]), file.write(&Nobody, 0, b"abc")), (read, write), "{name}");
    };
    check("null", Ok(0), Ok(3));
    check("zero", Ok(16), Ok(3));
    check("full", Ok(16), Err(Errno::ENOSPC));
    check("random", Ok(16), Ok(3));
    let mut bytes = [7; 16];
    open(&root, "zero").read(&Nobody, 0, &mut bytes).expect("reads");
    assert_eq!(bytes, [0; 16]);
    let mut big = vec![0; (1 << 20) + 5];
    assert_eq!(open(&root, "urandom").read(&Nobody, 0, &mut big), Ok(1 << 20));
    assert!(big.chunks(64).take(1000).all(|c| c.iter().any(|&b| b != 0)));
}

#[test]
fn zero_is_mapped_as_fresh_memory() {
    let root = dev();
    let zero = open(&root, "zero");
    let (a, b) = (zero.mapping(true).expect("maps"), zero.mapping(true).expect("maps"));
    assert_eq!(a.max_prot, Prot::all());
    assert_ne!(rustix::fs::fstat(&a.fd).expect("stat").st_ino, rustix::fs::fstat(&b.fd).expect("stat").st_ino);
    assert_eq!(open(&root, "null").mapping(false).err(), Some(Errno::ENODEV));
}

#[test]
fn unknown_numbers_are_nothing() {
    let root = dev();
    let inode = root.lookup(b"null").expect("is there");
    let devices = Devices::with_memory_devices();
    let check = |kind, rdev| assert_eq!(devices.open(&inode, kind, rdev, &HOW, &Nobody).err(), Some(Errno::ENXIO), "{kind:?} {rdev:x}");
    check(FileKind::CharDevice, make_dev(1, 4));
    check(FileKind::CharDevice, make_dev(4, 3));
    check(FileKind::BlockDevice, make_dev(1, 3));
    check(FileKind::Regular, make_dev(1, 3));
    assert_eq!(devices.majors(DeviceClass::Character), [(1, "mem")]);
    assert_eq!(root.lookup(b"fd").expect("link").read_link().expect("target"), b"/proc/self/fd");
    assert_eq!(root.lookup(b"shm").expect("dir").attr().expect("attr").mode.0, 0o1777);
}
