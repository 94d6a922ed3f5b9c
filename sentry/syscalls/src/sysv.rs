//! System V shared memory, semaphores and message queues: sysvipc(7).

pub mod ids;
pub mod msg;
pub mod sem;
pub mod shm;

pub use ids::IpcTable;

/// All objects of one IPC namespace.
pub struct SysV {
    pub segments: IpcTable<shm::Segment>,
    pub semaphores: IpcTable<sem::SemaphoreSet>,
    pub queues: IpcTable<msg::MessageQueue>,
}

impl Default for SysV {
    fn default() -> SysV {
        SysV { segments: IpcTable::new(4096), semaphores: IpcTable::new(32_000), queues: IpcTable::new(32_000) }
    }
}

impl SysV {
    /// A process has ended: what semop(2) promised to undo.
    pub fn process_ended(&self, pid: i32) {
        for (_, set) in self.semaphores.list() {
            set.process_ended(pid);
        }
    }
}
