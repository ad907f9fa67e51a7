//! The permits in force, checked against each other.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::admission::Hers;
use crate::ids::{HolderId, PermitId};
use crate::model::{Credential, Halt, Identity, Permit, Place, Problem, Status};
use crate::refusal::{Refusal, RefusalCode};

/// Permits that do not contradict each other. Only a set can admit.
#[derive(Debug, Default, Clone)]
pub struct PermitSet {
    permits: Vec<Arc<Permit>>,
    halt: Option<Halt>,
    /// Hashes of the permits' ids, sorted, each with its permit's index.
    by_id: Vec<(u64, u32)>,
    /// Hashes of the identities that permits list, sorted, each with its permit's index.
    by_identity: Vec<(u64, u32)>,
}

impl PermitSet {
    /// Puts permits in force together.
    ///
    /// # Errors
    /// Every contradiction: two permits of one id, one workspace for two permits, one certificate for two persons (IA-02), one
    /// person's id with two names, or a permit that replaces one which is still in force itself.
    pub fn new(permits: Vec<Permit>) -> Result<Self, Vec<Problem>> {
        Self::of_shared(permits.into_iter().map(Arc::new).collect())
    }

    pub(crate) fn of_shared(permits: Vec<Arc<Permit>>) -> Result<Self, Vec<Problem>> {
        let problems = contradictions(&permits);
        if !problems.is_empty() {
            return Err(problems);
        }
        let indexed = || permits.iter().zip(0_u32..);
        let mut by_id: Vec<_> = indexed().map(|(permit, index)| (FxBuildHasher.hash_one(&permit.id), index)).collect();
        let identities = |(permit, index): (&Arc<Permit>, u32)| {
            let hashes: Vec<_> = permit.holders.iter().map(|holder| (FxBuildHasher.hash_one(&holder.identity), index)).collect();
            hashes
        };
        let mut by_identity: Vec<_> = indexed().flat_map(identities).collect();
        by_id.sort_unstable();
        by_identity.sort_unstable();
        Ok(Self { permits, halt: None, by_id, by_identity })
    }

    /// The same, with everything standing still.
    #[must_use]
    pub fn halted(mut self, halt: Option<Halt>) -> Self {
        self.halt = halt;
        self
    }

    /// Why everything stands still, if it does.
    #[must_use]
    pub fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// The permit of that id.
    #[must_use]
    pub fn get(&self, id: &PermitId) -> Option<&Arc<Permit>> {
        self.at(&self.by_id, FxBuildHasher.hash_one(id)).find(|permit| permit.id == *id)
    }

    /// Every permit, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Permit>> {
        self.permits.iter()
    }

    /// The permits that an index has for a hash; another key may have the same.
    fn at<'s>(&'s self, index: &'s [(u64, u32)], hash: u64) -> impl Iterator<Item = &'s Arc<Permit>> {
        let first = index.partition_point(|(known, _)| *known < hash);
        index[first..].iter().take_while(move |(known, _)| *known == hash).map(|(_, permit)| &self.permits[*permit as usize])
    }

    /// The one person that the certificate stands for, over all permits, and those that list her under it.
    pub(crate) fn of(&self, credential: &Credential) -> Result<Hers<'_>, Refusal> {
        let mut hers: Option<Hers<'_>> = None;
        for identity in &credential.identities {
            for permit in self.at(&self.by_identity, FxBuildHasher.hash_one(identity)) {
                let Some(holder) = permit.holders.iter().find(|holder| holder.identity == *identity) else { continue };
                match &mut hers {
                    None => hers = Some(Hers { person: &holder.id, permits: vec![permit] }),
                    Some(known) if known.person != &holder.id => {
                        let reason = format!("the certificate stands for {} and for {} ({})", known.person, holder.id, holder.at);
                        return Err(Refusal::new(RefusalCode::AmbiguousIdentity, reason));
                    }
                    Some(known) if known.permits.iter().any(|known| Arc::ptr_eq(known, permit)) => {}
                    Some(known) => known.permits.push(permit),
                }
            }
        }
        hers.ok_or_else(|| {
            let shown: Vec<_> = credential.identities.iter().map(ToString::to_string).collect();
            Refusal::new(RefusalCode::NotAHolder, format!("no permit lists {}", shown.join(" or ")))
        })
    }
}

fn contradictions(permits: &[Arc<Permit>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let persons: usize = permits.iter().map(|permit| permit.holders.len() + permit.output_checkers.len()).sum();
    // The files are the operators' own, so nobody picks keys that collide.
    let mut ids: FxHashMap<&PermitId, &Arc<Permit>> = FxHashMap::with_capacity_and_hasher(permits.len(), FxBuildHasher);
    let mut workspaces = FxHashMap::with_capacity_and_hasher(permits.len(), FxBuildHasher);
    let mut identities: FxHashMap<&Identity, (&HolderId, &Place)> = FxHashMap::with_capacity_and_hasher(persons, FxBuildHasher);
    let mut names: FxHashMap<&HolderId, (&String, &Place)> = FxHashMap::with_capacity_and_hasher(persons, FxBuildHasher);
    for permit in permits {
        if let Some(first) = ids.insert(&permit.id, permit) {
            let what = format!("{} is the id of the permit at {} too", permit.id, first.at);
            problems.push(Problem::new(permit.at.clone(), what, "give each permit its own id").with(&first.at, "first here"));
        }
        let workspace = &permit.workspace;
        if let Some(first) = workspaces.insert(&workspace.name, &workspace.at) {
            let what = format!("workspace {} belongs to the permit at {first}", workspace.name);
            problems.push(Problem::new(workspace.at.clone(), what, "give each permit its own workspace").with(first, "first here"));
        }
        let holders = permit.holders.iter().map(|holder| (&holder.id, &holder.name, &holder.identity, &holder.at));
        let checkers = permit.output_checkers.iter().map(|checker| (&checker.id, &checker.name, &checker.identity, &checker.at));
        for (id, name, identity, at) in holders.chain(checkers) {
            let (first_id, first_at) = *identities.entry(identity).or_insert((id, at));
            if first_id != id {
                let what = format!("{identity} stands for {first_id} at {first_at}");
                problems.push(Problem::new(at.clone(), what, "one certificate or key stands for one person").with(first_at, "first here"));
            }
            let (first_name, first_at) = *names.entry(id).or_insert((name, at));
            if first_name != name {
                let what = format!("{id} is called {first_name} at {first_at}");
                problems.push(Problem::new(at.clone(), what, "one id stands for one person, under one name").with(first_at, "first here"));
            }
        }
    }
    let ids: BTreeMap<_, _> = permits.iter().filter(|permit| permit.replaces.is_some()).map(|permit| (&permit.replaces, permit)).collect();
    for permit in permits.iter().filter(|permit| !matches!(permit.status, Status::Revoked | Status::Expired)) {
        if let Some(newer) = ids.get(&Some(permit.id.clone())).filter(|newer| newer.validity.from < permit.validity.until) {
            let what = format!("{} is replaced by {}, and both would be in force", permit.id, newer.id);
            let help = "write status = \"EXPIRED\" here, or let the new one begin where this one ends";
            problems.push(Problem::new(permit.status_at.clone(), what, help).with(&newer.at, "replaced by this one"));
        }
    }
    problems
}
