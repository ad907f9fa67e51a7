//! The unix socket: who may connect, what each may ask, and how much of it may wait.
//!
//! The kernel says whose process a peer is (`SO_PEERCRED`); a peer says nothing about itself. Writes no entry itself: appends go to
//! the writer's queue. Files are read here, only after an announcement whose entry is durable, and only by names of a closed form.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::net::sockopt::socket_peercred;
use sulku_audit::counters::Part;
use sulku_audit::personal::{KeyId, Scope};
use sulku_audit::source::{CHECKPOINT, COSIGNED};
use sulku_audit::tile::Tile;
use sulku_audit::wire::{self, BLOB_BYTES_MAX, Cause, Request, RequestBody, Response, ResponseBody};
use sulku_audit::{Draft, Event, Writer};
use sulku_permit::{PermitId, SessionId};

use crate::answers::{Expected, Gathered, Outbox};
use crate::config::Settings;
use crate::deletion;
use crate::disk::RealDisk;
use crate::files::NO_LINK;
use crate::flight::{Boarding, Flight};
use crate::keys::{KeyError, Keys};
use crate::metrics::{Metrics, State, Taken};
use crate::queue::{Desk, Weighed};
use crate::room::Room;
use crate::stage::{Blob, Prepared};
use crate::witnessing::Witnessing;
use crate::writer::Command;

/// Connections that one user id may have. The gateway and the warden need one each.
const CONNECTIONS_PER_UID_MAX: usize = 16;
/// Requests of one connection that may wait for their answers; beyond it the next is not read.
const IN_FLIGHT_REQUESTS_MAX: usize = 4096;
/// Bytes that the requests and answers in flight of one connection may hold in memory.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// May read, break the glass and order destruction, since it could do worse unseen.
const ROOT: u32 = 0;
/// How much is read from a socket at once.
const READ_BYTES: usize = 256 << 10;

/// What a peer may do, by its user id.
#[derive(Debug, Clone, Copy)]
struct Peer {
    uid: u32,
    gateway: bool,
    warden: bool,
    auditor: bool,
    courier: bool,
}

impl Peer {
    fn new(uid: u32, settings: &Settings) -> Self {
        let auditor = uid == ROOT || settings.auditors.contains_key(&uid);
        let courier = settings.courier_uid == Some(uid);
        Self { uid, gateway: uid == settings.gateway_uid, warden: uid == settings.warden_uid, auditor, courier }
    }

    const fn may_write(self, writer: Writer) -> bool {
        match writer {
            Writer::Ledger => false,
            Writer::Gateway => self.gateway,
            Writer::Warden => self.warden,
        }
    }

    const fn is_known(self) -> bool {
        self.gateway || self.warden || self.auditor || self.courier
    }
}

/// Takes connections until the listener is shut down.
pub(crate) struct Server {
    settings: Settings,
    keys: Arc<Keys>,
    desk: Arc<Desk>,
    witnessing: Arc<Witnessing>,
    room: Arc<Room>,
    metrics: Arc<Metrics>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    closing: bool,
    next: u64,
    open: HashMap<u64, (u32, UnixStream)>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn new(
        settings: Settings,
        keys: Arc<Keys>,
        desk: Arc<Desk>,
        witnessing: Arc<Witnessing>,
        room: Arc<Room>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { settings, keys, desk, witnessing, room, metrics, connections: Mutex::default() })
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts until told to close.
    pub(crate) fn accept(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.connections().closing {
                return;
            }
            // A connection that breaks while it is made concerns its peer alone; one that can't be made for want of descriptors
            // must not become a busy loop.
            match stream.and_then(|stream| self.serve(stream)) {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
    }

    /// Takes no more requests, and waits until those taken are answered. The caller then wakes the listener by connecting to it.
    pub(crate) fn close(&self) {
        let mut connections = self.connections();
        connections.closing = true;
        for (_, stream) in connections.open.values() {
            // A peer that is gone already has nothing more to say.
            let _gone = stream.shutdown(std::net::Shutdown::Read);
        }
    }

    /// Ends every connection; to be called when all answers have been given their time.
    pub(crate) fn hang_up(&self) {
        for (_, stream) in self.connections().open.values() {
            let _gone = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Connections that are still open.
    pub(crate) fn open(&self) -> usize {
        self.connections().open.len()
    }

    /// A permit that names the reader: whoever holds one does not audit.
    fn conflict_of(&self, peer: Peer) -> Result<Option<PermitId>, KeyError> {
        self.settings.auditors.get(&peer.uid).map_or(Ok(None), |person| self.keys.permit_of(person))
    }

    fn submit(&self, batch: &mut Vec<Weighed>) -> Result<(), ConnectionError> {
        if batch.is_empty() { Ok(()) } else { self.desk.submit(batch).map_err(|_| ConnectionError::Stopping) }
    }

    fn state(&self) -> State {
        let (cosigned, effect) = self.witnessing.age_and_effect();
        State { is_full: self.room.is_full(), cosigned, effect: effect as u8 }
    }

    fn serve(self: &Arc<Self>, mut stream: UnixStream) -> io::Result<()> {
        let uid = socket_peercred(&stream)?.uid.as_raw();
        let peer = Peer::new(uid, &self.settings);
        let mut connections = self.connections();
        let of_this_uid = connections.open.values().filter(|(other, _)| *other == uid).count();
        let refusal = match (peer.is_known(), of_this_uid < CONNECTIONS_PER_UID_MAX) {
            (true, true) => None,
            (false, _) => Some(format!("user {uid} has no part in this ledger; auditors are named in [[auditor]] of its configuration")),
            (true, false) => Some(format!("user {uid} has {CONNECTIONS_PER_UID_MAX} connections already")),
        };
        if let Some(reason) = refusal {
            tracing::warn!(uid, reason, "a connection was refused");
            stream.set_nonblocking(true)?;
            let response = Response { id: 0, body: ResponseBody::Refused { cause: Cause::NotAllowed, reason } };
            // A fresh socket's buffer holds this; a peer that is gone need not hear it.
            let _gone = wire::encode(&response, &[]).map(|frame| stream.write_all(&frame));
            return Ok(());
        }
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, (uid, stream.try_clone()?));
        connections.threads.retain(|thread| !thread.is_finished());
        let outbox = Outbox::new(stream.try_clone()?, Arc::new(Flight::new(IN_FLIGHT_REQUESTS_MAX, IN_FLIGHT_BYTES_MAX)));
        let reading = Expected::new(&outbox);
        let server = Arc::clone(self);
        let writer = thread::Builder::new().name("answers".to_owned()).spawn(move || {
            outbox.send_what_is_left();
            server.connections().open.remove(&number);
        })?;
        let server = Arc::clone(self);
        let reader = thread::Builder::new().name("requests".to_owned()).spawn(move || {
            match read_requests(stream, peer, &server, reading.outbox()) {
                Ok(()) => tracing::info!(uid, "a connection ended"),
                Err(error) => tracing::warn!(uid, %error, "a connection was closed"),
            }
            drop(reading);
        })?;
        connections.threads.extend([writer, reader]);
        Ok(())
    }
}

/// Where the answer to a request goes. Each request gets exactly one.
pub(crate) struct Reply(Option<Addressee>);

struct Addressee {
    outbox: Expected,
    id: u64,
    weight: usize,
    purpose: Purpose,
    taken: Taken,
}

enum Purpose {
    /// The answer changes nothing.
    Plain,
    /// When kept, the connection may read.
    Announcement,
    /// When kept, the peer hears this refusal.
    Refusal(String),
    /// When kept, the key is destroyed.
    Destruction(Arc<Keys>, KeyId),
    /// When kept, the recording is deleted from the log's folder, up to its last part.
    Deletion(PathBuf, SessionId, u32),
}

impl Reply {
    /// For entries of the ledger's own.
    pub(crate) const fn nobody() -> Self {
        Self(None)
    }

    /// For the other end of a connection, which numbered the request so.
    #[cfg(test)]
    pub(crate) fn to(outbox: &Arc<Outbox>, id: u64) -> Self {
        Self(Some(Addressee { outbox: Expected::new(outbox), id, weight: 0, purpose: Purpose::Plain, taken: Metrics::new(0).taken(0) }))
    }

    /// The same, of a recording whose last part is this.
    pub(crate) fn of_parts(mut self, last: u32) -> Self {
        if let Some(Addressee { purpose: Purpose::Deletion(_, _, last_part), .. }) = &mut self.0 {
            *last_part = last;
        }
        self
    }

    /// Answers. To a peer that is gone there is nothing to say.
    pub(crate) fn send(self, body: ResponseBody) {
        self.send_with(body, &[]);
    }

    /// Refuses.
    pub(crate) fn refuse(self, cause: Cause, reason: String) {
        self.send(ResponseBody::Refused { cause, reason });
    }

    fn send_with(self, body: ResponseBody, blob: &[u8]) {
        let mut alone = Gathered::default();
        self.add(body, blob, &mut alone);
        alone.send();
    }

    /// Answers with others, when they are sent.
    pub(crate) fn add(self, mut body: ResponseBody, blob: &[u8], gathered: &mut Gathered) {
        let Some(Addressee { outbox, id, weight, purpose, taken }) = self.0 else { return };
        if matches!(body, ResponseBody::Kept(_)) {
            match purpose {
                Purpose::Plain => {}
                Purpose::Refusal(reason) => body = ResponseBody::Refused { cause: Cause::NotAllowed, reason },
                Purpose::Announcement => outbox.outbox().announce(),
                Purpose::Destruction(keys, id) => {
                    if let Err(error) = keys.destroy(&id) {
                        tracing::error!(%error, key = %id, "a key that was ordered to be destroyed is still there; the next start tries again");
                        body = ResponseBody::Refused { cause: Cause::Broken, reason: format!("the key is still there: {error}; restart the ledger") };
                    }
                }
                Purpose::Deletion(directory, session, last_part) => {
                    if let Err(error) = deletion::destroy(&RealDisk, &directory, &session, last_part) {
                        tracing::error!(%error, %session, "a recording that was ordered to be deleted is still there; the next start tries again");
                        let reason = format!("the recording is still there: {error}; restart the ledger");
                        body = ResponseBody::Refused { cause: Cause::Broken, reason };
                    }
                }
            }
        }
        match &body {
            ResponseBody::Kept(_) => taken.kept(),
            ResponseBody::Refused { .. } => taken.refused(),
            _ => {}
        }
        let response = Response { id, body };
        let refusal = |reason: String| Response { id, body: ResponseBody::Refused { cause: Cause::Malformed, reason } };
        let added = gathered.add(outbox, &response, blob, weight);
        if let Err((error, _)) = added.or_else(|(error, outbox)| gathered.add(outbox, &refusal(error.to_string()), &[], weight)) {
            tracing::error!(%error, "an answer could not be encoded");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the peer sent what is no request: {0}")]
    Malformed(#[from] wire::WireError),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the peer is gone")]
    Gone,
    #[error("the ledger is stopping")]
    Stopping,
}

fn read_requests(mut stream: UnixStream, peer: Peer, server: &Server, outbox: &Arc<Outbox>) -> Result<(), ConnectionError> {
    let (mut buffer, mut chunk, mut batch) = (Vec::new(), vec![0; READ_BYTES], Vec::new());
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..count]);
        let mut taken = 0;
        while let Some((request, blob, length)) = wire::decode::<Request>(&buffer[taken..])? {
            let weight = weight(&request, length);
            if outbox.flight().try_board(weight).map_err(|_| ConnectionError::Gone)? == Boarding::Full {
                // What was read before must be on its way before this waits for its answers.
                server.submit(&mut batch)?;
                outbox.flight().board(weight).map_err(|_| ConnectionError::Gone)?;
            }
            batch.extend(handle(request, blob.to_vec(), length, peer, server, outbox)?);
            taken += length;
        }
        buffer.drain(..taken);
        server.submit(&mut batch)?;
    }
}

/// What a request and its answer hold in memory.
fn weight(request: &Request, length: usize) -> usize {
    if matches!(request.body, RequestBody::Fetch { .. }) { BLOB_BYTES_MAX } else { length }
}

/// Answers a request, which is in flight, or gives what the writer has to do for it.
fn handle(
    request: Request,
    blob: Vec<u8>,
    length: usize,
    peer: Peer,
    server: &Server,
    outbox: &Arc<Outbox>,
) -> Result<Option<Weighed>, ConnectionError> {
    let weight = weight(&request, length);
    let Request { id, body } = request;
    let reply = |purpose| Reply(Some(Addressee { outbox: Expected::new(outbox), id, weight, purpose, taken: server.metrics.taken(length) }));
    let refuse = |cause, reason: String| {
        tracing::warn!(uid = peer.uid, reason, "a request was refused");
        reply(Purpose::Plain).refuse(cause, reason);
        Ok(None)
    };
    if !blob.is_empty() && !matches!(body, RequestBody::Append(_)) {
        return refuse(Cause::Malformed, "only an entry about a recording comes with bytes".to_owned());
    }
    let not_root = || refuse(Cause::NotAllowed, format!("user {} may not ask this; root may", peer.uid));
    let (draft, blob, purpose) = match body {
        RequestBody::Append(draft) if peer.may_write(draft.event.writer()) => match server.witnessing.refusal(&draft.event) {
            None => (draft, Blob::new(blob), Purpose::Plain),
            Some(reason) => return refuse(Cause::Unwitnessed, reason),
        },
        RequestBody::Cosign { note } if peer.courier => {
            reply(Purpose::Plain).send(server.witnessing.cosigned(&note));
            return Ok(None);
        }
        RequestBody::Append(draft) => {
            let reason = format!("user {} may not write {}, which is the {:?}'s", peer.uid, draft.event.name(), draft.event.writer());
            return refuse(Cause::NotAllowed, reason);
        }
        RequestBody::Announce { what } if peer.auditor || peer.courier => match server.conflict_of(peer) {
            Ok(None) => (Draft::new(Event::AuditRead { uid: peer.uid, what: what.into() }), Blob::none(), Purpose::Announcement),
            Ok(Some(permit)) => {
                let draft = Draft::new(Event::AuditRefused { uid: peer.uid, reason: "holder".to_owned(), what: what.into() });
                let reason = format!("user {} holds the permit {permit}, and so does not audit this log", peer.uid);
                (draft, Blob::none(), Purpose::Refusal(reason))
            }
            Err(error) => return refuse(Cause::Broken, format!("whether the reader holds a permit can't be told: {error}")),
        },
        RequestBody::Fetch { path, offset } if peer.auditor || peer.courier => {
            if outbox.is_announced() {
                let (body, blob) = fetch(&server.settings.directory, &path, offset, peer);
                reply(Purpose::Plain).send_with(body, &blob);
                return Ok(None);
            }
            return refuse(Cause::NotAllowed, "reading is announced first".to_owned());
        }
        RequestBody::Announce { .. } | RequestBody::Fetch { .. } => {
            let reason = format!("user {} may not read; auditors are named in [[auditor]] of the ledger's configuration", peer.uid);
            return refuse(Cause::NotAllowed, reason);
        }
        RequestBody::BreakGlass { reason } if peer.uid == ROOT => {
            (Draft::new(Event::OperatorBrokeGlass { uid: peer.uid, reason }), Blob::none(), Purpose::Plain)
        }
        RequestBody::DestroyKey { scope } if peer.uid == ROOT => {
            let Some(scope) = Scope::parse(&scope) else {
                return refuse(Cause::Malformed, "write the permit's id, or a year as in year:2026".to_owned());
            };
            let reply = reply(Purpose::Destruction(Arc::clone(&server.keys), scope.key_id()));
            return Ok(Some((Command::DestroyKey { scope, uid: peer.uid, reply }, weight)));
        }
        RequestBody::DeleteRecording { session } if peer.uid == ROOT => {
            let reply = reply(Purpose::Deletion(server.settings.directory.clone(), session, 0));
            return Ok(Some((Command::DeleteRecording { session, uid: peer.uid, reply }, weight)));
        }
        RequestBody::BreakGlass { .. } | RequestBody::DestroyKey { .. } | RequestBody::DeleteRecording { .. } => return not_root(),
        RequestBody::Metrics if peer.auditor || peer.courier => {
            let figures = server.metrics.to_text(server.state());
            reply(Purpose::Plain).send_with(ResponseBody::Figures, figures.as_bytes());
            return Ok(None);
        }
        RequestBody::Cosign { .. } | RequestBody::Metrics => {
            return refuse(Cause::NotAllowed, format!("user {} may not ask this; the courier may", peer.uid));
        }
        RequestBody::Publish => return Ok(Some((Command::Publish(reply(Purpose::Plain)), weight))),
    };
    match Prepared::new(&server.keys, draft, blob) {
        Ok(prepared) => Ok(Some((Command::Append { prepared, reply: reply(purpose) }, weight))),
        Err(rejection) => {
            let (cause, reason) = rejection.told();
            refuse(cause, reason)
        }
    }
}

/// The file of the log that a path names; `None` for whatever is not one. Nothing of the peer's text reaches the file system.
fn readable(directory: &Path, path: &str, peer: Peer) -> Option<PathBuf> {
    let recording = || Part::parse(path).map(|(part, session, number)| part.path(&session, number));
    let key = || path.strip_prefix("keys/").and_then(KeyId::parse);
    if let Some(note) = [CHECKPOINT, COSIGNED].into_iter().find(|note| *note == path) {
        Some(directory.join(note))
    } else if let Ok(tile) = path.parse::<Tile>() {
        Some(directory.join(tile.to_string()))
    } else if !peer.auditor {
        // What the courier carries out is sealed, and stays so.
        None
    } else if let Some(key) = key() {
        Some(directory.join(key.path()))
    } else {
        recording().map(|name| directory.join(name))
    }
}

fn fetch(directory: &Path, path: &str, offset: u64, peer: Peer) -> (ResponseBody, Vec<u8>) {
    let refused = |reason: String| (ResponseBody::Refused { cause: Cause::NotAllowed, reason }, Vec::new());
    let Some(file) = readable(directory, path, peer) else {
        return refused("not a file of the log that you may read: checkpoint, tile/…, keys/<id>, recordings/<session>.rec or .key, or of a later part recordings/<session>.<part>.rec or .key".to_owned());
    };
    let read = || -> io::Result<(u64, Vec<u8>)> {
        let file = OpenOptions::new().read(true).custom_flags(NO_LINK).open(&file)?;
        let total = file.metadata()?.len();
        let mut blob = vec![0; usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX).min(BLOB_BYTES_MAX)];
        file.read_exact_at(&mut blob, offset)?;
        Ok((total, blob))
    };
    match read() {
        Ok((total, blob)) => (ResponseBody::File { total }, blob),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (ResponseBody::NoFile, Vec::new()),
        Err(error) => refused(format!("{path} could not be read: {error}")),
    }
}
