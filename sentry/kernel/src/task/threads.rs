//! The sentry's threads for tasks. One whose task has ended waits for another: making a thread costs some fifteen host calls, and mapping and
//! unmapping its stacks interrupts every other core that the sentry runs on.

use std::sync::Arc;

use sentry_sync::{Level, Mutex, Parker};

use super::CurrentTask;
use crate::kernel::Kernel;

/// Stack of a task's sentry thread. Nothing recurses on guest input.
const STACK_SIZE: usize = 512 * 1024;
/// Threads that wait; those beyond end with their task.
const IDLE_MAX: usize = 16;

/// Threads without a task, the one that waits shortest last: its stack is warm.
pub struct IdleThreads(Mutex<Vec<Arc<Seat>>>);

impl Default for IdleThreads {
    fn default() -> IdleThreads {
        IdleThreads(Mutex::new(Level::Leaf, Vec::new()))
    }
}

/// A waiting thread and the task that it is given.
struct Seat {
    parker: Parker,
    next: Mutex<Option<CurrentTask>>,
}

/// Has a thread of the sentry run this task to its end.
pub(crate) fn spawn(current: CurrentTask) -> std::io::Result<()> {
    let kernel = current.task.kernel.clone();
    let idle = kernel.idle_threads.0.lock().pop();
    match idle {
        Some(seat) => {
            *seat.next.lock() = Some(current);
            seat.parker.unpark();
            Ok(())
        }
        None => std::thread::Builder::new().name("task".into()).stack_size(STACK_SIZE).spawn(move || serve(&kernel, current)).map(drop),
    }
}

fn serve(kernel: &Kernel, first: CurrentTask) {
    let seat = Arc::new(Seat { parker: Parker::current(), next: Mutex::new(Level::Leaf, None) });
    let mut next = Some(first);
    while let Some(task) = next {
        task.run();
        next = another(kernel, &seat);
    }
}

/// Waits for the next task; `None` if enough others wait.
fn another(kernel: &Kernel, seat: &Arc<Seat>) -> Option<CurrentTask> {
    {
        let mut idle = kernel.idle_threads.0.lock();
        if idle.len() >= IDLE_MAX {
            return None;
        }
        idle.push(seat.clone());
    }
    loop {
        // Late wake-ups that were meant for the last task come here too.
        let given = seat.next.lock().take();
        if given.is_some() {
            return given;
        }
        Parker::park(None);
    }
}
