//! The permits in force, checked against each other.

use std::hash::{Hash, Hasher as _};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use crate::admission::Hers;
use crate::ids::{HolderId, PermitId};
use crate::model::{Credential, Halt, Holder, Identity, OutputChecker, Permit, Place, Problem, Status};
use crate::refusal::{Refusal, RefusalCode};

/// Permits that do not contradict each other. Only a set can admit.
#[derive(Debug, Default, Clone)]
pub struct PermitSet {
    permits: Vec<Arc<Permit>>,
    halt: Option<Halt>,
    ids: Index,
    identities: Index,
}

/// A permit with the hashes of all by which a set finds it.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    pub(crate) permit: Arc<Permit>,
    id: u64,
    workspace: u64,
    replaces: Option<u64>,
    /// Of each holder and output checker: her identity's hash and her id's.
    persons: Arc<[(u64, u64)]>,
}

impl Keyed {
    pub(crate) fn new(permit: Permit) -> Self {
        let hash = |value: &dyn Fn(&mut FxHasher)| {
            let mut hasher = FxHasher::default();
            value(&mut hasher);
            hasher.finish()
        };
        let persons = people(&permit).map(|person| (hash(&|h| person.identity.hash(h)), hash(&|h| person.id.hash(h)))).collect();
        Self {
            id: hash(&|h| permit.id.hash(h)),
            workspace: hash(&|h| permit.workspace.name.hash(h)),
            replaces: permit.replaces.as_ref().map(|replaces| hash(&|h| replaces.hash(h))),
            persons,
            permit: Arc::new(permit),
        }
    }
}

/// Hashes, sorted, each with the index of a permit that has it. The files are the operators' own, so nobody picks keys that collide;
/// what is found by a hash is compared all the same.
#[derive(Debug, Default, Clone)]
struct Index(Vec<(u64, u32)>);

impl Index {
    fn of(hashes: impl Iterator<Item = (u64, u32)>) -> Self {
        let mut sorted: Vec<_> = hashes.collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted)
    }

    fn with<T: Hash>(&self, key: &T) -> impl Iterator<Item = usize> + '_ {
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        let first = self.0.partition_point(|(known, _)| *known < hash);
        self.0[first..].iter().take_while(move |(known, _)| *known == hash).map(|(_, permit)| *permit as usize)
    }

    /// The permits that share a hash with an earlier one, each group in order.
    fn shared(&self) -> impl Iterator<Item = &[(u64, u32)]> {
        self.0.chunk_by(|one, other| one.0 == other.0).filter(|group| group.len() > 1)
    }
}

/// A person whom a permit names.
struct Named<'a> {
    id: &'a HolderId,
    name: &'a String,
    identity: &'a Identity,
    at: &'a Place,
}

fn people(permit: &Permit) -> impl Iterator<Item = Named<'_>> {
    let holders = permit.holders.iter().map(|Holder { id, name, identity, at, .. }| Named { id, name, identity, at });
    holders.chain(permit.output_checkers.iter().map(|OutputChecker { id, name, identity, at }| Named { id, name, identity, at }))
}

impl PermitSet {
    /// Puts permits in force together.
    ///
    /// # Errors
    /// Every contradiction: two permits of one id, one workspace for two permits, one certificate for two persons (IA-02), one
    /// person's id with two names, or a permit that replaces one which is still in force itself.
    pub fn new(permits: Vec<Permit>) -> Result<Self, Vec<Problem>> {
        Self::of_keyed(permits.into_iter().map(Keyed::new).collect())
    }

    pub(crate) fn of_keyed(keyed: Vec<Keyed>) -> Result<Self, Vec<Problem>> {
        let indexed = || keyed.iter().zip(0_u32..);
        let ids = Index::of(indexed().map(|(permit, index)| (permit.id, index)));
        let identities = Index::of(indexed().flat_map(|(permit, index)| permit.persons.iter().map(move |(identity, _)| (*identity, index))));
        let persons = Index::of(indexed().flat_map(|(permit, index)| permit.persons.iter().map(move |(_, person)| (*person, index))));
        let workspaces = Index::of(indexed().map(|(permit, index)| (permit.workspace, index)));
        let mut problems = Vec::new();
        let group = |group: &[(u64, u32)]| group.iter().map(|(_, index)| &keyed[*index as usize].permit).collect::<Vec<_>>();
        ids.shared().for_each(|permits| one_id(&group(permits), &mut problems));
        workspaces.shared().for_each(|permits| one_workspace(&group(permits), &mut problems));
        identities.shared().for_each(|permits| one_person(&group(permits), &mut problems));
        persons.shared().for_each(|permits| one_name(&group(permits), &mut problems));
        for (newer, replaced) in keyed.iter().filter_map(|newer| Some((newer, newer.replaces?))) {
            let same = ids.0.iter().skip(ids.0.partition_point(|(hash, _)| *hash < replaced)).take_while(|(hash, _)| *hash == replaced);
            same.for_each(|(_, index)| succession(&keyed[*index as usize].permit, &newer.permit, &mut problems));
        }
        if !problems.is_empty() {
            problems.sort_by(|one, other| (&one.at.file, one.at.line).cmp(&(&other.at.file, other.at.line)));
            return Err(problems);
        }
        Ok(Self { permits: keyed.into_iter().map(|keyed| keyed.permit).collect(), halt: None, ids, identities })
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
        self.ids.with(id).map(|index| &self.permits[index]).find(|permit| permit.id == *id)
    }

    /// Every permit, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Permit>> {
        self.permits.iter()
    }

    /// Whom permits call the one person that the certificate stands for; `None` for nobody, and for more than one.
    #[must_use]
    pub fn person(&self, credential: &Credential) -> Option<&HolderId> {
        self.of(credential).ok().map(|hers| hers.person)
    }

    /// The one person that the certificate stands for, over all permits, and those that list her under it.
    pub(crate) fn of(&self, credential: &Credential) -> Result<Hers<'_>, Refusal> {
        let mut hers: Option<Hers<'_>> = None;
        for identity in &credential.identities {
            for permit in self.identities.with(identity).map(|index| &self.permits[index]) {
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

fn one_id(permits: &[&Arc<Permit>], problems: &mut Vec<Problem>) {
    for (index, permit) in permits.iter().enumerate() {
        if let Some(first) = permits[..index].iter().find(|first| first.id == permit.id) {
            let what = format!("{} is the id of the permit at {} too", permit.id, first.at);
            problems.push(Problem::new(permit.at.clone(), what, "give each permit its own id").with(&first.at, "first here"));
        }
    }
}

fn one_workspace(permits: &[&Arc<Permit>], problems: &mut Vec<Problem>) {
    for (index, permit) in permits.iter().enumerate() {
        if let Some(first) = permits[..index].iter().find(|first| first.workspace.name == permit.workspace.name) {
            let (workspace, first) = (&permit.workspace, &first.workspace.at);
            let what = format!("workspace {} belongs to the permit at {first}", workspace.name);
            problems.push(Problem::new(workspace.at.clone(), what, "give each permit its own workspace").with(first, "first here"));
        }
    }
}

/// IA-02: one certificate or key, one person. Within one permit its own reader sees to it.
fn one_person(permits: &[&Arc<Permit>], problems: &mut Vec<Problem>) {
    let mut known: FxHashMap<&Identity, Named<'_>> = FxHashMap::default();
    for person in permits.iter().flat_map(|permit| people(permit)) {
        let first = known.entry(person.identity).or_insert(Named { ..person });
        if first.id != person.id {
            let what = format!("{} stands for {} at {}", person.identity, first.id, first.at);
            let problem = Problem::new(person.at.clone(), what, "one certificate or key stands for one person").with(first.at, "first here");
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

fn one_name(permits: &[&Arc<Permit>], problems: &mut Vec<Problem>) {
    let mut known: FxHashMap<&HolderId, Named<'_>> = FxHashMap::default();
    for person in permits.iter().flat_map(|permit| people(permit)) {
        let first = known.entry(person.id).or_insert(Named { ..person });
        if first.name != person.name {
            let what = format!("{} is called {} at {}", person.id, first.name, first.at);
            let problem = Problem::new(person.at.clone(), what, "one id stands for one person, under one name").with(first.at, "first here");
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

fn succession(old: &Permit, newer: &Permit, problems: &mut Vec<Problem>) {
    let in_force = !matches!(old.status, Status::Revoked | Status::Expired);
    if newer.replaces.as_ref() == Some(&old.id) && in_force && newer.validity.from < old.validity.until {
        let what = format!("{} is replaced by {}, and both would be in force", old.id, newer.id);
        let help = "write status = \"EXPIRED\" here, or let the new one begin where this one ends";
        problems.push(Problem::new(old.status_at.clone(), what, help).with(&newer.at, "replaced by this one"));
    }
}
