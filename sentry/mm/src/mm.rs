//! [`Mm`]: one guest address space.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::{UserAddr, UserRange};
use sentry_memory::{FileSource, Mapping};
use sentry_platform::{AddressSpace, Vdso};
use sentry_sync::{Level, Parker, RwLock};

use crate::direct::DirectRequests;
use crate::exec::ExecLayout;
use crate::layout::{Layout, Randomize};
use crate::limits::Limits;
use crate::ticket::Operation;
use crate::vma::{Vma, VmaFlags, VmaName};
use crate::vma_set::VmaSet;

/// What an address space is made with.
#[derive(Clone)]
pub struct MmConfig {
    /// From [`sentry_platform::Platform::guest_range`]. Its end is the guest's TASK_SIZE.
    pub guest_range: UserRange,
    /// From [`sentry_platform::Platform::vdso`].
    pub vdso: Option<Vdso>,
    /// Where shared anonymous memory comes from.
    pub file_source: Arc<dyn FileSource>,
    pub limits: Limits,
    pub randomize: Randomize,
}

/// One guest address space.
pub struct Mm {
    pub(crate) space: Arc<dyn AddressSpace>,
    pub(crate) guest: UserRange,
    pub(crate) vdso: Option<Vdso>,
    pub(crate) file_source: Arc<dyn FileSource>,
    pub(crate) layout: Layout,
    pub(crate) tree: RwLock<Tree>,
    dumpable: AtomicU64,
}

/// What the lock of an [`Mm`] guards.
pub(crate) struct Tree {
    pub vmas: VmaSet,
    pub limits: Limits,
    pub exec: ExecLayout,
    pub exe: Option<Arc<dyn Any + Send + Sync>>,
    /// The operation ticket is taken.
    pub busy: bool,
    /// Threads that wait for the ticket.
    pub waiting: VecDeque<Arc<Parker>>,
    /// mlockall(MCL_FUTURE): flags of new mappings.
    pub future_lock: VmaFlags,
    /// Files of ranges that direct requests have unmapped: the next operation lets them go, for which a file may do anything.
    pub left: Vec<Mapping>,
}

impl Mm {
    /// An empty address space over `space`, which from now on asks it about direct memory requests.
    pub fn new(space: Arc<dyn AddressSpace>, config: MmConfig) -> Arc<Mm> {
        let layout = Layout::new(config.guest_range, &config.limits, config.randomize);
        let mut vmas = VmaSet::new(config.guest_range);
        if let Some(vdso) = config.vdso {
            // Most platforms keep it above the guest's range: then it is only shown.
            for vma in special_vmas(vdso).into_iter().filter(|v| config.guest_range.contains(v.start)) {
                vmas.insert(vma);
            }
        }
        let tree = Tree {
            vmas,
            limits: config.limits,
            exec: ExecLayout::default(),
            exe: None,
            busy: false,
            waiting: VecDeque::new(),
            future_lock: VmaFlags::empty(),
            left: Vec::new(),
        };
        Mm::build(space, config.guest_range, config.vdso, config.file_source, layout, tree, 1)
    }

    fn build(
        space: Arc<dyn AddressSpace>,
        guest: UserRange,
        vdso: Option<Vdso>,
        file_source: Arc<dyn FileSource>,
        layout: Layout,
        tree: Tree,
        dumpable: u64,
    ) -> Arc<Mm> {
        let mm = Arc::new(Mm {
            space: space.clone(),
            guest,
            vdso,
            file_source,
            layout,
            tree: RwLock::new(Level::Mm, tree),
            dumpable: AtomicU64::new(dumpable),
        });
        space.set_memory_requests(Arc::new(DirectRequests::new(&mm)));
        mm
    }

    /// The child's address space after fork: the caller holds the ticket `operation` since before `thread.spawn(Fork)`, and `child_space` is the
    /// copy that spawn made. Honours MADV_DONTFORK and MADV_WIPEONFORK (the host already did); locks are not inherited.
    pub fn fork(&self, operation: &Operation<'_>, child_space: Arc<dyn AddressSpace>) -> Arc<Mm> {
        debug_assert!(operation.is_of(self), "ticket of another address space");
        let tree = {
            let parent = self.tree.read();
            let mut vmas = VmaSet::new(self.guest);
            for vma in parent.vmas.iter().filter(|v| !v.flags.contains(VmaFlags::DONTFORK)) {
                let mut vma = vma.clone();
                vma.flags -= VmaFlags::LOCKED | VmaFlags::LOCKONFAULT;
                vmas.insert_merging(vma);
            }
            Tree {
                vmas,
                limits: parent.limits,
                exec: parent.exec.clone(),
                exe: parent.exe.clone(),
                busy: false,
                waiting: VecDeque::new(),
                future_lock: VmaFlags::empty(),
                left: Vec::new(),
            }
        };
        let dumpable = self.dumpable.load(Ordering::Relaxed);
        Mm::build(child_space, self.guest, self.vdso, self.file_source.clone(), self.layout.clone(), tree, dumpable)
    }

    /// Identity, never reused.
    pub fn id(&self) -> u64 {
        self.space.id().0
    }

    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Addresses that the guest may use; its end is TASK_SIZE.
    pub fn guest_range(&self) -> UserRange {
        self.guest
    }

    /// For AT_SYSINFO_EHDR.
    pub fn vdso_header(&self) -> Option<UserAddr> {
        self.vdso.map(|v| v.header)
    }

    pub fn limits(&self) -> Limits {
        self.tree.read().limits
    }

    pub fn set_limits(&self, limits: Limits) {
        self.tree.write().limits = limits;
    }

    /// Has the caller CAP_IPC_LOCK? Said before each call that may lock memory.
    pub fn set_may_lock_any(&self, may: bool) {
        let mut tree = self.tree.write();
        tree.limits.may_lock_any = may;
    }

    /// PR_GET_DUMPABLE: 0, 1 or 2.
    pub fn dumpable(&self) -> u64 {
        self.dumpable.load(Ordering::Relaxed)
    }

    pub fn set_dumpable(&self, value: u64) {
        self.dumpable.store(value, Ordering::Relaxed);
    }

    /// The executable, as the kernel gave it to [`Mm::set_exe`]; the kernel knows its type.
    pub fn exe(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.tree.read().exe.clone()
    }

    pub fn set_exe(&self, exe: Arc<dyn Any + Send + Sync>) {
        let old = self.tree.write().exe.replace(exe);
        drop(old);
    }

    /// The addresses that exec recorded, for /proc and prctl(PR_SET_MM).
    pub fn exec_layout(&self) -> ExecLayout {
        self.tree.read().exec.clone()
    }

    /// Changes them in one step.
    pub fn update_exec_layout(&self, change: impl FnOnce(&mut ExecLayout)) {
        change(&mut self.tree.write().exec);
    }

    /// A copy of the ranges, in order of address, as /proc may show them.
    pub fn snapshot(&self) -> Vec<Vma> {
        self.tree.read().vmas.iter().cloned().collect()
    }
}

/// vvar and vdso as ranges that the guest sees and cannot change.
pub(crate) fn special_vmas(vdso: Vdso) -> Vec<Vma> {
    use sentry_platform::Prot;
    let parts = [
        (UserRange::from_bounds(vdso.range.start(), vdso.header.0), Prot::READ, VmaName::Vvar),
        (UserRange::from_bounds(vdso.header.0, vdso.range.end()), Prot::READ | Prot::EXEC, VmaName::Vdso),
    ];
    parts
        .into_iter()
        .filter_map(|(range, prot, name)| {
            let range = range.filter(|r| !r.is_empty())?;
            let mut vma = Vma::anonymous(range, prot, VmaFlags::SPECIAL);
            vma.max_prot = prot;
            vma.name = name;
            Some(vma)
        })
        .collect()
}
