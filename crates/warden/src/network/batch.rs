//! Changes of sets, maps and objects as one transaction of the kernel's nftables: all of it, or nothing.

use std::io;

use sulku_plan::ruleset::TABLE;

use super::contents::{TYPE_LIMIT, TYPE_QUOTA};
use super::netlink::{ACK, CREATE, EXCLUSIVE, Message, Socket};

const NFPROTO_INET: u8 = 1;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
const NEW_OBJECT: u16 = SUBSYSTEM << 8 | 18;
/// As deleting, but what is not there is no error: elements time out by themselves.
const DESTROY_ELEMENTS: u16 = SUBSYSTEM << 8 | 30;
const DESTROY_OBJECT: u16 = SUBSYSTEM << 8 | 31;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_OBJECT: u16 = 9;
const ELEMENT_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const QUOTA_BYTES: u16 = 1;
const QUOTA_FLAGS: u16 = 2;
const QUOTA_USED: u16 = 4;
const LIMIT_RATE: u16 = 1;
const LIMIT_UNIT: u16 = 2;
const LIMIT_BURST: u16 = 3;
const LIMIT_TYPE: u16 = 4;
const LIMIT_FLAGS: u16 = 5;
const PACKETS: u32 = 0;
/// The rule that asks goes on when the bound is passed, and not while it is kept.
const WHEN_PASSED: u32 = 1;
/// Elements in one message, so that no attribute comes near its 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 256;

/// One element of a set or map.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// The last key of an interval.
    pub(super) key_end: Option<Vec<u8>>,
    /// What a map gives for it.
    pub(super) gives: Gives,
    /// When the kernel takes it out, from now on.
    pub(super) timeout_ms: Option<u64>,
}

/// What an element gives.
#[derive(Debug, Clone)]
pub(super) enum Gives {
    /// It is there, and that is all.
    Nothing,
    /// A mark.
    Mark(u32),
    /// An object's name.
    Object(String),
}

impl Element {
    /// An element without a time-out that is only there.
    pub(super) const fn new(key: Vec<u8>) -> Self {
        Self { key, key_end: None, gives: Gives::Nothing, timeout_ms: None }
    }

    pub(super) fn lasting(self, timeout_ms: u64) -> Self {
        Self { timeout_ms: Some(timeout_ms), ..self }
    }

    pub(super) fn until(self, last: Vec<u8>) -> Self {
        Self { key_end: Some(last), ..self }
    }

    pub(super) fn giving(self, gives: Gives) -> Self {
        Self { gives, ..self }
    }
}

/// Changes that belong together.
#[derive(Debug, Default)]
pub(super) struct Batch(Vec<Message>);

impl Batch {
    /// Puts elements in; one that is there already makes the kernel refuse the batch.
    pub(super) fn add(&mut self, set: &'static str, elements: &[Element]) {
        self.0.extend(elements.chunks(ELEMENTS_A_MESSAGE).map(|elements| list(NEW_ELEMENTS, ACK | CREATE, set, elements)));
    }

    /// Takes elements out, as far as they are there.
    pub(super) fn destroy(&mut self, set: &'static str, elements: &[Element]) {
        self.0.extend(elements.chunks(ELEMENTS_A_MESSAGE).map(|elements| list(DESTROY_ELEMENTS, ACK, set, elements)));
    }

    /// Takes everything out of a set.
    pub(super) fn empty(&mut self, set: &'static str) {
        self.0.push(Message::new(DELETE_ELEMENTS, ACK, &[NFPROTO_INET, 0, 0, 0]).with_name(LIST_TABLE, TABLE).with_name(LIST_SET, set));
    }

    /// Makes an amount of bytes that may pass, of which so many have.
    pub(super) fn add_quota(&mut self, name: &str, bytes: u64, used: u64) {
        self.0.push(
            object(NEW_OBJECT, ACK | CREATE, name, TYPE_QUOTA)
                .with_nested(OBJECT_DATA, |data| quota_of(data, bytes).with(QUOTA_USED, &used.to_be_bytes())),
        );
    }

    /// Sees to it that a quota is of so many bytes; what is used up of it stays so.
    pub(super) fn settle_quota(&mut self, name: &str, bytes: u64) {
        self.0.push(object(NEW_OBJECT, ACK | CREATE & !EXCLUSIVE, name, TYPE_QUOTA).with_nested(OBJECT_DATA, |data| quota_of(data, bytes)));
    }

    /// Makes a rate, of which so many may come at once.
    pub(super) fn add_limit(&mut self, name: &str, packets: u32, per_s: u32, burst: u32) {
        let data = |data: Message| {
            data.with(LIMIT_RATE, &u64::from(packets).to_be_bytes())
                .with(LIMIT_UNIT, &u64::from(per_s).to_be_bytes())
                .with(LIMIT_BURST, &burst.to_be_bytes())
                .with(LIMIT_TYPE, &PACKETS.to_be_bytes())
                .with(LIMIT_FLAGS, &WHEN_PASSED.to_be_bytes())
        };
        self.0.push(object(NEW_OBJECT, ACK | CREATE, name, TYPE_LIMIT).with_nested(OBJECT_DATA, data));
    }

    pub(super) fn destroy_quota(&mut self, name: &str) {
        self.0.push(object(DESTROY_OBJECT, ACK, name, TYPE_QUOTA));
    }

    pub(super) fn destroy_limit(&mut self, name: &str) {
        self.0.push(object(DESTROY_OBJECT, ACK, name, TYPE_LIMIT));
    }

    /// Has the kernel carry it out. It has when this returns.
    pub(super) fn commit(self, socket: &Socket) -> io::Result<()> {
        transact(socket, self.0)
    }
}

/// Has the kernel carry out all of the changes, or none.
pub(super) fn transact(socket: &Socket, changes: Vec<Message>) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let edge = |kind| Message::new(kind, 0, &[0, 0, 0, 10]);
    let batch: Vec<_> = [edge(BATCH_BEGIN)].into_iter().chain(changes).chain([edge(BATCH_END)]).collect();
    socket.request(&batch).map(drop)
}

fn quota_of(data: Message, bytes: u64) -> Message {
    data.with(QUOTA_BYTES, &bytes.to_be_bytes()).with(QUOTA_FLAGS, &WHEN_PASSED.to_be_bytes())
}

fn object(kind: u16, flags: u16, name: &str, of: u32) -> Message {
    let message = Message::new(kind, flags, &[NFPROTO_INET, 0, 0, 0]);
    message.with_name(OBJECT_TABLE, TABLE).with_name(OBJECT_NAME, name).with(OBJECT_TYPE, &of.to_be_bytes())
}

fn list(kind: u16, flags: u16, set: &'static str, elements: &[Element]) -> Message {
    let message = Message::new(kind, flags, &[NFPROTO_INET, 0, 0, 0]).with_name(LIST_TABLE, TABLE).with_name(LIST_SET, set);
    message
        .with_nested(LIST_ELEMENTS, |list| elements.iter().fold(list, |list, element| list.with_nested(LIST_ELEMENT, |inside| put(inside, element))))
}

fn put(message: Message, element: &Element) -> Message {
    let Element { key, key_end, gives, timeout_ms } = element;
    let mut message = message.with_nested(ELEMENT_KEY, |inside| inside.with(DATA_VALUE, key));
    if let Some(key_end) = key_end {
        message = message.with_nested(ELEMENT_KEY_END, |inside| inside.with(DATA_VALUE, key_end));
    }
    message = match gives {
        Gives::Nothing => message,
        Gives::Mark(mark) => message.with_nested(ELEMENT_DATA, |inside| inside.with(DATA_VALUE, &mark.to_ne_bytes())),
        Gives::Object(name) => message.with_name(ELEMENT_OBJECT, name),
    };
    match timeout_ms {
        Some(timeout_ms) => message.with(ELEMENT_TIMEOUT, &timeout_ms.to_be_bytes()),
        None => message,
    }
}
