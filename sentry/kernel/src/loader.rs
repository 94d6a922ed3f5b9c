//! Loading programs: ELF images and scripts into a fresh address space. execve(2), fs/binfmt_elf.c, fs/binfmt_script.c.

mod elf;
mod script;
mod stack;

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result};
use sentry_auth::{Access, may_access_attr};
use sentry_mm::Mm;
use sentry_platform::GuestThread;
use sentry_vfs::{Caller, DenyWrite, FileDescription, FsContext, MountFlags, OpenFlags, Path, open_path};

pub use stack::{StackContents, check_strings};

/// Interpreters of interpreters that are followed before `ELOOP`.
const MAX_SCRIPTS: u32 = 5;
/// Bytes of a file that decide what it is (BINPRM_BUF_SIZE).
const HEAD: usize = 256;

/// A program that has been found and may be executed, but is not loaded yet.
pub struct Program {
    file: Arc<FileDescription>,
    image: elf::Image,
    interpreter: Option<(Arc<FileDescription>, elf::Image)>,
    /// Arguments after the substitutions of scripts.
    pub argv: Vec<Vec<u8>>,
    /// AT_EXECFN: the name given to execve.
    pub name: Vec<u8>,
    /// The file whose owner and mode decide credentials; the interpreter's in the case of a script.
    pub path: Path,
    /// While the program runs, nobody writes it.
    deny: DenyWrite,
    /// From where the names of mapped files are seen.
    root: Path,
    /// /proc/pid/comm.
    pub comm: Vec<u8>,
}

/// What an address space keeps of the file it was loaded from (`Mm::exe`).
pub struct Executable {
    pub path: Path,
    _deny: DenyWrite,
}

/// Where a loaded program begins.
pub struct Entry {
    pub rip: u64,
    pub rsp: u64,
}

/// What the auxiliary vector says of the process.
pub struct AuxIds {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    pub secure: bool,
    pub cpu: crate::cpu::Features,
}

/// Opens `path` for execution: regular, executable, on a mount that allows it. `EACCES`, `ENOENT` ….
pub fn open_program(cx: &FsContext, caller: &dyn Caller, path: &Path) -> Result<Arc<FileDescription>> {
    let attr = path.inode().attr()?;
    if attr.kind != FileKind::Regular || path.mount.flags().contains(MountFlags::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    may_access_attr(&cx.credentials, attr.kind, attr.mode, attr.uid, attr.gid, Access::EXEC)?;
    // Execution needs no right to read; the kernel reads for it.
    let mut reader = cx.clone();
    let mut credentials = (*cx.credentials).clone();
    credentials.effective |= sentry_auth::Caps::DAC_OVERRIDE;
    reader.credentials = Arc::new(credentials);
    open_path(&reader, caller, path, OpenFlags::empty())
}

/// May the caller execute the program, or the interpreter it names, but not read it? Then nobody may look into the process (would_dump()).
pub fn is_unreadable(cx: &FsContext, program: &Program) -> Result<bool> {
    let files = std::iter::once(&program.file).chain(program.interpreter.as_ref().map(|(file, _)| file));
    for file in files {
        let attr = file.path.inode().attr()?;
        if may_access_attr(&cx.credentials, attr.kind, attr.mode, attr.uid, attr.gid, Access::READ).is_err() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds out what `file` is, following scripts, and reads its headers. Nothing of the caller changes.
/// `name` is the path as given; `argv` the arguments.
pub fn prepare(cx: &FsContext, caller: &dyn Caller, file: Arc<FileDescription>, name: &[u8], argv: Vec<Vec<u8>>) -> Result<Program> {
    let mut file = file;
    let mut argv = argv;
    let mut name = name.to_vec();
    let comm = name.rsplit(|b| *b == b'/').next().unwrap_or(&name).to_vec();
    for _ in 0..=MAX_SCRIPTS {
        let deny = DenyWrite::take(file.path.inode())?;
        let head = read_head(caller, &file)?;
        if let Some(line) = script::parse(&head)? {
            argv = line.arguments(&name, argv);
            name = line.interpreter.clone();
            let path = sentry_vfs::resolve(cx, &cx.cwd, &line.interpreter, sentry_vfs::Follow::Yes, sentry_vfs::Walk::empty())?;
            file = open_program(cx, caller, &path)?;
            continue;
        }
        let image = elf::Image::read(caller, &file)?;
        let interpreter = match image.interpreter(caller, &file)? {
            None => None,
            Some(path) => {
                let path = sentry_vfs::resolve(cx, &cx.cwd, &path, sentry_vfs::Follow::Yes, sentry_vfs::Walk::empty())?;
                let interpreter = open_program(cx, caller, &path)?;
                let _deny = DenyWrite::take(path.inode())?;
                let image = elf::Image::read(caller, &interpreter).map_err(|e| if e == Errno::ENOEXEC { Errno::ELIBBAD } else { e })?;
                Some((interpreter, image))
            }
        };
        let path = file.path.clone();
        return Ok(Program { file, image, interpreter, argv, name, path, deny, root: cx.root.clone(), comm });
    }
    Err(Errno::ELOOP)
}

impl Program {
    /// Maps the program into `mm` and builds its stack.
    pub fn load(self, mm: &Arc<Mm>, thread: &mut dyn GuestThread, env: &[Vec<u8>], ids: &AuxIds) -> Result<Entry> {
        let loaded = self.image.map(mm, thread, &self.file, &self.root, self.interpreter.is_some())?;
        let mut rip = loaded.entry;
        let mut interpreter_base = 0;
        if let Some((file, image)) = &self.interpreter {
            let interpreter = image.map_interpreter(mm, thread, file, &self.root)?;
            rip = interpreter.entry;
            interpreter_base = interpreter.base;
        }
        mm.set_brk_base(loaded.end);
        let prot = self.image.stack_prot();
        let contents = StackContents { argv: &self.argv, env, name: &self.name, ids, loaded: &loaded, interpreter_base };
        let rsp = stack::build(mm, thread, prot, &contents)?;
        mm.set_exe(Arc::new(Executable { path: self.path, _deny: self.deny }));
        Ok(Entry { rip, rsp })
    }
}

fn read_head(caller: &dyn Caller, file: &FileDescription) -> Result<Vec<u8>> {
    let mut head = vec![0u8; HEAD];
    let n = read_full(caller, file, 0, &mut head)?;
    head.truncate(n);
    Ok(head)
}

/// Reads until the buffer is full or the file ends.
fn read_full(caller: &dyn Caller, file: &FileDescription, offset: u64, dst: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < dst.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::ENOEXEC)?;
        match file.ops.read(caller, at, &mut dst[done..])? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}
