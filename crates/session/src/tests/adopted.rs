//! Sessions that change gateways.

use std::time::Duration;

use sulku_audit::{CloseReason, Event as Entry};
use sulku_protocol::{Ask, Tell};

use super::machine::Driven;
use crate::{Comer, Effect, Event, Session};

fn comer() -> Event {
    let from = "192.0.2.8".parse().expect("an address");
    Event::TakenUp(Box::new(Comer { from, transport: "quic", client: "test".into(), policy: "2 0".into(), size: (80, 24) }))
}

fn entries(driven: &Driven) -> Vec<Entry> {
    let entry = |effect: &Effect| match effect {
        Effect::Append(draft) | Effect::Record(draft, _) => Some(draft.event.clone()),
        _ => None,
    };
    driven.effects.iter().filter_map(entry).collect()
}

/// LG-05: nothing of it is this gateway's before that is durable.
#[test]
fn a_session_is_adopted_by_an_entry_and_goes_on_with_nobody_connected() {
    let mut driven = Driven::adopting();
    assert!(matches!(entries(&driven)[..], [Entry::SessionAdopted { opening: 7, part: 2, .. }]), "{:?}", entries(&driven));
    assert!(!driven.effects.iter().any(|effect| matches!(effect, Effect::Adopt(_))) && driven.session.output_room() == 0);
    driven.keep_one();
    assert!(driven.effects.iter().any(|effect| matches!(effect, Effect::Adopt(_))));
    driven.tell(Event::Launched).keep_all();
    assert!(driven.session.detached(driven.now()).is_some() && driven.session.output_room() > 0);
    assert!(entries(&driven).iter().any(|entry| matches!(entry, Entry::RecordingBegun { part: 2, .. })));
    driven.tell(Event::Output(b"goes on".to_vec())).keep_all().tell(comer()).keep_all();
    let welcome = driven.effects.iter().find_map(|effect| if let Effect::Send(Tell::Welcome(welcome)) = effect { Some(welcome) } else { None });
    let resumed = welcome.and_then(|welcome| welcome.resumed).expect("it was open before");
    assert_eq!((resumed.part, resumed.typed, resumed.replay), (2, 0, 7), "what was typed into another gateway, this one does not know");
    let sizes: Vec<_> = driven.effects.iter().filter(|effect| matches!(effect, Effect::Resize(..))).collect();
    assert_eq!(sizes, [&Effect::Resize(80, 23), &Effect::Resize(80, 24)], "what has the screen is asked to draw it anew");
    assert!(driven.recorded().contains("another gateway goes on from here"));
    // It ends when it was to end, by both clocks, and counts what it recorded itself.
    driven.pass(Duration::from_secs(3 * 3_600)).keep_all().tell(Event::Reaped(CloseReason::Operator)).keep_all();
    let closed = entries(&driven).into_iter().find(|entry| matches!(entry, Entry::SessionClosed { .. }));
    let Some(Entry::SessionClosed { from_part: 2, duration_ms, chunks, .. }) = closed else { panic!("{closed:?}") };
    assert_eq!((duration_ms, chunks as usize), (4 * 3_600_000, driven.chunks().len()));
}

#[test]
fn an_adoption_that_comes_to_nothing_closes_the_session() {
    type Tells = fn(&mut Driven);
    let cases: [(CloseReason, Tells); 4] = [
        (CloseReason::NoLongerAdmitted, |driven| {
            driven.keep_one().tell(Event::LaunchRefused);
        }),
        (CloseReason::PermitRevoked, |driven| {
            driven.keep_one().tell(Event::Reaped(CloseReason::PermitRevoked));
        }),
        (CloseReason::Halted, |driven| {
            driven.tell(Event::EndNow(CloseReason::Halted)).keep_one();
        }),
        (CloseReason::CellFailed, |driven| {
            driven.keep_one().pass(Duration::from_secs(60));
        }),
    ];
    for (reason, tell) in cases {
        let mut driven = Driven::adopting();
        tell(&mut driven);
        driven.keep_all().tell(Event::Reaped(reason)).keep_all();
        assert_eq!(driven.closing_entries(), [reason]);
        assert!(matches!(driven.session, Session::Closed(closed) if closed == reason), "{:?}", driven.session);
    }
}

/// What was read and not kept yet is shown once it is: no other gateway has it.
#[test]
fn what_becomes_durable_as_a_gateway_stops_is_shown_before_it_hangs_up() {
    let mut driven = Driven::staying(&[]);
    driven.keep_all().tell(Event::Output(b"read before".to_vec())).tell(Event::HandedOver);
    let shown = |driven: &Driven| {
        let outputs =
            driven.effects.iter().filter_map(|effect| if let Effect::Send(Tell::Output(bytes)) = effect { Some(bytes.clone()) } else { None });
        String::from_utf8(outputs.flatten().collect()).expect("text")
    };
    let hung_up = |driven: &Driven| driven.effects.iter().position(|effect| matches!(effect, Effect::HangUp));
    assert!(!shown(&driven).contains("read before") && hung_up(&driven).is_none(), "not before it is durable");
    driven.keep_all();
    assert!(matches!(driven.session, Session::Left), "{:?}", driven.session);
    assert!(shown(&driven).contains("read before"));
    assert_eq!(hung_up(&driven), Some(driven.effects.len() - 1), "last of all");
}

/// What is left to the next gateway is durable, has no closing entry, and its cell is not ended.
#[test]
fn a_session_that_stays_is_left_to_the_next_gateway_and_one_that_does_not_ends() {
    for detached in [false, true] {
        let mut driven = Driven::staying(&[]);
        driven.tell(Event::Output(b"seen".to_vec())).keep_all().tell(Event::Asked(Ask::Resize { columns: 90, rows: 30 }));
        if detached {
            driven.tell(Event::PeerGone);
        }
        driven.tell(Event::HandedOver);
        assert!(matches!(driven.session, Session::Leaving(_)) && driven.session.output_room() == 0 && !driven.session.takes_input());
        driven.keep_all();
        assert!(matches!(driven.session, Session::Left), "{:?}", driven.session);
        assert!(driven.recorded().contains("90x30") && driven.recorded().contains("gateway-stopped"), "{}", driven.recorded());
        assert_eq!(driven.closing_entries(), []);
        assert!(!driven.effects.iter().any(|effect| matches!(effect, Effect::EndCell(_))));
        let reasons: Vec<_> = entries(&driven)
            .into_iter()
            .filter_map(|entry| if let Entry::SessionDetached { reason, .. } = entry { Some(reason) } else { None })
            .collect();
        assert_eq!(reasons, [if detached { "connection-lost" } else { "gateway-stopped" }]);
    }
    let mut driven = Driven::open();
    driven.tell(Event::HandedOver).keep_all();
    assert_eq!(driven.closing_entries(), [CloseReason::Drain], "the control: nobody could take it up");
}
