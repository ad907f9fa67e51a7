use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sulku_audit::{CloseReason, Event as Entry, Receipt};
use sulku_permit::{Credential, Identity, PermitSet, Request, SessionId};
use sulku_plan::Plan;
use sulku_protocol::{Ask, OUTPUT_CREDIT_BYTES, Tell};

use crate::{Asked, Effect, Event, Facts, Now, Session};

const GOOD: &str = include_str!("../../../permit/tests/good.toml");
const BEGAN: &str = "2026-06-01T10:00:00Z";

fn facts() -> Facts {
    let permits = PermitSet::new(vec![sulku_permit::parse("good.toml", GOOD).expect("a good permit")]).expect("no contradiction");
    let credential = Credential {
        identities: vec![Identity::Uri("spiffe://spe.example.fi/person/maija".into())],
        expires: "2030-01-01T00:00:00Z".parse().expect("a time"),
    };
    let from = "192.0.2.7".parse().expect("an address");
    let request = Request { credential: &credential, permit: None, from, now: BEGAN.parse().expect("a time") };
    let admission = sulku_permit::admit(&permits, &request).expect("admitted");
    let plan = Plan::for_admission(&admission);
    let asked = Asked { from, transport: "tls", client: "test".into(), command: None, term: "xterm".into(), size: (80, 24) };
    Facts::new(SessionId::from_random([7; 10]), admission, &plan, "root", asked)
}

fn receipt() -> Receipt {
    serde_json::from_str(r#"{"index":1,"leaf_hash":"00"}"#).expect("a receipt's shape")
}

fn at(elapsed: Duration) -> Now {
    let began: Timestamp = BEGAN.parse().expect("a time");
    Now { wall: began.checked_add(elapsed).expect("in range"), elapsed }
}

/// Drives a session and keeps what it wanted.
struct Driven {
    session: Session,
    effects: Vec<Effect>,
    elapsed: Duration,
    kept: usize,
}

impl Driven {
    fn begin() -> Self {
        let mut effects = Vec::new();
        Self { session: Session::begin(facts(), &mut effects), effects, elapsed: Duration::ZERO, kept: 0 }
    }

    fn open() -> Self {
        let mut driven = Self::begin();
        driven.keep_all().tell(Event::Launched);
        assert!(matches!(driven.session, Session::Open(_)));
        driven
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        let session = std::mem::replace(&mut self.session, Session::Closed(CloseReason::HolderLeft));
        self.session = session.step(event, at(self.elapsed), &mut self.effects);
        self
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.elapsed += time;
        self.tell(Event::Tick)
    }

    /// Answers everything that the ledger owes.
    fn keep_all(&mut self) -> &mut Self {
        loop {
            let owed = self.effects.iter().filter(|effect| matches!(effect, Effect::Append(_) | Effect::Record(..))).count();
            if self.kept == owed {
                return self;
            }
            self.kept += 1;
            self.tell(Event::Kept(receipt()));
        }
    }

    fn shown(&self) -> Vec<u8> {
        let output = |effect: &Effect| match effect {
            Effect::Send(Tell::Output(bytes)) => bytes.clone(),
            _ => Vec::new(),
        };
        self.effects.iter().flat_map(output).collect()
    }

    fn closing_entries(&self) -> Vec<CloseReason> {
        let closed = |effect: &Effect| match effect {
            Effect::Append(draft) => match draft.event {
                Entry::SessionClosed { reason, .. } => Some(reason),
                _ => None,
            },
            _ => None,
        };
        self.effects.iter().filter_map(closed).collect()
    }

    fn recorded(&self) -> String {
        let chunk = |effect: &Effect| match effect {
            Effect::Record(_, chunk) => String::from_utf8(chunk.clone()).expect("asciicast is text"),
            _ => String::new(),
        };
        self.effects.iter().map(chunk).collect()
    }
}

#[test]
fn nothing_is_shown_before_it_is_recorded() {
    let mut driven = Driven::open();
    driven.tell(Event::Output(b"secret".to_vec()));
    assert_eq!(driven.shown(), b"", "its chunk is on its way to the ledger");
    assert!(driven.recorded().contains("secret"));
    driven.tell(Event::Kept(receipt()));
    assert_eq!(driven.shown(), b"secret");
}

#[test]
fn much_output_makes_few_chunks() {
    let mut driven = Driven::open();
    for _ in 0..10 {
        driven.tell(Event::Output(b"x".to_vec()));
    }
    driven.keep_all();
    let chunks = driven.effects.iter().filter(|effect| matches!(effect, Effect::Record(..))).count();
    assert_eq!((chunks, driven.shown().len()), (2, 10));
}

#[test]
fn output_stops_when_the_client_shows_nothing() {
    let mut driven = Driven::open();
    let mut total = 0;
    while driven.session.output_room() > 0 {
        let bytes = vec![b'x'; driven.session.output_room()];
        total += bytes.len();
        driven.tell(Event::Output(bytes)).keep_all();
        assert!(total <= OUTPUT_CREDIT_BYTES as usize, "never beyond the credit");
    }
    driven.tell(Event::Asked(Ask::Shown(u32::try_from(total).expect("small"))));
    assert!(driven.session.output_room() > 0, "what is shown makes room");
    driven.tell(Event::Asked(Ask::Shown(1)));
    assert_eq!(driven.closing_entries(), [CloseReason::ProtocolError], "more was reported than was sent");
}

#[test]
fn output_alone_keeps_no_session_from_being_idle() {
    let mut driven = Driven::open();
    for _ in 0..29 {
        driven.pass(Duration::from_secs(60)).tell(Event::Output(b".".to_vec())).keep_all();
    }
    assert!(matches!(driven.session, Session::Open(_)));
    driven.tell(Event::Asked(Ask::Input(b"x".to_vec())));
    driven.pass(Duration::from_secs(29 * 60)).keep_all();
    assert!(matches!(driven.session, Session::Open(_)), "typing counts");
    driven.pass(Duration::from_secs(60));
    assert_eq!(driven.closing_entries(), [CloseReason::Idle]);
}

#[test]
fn a_session_ends_with_its_permit_even_if_the_clock_is_set_back() {
    let mut driven = Driven::open();
    for _ in 0..(12 * 4) {
        driven.tell(Event::Asked(Ask::Input(b"x".to_vec())));
        driven.elapsed += Duration::from_secs(15 * 60);
        let (session, mut now) = (std::mem::replace(&mut driven.session, Session::Closed(CloseReason::HolderLeft)), at(driven.elapsed));
        now.wall = BEGAN.parse().expect("a time");
        driven.session = session.step(Event::Tick, now, &mut driven.effects);
        driven.keep_all();
    }
    assert_eq!(driven.closing_entries(), [CloseReason::LongestSession]);
}

#[test]
fn a_cell_that_the_warden_ended_in_time_ended_with_the_permit() {
    let mut driven = Driven::open();
    driven.elapsed = Duration::from_millis(12 * 3_600_000 - 100);
    driven.tell(Event::Asked(Ask::Input(b"x".to_vec()))).tell(Event::Reaped);
    assert_eq!(driven.closing_entries(), [CloseReason::LongestSession]);
    let mut driven = Driven::open();
    driven.tell(Event::Reaped);
    assert_eq!(driven.closing_entries(), [CloseReason::CellFailed], "out of time, it broke");
}

#[test]
fn a_warden_that_does_not_answer_ends_the_session() {
    let mut driven = Driven::begin();
    driven.keep_all().pass(Duration::from_secs(14));
    assert!(matches!(driven.session, Session::Launching(_)));
    driven.pass(Duration::from_secs(1));
    assert!(driven.effects.contains(&Effect::EndCell(CloseReason::CellFailed)), "what may have been built is ended");
    assert_eq!(driven.closing_entries(), [CloseReason::CellFailed]);
    driven.keep_all().tell(Event::LaunchRefused);
    assert!(matches!(driven.session, Session::Closed(CloseReason::CellFailed)));
}

#[test]
fn a_ledger_that_does_not_answer_ends_the_session() {
    let mut driven = Driven::open();
    driven.tell(Event::Output(b"never shown".to_vec()));
    driven.pass(Duration::from_secs(29));
    assert!(matches!(driven.session, Session::Open(_)));
    driven.pass(Duration::from_secs(1));
    assert!(driven.effects.contains(&Effect::EndCell(CloseReason::AuditFailed)));
    assert_eq!(driven.shown(), b"");
}

#[test]
fn a_shell_that_ends_is_drained_before_the_session_closes() {
    let mut driven = Driven::open();
    driven.tell(Event::Exited(3)).tell(Event::Output(b"last words".to_vec())).tell(Event::OutputEnded);
    assert!(matches!(driven.session, Session::Open(_)), "the last words are not recorded yet");
    driven.tell(Event::Kept(receipt()));
    assert_eq!(driven.shown(), b"last words");
    driven.tell(Event::Kept(receipt())).tell(Event::Kept(receipt())).tell(Event::Reaped);
    assert!(matches!(driven.session, Session::Closed(CloseReason::ShellExited)));
    let told = driven.effects.iter().any(|effect| matches!(effect, Effect::Send(Tell::Closed(closed)) if closed.exit_status == Some(3)));
    assert!(told, "the holder learns the exit status");
}

#[test]
fn what_was_typed_is_in_no_recording() {
    let mut driven = Driven::open();
    driven.tell(Event::Asked(Ask::Input(b"hunter2\r".to_vec()))).pass(Duration::from_secs(2));
    let recorded = driven.recorded();
    assert!(recorded.contains("\"i\", \"\"") && !recorded.contains("hunter2"), "{recorded}");
}

#[test]
fn a_storm_of_resizes_ends_the_session_instead_of_filling_memory() {
    let mut driven = Driven::open();
    for columns in 1..20_000 {
        driven.tell(Event::Asked(Ask::Resize { columns, rows: 24 }));
    }
    assert_eq!(driven.closing_entries(), [CloseReason::ProtocolError]);
    assert!(driven.recorded().len() < 400 * 1024);
}

#[test]
fn each_recorded_line_is_asciicast() {
    let mut driven = Driven::open();
    driven.tell(Event::Output("ä\u{1b}[31m\r\n".into())).tell(Event::Kept(receipt()));
    driven.tell(Event::Asked(Ask::Resize { columns: 100, rows: 30 })).tell(Event::Exited(0)).tell(Event::OutputEnded);
    let recorded = driven.recorded();
    let mut lines = recorded.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    assert_eq!(lines.next().expect("a header")["version"], 3);
    let codes: Vec<_> = lines.map(|line| line[1].as_str().expect("a code").to_owned()).collect();
    assert_eq!(codes, ["o", "r", "x"]);
}

/// An event by number; numbers make the sequences that a failing case prints.
fn event(which: u8) -> Event {
    match which {
        0..=4 => Event::Kept(receipt()),
        5 => Event::AuditFailed,
        6 | 7 => Event::Launched,
        8 => Event::LaunchRefused,
        9 => Event::WardenLost,
        10 => Event::Exited(0),
        11 => Event::Reaped,
        12 | 13 => Event::Output(b"text".to_vec()),
        14 => Event::OutputEnded,
        15 => Event::Asked(Ask::Input(b"x".to_vec())),
        16 => Event::Asked(Ask::Leave),
        17 => Event::Asked(Ask::Shown(4)),
        18 => Event::PeerGone,
        19 => Event::PeerBroke,
        20 => Event::EndNow(CloseReason::Operator),
        _ => Event::Tick,
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_opens_without_a_receipt_or_closes_without_a_reason(events in proptest::collection::vec(0..22_u8, 0..40)) {
        let mut driven = Driven::begin();
        let (mut receipts, mut opened, mut left_open) = (0_u32, false, false);
        for which in events {
            let event = event(which);
            receipts += u32::from(matches!(event, Event::Kept(_)));
            let shown_before = driven.shown().len();
            driven.tell(event);
            let open = matches!(driven.session, Session::Open(_));
            if open {
                opened = true;
                prop_assert!(receipts > 0, "open without a receipt");
                prop_assert!(driven.effects.iter().any(|effect| matches!(effect, Effect::Launch(_))));
            }
            if opened && !open {
                prop_assert!(!left_open || driven.shown().len() == shown_before, "something was shown after the close");
                left_open = true;
            }
        }
        let entries = driven.closing_entries();
        prop_assert!(entries.len() <= 1, "one closing entry at most: {:?}", entries);
        let audit_failed = driven.effects.contains(&Effect::EndCell(CloseReason::AuditFailed));
        if left_open {
            prop_assert!(entries.len() == 1 || audit_failed, "left without a reason");
        }
        if let Session::Closed(reason) = driven.session {
            prop_assert!(entries.first().is_none_or(|entry| *entry == reason || reason == CloseReason::AuditFailed));
        }
    }
}
