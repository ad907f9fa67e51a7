//! From a session's question to its answer: what the permit says, what upstream knows, what the warden lets through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use sulku_permit::{HostName, SessionId};
use sulku_plan::naming::{ADDRESSES_MAX, Denied, QuestionDenied};

use crate::judge;
use crate::sessions::Session;
use crate::shared::Shared;
use crate::upstream::{Answer, TTL_MIN_S, Upstream};
use crate::warden::{Warden, Word};
use crate::wire::{NoQuestion, Question, Reply};

/// Whether addresses of IPv6 are told. Cells have none, so a listed name has none of these for them; one place says so.
const IPV6: Ipv6 = Ipv6::Closed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ipv6 {
    Closed,
}

/// Everything that answering takes.
#[derive(Debug)]
pub struct Answering {
    /// Who lets addresses through.
    pub warden: Arc<Warden>,
    /// Who knows addresses.
    pub upstream: Arc<Upstream>,
    under_way: Arc<Shared<(SessionId, HostName), Outcome>>,
}

/// What can be said at once.
#[derive(Debug)]
pub enum AtOnce {
    /// This.
    Reply(Reply),
    /// Somebody else has to be asked for this name's addresses.
    Later(HostName),
}

#[derive(Debug, Clone)]
enum Outcome {
    Reply(Reply),
    Forbidden,
}

impl Answering {
    /// Between these two.
    #[must_use]
    pub fn new(warden: Arc<Warden>, upstream: Arc<Upstream>) -> Self {
        Self { warden, upstream, under_way: Arc::default() }
    }

    /// Answers what needs nobody else. Denials are told.
    #[must_use]
    pub fn at_once(&self, session: &Session, question: &Question) -> AtOnce {
        let now = Instant::now();
        if !session.may_ask(now) {
            return self.refuse(session, question, QuestionDenied::TooMany);
        }
        let Some(name) = question.name() else { return self.refuse(session, question, QuestionDenied::NotListed) };
        if let Err(why) = judge::question(&session.listed, &name) {
            return self.refuse(session, question, why);
        }
        match (question.record(), IPV6) {
            (RecordType::A, _) => match session.answer(&name, now) {
                Some((addresses, ttl_s)) => AtOnce::Reply(Reply::Addresses(addresses, ttl_s)),
                None if session.may_ask_afresh(&name, now) => AtOnce::Later(name),
                None => self.refuse(session, question, QuestionDenied::TooMany),
            },
            // No key for an encrypted client hello, no hint at QUIC, and nothing that a browser asks unasked is worth a finding.
            (RecordType::AAAA, Ipv6::Closed) | (RecordType::HTTPS | RecordType::SVCB, _) => AtOnce::Reply(Reply::Empty),
            _ => {
                self.deny(session, question, QuestionDenied::OtherRecord);
                AtOnce::Reply(Reply::Empty)
            }
        }
    }

    /// Finds a name's addresses, has them let through, and says them.
    pub async fn later(self: &Arc<Self>, session: &Arc<Session>, question: &Question, name: HostName) -> Reply {
        let work = || {
            let (answering, session, name) = (self.clone(), session.clone(), name.clone());
            async move { answering.find(&session, name).await }
        };
        let outcome = self.under_way.get((session.id, name.clone()), work).await;
        match outcome {
            Some(Outcome::Reply(reply)) => reply,
            Some(Outcome::Forbidden) => {
                self.deny(session, question, QuestionDenied::ForbiddenAddress);
                Reply::Refused(QuestionDenied::ForbiddenAddress)
            }
            None => Reply::Failed,
        }
    }

    async fn find(&self, session: &Session, name: HostName) -> Outcome {
        // Somebody may have asked for it in between.
        if let Some((addresses, ttl_s)) = session.answer(&name, Instant::now()) {
            return Outcome::Reply(Reply::Addresses(addresses, ttl_s));
        }
        if session.make_room(&name, Instant::now()).is_err() {
            return Outcome::Reply(Reply::Failed);
        }
        let (addresses, until) = match self.upstream.addresses(&name).await {
            Answer::Addresses(addresses, until) => (addresses, until),
            Answer::NoAddresses(_) => return Outcome::Reply(Reply::Empty),
            Answer::NoSuchName(_) => return Outcome::Reply(Reply::NoSuchName),
            Answer::Failed => return Outcome::Reply(Reply::Failed),
        };
        if !judge::are_usable(&session.listed, &name, &addresses) {
            return Outcome::Forbidden;
        }
        let addresses: Vec<IpAddr> = addresses.into_iter().take(ADDRESSES_MAX).collect();
        let ttl_s = seconds_left(until, Instant::now());
        let word = tokio::select! {
            word = self.warden.ask(session.id, name.clone(), addresses.clone(), ttl_s) => word,
            () = session.closed.cancelled() => Word::Refused,
        };
        let now = Instant::now();
        let until = now + Duration::from_secs(ttl_s.into());
        match word {
            Word::Opened if session.grant(name, addresses.clone(), until, now).is_ok() => Outcome::Reply(Reply::Addresses(addresses, ttl_s)),
            _ => Outcome::Reply(Reply::Failed),
        }
    }

    /// Notes a packet that is no question.
    pub fn malformed(&self, session: &Session, what: NoQuestion) {
        if what != NoQuestion::Ignore {
            let what = Denied::Question { name: String::new(), record: String::new(), why: QuestionDenied::Malformed };
            session.deny(what, &self.warden, Instant::now());
        }
    }

    fn refuse(&self, session: &Session, question: &Question, why: QuestionDenied) -> AtOnce {
        self.deny(session, question, why);
        AtOnce::Reply(Reply::Refused(why))
    }

    /// Tells the warden why a question got no address.
    pub fn deny(&self, session: &Session, question: &Question, why: QuestionDenied) {
        let what = Denied::Question { name: question.name_text(), record: question.record_text(), why };
        session.deny(what, &self.warden, Instant::now());
    }
}

/// What of an answer's time is left, in whole seconds and the one that has begun, never less than the shortest: an answer that was kept
/// to its last second is as good as a new one.
fn seconds_left(until: Instant, now: Instant) -> u32 {
    let left = until.saturating_duration_since(now).as_millis().div_ceil(1000);
    u32::try_from(left).unwrap_or(u32::MAX).max(TTL_MIN_S)
}
