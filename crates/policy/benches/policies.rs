//! What many permits cost: to check, to load, to be admitted by, to change one of: `cargo bench -p sulku-policy --bench policies`.
//!
//! Beside the same files read by the TOML parser alone, in the same run: what is above that is ours. Goals, at 10 000 permits of five
//! holders: checked in under 2 s, loaded in under 1 s, one admission under 20 µs, one changed file in force in under 50 ms.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sulku_permit::{Credential, HolderId, Identity, Policy, Request, Source, admit};
use sulku_policy::store::{Store, read};
use sulku_policy::{Digest, Draft, File, FileLine, Operator, Operators, Revision, Signed, SigningKey, Tree, meaning, narrows, next_meaning};

const HOLDERS: usize = 5;
const ADMISSIONS: usize = 20_001;
const CHANGES: usize = 9;
/// A key on P-256 that is used nowhere else.
const KEY: &str =
    "-----BEGIN EC PRIVATE KEY-----\nMDECAQEEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBoAoGCCqGSM49\nAwEH\n-----END EC PRIVATE KEY-----\n";

fn permit(number: usize, title: &str) -> String {
    let mut text = format!(
        "schema = 1\n\n[permit]\nid = \"THL/{number}/2026\"\ntitle = \"{title}\"\npurpose = \"scientific research\"\nissuer = \"Findata\"\n\
         valid_from = 2026-01-01\nvalid_until = 2030-12-31\ntime_zone = \"Europe/Helsinki\"\n\n\
         [controller]\nname = \"University\"\ncontacts = [\"privacy@university.example\"]\n\n"
    );
    for holder in 0..HOLDERS {
        text.push_str(&format!(
            "[[holder]]\nid = \"p{number}-{holder}\"\nname = \"Person {number} {holder}\"\n\
             certificate = {{ uri = \"spiffe://spe.example.fi/person/p{number}-{holder}\" }}\nroles = [\"analyst\"]\n\n"
        ));
    }
    text.push_str(&format!(
        "[workspace]\nname = \"study-{number}\"\n\n[[dataset]]\nname = \"hilmo\"\npath = \"/srv/datasets/hilmo\"\nmounted_at = \"/data/hilmo\"\n\n\
         [[egress]]\nname = \"package mirror\"\nto = \"10.20.30.40\"\nports = [\"443/tcp\"]\nreason = \"packages\"\n\n\
         [session]\nfrom_networks = [\"192.0.2.0/24\"]\nallowed_hours = [\"Mon-Sun 00:00-24:00\"]\n\n\
         [[test]]\nname = \"a holder works\"\nperson = \"p{number}-0\"\nat = 2026-06-01T10:00:00\ndoes = \"connect\"\nexpect = \"allow\"\n"
    ));
    text
}

#[derive(Default)]
struct Memory {
    revisions: BTreeMap<u64, Vec<u8>>,
    objects: BTreeMap<Digest, Vec<u8>>,
}

impl Store for Memory {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        Ok(self.revisions.keys().copied().collect())
    }

    fn revision(&self, number: u64) -> io::Result<Vec<u8>> {
        self.revisions.get(&number).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn object(&self, sha256: Digest) -> io::Result<Vec<u8>> {
        self.objects.get(&sha256).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Memory {
    fn put(&mut self, tree: &Tree, number: u64, by: &HolderId, key: &SigningKey) -> Result<(), Box<dyn Error>> {
        let mut files = Vec::with_capacity(tree.len());
        for (path, file) in tree.iter() {
            self.objects.entry(file.sha256()).or_insert_with(|| file.text().as_bytes().to_vec());
            files.push(FileLine { sha256: file.sha256(), bytes: file.text().len() as u64, path: path.clone() });
        }
        let draft = Draft { number, previous: None, made: Timestamp::UNIX_EPOCH, by: by.clone(), reason: "a bench".to_owned(), files };
        let revision = Revision::new(draft)?;
        let signatures = vec![revision.sign(by.clone(), key)];
        self.revisions.insert(number, Signed { revision, signatures }.render().into_bytes());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("permits   MiB | TOML alone | check    ratio | load     | one changed | admission median   p99");
    for permits in [10, 100, 1_000, 10_000] {
        run(permits)?;
    }
    Ok(())
}

fn run(permits: usize) -> Result<(), Box<dyn Error>> {
    let path = |number: usize| format!("permits/{number}.toml");
    let files: BTreeMap<usize, String> = (0..permits).map(|number| (number, permit(number, "A study"))).collect();
    let bytes: usize = files.values().map(String::len).sum();

    let begun = Instant::now();
    for text in files.values() {
        black_box(toml::from_str::<toml::Table>(text)?);
    }
    let toml = begun.elapsed();

    let begun = Instant::now();
    let paths: BTreeMap<usize, String> = files.keys().map(|number| (*number, path(*number))).collect();
    let sources = files.iter().map(|(number, text)| Source { path: &paths[number], shown: &paths[number], text });
    let policy = Policy::read(sources).map_err(|problems| problems[0].to_string())?;
    if !policy.failed_cases().is_empty() || policy.cases() != permits {
        return Err("a case failed".into());
    }
    let check = begun.elapsed();

    let tree_of = |changed: Option<(usize, &str)>| -> Result<Tree, Box<dyn Error>> {
        let file = |(number, text): (&usize, &String)| {
            let text = changed.filter(|(at, _)| at == number).map_or_else(|| text.clone(), |(at, title)| permit(at, title));
            Ok::<_, Box<dyn Error>>((path(*number).parse()?, File::new(&text)))
        };
        files.iter().map(file).collect()
    };
    let (key, onni) = (SigningKey::from_pem(KEY)?, "onni".parse::<HolderId>()?);
    let operators = Operators::new(vec![Operator { id: onni.clone(), key: key.public().clone() }], 1)?;
    let mut store = Memory::default();
    store.put(&tree_of(None)?, 1, &onni, &key)?;
    let begun = Instant::now();
    let mut in_force = read(&store, &operators, narrows, None)?;
    let mut policy = meaning(in_force.tree()).map_err(|problems| problems[0].to_string())?;
    let load = begun.elapsed();

    let mut changes = Vec::new();
    for change in 0..CHANGES {
        store.put(&tree_of(Some((permits / 2, &format!("Change {change}"))))?, 2 + change as u64, &onni, &key)?;
        let begun = Instant::now();
        in_force = read(&store, &operators, narrows, Some(&in_force))?;
        policy = next_meaning(&policy, in_force.tree()).map_err(|problems| problems[0].to_string())?;
        changes.push(begun.elapsed());
    }
    changes.sort_unstable();

    let mut admissions = Vec::with_capacity(ADMISSIONS);
    for turn in 0..ADMISSIONS {
        let number = turn * 7_919 % permits;
        let identity = Identity::Uri(format!("spiffe://spe.example.fi/person/p{number}-{}", turn % HOLDERS));
        let credential = Credential { identities: vec![identity], expires: Timestamp::MAX, assurance: None };
        let request = Request {
            credential: &credential,
            permit: None,
            from: [192, 0, 2, 7].into(),
            now: "2026-06-01T10:00:00Z".parse()?,
            opened: None,
            rung: None,
        };
        let begun = Instant::now();
        let admission = black_box(admit(policy.permits(), &request));
        admissions.push(begun.elapsed());
        let _ = admission.map_err(|refusal| refusal.reason)?;
    }
    admissions.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{permits:7} {:5.1} | {:7.1} ms | {:5.1} ms {:6.2}x | {:5.1} ms | {:8.2} ms | {:10.2} µs {:9.2} µs",
        bytes as f64 / (1 << 20) as f64,
        ms(toml),
        ms(check),
        ms(check) / ms(toml),
        ms(load),
        ms(changes[CHANGES / 2]),
        admissions[ADMISSIONS / 2].as_secs_f64() * 1e6,
        admissions[ADMISSIONS * 99 / 100].as_secs_f64() * 1e6,
    );
    Ok(())
}
