//! Boot messages as sealed memfds.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use sentry_ipc::codec;
use serde::Serialize;

use crate::{LaunchError, host};

pub(crate) fn make<T: Serialize>(message: &T) -> Result<OwnedFd, LaunchError> {
    let bytes = codec::encode_document(message).map_err(|error| LaunchError::Boot(error.to_string()))?;
    let memfd = memfd_create("boot", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(|e| host("make a boot message")(e.into()))?;
    let mut file = File::from(memfd);
    file.write_all(&bytes).map_err(host("write a boot message"))?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)
        .map_err(|e| host("seal a boot message")(e.into()))?;
    Ok(file.into())
}
