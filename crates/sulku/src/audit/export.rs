//! `sulku audit export` and `check-export`: all entries about a permit or of a session, with their proofs, in one file.
//!
//! The file is written aside and gets its name when it is whole. What it says, byte for byte: `sulku_audit::export`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sulku_audit::export::{self, Check, HEAD_BYTES_MAX, LINE_BYTES_MAX, Subject};
use sulku_audit::merkle::inclusion_proof;
use sulku_audit::reading::Pages;
use sulku_audit::source::TileNodes;
use sulku_audit::{Checkpoint, Source, Trust};
use sulku_permit::{PermitId, SessionId};

use super::filter::Filter;
use super::{list, words};
use crate::print::answer;

/// What an export is of.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Of {
    /// All entries about this permit
    #[arg(long)]
    permit: Option<PermitId>,
    /// All entries of this session
    #[arg(long)]
    session: Option<SessionId>,
}

impl Of {
    pub(super) fn subject(self) -> anyhow::Result<Subject> {
        let subject = self.permit.map(Subject::Permit).or(self.session.map(Subject::Session));
        subject.context("say what to export: --permit or --session")
    }
}

pub(super) fn run(source: &mut dyn Source, note: &[u8], checkpoint: Checkpoint, subject: &Subject, out: &Path) -> anyhow::Result<ExitCode> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = || format!("{} can't be written", out.display());
    anyhow::ensure!(!out.exists(), "{} is there already; name another file", out.display());
    let filter = match subject {
        Subject::Permit(permit) => Filter::of_permit(permit.clone()),
        Subject::Session(session) => Filter::of_session(*session),
    };
    let mut rows = tempfile::tempfile_in(folder).with_context(unwritable)?;
    let count = {
        let size = checkpoint.size;
        let mut pages = Pages::new(source, checkpoint)?;
        let (mut found, mut writer) = (0_u64, BufWriter::new(&mut rows));
        list::walk_all(&mut pages, &filter, |source, index, entry, bytes| {
            let count = subject.count_of(entry);
            anyhow::ensure!(
                count == Some(found),
                "before entry {index} some entries of {subject} are missing: it counts {count:?} where {found} comes next"
            );
            found += 1;
            let proof = inclusion_proof(&mut TileNodes::new(source, size), index, size)?;
            Ok(writer.write_all(export::line(index, bytes, &proof).as_bytes())?)
        })?;
        writer.flush()?;
        found
    };
    anyhow::ensure!(count > 0, "no entry is of {subject}; see sulku audit list");
    // How many there are is known only now, and stands at the beginning.
    let mut whole = tempfile::NamedTempFile::new_in(folder).with_context(unwritable)?;
    whole.write_all(export::head(subject, count, &String::from_utf8_lossy(note)).as_bytes())?;
    rows.rewind()?;
    io::copy(&mut rows, whole.as_file_mut())?;
    whole.as_file().sync_all()?;
    whole.persist_noclobber(out).with_context(unwritable)?;
    eprintln!("{count} entries of {subject}, numbered without a gap, in {}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// A file of an export, to be checked without the log.
#[derive(Args)]
pub(super) struct CheckArgs {
    /// The export
    export: PathBuf,
    /// Print each entry, a JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn check(args: &CheckArgs, trust: &Trust) -> anyhow::Result<ExitCode> {
    let unreadable = || format!("{} can't be read", args.export.display());
    let mut file = BufReader::new(File::open(&args.export).with_context(unreadable)?);
    let mut head = String::new();
    let mut blank_lines = 0;
    // The head's own blank line, the note's, and the one that ends the note.
    while blank_lines < 3 {
        let before = head.len();
        let read = file.by_ref().take((HEAD_BYTES_MAX - before) as u64).read_line(&mut head).with_context(unreadable)?;
        anyhow::ensure!(read > 0, "{}", export::ExportError::Head);
        blank_lines += usize::from(&head[before..] == "\n");
    }
    let mut check = Check::begin(&head, trust)?;
    let (mut out, mut last) = (BufWriter::new(io::stdout().lock()), None);
    let mut line = String::new();
    while file.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_line(&mut line).with_context(unreadable)? > 0 {
        // A line without its end is one that was cut.
        let exported = check.take(line.strip_suffix('\n').unwrap_or_default())?;
        if args.json {
            let entry = String::from_utf8_lossy(exported.bytes()).into_owned();
            writeln!(out, "{{\"index\":{},\"entry\":{}}}", exported.index(), words::safe_json(&entry))?;
        }
        last = Some((exported.index(), exported.entry().stamp.time));
        line.clear();
    }
    out.flush()?;
    drop(out);
    let whole = check.finish()?;
    let until = last.map_or_else(String::new, |(index, time)| format!("\n  the last is entry {index} of {}", words::time(time)));
    let summary = format!(
        "{count} entries of {subject}, each in {origin} of {size} entries, numbered from 0 without a gap{until}\n  \
         that no later entry of those {size} is of it, only the log itself shows\n",
        count = whole.entries,
        subject = whole.subject,
        origin = words::safe(&whole.checkpoint.origin),
        size = whole.checkpoint.size,
    );
    if args.json {
        eprint!("{summary}");
    } else {
        answer(&summary)?;
    }
    Ok(ExitCode::SUCCESS)
}
