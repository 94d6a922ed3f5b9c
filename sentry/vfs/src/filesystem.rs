//! A mounted file system as a whole.

use std::sync::Arc;

use sentry_abi::Result;
use sentry_abi::stat::StatFs;

use crate::inode::Inode;

pub trait FileSystem: Send + Sync + 'static {
    /// As /proc/mounts names it: "tmpfs", "overlay".
    fn name(&self) -> &'static str;
    /// Device number of its files (`st_dev`).
    fn device(&self) -> u64;
    fn root(&self) -> Arc<dyn Inode>;
    fn stat_fs(&self) -> Result<StatFs>;

    /// File-system specific options as /proc/mounts shows them, without a leading comma.
    fn show_options(&self) -> String {
        String::new()
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Names are compared as bytes everywhere; a file system whose files can vanish behind our back says so, and dentries are not kept long.
    fn is_shared(&self) -> bool {
        false
    }
}
