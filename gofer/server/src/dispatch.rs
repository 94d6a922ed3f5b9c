//! Pairs calls with handlers.

use std::os::fd::OwnedFd;

use gofer_proto::{
    Attach, Close, Create, GetXattr, HostError, Link, ListDirs, ListXattr, MemoryFiles, Mkdir, Mknod, Open, Outcome, PROTOCOL, ReadDir,
    RemoveXattr, Rename, Rmdir, SetAttr, SetXattr, Stat, StatFs, Symlink, SyncDir, Unlink, Walk,
};
use sentry_abi::Result;
use sentry_ipc::{Answer, Call, IpcError, Request, Server};

use crate::Gofer;

impl Gofer {
    /// Answers calls on one channel until its peer closes it (`Ok`) or breaks the protocol.
    pub fn serve_channel(&self, socket: OwnedFd) -> Result<(), IpcError> {
        Server::new(socket).serve(PROTOCOL, |request| self.handle(request))
    }

    fn handle(&self, request: Request) -> Result<Answer, IpcError> {
        match request.tag() {
            Attach::TAG => plain(request, |call| self.attach(call)),
            Walk::TAG => with_file(request, |call| self.walk(call)),
            Open::TAG => with_file(request, |call| Ok(((), Some(self.open(call)?)))),
            Stat::TAG => plain(request, |call| self.stat(call)),
            ListDirs::TAG => plain(request, |call| self.list_dirs(call)),
            ReadDir::TAG => plain(request, |call| self.read_dir(call)),
            Create::TAG => with_file(request, |call| self.create(call).map(|(node, file)| (node, Some(file)))),
            Mkdir::TAG => plain(request, |call| self.mkdir(call)),
            Symlink::TAG => plain(request, |call| self.symlink(call)),
            Mknod::TAG => plain(request, |call| self.mknod(call)),
            Link::TAG => plain(request, |call| self.link(call)),
            Unlink::TAG => plain(request, |call| self.unlink(call)),
            Rmdir::TAG => plain(request, |call| self.rmdir(call)),
            Rename::TAG => plain(request, |call| self.rename(call)),
            SetAttr::TAG => plain(request, |call| self.set_attr(call)),
            StatFs::TAG => plain(request, |call| self.stat_fs(call)),
            GetXattr::TAG => plain(request, |call| self.get_xattr(call)),
            ListXattr::TAG => plain(request, |call| self.list_xattr(call)),
            SetXattr::TAG => plain(request, |call| self.set_xattr(call)),
            RemoveXattr::TAG => plain(request, |call| self.remove_xattr(call)),
            SyncDir::TAG => plain(request, |call| self.sync_dir(call)),
            Close::TAG => plain(request, |call| self.close(call)),
            MemoryFiles::TAG => request.answer_with_fds::<MemoryFiles>(|call, _| match self.memory_files(&call) {
                Ok(files) => (Ok(()), files),
                Err(errno) => (Err(errno.into()), Vec::new()),
            }),
            _ => Err(request.unknown()),
        }
    }
}

/// Descriptors that came with a call are closed: no call has any.
fn plain<C, T>(request: Request, handler: impl FnOnce(&C) -> Result<T>) -> Result<Answer, IpcError>
where
    C: Call<Reply = Outcome<T>>,
{
    request.answer::<C>(|call, _| handler(&call).map_err(HostError::from))
}

fn with_file<C, T>(request: Request, handler: impl FnOnce(&C) -> Result<(T, Option<OwnedFd>)>) -> Result<Answer, IpcError>
where
    C: Call<Reply = Outcome<T>>,
{
    request.answer_with_fds::<C>(|call, _| match handler(&call) {
        Ok((reply, file)) => (Ok(reply), file.into_iter().collect()),
        Err(errno) => (Err(errno.into()), Vec::new()),
    })
}
