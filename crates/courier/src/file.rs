//! The file sink: one OCSF event a line, synced before the cursor moves, rotated by size.
//!
//! The file itself says how far it is: after a crash its torn last line is taken away and it goes on after the last whole one, so that
//! lines seldom come twice. Old files are removed by number beyond a bound; whoever collects them has to be faster than that.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::config::FileSettings;
use crate::sink::{Record, Sink, SinkError};

/// The longest line: an entry of 64 KiB, every byte of it escaped, and what OCSF adds.
const LINE_BYTES_MAX: u64 = 512 * 1024;
/// The operator's collector may read, others may not.
const FILE_MODE: u32 = 0o640;
/// How long lines may be unsynced.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Writes events to a file.
#[derive(Debug)]
pub(crate) struct FileSink {
    settings: FileSettings,
    origin: String,
    lines: Option<Lines>,
}

/// The open file.
#[derive(Debug)]
struct Lines {
    file: File,
    bytes: u64,
    /// The number of the entry in its first line.
    first: Option<u64>,
}

impl FileSink {
    pub(crate) const fn new(settings: FileSettings, origin: String) -> Self {
        Self { settings, origin, lines: None }
    }

    fn error(&self, what: &str) -> impl FnOnce(io::Error) -> SinkError + use<> {
        SinkError::io(format!("{} can't be {what}", self.settings.path.display()))
    }

    /// Does file work where it may block, and gets the file back. On a failure the file is closed, and opened again later.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Lines) -> Result<(Lines, T), SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let lines = self.lines.take().ok_or_else(|| SinkError::Foreign(format!("{} is not open", self.settings.path.display())))?;
        let (lines, value) = joined(tokio::task::spawn_blocking(move || work(lines)).await)?;
        self.lines = Some(lines);
        Ok(value)
    }
}

fn joined<T>(result: Result<Result<T, SinkError>, tokio::task::JoinError>) -> Result<T, SinkError> {
    result.unwrap_or_else(|error| Err(SinkError::io("the file's thread ended")(io::Error::other(error))))
}

impl Sink for FileSink {
    async fn open(&mut self, next: u64) -> Result<u64, SinkError> {
        self.lines = None;
        let (path, origin) = (self.settings.path.clone(), self.origin.clone());
        let (lines, next) = joined(tokio::task::spawn_blocking(move || open(&path, &origin, next)).await)?;
        self.lines = Some(lines);
        Ok(next)
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let Some(first) = records.first().map(|record| record.index) else { return Ok(()) };
        let mut text = Vec::new();
        for record in records {
            text.extend_from_slice(record.event.to_string().as_bytes());
            text.push(b'\n');
        }
        let failed = self.error("written");
        let settings = self.settings.clone();
        self.blocking(move |mut lines| {
            if lines.bytes > 0 && lines.bytes + text.len() as u64 > settings.rotate_bytes {
                lines = rotate(lines, &settings)?;
            }
            lines.file.write_all(&text).map_err(failed)?;
            lines.bytes += text.len() as u64;
            lines.first.get_or_insert(first);
            Ok((lines, ()))
        })
        .await
    }

    async fn confirm(&mut self) -> Result<(), SinkError> {
        let failed = self.error("synced");
        self.blocking(move |lines| {
            lines.file.sync_data().map_err(failed)?;
            Ok((lines, ()))
        })
        .await
    }

    fn confirm_every(&self) -> Duration {
        SYNC_EVERY
    }
}

/// Opens the file behind its last whole line; says which entry comes next.
fn open(path: &Path, origin: &str, next: u64) -> Result<(Lines, u64), SinkError> {
    let failed = |what: &str| SinkError::io(format!("{} can't be {what}", path.display()));
    let fresh = !path.exists();
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path).map_err(failed("opened"))?;
    if fresh {
        sync_folder(path).map_err(failed("made durable"))?;
    }
    let length = file.metadata().map_err(failed("read"))?.len();
    let begin = length.saturating_sub(LINE_BYTES_MAX);
    let tail = read_at(&mut file, begin, LINE_BYTES_MAX).map_err(failed("read"))?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole == 0 && begin > 0 {
        return Err(SinkError::Foreign(format!("{} is not a file of OCSF lines; move it away", path.display())));
    }
    if whole < tail.len() {
        tracing::warn!(file = %path.display(), bytes = tail.len() - whole, "a line that a crash cut short was taken away; it is written again");
        file.set_len(begin + whole as u64).and_then(|()| file.sync_all()).map_err(failed("repaired"))?;
    }
    let bytes = begin + whole as u64;
    let last_line = tail[..whole].strip_suffix(b"\n").map(|lines| lines.rsplit(|byte| *byte == b'\n').next().unwrap_or(lines));
    let Some(last_line) = last_line else { return Ok((Lines { file, bytes, first: None }, next)) };
    let head = read_at(&mut file, 0, LINE_BYTES_MAX).map_err(failed("read"))?;
    let first_line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let (Some(first), Some(last)) = (sequence(first_line, origin), sequence(last_line, origin)) else {
        return Err(SinkError::Foreign(format!("{} holds lines of something else than the log {origin}; move it away", path.display())));
    };
    Ok((Lines { file, bytes, first: Some(first) }, last + 1))
}

/// The number of the entry in a line that this sink wrote of this log.
fn sequence(line: &[u8], origin: &str) -> Option<u64> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let metadata = event.get("metadata")?;
    let ours = metadata.get("log_name")?.as_str()? == origin;
    metadata.get("sequence")?.as_u64().filter(|_| ours)
}

fn read_at(file: &mut File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts the full file aside under the number of its first entry, begins a new one, and removes the oldest beyond the bound.
fn rotate(lines: Lines, settings: &FileSettings) -> Result<Lines, SinkError> {
    let path = &settings.path;
    let failed = |what: &str| SinkError::io(format!("{} can't be {what}", path.display()));
    lines.file.sync_all().map_err(failed("synced"))?;
    let aside = aside(path, lines.first.unwrap_or(0));
    fs::rename(path, &aside).map_err(failed("put aside"))?;
    let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path).map_err(failed("begun again"))?;
    sync_folder(path).map_err(failed("made durable"))?;
    for old in asides(path).map_err(failed("looked around"))?.iter().rev().skip(settings.keep_files) {
        tracing::info!(file = %old.display(), "the oldest file of a sink was removed");
        fs::remove_file(old).map_err(failed("rid of its oldest"))?;
    }
    Ok(Lines { file, bytes: 0, first: None })
}

/// `ocsf.jsonl` with first entry 7 becomes `ocsf-00000000000000000007.jsonl`.
fn aside(path: &Path, first: u64) -> PathBuf {
    let mut name = path.file_stem().map_or_else(OsString::new, OsString::from);
    name.push(format!("-{first:020}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The files that were put aside, oldest first.
fn asides(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let number = |found: &Path| {
        let stem = found.file_stem()?.to_str()?;
        let digits = stem.strip_prefix(path.file_stem()?.to_str()?)?.strip_prefix('-')?;
        digits.parse::<u64>().ok().filter(|first| aside(path, *first) == found)
    };
    let mut found: Vec<_> = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| number(path).is_some()).collect();
    found.sort();
    Ok(found)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
