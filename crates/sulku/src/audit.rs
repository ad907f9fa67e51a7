//! `sulku audit`: verify a log, list and show its entries, play recordings, prove single entries, make a log's key.
//!
//! Trusts nobody but the public key it is given: whatever it prints was checked against a checkpoint that this key signed. A running
//! ledger is read through its socket, where each reading is an entry of its own before the first byte comes; `--dir` reads a copy.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sulku_audit::personal::Sight;
use sulku_audit::source::read_checkpoint;
use sulku_audit::{EntryProof, Keyring, Recordings, Source, Trust, Verified};
use sulku_ledger::client::Client;
use sulku_ledger::folder::Folder;
use sulku_ledger::{key, verification};
use sulku_permit::SessionId;

use crate::print::{amount, answer};

mod due;
mod export;
mod filter;
mod identity;
mod keys;
mod list;
mod play;
mod recording;
mod search;
mod words;

/// Check, read and prove the record of what happened
#[derive(Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check the whole log and every recording against the log's key
    Verify {
        #[command(flatten)]
        place: Place,
        /// How many threads check entries [default: as many as there are processors]
        #[arg(long, value_name = "N")]
        threads: Option<NonZeroUsize>,
        /// Leave recordings aside, for a copy of the log without them
        #[arg(long)]
        no_recordings: bool,
    },
    /// List entries, the last hundred unless told otherwise
    List {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: Box<filter::Filter>,
        #[command(flatten)]
        page: list::Page,
        /// One JSON object a line, with the whole entry and, where its key is here, what is sealed in it
        #[arg(long)]
        json: bool,
        /// One OCSF 1.8.0 event a line, for other systems; nothing that is sealed
        #[arg(long, conflicts_with = "json")]
        ocsf: bool,
    },
    /// Show one entry, proven
    Show {
        /// The entry's number
        index: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Show what a session's terminal showed, at the speed it was shown
    Play {
        /// The session
        session: SessionId,
        #[command(flatten)]
        play: play::PlayArgs,
        #[command(flatten)]
        place: Place,
    },
    /// Print one entry's proof, which others check with the entry and the log's key
    Proof {
        /// The entry's number
        index: u64,
        /// Write the entry's exact bytes to this file; the proof is about them
        #[arg(long, value_name = "FILE")]
        entry: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Check a proof of one entry, without the log
    CheckProof {
        /// The proof
        proof: PathBuf,
        /// The entry's exact bytes
        entry: PathBuf,
        /// The log's public keys (FILE.pub), or a trust policy that names witnesses as well
        #[arg(long, env = "SULKU_AUDIT_KEY", value_name = "FILE")]
        key: PathBuf,
    },
    /// Write all entries about a permit or of a session to a file, with their proofs
    Export {
        #[command(flatten)]
        of: export::Of,
        /// The file, which must not be there yet
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Check an export, without the log
    CheckExport {
        #[command(flatten)]
        args: export::CheckArgs,
        /// The log's public keys (FILE.pub), or a trust policy that names witnesses as well
        #[arg(long, env = "SULKU_AUDIT_KEY", value_name = "FILE")]
        key: PathBuf,
    },
    /// Say which keys sign a log, following the old key's word about the new one; check the log with them
    Keys {
        #[command(flatten)]
        place: Place,
        /// Write the public keys that it leads to, for --key from then on
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List the recordings whose retention is over
    Due(Place),
    /// Delete a recording whose retention is over, for good; its entries stay, and the log verifies. As root on the ledger's host
    DeleteRecording {
        /// The session
        session: SessionId,
        /// The running ledger's socket
        #[arg(long, value_name = "SOCKET", default_value = "/run/sulku/ledger/ledger.sock")]
        ledger: PathBuf,
    },
    /// Make an auditor's identity: FILE, which opens recordings and stays with her; prints the public half, for the gateway
    Identity {
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a log's key: FILE, which signs, and FILE.pub, which auditors check with
    Keygen {
        /// The log's name, such as spe.example.fi/audit/node1
        #[arg(long)]
        origin: String,
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Where the log is, and the key that it is checked with.
#[derive(Args)]
struct Place {
    /// A copy of a log's folder
    #[arg(long, value_name = "DIR", conflicts_with = "ledger")]
    dir: Option<PathBuf>,
    /// A running ledger's socket
    #[arg(long, value_name = "SOCKET", default_value = "/run/sulku/ledger/ledger.sock")]
    ledger: PathBuf,
    /// The log's public keys (FILE.pub), or a trust policy that names witnesses as well
    #[arg(long, env = "SULKU_AUDIT_KEY", value_name = "FILE")]
    key: PathBuf,
}

impl Place {
    fn open(&self, what: &str) -> anyhow::Result<(Box<dyn Source>, Trust)> {
        let trust = load_trust(&self.key)?;
        let source: Box<dyn Source> = match &self.dir {
            Some(dir) => {
                anyhow::ensure!(dir.is_dir(), "{} is no folder; give the folder of a log's copy", dir.display());
                Box::new(Folder::new(dir.clone()))
            }
            None => Box::new(Client::connect(&self.ledger)?.announce(what)?),
        };
        Ok((source, trust))
    }
}

fn load_trust(path: &Path) -> anyhow::Result<Trust> {
    key::load_trust(path).context("the log's public key is needed, as `sulku audit keygen` wrote it to FILE.pub")
}

/// Runs the command.
///
/// # Errors
/// The log does not verify, or can't be read.
pub fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        AuditCommand::Verify { place, threads, no_recordings } => verify(&place, threads, no_recordings),
        AuditCommand::List { place, filter, page, json, ocsf } => {
            let (mut source, trust) = place.open(&format!("list{filter}{page}"))?;
            let (_, checkpoint) = read_checkpoint(&mut *source, &trust)?;
            let form = match (json, ocsf) {
                (true, _) => list::Form::Json,
                (false, true) => list::Form::Ocsf,
                (false, false) => list::Form::Table,
            };
            list::run(&mut *source, checkpoint, &filter, &page, form)
        }
        AuditCommand::Show { index, place } => {
            let (mut source, trust) = place.open(&format!("entry {index}"))?;
            show(&mut *source, &trust, index)
        }
        AuditCommand::Play { session, play, place } => {
            let (mut source, trust) = place.open(&format!("recording of session {session}"))?;
            play::run(&mut *source, &trust, session, &play)
        }
        AuditCommand::Proof { index, entry, place } => {
            let (mut source, trust) = place.open(&format!("proof of entry {index}"))?;
            let (proof, bytes) = EntryProof::make(&mut *source, &trust, index)?;
            if let Some(path) = entry {
                let mut file = std::fs::File::create_new(&path).with_context(|| format!("{} can't be written", path.display()))?;
                file.write_all(&bytes)?;
            }
            answer(&proof.to_text())?;
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::CheckProof { proof, entry, key } => {
            let text = std::fs::read_to_string(&proof).with_context(|| format!("{} can't be read", proof.display()))?;
            let bytes = std::fs::read(&entry).with_context(|| format!("{} can't be read", entry.display()))?;
            let proven = EntryProof::parse(&text)?.verify(&bytes, &load_trust(&key)?)?;
            let checkpoint = proven.checkpoint();
            answer(&format!("it is entry {} of {} in {}\n", proven.index(), checkpoint.size, words::safe(&checkpoint.origin)))?;
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Export { of, out, place } => {
            let subject = of.subject()?;
            let (mut source, trust) = place.open(&format!("export of {subject}"))?;
            let (note, checkpoint) = read_checkpoint(&mut *source, &trust)?;
            export::run(&mut *source, &note, checkpoint, &subject, &out)
        }
        AuditCommand::CheckExport { args, key } => export::check(&args, &load_trust(&key)?),
        AuditCommand::Due(place) => {
            let (mut source, trust) = place.open("recordings whose retention is over")?;
            due::list(&mut *source, &trust, jiff::Timestamp::now())
        }
        AuditCommand::DeleteRecording { session, ledger } => due::delete(&ledger, session),
        AuditCommand::Identity { out } => identity::create(&out),
        AuditCommand::Keys { place, out } => {
            let held = key::load_public(&place.key).context("give the log's public keys that you hold, the FILE.pub")?;
            let (mut source, _) = place.open("keys: every entry")?;
            keys::run(&mut *source, held, out.as_deref())
        }
        AuditCommand::Keygen { origin, out } => {
            let public = key::create(&origin, &out)?;
            answer(&public.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn verify(place: &Place, threads: Option<NonZeroUsize>, no_recordings: bool) -> anyhow::Result<ExitCode> {
    let (mut source, trust) = place.open(if no_recordings { "verify: every entry" } else { "verify: every entry and recording" })?;
    let begun = Instant::now();
    let (_, checkpoint) = read_checkpoint(&mut *source, &trust)?;
    let recordings = if no_recordings { Recordings::Skip } else { Recordings::Check };
    let threads = threads.unwrap_or_else(verification::threads);
    let verified = verification::verify(&mut *source, checkpoint, recordings, threads, |_, _, _| {})?;
    let took = begun.elapsed();
    let checkpoint = verified.checkpoint();
    let period = verified.period().map_or_else(String::new, |(first, last)| format!(" from {} to {}", words::time(first), words::time(last)));
    answer(&format!(
        "{origin}: whole and unchanged\n  {entries}{period}, each in the tree whose root the key has signed\n  \
         entries of {permits} and {sessions}, numbered without a gap\n  \
         {recorded}\n  root {root}\n  checked in {took:.2} s\n",
        origin = words::safe(&checkpoint.origin),
        entries = if verified.entries() == 1 { "1 entry".to_owned() } else { format!("{} entries", verified.entries()) },
        permits = count(verified.permits(), "permit"),
        sessions = count(verified.sessions(), "session"),
        recorded = recordings_in_words(&verified, recordings),
        root = checkpoint.root.to_base64(),
        took = took.as_secs_f64(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn recordings_in_words(verified: &Verified, recordings: Recordings) -> String {
    if recordings == Recordings::Skip {
        return "recordings were not looked at".to_owned();
    }
    let deleted = match verified.deleted() {
        0 => String::new(),
        number => format!("; {} deleted, as entries say", count(number, "recording")),
    };
    format!("{}, {}, each as its entry says{deleted}", count(verified.chunks(), "recorded chunk"), amount(verified.recorded_bytes()))
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn show(source: &mut dyn Source, trust: &Trust, index: u64) -> anyhow::Result<ExitCode> {
    let (proof, bytes) = EntryProof::make(source, trust, index)?;
    let proven = proof.verify(&bytes, trust)?;
    let value: serde_json::Value = serde_json::from_slice(&bytes)?;
    let checkpoint = proven.checkpoint();
    let entry = proven.entry();
    let sight = list::sight(source, &mut Keyring::default(), entry)?;
    let opened = match &sight {
        Sight::Open(_) if entry.sealed.is_none() && entry.person.is_none() => String::new(),
        Sight::Open(draft) => format!("opened: {}\n", words::safe_json(&serde_json::to_string_pretty(&list::opened(draft)?)?)),
        Sight::Destroyed => "its key was destroyed: what is sealed in it, and who the person is, is gone for good\n".to_owned(),
        Sight::NoKey => "its key is not here: what is sealed in it stays so\n".to_owned(),
        Sight::Damaged => "what is sealed in it does not open with its key: the key's file was changed, or the ledger that wrote it was\n".to_owned(),
    };
    answer(&format!(
        "{}\n{opened}entry {} of {} in {}, leaf hash {}\n",
        words::safe_json(&serde_json::to_string_pretty(&value)?),
        proven.index(),
        checkpoint.size,
        words::safe(&checkpoint.origin),
        sulku_audit::merkle::leaf_hash(&bytes),
    ))?;
    Ok(ExitCode::SUCCESS)
}
