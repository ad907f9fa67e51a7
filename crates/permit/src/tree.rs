//! All files of a policy together: permits, what they share, the halt.

use std::collections::HashMap;
use std::sync::Arc;

use crate::decision::{Decision, Denial, Question, decide};
use crate::document::{Case, Expected, PermitFile, Shared, SharedKind, parse_halt, parse_with};
use crate::model::{Permit, Place, Problem};
use crate::refusal::RefusalCode;
use crate::set::{Keyed, PermitSet};

/// One file of a policy.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its path below the policy's folder, such as `permits/statins.toml`.
    pub path: &'a str,
    /// How problems name it; most often the path with the folder before it.
    pub shown: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// A policy that holds together: every file is right, none contradicts another.
#[derive(Debug, Default)]
pub struct Policy {
    permits: PermitSet,
    files: HashMap<String, (Arc<str>, Arc<Parsed>)>,
    shared: Arc<SharedFiles>,
}

#[derive(Debug)]
struct Parsed {
    keyed: Keyed,
    cases: Vec<Case>,
}

/// The shared files, with the texts they were read from.
#[derive(Debug, Default)]
struct SharedFiles {
    texts: Vec<(String, String)>,
    shared: Shared,
}

/// A case that came out otherwise than it says.
#[derive(Debug)]
pub struct Failed<'a> {
    /// The case.
    pub case: &'a Case,
    /// The permit that it is about.
    pub permit: &'a Permit,
    /// What came of it.
    pub decision: Decision,
}

impl Policy {
    /// Reads all files of a policy.
    ///
    /// # Errors
    /// Every problem of every file, and every contradiction between those that are right.
    pub fn read<'a>(sources: impl IntoIterator<Item = Source<'a>>) -> Result<Self, Vec<Problem>> {
        Self::default().next(sources)
    }

    /// Reads all files of a policy, of which most are as they were in this one: those are not parsed again.
    ///
    /// # Errors
    /// As [`Policy::read`].
    pub fn next<'a>(&self, sources: impl IntoIterator<Item = Source<'a>>) -> Result<Self, Vec<Problem>> {
        let (mut permits, mut texts, mut halt) = (Vec::new(), Vec::new(), None);
        let mut problems = Vec::new();
        for source in sources {
            match source.path.split_once('/') {
                None if source.path == "halt.toml" => match parse_halt(source.shown, source.text) {
                    Ok(found) => halt = Some(found),
                    Err(found) => problems.extend(found),
                },
                Some(("permits", name)) if is_toml(name) => permits.push(source),
                Some((folder, name)) if is_toml(name) && SharedKind::ALL.iter().any(|kind| kind.folder() == folder) => texts.push(source),
                _ => {
                    let help = "put permits into permits/, what they share into images/, datasets/, networks/, calendars/ or authorities/";
                    problems.push(Problem::new(Place::line_of(source.shown, 1), "this file has no place in a policy", help));
                }
            }
        }
        let shared = self.shared_files(&texts, &mut problems);
        let same_shared = Arc::ptr_eq(&shared, &self.shared);
        let mut files = HashMap::with_capacity(permits.len());
        let mut parsed_permits = Vec::with_capacity(permits.len());
        for source in permits {
            let known = self.files.get(source.path).filter(|(text, _)| same_shared && **text == *source.text);
            let entry = match known {
                Some((text, parsed)) => (Arc::clone(text), Arc::clone(parsed)),
                None => match parse_with(source.shown, source.text, &shared.shared) {
                    Ok(PermitFile { permit, cases }) => (source.text.into(), Arc::new(Parsed { keyed: Keyed::new(permit), cases })),
                    Err(found) => {
                        problems.extend(found);
                        continue;
                    }
                },
            };
            parsed_permits.push(entry.1.keyed.clone());
            files.insert(source.path.to_owned(), entry);
        }
        match PermitSet::of_keyed(parsed_permits) {
            Ok(set) if problems.is_empty() => Ok(Self { permits: set.halted(halt), files, shared }),
            Ok(_) => Err(problems),
            Err(contradictions) => {
                problems.extend(contradictions);
                Err(problems)
            }
        }
    }

    fn shared_files(&self, sources: &[Source<'_>], problems: &mut Vec<Problem>) -> Arc<SharedFiles> {
        let texts: Vec<_> = sources.iter().map(|source| (source.path.to_owned(), source.text.to_owned())).collect();
        if texts == self.shared.texts {
            return Arc::clone(&self.shared);
        }
        let mut shared = Shared::default();
        for source in sources {
            let kind = SharedKind::ALL.iter().find(|kind| source.path.starts_with(kind.folder()));
            if let Some(Err(found)) = kind.map(|kind| shared.add(*kind, source.shown, source.text)) {
                problems.extend(found);
            }
        }
        Arc::new(SharedFiles { texts, shared })
    }

    /// The permits.
    #[must_use]
    pub fn permits(&self) -> &PermitSet {
        &self.permits
    }

    /// The permit that stands in that file.
    #[must_use]
    pub fn in_file(&self, path: &str) -> Option<&Arc<Permit>> {
        self.files.get(path).map(|(_, parsed)| &parsed.keyed.permit)
    }

    /// How many cases there are.
    #[must_use]
    pub fn cases(&self) -> usize {
        self.files.values().map(|(_, parsed)| parsed.cases.len()).sum()
    }

    /// Every case and the permit it is about, in the order of the files.
    #[must_use]
    pub fn all_cases(&self) -> Vec<(&Permit, &Case)> {
        let mut cases: Vec<_> = self.files.values().flat_map(|(_, parsed)| parsed.cases.iter().map(|case| (&*parsed.keyed.permit, case))).collect();
        cases.sort_by_key(|(_, case)| (&case.place.file, case.place.line));
        cases
    }

    /// The cases that come out otherwise than they say, as if nothing were halted. While there is one, the policy must not come into force.
    #[must_use]
    pub fn failed_cases(&self) -> Vec<Failed<'_>> {
        let running = self.permits.clone().halted(None);
        let failed = self.all_cases().into_iter().filter_map(|(permit, case)| {
            let question = Question { person: &case.person, at: case.at, from: case.from, action: &case.action };
            let decision = decide(&running, permit, &question);
            let expected = match case.expected {
                Expected::Allow => None,
                Expected::Deny(denial) => Some(denial),
            };
            // A case says what the permit means. That it was taken back or held up on purpose is no mistake of either.
            let taken_back = decision.denial.is_some_and(is_taken_back);
            (decision.denial != expected && !taken_back).then_some(Failed { case, permit, decision })
        });
        failed.collect()
    }
}

impl Failed<'_> {
    /// As a problem of the file.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let came = self.decision.denial.map_or("allow".to_owned(), |denial| format!("deny {}", denial.as_str()));
        let why = self.decision.reasons.last();
        let what = format!("{:?} comes out as {came:?}", self.case.name);
        let problem = Problem::new(self.case.place.clone(), what, "correct the permit, or the case if the permit is what was meant");
        match why.and_then(|reason| Some((reason.at.as_ref()?, &reason.what))) {
            Some((at, what)) => problem.with(at, what.clone()),
            None => problem,
        }
    }
}

fn is_taken_back(denial: Denial) -> bool {
    use RefusalCode::{HolderRevoked, PermitRevoked, PermitSuspended};
    matches!(denial, Denial::Session(PermitRevoked | PermitSuspended | HolderRevoked))
}

fn is_toml(name: &str) -> bool {
    name.strip_suffix(".toml").is_some_and(|stem| !stem.is_empty()) && !name.contains('/')
}
