use std::time::Duration;

use proptest::prelude::*;
use sulku_audit::{CloseReason, Event as Entry};
use sulku_permit::RefusalCode;
use sulku_protocol::{Ask, OUTPUT_CREDIT_BYTES, Tell, WelcomeFrame};

use super::machine::Driven;
use crate::{Comer, Effect, Event, Session};

const HOUR: Duration = Duration::from_secs(3_600);
const EIGHT_HOURS: &[(&str, &str)] = &[("idle_disconnect = \"30 min\"", "idle_disconnect = \"30 min\"\nmax_detached = \"8 h\"")];

fn comer() -> Event {
    let from = "192.0.2.8".parse().expect("an address");
    Event::TakenUp(Box::new(Comer { from, transport: "quic", client: "test".into(), policy: "2 0".into(), size: (80, 24) }))
}

fn welcomes(driven: &Driven) -> Vec<&WelcomeFrame> {
    driven.effects.iter().filter_map(|effect| if let Effect::Send(Tell::Welcome(welcome)) = effect { Some(welcome) } else { None }).collect()
}

/// The events of this one's entries, as their names have it.
fn entries(driven: &Driven) -> Vec<&'static str> {
    let name = |effect: &Effect| match effect {
        Effect::Append(draft) => match draft.event {
            Entry::SessionDetached { .. } => Some("detached"),
            Entry::SessionReattached { .. } => Some("reattached"),
            _ => None,
        },
        _ => None,
    };
    driven.effects.iter().filter_map(name).collect()
}

fn sent(driven: &Driven) -> usize {
    driven.effects.iter().filter(|effect| matches!(effect, Effect::Send(_))).count()
}

#[test]
fn what_runs_goes_on_and_is_recorded_when_the_connection_is_lost() {
    let mut driven = Driven::staying(&[]);
    driven.tell(Event::PeerGone);
    assert!(driven.effects.contains(&Effect::Abandon) && driven.session.detached(driven.now()) == Some(Duration::ZERO));
    let before = sent(&driven);
    // Much more than the credit that a client would have.
    for _ in 0..60 {
        let room = driven.session.output_room();
        assert!(room > 0, "the terminal is read");
        driven.tell(Event::Output(vec![b'x'; room])).keep_all();
    }
    assert_eq!((sent(&driven), entries(&driven)), (before, vec!["detached"]));
    assert!(driven.recorded().matches('x').count() > 2 * OUTPUT_CREDIT_BYTES as usize);
    assert!(!driven.effects.iter().any(|effect| matches!(effect, Effect::EndCell(_))));
}

#[test]
fn its_holder_sees_nothing_of_it_again_before_that_is_kept_and_then_the_screen() {
    let mut driven = Driven::staying(&[]);
    driven.tell(Event::Output(b"before\r\n".to_vec())).keep_all();
    driven.tell(Event::Asked(Ask::Input(b"make\r".to_vec()))).tell(Event::PeerGone).keep_all();
    driven.elapsed += HOUR / 4;
    driven.tell(Event::Output(b"meanwhile\r\n".to_vec())).keep_all();
    let before = sent(&driven);
    driven.tell(comer());
    assert_eq!((sent(&driven), entries(&driven)), (before, vec!["detached", "reattached"]), "not a word before it is kept");
    driven.tell(Event::Output(b"at last\r\n".to_vec())).keep_all();
    let resumed = welcomes(&driven)[1].resumed.expect("it was open before");
    assert_eq!((resumed.typed, resumed.detached_ms), (5, 900_000));
    let shown = String::from_utf8(driven.shown()).expect("text");
    let screen = shown.strip_prefix("before\r\n").expect("it was shown once");
    assert_eq!(screen, "before\r\nmeanwhile\r\nat last\r\n");
    assert!(screen.len() >= resumed.replay as usize && screen.get(..resumed.replay as usize).is_some_and(|replay| replay.ends_with("meanwhile\r\n")));
    assert!(matches!(driven.session, Session::Open(_)) && driven.effects.contains(&Effect::Resize(80, 24)));
    driven.tell(Event::Output(b"and on\r\n".to_vec())).keep_all();
    assert!(driven.shown().ends_with(b"and on\r\n"));
    assert!(driven.recorded().contains("\"m\", \"connection-lost\"") && driven.recorded().contains("\"m\", \"taken up again\""));
}

#[test]
fn in_a_window_nothing_is_shown_again_that_is_not_durable() {
    let mut driven = Driven::staying(&[("\"strict\"", "\"windowed\"")]);
    driven.tell(Event::Output(b"ahead".to_vec()));
    assert_eq!(driven.shown(), b"ahead", "shown ahead of its recording");
    driven.tell(Event::PeerGone).tell(Event::Output(b" and unseen".to_vec()));
    driven.tell(comer());
    while welcomes(&driven).len() < 2 {
        let durable = driven.kept;
        driven.keep_one().pass(Duration::from_millis(100));
        assert!(welcomes(&driven).len() < 2 || driven.recorded().contains("ahead"), "welcomed with {durable} kept");
    }
    driven.keep_all();
    assert_eq!(driven.shown(), b"aheadahead and unseen");
}

#[test]
fn a_full_screen_program_is_asked_to_draw_anew() {
    let mut driven = Driven::staying(&[]);
    driven.tell(Event::Output(b"\x1b[?1049hediting".to_vec())).keep_all().tell(Event::PeerGone).tell(comer()).keep_all();
    let sizes: Vec<_> = driven.effects.iter().filter(|effect| matches!(effect, Effect::Resize(..))).collect();
    assert_eq!(sizes, [&Effect::Resize(80, 23), &Effect::Resize(80, 24)]);
}

/// SE-01: its time runs by the permit, and typing has nothing to do with it.
#[test]
fn nobody_who_comes_in_time_finds_it_idle_and_nobody_who_comes_late_finds_it() {
    let mut driven = Driven::staying(EIGHT_HOURS);
    driven.tell(Event::PeerGone).keep_all().pass(7 * HOUR).tell(comer()).keep_all();
    driven.pass(HOUR / 4);
    assert!(matches!(driven.session, Session::Open(_)), "she has not been idle for long: {:?}", driven.closing_entries());
    driven.tell(Event::Asked(Ask::Detach)).keep_all();
    assert!(driven.effects.iter().any(|effect| matches!(effect, Effect::Send(Tell::Detached(_)))));
    driven.pass(HOUR * 19 / 4).keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::LongestSession], "twelve hours in all");
    let mut driven = Driven::staying(&[]);
    driven.tell(Event::PeerGone).keep_all().pass(HOUR / 2).keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::Abandoned]);
}

#[test]
fn a_permit_may_let_no_session_stay() {
    let never = &[("idle_disconnect = \"30 min\"", "idle_disconnect = \"30 min\"\nmax_detached = \"never\"")];
    let mut driven = Driven::staying(never);
    assert_eq!(welcomes(&driven)[0].stays_s, None);
    driven.tell(Event::PeerGone).keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::HolderLeft]);
}

/// SE-02: what ends an open session ends one that nobody is connected to.
#[test]
fn whatever_ends_an_open_session_ends_a_detached_one() {
    for reason in [CloseReason::PermitRevoked, CloseReason::Revoked, CloseReason::Halted, CloseReason::Operator] {
        let mut driven = Driven::staying(&[]);
        driven.tell(Event::PeerGone).keep_all().tell(Event::EndNow(reason)).keep_all();
        assert_eq!(driven.closing_entries(), [reason]);
        assert!(driven.effects.contains(&Effect::EndCell(reason)));
    }
    let mut driven = Driven::staying(&[]);
    driven.tell(Event::PeerGone).keep_all().tell(Event::Ends("2026-06-01T10:01:00Z".parse().expect("a time"), CloseReason::OutsideHours));
    driven.pass(Duration::from_secs(60)).keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::OutsideHours]);
}

/// LG-05
#[test]
fn a_ledger_that_is_away_freezes_a_detached_session_and_ends_it() {
    let mut driven = Driven::staying(&[]);
    driven.tell(Event::PeerGone);
    assert!(driven.session.takes_input() && driven.session.output_room() > 0);
    driven.pass(Duration::from_secs(5));
    assert!(!driven.session.takes_input() && driven.session.output_room() == 0, "frozen");
    driven.tell(comer());
    driven.pass(Duration::from_secs(25));
    assert!(matches!(driven.session, Session::Closing(_)) && welcomes(&driven).len() == 1);
    let refused = |effect: &Effect| matches!(effect, Effect::Send(Tell::Refused(frame)) if frame.code == RefusalCode::AuditUnavailable);
    assert!(driven.effects.iter().any(refused), "who came is refused, for she was not welcomed");
}

#[test]
fn the_last_who_comes_gets_it_and_who_speaks_before_she_is_welcomed_does_not() {
    let mut driven = Driven::staying(&[]);
    driven.tell(Event::PeerGone).tell(comer()).tell(Event::TakenOver).tell(comer());
    driven.keep_one().keep_one();
    driven.keep_one();
    assert_eq!(welcomes(&driven).len(), 1, "the first one's entry welcomes nobody");
    driven.keep_one();
    assert_eq!((welcomes(&driven).len(), entries(&driven)), (2, vec!["detached", "reattached", "detached", "reattached"]));
    driven.tell(Event::TakenOver);
    assert!(driven.effects.iter().any(|effect| matches!(effect, Effect::Send(Tell::Detached(_)))), "the one that is connected is told");
    driven.tell(comer()).tell(Event::Asked(Ask::Input(b"rm\r".to_vec()))).keep_all();
    assert!(welcomes(&driven).len() == 2 && driven.session.detached(driven.now()).is_some());
    assert!(!driven.effects.contains(&Effect::Type(b"rm\r".to_vec())));
    for _ in 0..4 {
        driven.tell(comer());
    }
    assert!(!driven.session.may_be_taken_up(), "so many wait for the ledger already");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often the connection comes and goes: each one sees the end of all that was shown, then what follows, and never has more on its
    /// way than the credit; and nothing comes before it is kept.
    #[test]
    fn each_connection_sees_how_it_stood_and_what_followed(steps in proptest::collection::vec((0_u8..6, 1_usize..20_000), 1..60)) {
        let mut driven = Driven::staying(&[]);
        let (mut written, mut on_its_way, mut seen) = (0_u32, 0, 0);
        let mut screen = String::new();
        for (step, size) in steps {
            match step {
                0 | 1 => {
                    let room = size.min(driven.session.output_room());
                    let text: String = (written..).map(|line| format!("{line}\n")).scan(0, |length, line| {
                        *length += line.len();
                        (*length <= room).then_some(line)
                    }).collect();
                    written += u32::try_from(text.lines().count()).expect("few");
                    driven.tell(Event::Output(text.into_bytes()));
                }
                2 => drop(driven.tell(Event::PeerGone)),
                3 if driven.session.detached(driven.now()).is_some() && driven.session.may_be_taken_up() => {
                    driven.tell(Event::TakenOver).tell(comer());
                }
                4 => {
                    let owed = driven.effects.iter().filter(|effect| matches!(effect, Effect::Append(_) | Effect::Record(..))).count();
                    if driven.kept < owed {
                        driven.keep_one();
                    }
                }
                _ => {
                    driven.tell(Event::Asked(Ask::Shown(u32::try_from(on_its_way).expect("little"))));
                    on_its_way = 0;
                }
            }
            for effect in &driven.effects[seen..] {
                match effect {
                    Effect::Send(Tell::Welcome(_)) => (on_its_way, screen) = (0, String::new()),
                    Effect::Send(Tell::Output(bytes)) => {
                        on_its_way += bytes.len();
                        screen.push_str(std::str::from_utf8(bytes).expect("text"));
                    }
                    _ => {}
                }
            }
            seen = driven.effects.len();
            prop_assert!(on_its_way <= OUTPUT_CREDIT_BYTES as usize);
            let numbers: Vec<u32> = screen.lines().map(|line| line.parse().expect("a number")).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "in one piece");
            let last = numbers.last().map_or_else(String::new, |last| format!("{last}\\n"));
            let asked = driven.effects.iter().filter(|effect| matches!(effect, Effect::Append(_) | Effect::Record(..)));
            let kept = asked.take(driven.kept).filter(|effect| matches!(effect, Effect::Record(..))).count();
            // The first of them is the recording's key.
            let durable: String = driven.chunks().into_iter().take(kept - 1).map(|(_, lines)| lines).collect();
            prop_assert!(durable.contains(&last), "what is shown is kept");
        }
    }
}
