//! `Mutex` and `RwLock`: std's, without poisoning, and in debug builds with the order of levels checked per thread.

use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError};

use crate::level::Level;

#[cfg(debug_assertions)]
mod order {
    use std::cell::RefCell;

    use crate::level::Level;

    thread_local! {
        static HELD: RefCell<Vec<Level>> = const { RefCell::new(Vec::new()) };
    }

    pub struct Held(Level);

    impl Held {
        pub fn enter(level: Level) -> Held {
            HELD.with_borrow_mut(|held| {
                if let Some(top) = held.iter().max()
                    && *top >= level
                {
                    eprintln!("lock order: taking {level:?} while holding {held:?}\n{}", std::backtrace::Backtrace::force_capture());
                    std::process::abort();
                }
                held.push(level);
            });
            Held(level)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| {
                if let Some(index) = held.iter().rposition(|l| *l == self.0) {
                    held.remove(index);
                }
            });
        }
    }
}

#[cfg(not(debug_assertions))]
mod order {
    use crate::level::Level;

    pub struct Held;

    impl Held {
        #[inline(always)]
        pub fn enter(_: Level) -> Held {
            Held
        }
    }
}

/// A mutual exclusion lock of a given level.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    level: Level,
    inner: sync::Mutex<T>,
}

pub struct MutexGuard<'a, T: ?Sized> {
    guard: sync::MutexGuard<'a, T>,
    _held: order::Held,
}

impl<T> Mutex<T> {
    pub const fn new(level: Level, value: T) -> Mutex<T> {
        Mutex { level, inner: sync::Mutex::new(value) }
    }

    pub fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// The lock if it is free; `None` instead of waiting.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = match self.inner.try_lock() {
            Ok(guard) => guard,
            Err(sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(sync::TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { guard, _held: order::Held::enter(self.level) })
    }

    /// Without locking: the reference is exclusive already. For drops, which may come under any lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = order::Held::enter(self.level);
        MutexGuard { guard: self.inner.lock().unwrap_or_else(PoisonError::into_inner), _held: held }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A readers–writer lock of a given level.
#[derive(Debug)]
pub struct RwLock<T: ?Sized> {
    level: Level,
    inner: sync::RwLock<T>,
}

pub struct RwLockReadGuard<'a, T: ?Sized> {
    guard: sync::RwLockReadGuard<'a, T>,
    _held: order::Held,
}

pub struct RwLockWriteGuard<'a, T: ?Sized> {
    guard: sync::RwLockWriteGuard<'a, T>,
    _held: order::Held,
}

impl<T> RwLock<T> {
    pub const fn new(level: Level, value: T) -> RwLock<T> {
        RwLock { level, inner: sync::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Without locking: the reference is exclusive already.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let held = order::Held::enter(self.level);
        RwLockReadGuard { guard: self.inner.read().unwrap_or_else(PoisonError::into_inner), _held: held }
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let held = order::Held::enter(self.level);
        RwLockWriteGuard { guard: self.inner.write().unwrap_or_else(PoisonError::into_inner), _held: held }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
