//! A bound on what is under way between two threads, by number and by bytes: whoever would go beyond it waits.
//!
//! Carries nothing itself, and keeps no order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What may be under way, and what is.
pub(crate) struct Flight {
    items_max: usize,
    bytes_max: usize,
    load: Mutex<Load>,
    lighter: Condvar,
}

#[derive(Default)]
struct Load {
    items: usize,
    bytes: usize,
    broken: bool,
}

/// The other end is gone; nothing will ever be taken off again.
#[derive(Debug)]
pub(crate) struct BrokenOff;

/// Whether an item was taken along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Boarding {
    Aboard,
    Full,
}

impl Flight {
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        Self { items_max, bytes_max, load: Mutex::default(), lighter: Condvar::new() }
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an item of this many bytes along if there is room for it now.
    pub(crate) fn try_board(&self, bytes: usize) -> Result<Boarding, BrokenOff> {
        let mut load = self.load();
        if load.broken {
            return Err(BrokenOff);
        }
        if self.is_full(&load, bytes) {
            return Ok(Boarding::Full);
        }
        (load.items, load.bytes) = (load.items + 1, load.bytes + bytes);
        Ok(Boarding::Aboard)
    }

    const fn is_full(&self, load: &Load, bytes: usize) -> bool {
        load.items > 0 && (load.items >= self.items_max || load.bytes + bytes > self.bytes_max)
    }

    /// Waits until there is room for an item of this many bytes. One item always has room.
    pub(crate) fn board(&self, bytes: usize) -> Result<(), BrokenOff> {
        let must_wait = |load: &mut Load| !load.broken && self.is_full(load, bytes);
        let mut load = self.lighter.wait_while(self.load(), must_wait).unwrap_or_else(PoisonError::into_inner);
        if load.broken {
            return Err(BrokenOff);
        }
        load.items += 1;
        load.bytes += bytes;
        Ok(())
    }

    /// So many items are done, of so many bytes together.
    pub(crate) fn leave_together(&self, items: usize, bytes: usize) {
        let mut load = self.load();
        load.items -= items;
        load.bytes -= bytes;
        drop(load);
        self.lighter.notify_one();
    }

    /// Nobody takes items any more; whoever waits hears it.
    pub(crate) fn break_off(&self) {
        self.load().broken = true;
        self.lighter.notify_one();
    }
}
