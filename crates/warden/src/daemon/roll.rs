//! The cells that there are, so kept that the many at rest cost nothing while something happens to a few.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sulku_permit::SessionId;

use crate::cell::Cell;

/// All cells, by session.
#[derive(Debug, Default)]
pub(super) struct Roll {
    cells: BTreeMap<SessionId, Cell>,
    marks: HashMap<u32, SessionId>,
    links: HashMap<u32, SessionId>,
    /// Those that something was done to since they were last looked at, and those on their way in or out.
    stirred: BTreeSet<SessionId>,
}

impl Roll {
    pub(super) fn insert(&mut self, session: SessionId, cell: Cell) {
        self.marks.insert(cell.grant.mark, session);
        self.links.insert(cell.link.index(), session);
        self.stirred.insert(session);
        self.cells.insert(session, cell);
    }

    pub(super) fn remove(&mut self, session: &SessionId) -> Option<Cell> {
        let cell = self.cells.remove(session)?;
        self.marks.remove(&cell.grant.mark);
        self.links.remove(&cell.link.index());
        self.stirred.remove(session);
        Some(cell)
    }

    pub(super) fn get(&self, session: &SessionId) -> Option<&Cell> {
        self.cells.get(session)
    }

    /// One, to which something is done.
    pub(super) fn get_mut(&mut self, session: &SessionId) -> Option<&mut Cell> {
        let cell = self.cells.get_mut(session)?;
        self.stirred.insert(*session);
        Some(cell)
    }

    /// Whose mark this is.
    pub(super) fn by_mark(&self, mark: u32) -> Option<SessionId> {
        self.marks.get(&mark).copied()
    }

    /// Whose link has this index.
    pub(super) fn by_link(&self, index: u32) -> Option<SessionId> {
        self.links.get(&index).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionId, &Cell)> {
        self.cells.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values()
    }

    /// All, for what time brings to any of them.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = (&SessionId, &mut Cell)> {
        self.cells.iter_mut()
    }

    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.cells.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Those that are not at rest.
    pub(super) fn stirred(&self) -> impl Iterator<Item = (SessionId, &Cell)> {
        self.stirred.iter().filter_map(|session| Some((*session, self.cells.get(session)?)))
    }

    /// Does what has to follow from a cell's change, for each that was stirred; where that fails the cell stays so.
    pub(super) fn settle<E>(&mut self, mut follow: impl FnMut(&mut Cell) -> Result<(), E>, mut failed: impl FnMut(SessionId, E)) {
        let Self { cells, stirred, .. } = self;
        stirred.retain(|session| {
            let Some(cell) = cells.get_mut(session) else { return false };
            match follow(cell) {
                Ok(()) => cell.is_starting() || !cell.is_alive(),
                Err(error) => {
                    failed(*session, error);
                    true
                }
            }
        });
    }
}
