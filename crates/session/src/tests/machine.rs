use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sulku_audit::wire::Cause;
use sulku_audit::{CloseReason, Event as Entry, Receipt};
use sulku_permit::{Credential, Identity, PermitSet, Request, SessionId};
use sulku_plan::Plan;
use sulku_protocol::{Ask, NoticeKind, OUTPUT_CREDIT_BYTES, Tell};
use sulku_recording::SessionKey;

use crate::window::WINDOW_BYTES_MAX;
use crate::{Asked, Effect, Event, Facts, Now, RecordingKey, Session};

const GOOD: &str = include_str!("../../../permit/tests/good.toml");
const BEGAN: &str = "2026-06-01T10:00:00Z";

/// The permit, as it is, or with a few words of it replaced.
fn facts(replaced: &[(&str, &str)], stays: bool) -> Facts {
    let text = replaced.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the permit has {from}");
        text.replace(from, to)
    });
    let permits = PermitSet::new(vec![sulku_permit::parse("good.toml", &text).expect("a good permit")]).expect("no contradiction");
    let credential = Credential {
        identities: vec![Identity::Uri("spiffe://spe.example.fi/person/maija".into())],
        expires: "2030-01-01T00:00:00Z".parse().expect("a time"),
        assurance: None,
    };
    let from = "192.0.2.7".parse().expect("an address");
    let now = BEGAN.parse().expect("a time");
    let request = Request { credential: &credential, permit: None, from, now, opened: None, rung: None };
    let admission = sulku_permit::admit(&permits, &request).expect("admitted");
    let plan = Plan::for_admission(&admission);
    let asked =
        Asked { from, transport: "tls", client: "test".into(), command: None, term: "xterm".into(), size: (80, 24), stays, certificates: None };
    Facts::new(SessionId::from_random([7; 10]), admission, &plan, ("root", "1 0"), asked)
}

fn key() -> SessionKey {
    SessionKey::take(&mut [5; 32])
}

fn receipt() -> Receipt {
    serde_json::from_str(r#"{"index":1,"leaf_hash":"00"}"#).expect("a receipt's shape")
}

fn at(elapsed: Duration) -> Now {
    let began: Timestamp = BEGAN.parse().expect("a time");
    Now { wall: began.checked_add(elapsed).expect("in range"), elapsed }
}

/// Drives a session and keeps what it wanted.
pub(super) struct Driven {
    pub(super) session: Session,
    pub(super) effects: Vec<Effect>,
    pub(super) elapsed: Duration,
    pub(super) kept: usize,
}

impl Driven {
    fn begin() -> Self {
        Self::begin_under(&[])
    }

    fn begin_under(replaced: &[(&str, &str)]) -> Self {
        Self::begin_as(replaced, false)
    }

    /// Begins one whose client can find it again, or not.
    fn begin_as(replaced: &[(&str, &str)], stays: bool) -> Self {
        let mut effects = Vec::new();
        let key = RecordingKey { key: key(), wrapped: b"wrapped".to_vec(), recipients: vec!["age1auditor".to_owned()] };
        Self { session: Session::begin(facts(replaced, stays), key, &mut effects), effects, elapsed: Duration::ZERO, kept: 0 }
    }

    pub(super) fn open() -> Self {
        Self::open_under(&[])
    }

    /// Opens a session, whose `recording.begun` is kept.
    fn open_under(replaced: &[(&str, &str)]) -> Self {
        let mut driven = Self::begin_under(replaced);
        driven.keep_all().tell(Event::Launched).keep_all();
        assert!(matches!(driven.session, Session::Open(_)));
        driven
    }

    /// Opens one that stays without a connection.
    pub(super) fn staying(replaced: &[(&str, &str)]) -> Self {
        let mut driven = Self::begin_as(replaced, true);
        driven.keep_all().tell(Event::Launched).keep_all();
        driven
    }

    /// Takes one over that another gateway opened an hour ago, as the third that has it.
    pub(super) fn adopting() -> Self {
        let mut effects = Vec::new();
        let key = RecordingKey { key: key(), wrapped: b"wrapped".to_vec(), recipients: vec!["age1auditor".to_owned()] };
        let ends = "2026-06-01T14:00:00Z".parse().expect("a time");
        let facts = facts(&[], true).adopted(crate::Adopted { opening: 7, ends, part: 2 });
        let elapsed = Duration::from_secs(3_600);
        Self { session: Session::adopt(facts, key, at(elapsed), &mut effects), effects, elapsed, kept: 0 }
    }

    fn windowed() -> Self {
        Self::open_under(&[("\"strict\"", "\"windowed\"")])
    }

    /// The oldest answer that the ledger owes.
    pub(super) fn keep_one(&mut self) -> &mut Self {
        self.kept += 1;
        self.tell(Event::Kept(receipt()))
    }

    pub(super) fn tell(&mut self, event: Event) -> &mut Self {
        let session = std::mem::replace(&mut self.session, Session::Closed(CloseReason::HolderLeft));
        self.session = session.step(event, at(self.elapsed), &mut self.effects);
        self
    }

    pub(super) fn now(&self) -> Now {
        at(self.elapsed)
    }

    pub(super) fn pass(&mut self, time: Duration) -> &mut Self {
        self.elapsed += time;
        self.tell(Event::Tick)
    }

    /// Answers everything that the ledger owes.
    pub(super) fn keep_all(&mut self) -> &mut Self {
        loop {
            let owed = self.effects.iter().filter(|effect| matches!(effect, Effect::Append(_) | Effect::Record(..))).count();
            if self.kept == owed {
                return self;
            }
            self.kept += 1;
            self.tell(Event::Kept(receipt()));
        }
    }

    /// Answers everything that the ledger owes, but the newest: what is asked for in return is that.
    fn keep_all_but_one(&mut self) -> &mut Self {
        while self.closing_entries().is_empty() {
            self.keep_one();
        }
        self.kept += 1;
        self
    }

    pub(super) fn shown(&self) -> Vec<u8> {
        let output = |effect: &Effect| match effect {
            Effect::Send(Tell::Output(bytes)) => bytes.clone(),
            _ => Vec::new(),
        };
        self.effects.iter().flat_map(output).collect()
    }

    pub(super) fn closing_entries(&self) -> Vec<CloseReason> {
        let closed = |effect: &Effect| match effect {
            Effect::Append(draft) => match draft.event {
                Entry::SessionClosed { reason, .. } => Some(reason),
                _ => None,
            },
            _ => None,
        };
        self.effects.iter().filter_map(closed).collect()
    }

    /// The recording's chunks that went to the ledger, opened as an auditor does, each with its entry.
    pub(super) fn chunks(&self) -> Vec<(Entry, String)> {
        let sent = |effect: &Effect| match effect {
            Effect::Record(draft, bytes) if matches!(draft.event, Entry::RecordingChunk { .. }) => Some((draft.event.clone(), bytes.clone())),
            _ => None,
        };
        let mut previous = None;
        let mut open = |(number, (entry, bytes)): (u64, (Entry, Vec<u8>))| {
            let lines = sulku_recording::open(&key(), &SessionId::from_random([7; 10]), number, previous.as_ref(), &bytes).expect("it opens");
            previous = Some(sulku_recording::sha256(&bytes));
            (entry, String::from_utf8(lines).expect("asciicast is text"))
        };
        (0..).zip(self.effects.iter().filter_map(sent)).map(&mut open).collect()
    }

    pub(super) fn recorded(&self) -> String {
        self.chunks().into_iter().map(|(_, lines)| lines).collect()
    }

    /// What the holder was told while her session went on.
    fn notices(&self) -> Vec<NoticeKind> {
        let notice = |effect: &Effect| if let Effect::Send(Tell::Notice(notice)) = effect { Some(notice.kind) } else { None };
        self.effects.iter().filter_map(notice).collect()
    }

    /// The same in words.
    pub(super) fn told(&self) -> Vec<String> {
        let notice = |effect: &Effect| if let Effect::Send(Tell::Notice(notice)) = effect { Some(notice.text.clone()) } else { None };
        self.effects.iter().filter_map(notice).collect()
    }

    /// What the closing entry counts: chunks and their bytes.
    fn totals(&self) -> Option<(u64, u64)> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Append(draft) => match draft.event {
                Entry::SessionClosed { chunks, recorded_bytes, .. } => Some((chunks, recorded_bytes)),
                _ => None,
            },
            _ => None,
        })
    }

    fn is_told_of_the_end(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Send(Tell::Closed(_))))
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
    assert_eq!((driven.chunks().len(), driven.shown().len()), (2, 10));
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
    driven.tell(Event::Asked(Ask::Input(b"x".to_vec()))).tell(Event::Reaped(CloseReason::CellFailed)).keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::LongestSession]);
    for theirs in [CloseReason::CellFailed, CloseReason::Suspended] {
        let mut driven = Driven::open();
        driven.tell(Event::Reaped(theirs)).keep_all();
        assert_eq!(driven.closing_entries(), [theirs], "within its time, the warden knows why");
    }
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

/// SE-01
#[test]
fn the_holder_is_warned_15_and_5_minutes_before_the_end_and_learns_why() {
    let mut driven = Driven::open_under(&[("\"12 h\"", "\"1 h\""), ("\"30 min\"", "\"2 h\"")]);
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    assert_eq!(driven.session.wakes(), Some(minutes(45)), "it wants to be woken for it");
    driven.pass(minutes(45) - Duration::from_millis(1)).keep_all();
    assert_eq!(driven.notices(), []);
    driven.pass(Duration::from_millis(1)).keep_all().pass(minutes(1)).keep_all().pass(minutes(8)).keep_all();
    assert_eq!(driven.notices(), [NoticeKind::Ending], "once");
    assert_eq!(driven.session.wakes(), Some(minutes(55)));
    driven.pass(minutes(1)).keep_all().pass(minutes(4)).keep_all();
    assert_eq!(driven.notices(), [NoticeKind::Ending; 2]);
    let said = driven.told();
    assert!(said[0].contains("in 15 minutes") && said[1].contains("in 5 minutes"), "{said:?}");
    assert!(said.iter().all(|said| said.contains("as long as the permit allows")), "{said:?}");
    assert!(matches!(driven.session, Session::Open(_)) && driven.session.wakes() == Some(minutes(60)));
    driven.pass(minutes(1)).keep_all();
    assert_eq!((driven.closing_entries().as_slice(), driven.notices().len()), (&[CloseReason::LongestSession][..], 2));
}

/// SE-02: what changes may shorten a session, and never lengthens it.
#[test]
fn an_end_can_come_earlier_and_never_later_than_the_opening_entry_says() {
    let end = |hours: i64| BEGAN.parse::<Timestamp>().expect("a time") + jiff::SignedDuration::from_hours(hours);
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let mut driven = Driven::open_under(&[("\"30 min\"", "\"13 h\"")]);
    driven.tell(Event::Ends(end(2), CloseReason::OutsideHours));
    assert_eq!((driven.notices().len(), driven.session.wakes()), (0, Some(hours(2) - Duration::from_secs(15 * 60))));
    driven.pass(hours(2) - Duration::from_secs(12 * 60)).keep_all();
    assert!(driven.told()[0].contains("in 12 minutes") && driven.told()[0].contains("the hours that the permit allows"), "{:?}", driven.told());
    driven.tell(Event::Ends(end(2), CloseReason::OutsideHours));
    assert_eq!(driven.notices().len(), 1, "the same end again is no news");
    driven.tell(Event::Ends(driven.now().wall + jiff::SignedDuration::from_mins(7), CloseReason::PermitEnded));
    assert!(driven.told()[1].contains("in 7 minutes") && driven.told()[1].contains("the permit ends then"), "{:?}", driven.told());
    driven.tell(Event::Ends(end(13), CloseReason::OutsideHours));
    assert_eq!(driven.session.wakes(), Some(hours(12) - Duration::from_secs(15 * 60)), "back to the opening entry's end");
    driven.tell(Event::Ends(end(1), CloseReason::OutsideHours)).keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::OutsideHours], "an end that has passed is now");

    let mut early = Driven::begin();
    early.tell(Event::Ends(end(1), CloseReason::OutsideHours)).keep_all().tell(Event::Launched).keep_all();
    let told = early.effects.iter().find_map(|effect| if let Effect::Send(Tell::Welcome(welcome)) = effect { Some(welcome.ends) } else { None });
    assert_eq!(told, Some(end(1)), "also before she is welcomed");
}

#[test]
fn a_session_with_little_time_is_not_warned_of_what_its_welcome_said() {
    let mut driven = Driven::open_under(&[("\"12 h\"", "\"10 min\"")]);
    driven.pass(Duration::from_secs(60)).keep_all();
    assert_eq!(driven.notices(), []);
    driven.pass(Duration::from_secs(5 * 60)).keep_all();
    assert_eq!(driven.notices(), [NoticeKind::Ending], "the second warning still comes");
    assert!(driven.told()[0].contains("in 4 minutes"), "{:?}", driven.told());
}

#[test]
fn a_clock_that_is_set_forth_warns_once_and_one_that_is_set_back_not_again() {
    let mut driven = Driven::open_under(&[("\"30 min\"", "\"13 h\"")]);
    let at = |driven: &mut Driven, wall: &str| {
        let session = std::mem::replace(&mut driven.session, Session::Closed(CloseReason::HolderLeft));
        let now = Now { wall: wall.parse().expect("a time"), elapsed: driven.elapsed };
        driven.session = session.step(Event::Tick, now, &mut driven.effects);
    };
    at(&mut driven, "2026-06-01T21:57:00Z");
    assert_eq!((driven.notices().len(), driven.told()[0].contains("in 3 minutes")), (1, true), "both warnings are due, and one is said");
    at(&mut driven, "2026-06-01T12:00:00Z");
    at(&mut driven, "2026-06-01T21:57:00Z");
    assert_eq!(driven.notices().len(), 1);
}

/// LG-05
#[test]
fn a_ledger_that_does_not_answer_freezes_the_session_and_then_ends_it() {
    let mut driven = Driven::open();
    driven.tell(Event::Output(b"never shown".to_vec())).pass(Duration::from_millis(4_900));
    assert!(driven.session.takes_input() && driven.session.output_room() > 0 && driven.notices().is_empty());
    driven.pass(Duration::from_millis(100));
    assert_eq!(driven.notices(), [NoticeKind::Frozen]);
    assert!(!driven.session.takes_input() && driven.session.output_room() == 0, "nothing goes on unrecorded");
    driven.tell(Event::Asked(Ask::Signal(sulku_protocol::Signal::Int)));
    assert!(!driven.effects.contains(&Effect::Signal(sulku_protocol::Signal::Int)), "nor by a signal");
    driven.pass(Duration::from_millis(24_900));
    assert!(matches!(driven.session, Session::Open(_)) && !driven.is_told_of_the_end());
    driven.pass(Duration::from_millis(100));
    assert!(driven.effects.contains(&Effect::EndCell(CloseReason::AuditFailed)) && driven.is_told_of_the_end());
    assert_eq!((driven.shown().as_slice(), driven.notices().len()), (&b""[..], 1));
    assert_eq!(driven.closing_entries(), [], "the ledger still owes an answer");
    driven.keep_all().tell(Event::Reaped(CloseReason::CellFailed));
    assert_eq!(driven.closing_entries(), [CloseReason::AuditFailed], "once it answers, the closing entry follows");
    assert_eq!((driven.totals().map(|(chunks, _)| chunks), driven.shown().len()), (Some(1), 0), "what was kept late is counted, and not shown");
}

#[test]
fn a_frozen_session_goes_on_when_the_ledger_answers() {
    let mut driven = Driven::open();
    driven.tell(Event::Output(b"late".to_vec())).pass(Duration::from_secs(20));
    assert_eq!((driven.notices().len(), driven.shown().len()), (1, 0));
    driven.keep_all();
    assert_eq!(driven.notices(), [NoticeKind::Frozen, NoticeKind::Resumed]);
    assert_eq!(driven.shown(), b"late");
    assert!(driven.session.takes_input() && driven.session.output_room() > 0);
    driven.pass(Duration::from_secs(4)).keep_all();
    assert_eq!(driven.notices().len(), 2);
}

#[test]
fn an_opening_entry_that_the_ledger_does_not_answer_refuses_the_session_and_still_gets_its_closing_entry() {
    let mut driven = Driven::begin();
    driven.pass(Duration::from_secs(10));
    let refused =
        |effect: &&Effect| matches!(effect, Effect::Send(Tell::Refused(frame)) if frame.code == sulku_permit::RefusalCode::AuditUnavailable);
    assert_eq!(driven.effects.iter().filter(refused).count(), 1);
    driven.keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::AuditFailed]);
    assert_eq!(driven.effects.iter().filter(refused).count(), 1, "she is told once");
    assert!(matches!(driven.session, Session::Closed(CloseReason::AuditFailed)));
}

#[test]
fn a_full_ledger_refuses_new_sessions_with_advice_and_ends_open_ones_in_order() {
    let mut driven = Driven::begin();
    driven.tell(Event::Refused(Cause::Full));
    let advice =
        driven.effects.iter().find_map(|effect| if let Effect::Send(Tell::Refused(frame)) = effect { Some(frame.advice.clone()) } else { None });
    assert!(advice.is_some_and(|advice| advice.contains("no room left")), "she learns what to do");
    assert!(matches!(driven.session, Session::Closed(CloseReason::AuditFull)));

    let mut driven = Driven::open();
    driven.tell(Event::Output(b"kept".to_vec())).keep_all().tell(Event::Output(b"refused".to_vec()));
    let kept_bytes =
        driven.effects.iter().filter_map(|effect| if let Effect::Record(_, bytes) = effect { Some(bytes.len() as u64) } else { None }).nth(1);
    driven.kept += 1;
    driven.tell(Event::Refused(Cause::Full));
    assert_eq!(driven.closing_entries(), [CloseReason::AuditFull]);
    assert_eq!(driven.totals(), Some((1, kept_bytes.expect("a chunk"))), "it counts what was kept and no more");
    assert!(!driven.is_told_of_the_end(), "not before her closing entry is durable");
    driven.keep_all().tell(Event::Reaped(CloseReason::CellFailed));
    assert!(driven.is_told_of_the_end() && matches!(driven.session, Session::Closed(CloseReason::AuditFull)));
    assert_eq!(driven.shown(), b"kept");
}

#[test]
fn a_closing_entry_that_is_refused_ends_the_session_as_failed() {
    let mut driven = Driven::open();
    driven.tell(Event::Asked(Ask::Leave)).keep_all_but_one().tell(Event::Refused(Cause::Broken)).tell(Event::Reaped(CloseReason::CellFailed));
    assert!(matches!(driven.session, Session::Closed(CloseReason::AuditFailed)));
}

#[test]
fn a_recording_begins_with_an_entry_that_has_the_wrapped_key() {
    let driven = Driven::open();
    let (draft, wrapped) =
        driven.effects.iter().find_map(|effect| if let Effect::Record(draft, bytes) = effect { Some((draft, bytes)) } else { None }).expect("one");
    let Entry::RecordingBegun { part: 0, key_sha256, key_length, recipients, durability, input, keep_until } = &draft.event else {
        panic!("{draft:?}")
    };
    let sha256: String = sulku_recording::sha256(wrapped).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((key_sha256, *key_length, wrapped.as_slice()), (&sha256, 7, &b"wrapped"[..]));
    assert_eq!((recipients.as_slice(), durability.as_str(), input.as_str()), (&["age1auditor".to_owned()][..], "strict", "timing"));
    let days = keep_until.duration_since(BEGAN.parse().expect("a time")).as_hours() / 24;
    assert_eq!(days, 5 * 366, "as long as the permit says");
}

#[test]
fn the_holder_reads_what_is_recorded() {
    let said = |replaced: &[(&str, &str)]| {
        let driven = Driven::open_under(replaced);
        driven
            .effects
            .iter()
            .find_map(|effect| if let Effect::Send(Tell::Welcome(welcome)) = effect { Some(welcome.recording.clone()) } else { None })
            .expect("a welcome")
    };
    let words = said(&[]);
    assert!(words.contains("when you type, not what") && words.contains("nothing is shown before") && words.contains("5 years"), "{words}");
    let words = said(&[("output-and-input-timing", "output-and-input"), ("\"strict\"", "\"windowed\""), ("\"5 y\"", "\"400 d\"")]);
    assert!(words.contains("passwords too") && words.contains("a quarter of a second") && words.contains("400 days"), "{words}");
}

#[test]
fn in_a_window_output_is_shown_at_once_and_gathered_into_few_chunks() {
    let mut driven = Driven::windowed();
    for _ in 0..10 {
        driven.tell(Event::Output(b"x".to_vec()));
    }
    assert_eq!((driven.shown().len(), driven.chunks().len()), (10, 0));
    let wakes = driven.session.wakes().expect("lines are gathered");
    assert_eq!(wakes, driven.elapsed + Duration::from_millis(100));
    driven.pass(Duration::from_millis(100));
    let idle = Duration::from_secs(30 * 60);
    assert_eq!((driven.chunks().len(), driven.session.wakes()), (1, Some(idle)), "next it is woken to end what is idle");
    let (entry, lines) = driven.chunks().remove(0);
    let Entry::RecordingChunk { began_ms, ended_ms, lines: count, .. } = entry else { panic!("a chunk") };
    assert_eq!((began_ms, ended_ms, count), (0, 0, 11), "{lines}");
}

/// LG-02: the most that a crash can take from a recording.
#[test]
fn in_a_window_output_stops_at_its_bytes_and_at_its_age() {
    let mut driven = Driven::windowed();
    while driven.shown().len() < WINDOW_BYTES_MAX {
        driven.tell(Event::Output(vec![b'x'; 4096]));
    }
    driven.tell(Event::Output(b"beyond".to_vec()));
    assert_eq!(driven.shown().len(), WINDOW_BYTES_MAX);
    driven.keep_all();
    assert!(driven.shown().ends_with(b"beyond"), "what is durable makes room");

    let mut driven = Driven::windowed();
    driven.tell(Event::Output(b"first".to_vec())).pass(Duration::from_millis(249)).tell(Event::Output(b"second".to_vec()));
    assert_eq!(driven.shown(), b"firstsecond");
    driven.pass(Duration::from_millis(1)).tell(Event::Output(b"third".to_vec()));
    assert_eq!(driven.shown(), b"firstsecond", "the first has not been durable for too long");
    driven.keep_all();
    assert_eq!(driven.shown(), b"firstsecondthird");
}

#[test]
fn a_shell_that_ends_is_drained_before_the_session_closes() {
    let mut driven = Driven::open();
    driven.tell(Event::Exited(3)).tell(Event::Output(b"last words".to_vec())).tell(Event::OutputEnded);
    assert!(matches!(driven.session, Session::Open(_)), "the last words are not recorded yet");
    driven.keep_one();
    assert_eq!(driven.shown(), b"last words");
    driven.keep_all().tell(Event::Reaped(CloseReason::CellFailed));
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
    let mut driven = Driven::open_under(&[("output-and-input-timing", "output-and-input")]);
    driven.tell(Event::Asked(Ask::Input(b"hunter2\r".to_vec()))).pass(Duration::from_secs(2));
    assert!(driven.recorded().contains("\"i\", \"hunter2\\r\""), "the control: a permit can have it recorded");
}

#[test]
fn a_storm_of_resizes_ends_the_session_instead_of_filling_memory() {
    let mut driven = Driven::open();
    for columns in 1..20_000 {
        driven.tell(Event::Asked(Ask::Resize { columns, rows: 24 }));
    }
    driven.keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::ProtocolError]);
    assert!(driven.recorded().len() < 400 * 1024);
}

#[test]
fn each_recorded_line_is_asciicast() {
    let mut driven = Driven::open();
    driven.tell(Event::Output("ä\u{1b}[31m\r\n".into())).keep_one();
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
        0..=3 => Event::Kept(receipt()),
        4 => Event::Refused(Cause::Full),
        5 => Event::AuditGone,
        6 | 7 => Event::Launched,
        8 => Event::LaunchRefused,
        9 => Event::WardenLost,
        10 => Event::Exited(0),
        11 => Event::Reaped(CloseReason::CellFailed),
        12 | 13 => Event::Output(b"text".to_vec()),
        14 => Event::OutputEnded,
        15 => Event::Asked(Ask::Input(b"x".to_vec())),
        16 => Event::Asked(Ask::Leave),
        17 => Event::Asked(Ask::Shown(4)),
        18 => Event::PeerGone,
        19 => Event::PeerBroke,
        20 => Event::EndNow(CloseReason::Operator),
        21 => Event::Ends(BEGAN.parse().expect("a time"), CloseReason::OutsideHours),
        22 => Event::Ends(Timestamp::MAX, CloseReason::OutsideHours),
        _ => Event::Tick,
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_opens_without_a_receipt_or_closes_without_a_reason(events in proptest::collection::vec(0..24_u8, 0..40)) {
        let mut driven = Driven::begin();
        let (mut receipts, mut opened, mut left_open, mut lost_the_ledger) = (0_u32, false, false, false);
        for which in events {
            let event = event(which);
            receipts += u32::from(matches!(event, Event::Kept(_)));
            lost_the_ledger |= matches!(event, Event::AuditGone);
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
        let audit_failed = driven.effects.iter().any(|effect| matches!(effect, Effect::EndCell(CloseReason::AuditFailed | CloseReason::AuditFull)));
        if left_open && matches!(driven.session, Session::Closed(_)) {
            prop_assert!(entries.len() == 1 || audit_failed || lost_the_ledger, "left without a reason");
        }
        if let Session::Closed(reason) = driven.session {
            prop_assert!(entries.first().is_none_or(|entry| *entry == reason || reason == CloseReason::AuditFailed));
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a session goes: what is shown is what its recording's kept chunks have, and at most a window more.
    #[test]
    fn what_is_shown_and_not_kept_never_exceeds_the_window(windowed: bool, steps in proptest::collection::vec((0_u8..4, 1_usize..20_000, 0_u64..150), 1..60)) {
        let mut driven = if windowed { Driven::windowed() } else { Driven::open() };
        let mut unreported = 0;
        for (step, size, pause) in steps {
            driven.elapsed += Duration::from_millis(pause);
            match step {
                0 | 1 => {
                    let size = size.min(driven.session.output_room());
                    if size > 0 {
                        driven.tell(Event::Output(vec![b'x'; size]));
                    }
                }
                2 => drop(driven.pass(Duration::ZERO)),
                _ => {
                    let owed = driven.effects.iter().filter(|effect| matches!(effect, Effect::Append(_) | Effect::Record(..))).count();
                    if driven.kept < owed {
                        driven.keep_one();
                    }
                }
            }
            prop_assert!(matches!(driven.session, Session::Open(_)));
            // The first two that were kept are the opening entry and the recording's beginning.
            let kept: usize = driven.chunks().iter().take(driven.kept - 2).map(|(_, lines)| lines.matches('x').count()).sum();
            let header = driven.chunks().first().map_or(0, |(_, lines)| lines.lines().next().unwrap_or_default().matches('x').count());
            let durable = kept.saturating_sub(if driven.kept > 2 { header } else { 0 });
            let shown = driven.shown().len();
            prop_assert!(shown >= durable && shown - durable <= if windowed { WINDOW_BYTES_MAX } else { 0 }, "{} shown, {} durable", shown, durable);
            let report = u32::try_from(shown - unreported).expect("little");
            unreported = shown;
            driven.tell(Event::Asked(Ask::Shown(report)));
        }
    }
}
