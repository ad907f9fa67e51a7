use jiff::{SignedDuration, Timestamp};
use sulku_audit::CloseReason;
use sulku_permit::{PermitSet, Refusal, RefusalCode, Request, SessionId};

use super::identity::{Authority, uri};
use crate::identity::VerifiedIdentity;
use crate::registry::{Origin, Place, Registry, Verdict};

const GOOD: &str = include_str!("../../../permit/tests/good.toml");

fn now() -> Timestamp {
    "2026-06-01T10:00:00Z".parse().expect("a time")
}

/// Places for sessions of Maija, as many as she wants.
struct House {
    authority: Authority,
    permits: PermitSet,
    registry: Registry,
}

impl House {
    fn new() -> Self {
        Self::with("max_per_person = 50")
    }

    fn with(limits: &str) -> Self {
        let text = GOOD.replace("max_per_person = 2", limits);
        let permits = PermitSet::new(vec![sulku_permit::parse("good.toml", &text).expect("a good permit")]).expect("no contradiction");
        Self { authority: Authority::new(), permits, registry: Registry::default() }
    }

    fn enter(&self, number: u8) -> Place {
        self.try_enter(number).expect("a place")
    }

    fn try_enter(&self, number: u8) -> Result<Place, Refusal> {
        let identity = VerifiedIdentity::of_verified_chain(vec![self.authority.certify(uri)], &self.authority.trust()).expect("an identity");
        let mut credential = identity.credential().clone();
        credential.expires = "2030-01-01T00:00:00Z".parse().expect("a time");
        let from = "192.0.2.7".parse().expect("an address");
        let request = Request { credential: &credential, permit: None, from, now: now(), opened: None, rung: None };
        let admission = sulku_permit::admit(&self.permits, &request).expect("admitted");
        let origin = Origin { from, transport: "tls", identity };
        self.registry.enter(SessionId::from_random([number; 10]), &admission, origin, now(), 100)
    }
}

#[test]
fn each_open_session_is_told_what_became_of_it_and_nobody_waits_for_the_judging() {
    let house = House::new();
    let places: Vec<_> = (0..4).map(|number| house.enter(number)).collect();
    let gone = places[3].admitted.opened;
    let ends = now() + SignedDuration::from_hours(1);
    let mut judged = 0;
    let counted = std::cell::Cell::new(0);
    let ended = house.registry.readmit(|open| {
        assert_eq!((open.permit.to_string().as_str(), open.opened), (places[0].admitted.permit.as_str(), gone));
        // Would wait for ever if the sessions were held while they are judged.
        assert_eq!(house.registry.count(), 4);
        counted.set(counted.get() + 1);
        if counted.get() == 2 { Verdict::Ends(CloseReason::Revoked) } else { Verdict::Stays { ends, because: CloseReason::PermitEnded } }
    });
    assert_eq!((ended, counted.get()), (1, 4));
    for mut place in places {
        assert!(place.end.has_changed().expect("the registry is there"));
        match *place.end.borrow_and_update() {
            Some(Verdict::Stays { ends: told, .. }) => assert_eq!(told, ends),
            Some(Verdict::Ends(CloseReason::Revoked)) => judged += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((judged, house.registry.count()), (1, 0));
}

#[test]
fn an_end_is_not_taken_back_and_the_same_verdict_twice_wakes_nobody() {
    let house = House::new();
    let mut place = house.enter(1);
    let stays = |hours| Verdict::Stays { ends: now() + SignedDuration::from_hours(hours), because: CloseReason::PermitEnded };
    house.registry.readmit(|_| stays(1));
    assert_eq!((*place.end.borrow_and_update(), house.registry.rows(now())[0].ends), (Some(stays(1)), now() + SignedDuration::from_hours(1)));
    house.registry.readmit(|_| stays(1));
    assert!(!place.end.has_changed().expect("the registry is there"));
    house.registry.readmit(|_| stays(200_000));
    assert_eq!(house.registry.rows(now())[0].ends, now() + SignedDuration::from_hours(12), "no later than the opening entry says");
    house.registry.tell_all(Verdict::Ends(CloseReason::Drain));
    house.registry.readmit(|_| stays(2));
    assert_eq!(*place.end.borrow(), Some(Verdict::Ends(CloseReason::Drain)));
}

#[test]
fn a_permit_has_as_many_sessions_at_once_as_it_allows_whoever_opened_them() {
    let house = House::with("max_per_person = 3\nmax_at_once = 2");
    let (first, _second) = (house.enter(1), house.enter(2));
    let code = |number| house.try_enter(number).map(drop).map_err(|refusal| refusal.code);
    assert_eq!(code(3), Err(RefusalCode::PermitFull));
    drop(first);
    assert_eq!(code(3), Ok(()), "the control: a place that is free again");
    let house = House::with("max_per_person = 1\nmax_at_once = 2");
    let _first = house.enter(1);
    assert_eq!(house.try_enter(2).map(drop).map_err(|refusal| refusal.code), Err(RefusalCode::TooManySessions), "she alone has too many");
}

/// IA-01: to anybody but the key that opened it there is no such session.
#[test]
fn a_session_is_found_by_the_key_that_opened_it_and_by_no_other_of_its_holder() {
    let house = House::new();
    let (one, other) = (house.enter(1), house.enter(2));
    let keys = [one.admitted.identity.key(), other.admitted.identity.key()];
    assert_ne!(keys[0], keys[1], "the holder has two certificates");
    let id = |number| SessionId::from_random([number; 10]);
    let rows = house.registry.rows_of_key(keys[0], now());
    assert_eq!(rows.iter().map(|row| (row.session, row.detached_s)).collect::<Vec<_>>(), [(id(1), None)]);
    assert!(house.registry.of_key(id(1), keys[0]).is_some(), "the control");
    assert!(house.registry.of_key(id(1), keys[1]).is_none() && house.registry.of_key(id(3), keys[0]).is_none());
    one.activity.set(3, 100, Some(std::time::Duration::from_secs(60)));
    let rows = house.registry.rows_of_key(keys[0], Timestamp::now());
    assert!(rows[0].detached_s.is_some_and(|alone| (60..120).contains(&alone)), "{rows:?}");
}
