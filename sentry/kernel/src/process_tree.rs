//! Who is whose child, process groups, sessions, and the numbers in use. credentials(7).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, Mutex, MutexGuard};

use crate::task::Task;
use crate::thread_group::ThreadGroup;

/// Process ids end here, as `/proc/sys/kernel/pid_max` says.
pub const PID_MAX: i32 = 32768;

struct Node {
    group: Arc<ThreadGroup>,
    parent: i32,
    children: BTreeSet<i32>,
    process_group: i32,
    session: i32,
}

#[derive(Default)]
struct Tree {
    last: i32,
    tasks: BTreeMap<i32, Arc<Task>>,
    groups: BTreeMap<i32, Node>,
    /// Session id → key of its controlling terminal.
    terminals: HashMap<i32, u64>,
}

/// All processes of the sandbox. Ids are those of its one pid namespace.
pub struct ProcessTree {
    tree: Mutex<Tree>,
    lineage: Mutex<()>,
}

/// See [`ProcessTree::lineage`].
pub type Lineage<'a> = MutexGuard<'a, ()>;

impl Default for ProcessTree {
    fn default() -> ProcessTree {
        ProcessTree { tree: Mutex::new(Level::ProcessTree, Tree::default()), lineage: Mutex::new(Level::Lineage, ()) }
    }
}

impl Tree {
    fn in_use(&self, id: i32) -> bool {
        self.tasks.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.groups.values().any(|n| n.process_group == id || n.session == id)
    }
}

impl ProcessTree {
    /// Held over a change of a process that its parent sees in two ways (wait and signal), over making a process, and over a signal to many.
    pub fn lineage(&self) -> Lineage<'_> {
        self.lineage.lock()
    }

    /// The next free number; `EAGAIN` when there is none.
    pub fn allocate(&self) -> Result<i32> {
        let mut tree = self.tree.lock();
        let mut id = tree.last;
        for _ in 0..PID_MAX {
            // As Linux, numbers below 300 are not used again after a wrap.
            id = if id + 1 >= PID_MAX { 300 } else { id + 1 };
            if !tree.in_use(id) {
                tree.last = id;
                return Ok(id);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// A new process: child of `parent` (0 for the first), in its group and session.
    pub fn add_process(&self, group: Arc<ThreadGroup>, task: Arc<Task>, parent: i32) {
        let mut tree = self.tree.lock();
        let (process_group, session) = match tree.groups.get_mut(&parent) {
            Some(node) => {
                node.children.insert(group.id);
                (node.process_group, node.session)
            }
            None => (group.id, group.id),
        };
        tree.tasks.insert(task.tid(), task);
        tree.groups.insert(group.id, Node { group, parent, children: BTreeSet::new(), process_group, session });
    }

    pub fn add_thread(&self, task: Arc<Task>) {
        self.tree.lock().tasks.insert(task.tid(), task);
    }

    pub fn remove_task(&self, task: &Arc<Task>) {
        let mut tree = self.tree.lock();
        let tid = task.tid();
        // execve(2) may have given the number to another one.
        let old = if tree.tasks.get(&tid).is_some_and(|t| Arc::ptr_eq(t, task)) { tree.tasks.remove(&tid) } else { None };
        drop(tree);
        drop(old);
    }

    /// execve(2) by a thread that is not the leader: it takes over the leader's number.
    pub fn rename_task(&self, task: &Arc<Task>, from: i32, to: i32) {
        let mut tree = self.tree.lock();
        tree.tasks.remove(&from);
        let old = tree.tasks.insert(to, task.clone());
        drop(tree);
        drop(old);
    }

    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.tree.lock().tasks.get(&tid).cloned()
    }

    pub fn group(&self, id: i32) -> Option<Arc<ThreadGroup>> {
        self.tree.lock().groups.get(&id).map(|n| n.group.clone())
    }

    /// All processes, zombies included.
    pub fn groups(&self) -> Vec<Arc<ThreadGroup>> {
        self.tree.lock().groups.values().map(|n| n.group.clone()).collect()
    }

    pub fn task_count(&self) -> usize {
        self.tree.lock().tasks.len()
    }

    pub fn parent(&self, id: i32) -> i32 {
        self.tree.lock().groups.get(&id).map_or(0, |n| n.parent)
    }

    pub fn children(&self, id: i32) -> Vec<Arc<ThreadGroup>> {
        let tree = self.tree.lock();
        let Some(node) = tree.groups.get(&id) else { return Vec::new() };
        node.children.iter().filter_map(|c| tree.groups.get(c)).map(|n| n.group.clone()).collect()
    }

    pub fn is_child(&self, id: i32, parent: i32) -> bool {
        self.tree.lock().groups.get(&id).is_some_and(|n| n.parent == parent)
    }

    pub fn process_group(&self, id: i32) -> Option<i32> {
        self.tree.lock().groups.get(&id).map(|n| n.process_group)
    }

    pub fn session(&self, id: i32) -> Option<i32> {
        self.tree.lock().groups.get(&id).map(|n| n.session)
    }

    /// The members of a process group.
    pub fn members(&self, process_group: i32) -> Vec<Arc<ThreadGroup>> {
        self.tree.lock().groups.values().filter(|n| n.process_group == process_group).map(|n| n.group.clone()).collect()
    }

    pub fn session_members(&self, session: i32) -> Vec<Arc<ThreadGroup>> {
        self.tree.lock().groups.values().filter(|n| n.session == session).map(|n| n.group.clone()).collect()
    }

    pub fn group_in_session(&self, process_group: i32, session: i32) -> bool {
        self.tree.lock().groups.values().any(|n| n.process_group == process_group && n.session == session)
    }

    /// setsid(2).
    pub fn new_session(&self, id: i32) -> Result<i32> {
        let mut tree = self.tree.lock();
        if tree.groups.values().any(|n| n.process_group == id) {
            return Err(Errno::EPERM);
        }
        let node = tree.groups.get_mut(&id).ok_or(Errno::ESRCH)?;
        node.session = id;
        node.process_group = id;
        Ok(id)
    }

    /// setpgid(2), by process `caller` for `target`; 0s have been resolved.
    pub fn set_process_group(&self, caller: i32, target: i32, process_group: i32) -> Result<()> {
        let mut tree = self.tree.lock();
        let session = tree.groups.get(&caller).ok_or(Errno::ESRCH)?.session;
        let node = tree.groups.get(&target).ok_or(Errno::ESRCH)?;
        if target != caller {
            if node.parent != caller {
                return Err(Errno::ESRCH);
            }
            if node.session != session {
                return Err(Errno::EPERM);
            }
            if node.group.did_exec.load(Ordering::Relaxed) {
                return Err(Errno::EACCES);
            }
        }
        if node.session == target {
            return Err(Errno::EPERM);
        }
        let known = tree.groups.values().any(|n| n.process_group == process_group && n.session == session);
        if process_group != target && !known {
            return Err(Errno::EPERM);
        }
        if let Some(node) = tree.groups.get_mut(&target) {
            node.process_group = process_group;
        }
        Ok(())
    }

    pub fn controlling_terminal(&self, session: i32) -> Option<u64> {
        self.tree.lock().terminals.get(&session).copied()
    }

    pub fn set_controlling_terminal(&self, session: i32, key: Option<u64>) {
        let mut tree = self.tree.lock();
        match key {
            Some(key) => tree.terminals.insert(session, key),
            None => tree.terminals.remove(&session),
        };
    }

    /// No living member has a living parent in the same session but another group (setpgid(2), "orphaned process group").
    pub fn is_orphaned(&self, process_group: i32) -> bool {
        let tree = self.tree.lock();
        !tree.groups.values().filter(|n| n.process_group == process_group && !n.group.is_zombie()).any(|n| {
            let parent = tree.groups.get(&n.parent);
            parent.is_some_and(|p| p.session == n.session && p.process_group != process_group && !p.group.is_zombie())
        })
    }

    /// Does the parent of `id` keep the process group of `id` from being orphaned: same session, another group?
    pub fn is_anchored(&self, id: i32) -> bool {
        let tree = self.tree.lock();
        let Some(node) = tree.groups.get(&id) else { return false };
        tree.groups.get(&node.parent).is_some_and(|p| p.session == node.session && p.process_group != node.process_group)
    }

    /// Tasks of one real user (RLIMIT_NPROC).
    pub fn tasks_of(&self, uid: u32) -> usize {
        self.tree.lock().tasks.values().filter(|t| t.credentials().uid == uid).count()
    }

    /// Hands the children of an ended process to the nearest living subreaper, or to init. Returns the new parent and the children.
    pub fn reparent_children(&self, id: i32) -> Option<(Arc<ThreadGroup>, Vec<Arc<ThreadGroup>>)> {
        let mut tree = self.tree.lock();
        let children = std::mem::take(&mut tree.groups.get_mut(&id)?.children);
        if children.is_empty() {
            return None;
        }
        let mut heir = tree.groups.get(&id)?.parent;
        while heir > 1 {
            let Some(node) = tree.groups.get(&heir) else { break };
            // The group's own lock is of a higher level: allowed here.
            if node.group.child_subreaper.load(Ordering::Relaxed) && !node.group.is_ending() {
                break;
            }
            heir = node.parent;
        }
        let heir = if tree.groups.contains_key(&heir) { heir } else { 1 };
        if heir == id {
            return None;
        }
        let mut moved = Vec::new();
        for child in children {
            if let Some(node) = tree.groups.get_mut(&child) {
                node.parent = heir;
                moved.push(node.group.clone());
            }
            if let Some(node) = tree.groups.get_mut(&heir) {
                node.children.insert(child);
            }
        }
        tree.groups.get(&heir).map(|n| (n.group.clone(), moved))
    }

    /// Forgets a zombie. False when somebody else already did.
    pub fn reap(&self, id: i32) -> bool {
        let mut tree = self.tree.lock();
        let Some(node) = tree.groups.remove(&id) else { return false };
        if let Some(parent) = tree.groups.get_mut(&node.parent) {
            parent.children.remove(&id);
        }
        if !tree.groups.values().any(|n| n.session == node.session) {
            tree.terminals.remove(&node.session);
        }
        drop(tree);
        drop(node);
        true
    }
}
