//! The auditor's commands on a log of some thousand entries: pages, filters, names, exports, and what damage does to them.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sulku_audit::personal::{KeyFile, Scope};

#[path = "../../ledger/examples/make_log.rs"]
#[expect(dead_code, reason = "its `main` is the example's")]
mod make_log;

/// Fifty sessions of a hundred entries each, of the first and third ten of which MADE/0/2026 has two.
const ENTRIES: u64 = 5_000;

struct Made {
    _folder: tempfile::TempDir,
    log: PathBuf,
}

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        make_log::make(&log, ENTRIES).unwrap();
        Self { _folder: folder, log }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.log.with_file_name(name)
    }

    /// `sulku audit` on the log.
    fn audit(&self, args: &str) -> Output {
        let mut command = command(args);
        command.arg("--dir").arg(&self.log).arg("--key").arg(self.log.with_extension("pub"));
        command.output().unwrap()
    }

    /// What it prints, when it goes well.
    fn ok(&self, args: &str) -> (String, String) {
        told(&self.audit(args))
    }

    /// Its complaint.
    fn refused(&self, args: &str) -> String {
        complaint(&self.audit(args))
    }

    /// The numbers of the entries that it lists.
    fn listed(&self, args: &str) -> Vec<u64> {
        self.lines(args).iter().map(|line| line["index"].as_u64().unwrap()).collect()
    }

    fn lines(&self, args: &str) -> Vec<Value> {
        self.ok(&format!("list --json {args}")).0.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn flip(&self, path: &str, at: usize) {
        let path = self.log.join(path);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn command(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sulku"));
    command.arg("audit").args(args.split_whitespace()).env_remove("SULKU_AUDIT_KEY");
    command
}

fn told(output: &Output) -> (String, String) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{err}");
    (out, err)
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check_export(made: &Made, export: &Path) -> Output {
    command("check-export").arg(export).arg("--key").arg(made.log.with_extension("pub")).output().unwrap()
}

#[test]
fn pages_join_to_the_whole_log_in_either_direction() {
    let made = Made::new();
    let all: Vec<u64> = (0..ENTRIES).collect();
    assert_eq!(made.listed(""), all, "JSON lines are all unless told otherwise");
    assert_eq!(made.listed("--last 300"), all[4_700..]);
    assert_eq!(made.listed("--last 300 --before 4700"), all[4_400..4_700]);
    assert_eq!(made.listed("--last 300 --before 7"), all[..7]);
    assert_eq!(made.listed("--from 4990"), all[4_990..]);
    assert_eq!(made.listed("--from 255 --count 300"), all[255..555]);
    let (table, note) = made.ok("list");
    assert_eq!(table.lines().count(), 101, "a header and a hundred rows");
    assert!(table.lines().last().unwrap().contains(" 4999 "), "the newest is last");
    assert_eq!(note, "100 of 5000 entries, each proven; those before: --before 4900\n");
    assert_eq!(made.ok("list --from 10 --count 5").1, "5 of 5000 entries, each proven; those after: --from 15\n");
    assert_eq!(made.ok("list --last 50 --before 20").1, "20 of 5000 entries, each proven\n", "nothing is before");
    assert_eq!(made.ok("list --from 5000").1, "0 of 5000 entries, each proven\n");
    assert!(made.refused("list --last 0").contains("0 is not in 1..=50000"));
}

#[test]
fn filters_give_the_same_whichever_way_the_log_is_read() {
    let made = Made::new();
    for filter in [
        "--permit MADE/3/2026",
        "--person holder-7",
        "--event session.opened",
        "--denied",
        "--since 2026-01-01T00:05:00Z --until 2026-01-01T00:06:40Z",
        "--permit MADE/1/2026 --event egress.denied --since 2026-01-01T00:01:00Z",
    ] {
        let forward = made.listed(filter);
        assert!(!forward.is_empty() && forward.len() < ENTRIES as usize, "{filter}: {}", forward.len());
        assert_eq!(made.listed(&format!("{filter} --last 5000")), forward, "{filter}");
        let before = forward.partition_point(|index| *index < 2_000);
        let rest = &forward[before.saturating_sub(3)..before];
        assert_eq!(made.listed(&format!("{filter} --last 3 --before 2000")), rest, "{filter}");
    }
    assert_eq!(made.listed("--event session.opened"), (0..ENTRIES).step_by(100).collect::<Vec<_>>());
    assert_eq!(
        made.ok("list --permit MADE/3/2026 --last 7").1,
        "7 of 5000 entries, each proven, numbered without a gap; those before: --before 4393\n"
    );
    assert!(made.listed("--permit MADE/99/2026").is_empty());
}

#[test]
fn a_page_is_refused_where_the_log_was_changed_and_is_not_where_it_was_not() {
    let made = Made::new();
    made.flip("tile/entries/003", 40);
    assert_eq!(made.listed("--last 10"), (4_990..5_000).collect::<Vec<_>>(), "the control: another part of the log");
    assert!(made.refused("list --from 1000 --count 1").contains("entry 768: its bytes are not those that the tree was built from"));
    assert!(made.refused("list --denied --json").contains("entry 768"), "a filter over everything meets it");
    for threads in ["1", "3"] {
        assert!(made.refused(&format!("verify --threads {threads}")).contains("entry 768: its bytes are not those"));
    }
}

#[test]
fn names_are_shown_with_their_keys_and_pseudonyms_without_and_what_is_destroyed_is_said_to_be() {
    let made = Made::new();
    let (table, _) = made.ok("list --permit MADE/0/2026 --event session.opened");
    assert!(table.contains("holder-0") && table.contains("from 192.0.2.0 over quic: a shell"), "{table}");
    let shown = made.ok("show 0").0;
    assert!(shown.contains("\"person\": \"holder-0\"") && shown.contains("spiffe://made.example/holder-0"), "{shown}");
    let line = &made.lines("--last 1 --before 1")[0];
    assert_eq!((line["opened"]["person"].as_str(), line["opened"]["data"]["from"].as_str()), (Some("holder-0"), Some("192.0.2.0")));
    let pseudonym = line["entry"]["person"].as_str().unwrap().to_owned();
    assert_eq!(made.listed(&format!("--pseudonym {pseudonym} --permit MADE/0/2026")), made.listed("--person holder-0 --permit MADE/0/2026"));

    let key = made.log.join(Scope::Permit("MADE/0/2026".parse().unwrap()).key_id().path());
    fs::write(&key, KeyFile::destroyed_text()).unwrap();
    let (table, note) = made.ok("list --permit MADE/0/2026 --event session.opened");
    assert!(!table.contains("holder-0") && !table.contains("192.0.2") && table.contains(&pseudonym) && table.contains("(key destroyed)"), "{table}");
    assert!(note.contains("of 2 of them the key was destroyed: names in them are gone for good"), "{note}");
    assert!(made.ok("show 0").0.contains("its key was destroyed"));
    assert_eq!(made.lines("--last 1 --before 1")[0]["unopened"], "key destroyed");
    assert!(made.ok("list --person holder-0").1.contains("whether 200 more entries are about holder-0 can't be told"));
    fs::remove_file(key).unwrap();
    let (table, note) = made.ok("list --permit MADE/0/2026 --event session.opened");
    assert!(table.contains("(key not here)") && note.contains("the key is not here"), "{note}");
    assert!(made.ok("verify").0.contains("5000 entries"), "a log without its keys verifies as before");
}

/// LG-04: what goes to a third person is all of a permit, and nothing of another.
#[test]
fn an_export_of_a_permit_is_checked_without_the_log_and_a_row_that_is_missing_is_noticed() {
    let made = Made::new();
    let export = made.file("export");
    let out = export.display();
    assert_eq!(
        made.ok(&format!("export --permit MADE/3/2026 --out {out}")).1,
        format!("200 entries of permit MADE/3/2026, numbered without a gap, in {out}\n")
    );
    let (summary, _) = told(&check_export(&made, &export));
    assert!(
        summary.starts_with("200 entries of permit MADE/3/2026, each in made.example/audit of 5000 entries, numbered from 0 without a gap"),
        "{summary}"
    );
    let text = fs::read_to_string(&export).unwrap();
    let (before, _) = text.rsplit_once("\n\n").unwrap();
    let rows: Vec<&str> = text[before.len() + 2..].lines().collect();
    assert_eq!(rows.len(), 200);
    for row in [0, 57, 199] {
        let kept: Vec<&str> = rows.iter().enumerate().filter(|(at, _)| *at != row).map(|(_, row)| *row).collect();
        let shorter = made.file("shorter");
        fs::write(&shorter, format!("{before}\n\n{}\n", kept.join("\n"))).unwrap();
        let complaint = complaint(&check_export(&made, &shorter));
        assert!(complaint.contains("entries are missing or out of order") || complaint.contains("has 199 entries, not the 200"), "{complaint}");
    }
    let cut = made.file("cut");
    fs::write(&cut, &text[..text.len() - 1]).unwrap();
    assert!(complaint(&check_export(&made, &cut)).contains("line 200 of the entries"));
    assert!(made.refused(&format!("export --permit MADE/3/2026 --out {out}")).contains("is there already"));
    assert!(
        made.refused(&format!("export --permit MADE/99/2026 --out {}", made.file("none").display())).contains("no entry is of permit MADE/99/2026")
    );
    assert!(!made.file("none").exists());
    let of_session = made.file("session");
    made.ok(&format!("export --session 000000000000000c --out {}", of_session.display()));
    assert!(told(&check_export(&made, &of_session)).0.starts_with("100 entries of session 000000000000000c"));
}

#[test]
fn other_systems_get_every_entry_as_an_event_that_leads_back_to_it_and_nothing_private() {
    let made = Made::new();
    let text = made.ok("list --permit MADE/0/2026 --ocsf").0;
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listed = made.listed("--permit MADE/0/2026");
    assert!(events.iter().map(|event| event["metadata"]["sequence"].as_u64().unwrap()).eq(listed));
    assert!(events.iter().all(|event| event["metadata"]["version"] == "1.8.0"));
    assert!(!text.contains("holder-0") && !text.contains("192.0.2"), "what is sealed stays sealed");
    assert!(made.refused("list --ocsf --json").contains("cannot be used with"));
}
