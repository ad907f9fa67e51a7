//! A ledger on a unix socket that keeps entries in memory, signs as the real one does, and fails when told to.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use sulku_audit::entry::{Body, Stamp};
use sulku_audit::merkle::leaf_hash;
use sulku_audit::wire::{Cause, Request, RequestBody, Response, ResponseBody, decode, encode};
use sulku_audit::{Draft, Event, PersonalKey, Receipt, Signer};

use super::eventually;

pub const ORIGIN: &str = "spe.example.fi/test";

#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

struct Shared {
    signer: Signer,
    kept: Mutex<Vec<Draft>>,
    manner: Mutex<Manner>,
    connections: Mutex<Vec<UnixStream>>,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Keeping,
    /// Keeps what closes and nothing else, as one does whose disk is full.
    Full,
    /// Takes entries and does not answer.
    Silent,
    /// Hangs up on everybody.
    Away,
}

pub fn signer(seed: u8) -> Signer {
    Signer::from_seed(ORIGIN, &[seed; 32]).expect("a key")
}

impl Ledger {
    pub fn serve(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let (kept, manner, connections) = (Mutex::default(), Mutex::new(Manner::Keeping), Mutex::default());
        let ledger = Self(Arc::new(Shared { signer: signer(7), kept, manner, connections, path: path.to_owned() }));
        let serving = ledger.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.manner() == Manner::Away {
                    continue;
                }
                serving.0.connections.lock().expect("a lock").push(stream.try_clone().expect("a descriptor"));
                let serving = serving.clone();
                std::thread::spawn(move || serving.attend(stream));
            }
        });
        ledger
    }

    pub fn verifier(&self) -> String {
        self.0.signer.verifier().to_string()
    }

    fn manner(&self) -> Manner {
        *self.0.manner.lock().expect("a lock")
    }

    pub fn be(&self, manner: Manner) {
        *self.0.manner.lock().expect("a lock") = manner;
        if manner == Manner::Away {
            for stream in self.0.connections.lock().expect("a lock").drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    fn attend(&self, mut stream: UnixStream) {
        let mut buffer = Vec::new();
        let mut part = [0; 65_536];
        loop {
            while let Some((request, _, used)) = decode::<Request>(&buffer).expect("a frame") {
                buffer.drain(..used);
                let RequestBody::Append(draft) = request.body else { panic!("the warden only appends") };
                let body = match self.manner() {
                    Manner::Keeping => ResponseBody::Kept(self.keep(&draft)),
                    Manner::Full if matches!(draft.event, Event::CellReaped { .. } | Event::OrderRefused { .. }) => {
                        ResponseBody::Kept(self.keep(&draft))
                    }
                    Manner::Full => ResponseBody::Refused { cause: Cause::Full, reason: "the disk is full".to_owned() },
                    Manner::Silent | Manner::Away => continue,
                };
                let frame = encode(&Response { id: request.id, body }, &[]).expect("a frame");
                if stream.write_all(&frame).is_err() {
                    return;
                }
            }
            match stream.read(&mut part) {
                Ok(0) | Err(_) => return,
                Ok(length) => buffer.extend_from_slice(&part[..length]),
            }
        }
    }

    /// Keeps an entry of now.
    pub fn keep(&self, draft: &Draft) -> Receipt {
        self.keep_at(draft, Timestamp::now())
    }

    pub fn keep_at(&self, draft: &Draft, time: Timestamp) -> Receipt {
        let mut kept = self.0.kept.lock().expect("a lock");
        let receipt = receipt(&self.0.signer, kept.len() as u64, draft, time);
        kept.push(draft.clone());
        receipt
    }

    pub fn entries(&self) -> Vec<Draft> {
        self.0.kept.lock().expect("a lock").clone()
    }

    /// The first entry, at whatever place, of which the question has an answer; waits for it.
    pub fn entry<T>(&self, what: &str, of: impl Fn(&Draft) -> Option<T>) -> T {
        eventually(what, || self.entries().iter().find_map(&of))
    }

    /// The answers of all entries that have one.
    pub fn all<T>(&self, of: impl Fn(&Draft) -> Option<T>) -> Vec<T> {
        self.entries().iter().filter_map(of).collect()
    }

    pub fn count(&self, name: &str) -> usize {
        self.entries().iter().filter(|draft| draft.event.name() == name).count()
    }

    pub fn refusals(&self) -> Vec<String> {
        self.entries()
            .iter()
            .filter_map(|draft| if let Event::OrderRefused { reason, .. } = &draft.event { Some(reason.clone()) } else { None })
            .collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub fn receipt(signer: &Signer, index: u64, draft: &Draft, time: Timestamp) -> Receipt {
    let stamp = Stamp {
        time,
        mono_ns: 1,
        boot: "00000000-0000-0000-0000-000000000000".to_owned(),
        permit_seq: draft.permit.as_ref().map(|_| index),
        session_seq: draft.session.as_ref().map(|_| index),
        salt: [3; 16],
    };
    let body = Body::new(draft, &PersonalKey::from_random([5; 32]), &[0; 24]).expect("a whole draft");
    let entry = body.encode(&stamp).expect("an entry");
    Receipt::issue(signer, index, &leaf_hash(&entry), draft, time)
}
