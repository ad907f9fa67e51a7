//! The permits in force, checked against each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::PermitId;
use crate::model::{Permit, Problem};

/// Permits that do not contradict each other. Only a set can admit.
#[derive(Debug, Default, Clone)]
pub struct PermitSet {
    permits: Vec<Arc<Permit>>,
}

impl PermitSet {
    /// Puts permits in force together.
    ///
    /// # Errors
    /// Every contradiction: two permits of one id, one workspace for two permits, one certificate for two persons (IA-02), or
    /// one person's id with two names.
    pub fn new(permits: Vec<Permit>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut ids = BTreeMap::new();
        let mut workspaces = BTreeMap::new();
        let mut identities = BTreeMap::new();
        let mut names = BTreeMap::new();
        let problem = |at: &crate::Place, what: String, help: &str| Problem { at: at.clone(), column: 1, what, help: help.to_owned() };
        for permit in &permits {
            if let Some(first) = ids.insert(&permit.id, &permit.at) {
                problems.push(problem(&permit.at, format!("{} is the id of the permit at {first} too", permit.id), "give each permit its own id"));
            }
            let workspace = &permit.workspace;
            if let Some(first) = workspaces.insert(&workspace.name, &workspace.at) {
                let what = format!("workspace {} belongs to the permit at {first}", workspace.name);
                problems.push(problem(&workspace.at, what, "give each permit its own workspace"));
            }
            for holder in &permit.holders {
                let (first_id, first_at) = *identities.entry(&holder.identity).or_insert((&holder.id, &holder.at));
                if first_id != &holder.id {
                    let what = format!("{} stands for {first_id} at {first_at}", holder.identity);
                    problems.push(problem(&holder.at, what, "one certificate or key stands for one person"));
                }
                let (first_name, first_at) = *names.entry(&holder.id).or_insert((&holder.name, &holder.at));
                if first_name != &holder.name {
                    let what = format!("{} is called {first_name} at {first_at}", holder.id);
                    problems.push(problem(&holder.at, what, "one id stands for one person, under one name"));
                }
            }
        }
        if problems.is_empty() { Ok(Self { permits: permits.into_iter().map(Arc::new).collect() }) } else { Err(problems) }
    }

    /// The permit of that id.
    #[must_use]
    pub fn get(&self, id: &PermitId) -> Option<&Arc<Permit>> {
        self.permits.iter().find(|permit| permit.id == *id)
    }

    /// Every permit, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Permit>> {
        self.permits.iter()
    }
}
