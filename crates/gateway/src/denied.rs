//! What sessions were denied of late, for their holders to ask after: `sulku why`. In memory, bounded, and gone with the gateway.
//!
//! Each holder is shown her own, by the identity that admitted her. The ledger has all of it, and more; nothing here is evidence.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sulku_protocol::{DenialRow, Tell, quic_code};

use crate::connection::say_and_end;
use crate::daemon::Shared;
use crate::identity::VerifiedIdentity;
use crate::transport::Writer;

/// Denials that are kept of one holder: few enough for one frame, whatever their texts are.
const ROWS_MAX: usize = 32;
/// Holders whose denials are kept; of more, those are forgotten that were denied something the longest ago.
const HOLDERS_MAX: usize = 1_024;
/// For how long they are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// The longest text that is kept; JSON may write each byte of it as two.
const TEXT_BYTES_MAX: usize = 400;

/// What was denied, by the identity that admitted the holder.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<HashMap<String, VecDeque<DenialRow>>>);

impl Remembered {
    /// Remembers one.
    pub fn note(&self, identity: &str, row: DenialRow) {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !holders.contains_key(identity) && holders.len() >= HOLDERS_MAX {
            let oldest = holders.iter().min_by_key(|(_, rows)| rows.back().map(|row| row.at)).map(|(identity, _)| identity.clone());
            oldest.map(|oldest| holders.remove(&oldest));
        }
        let rows = holders.entry(identity.to_owned()).or_default();
        if rows.len() >= ROWS_MAX {
            rows.pop_front();
        }
        let mut text: String = row.text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        while text.len() > TEXT_BYTES_MAX {
            text.pop();
        }
        rows.push_back(DenialRow { text, ..row });
    }

    /// Those of whoever has one of these identities, the newest last.
    pub fn of(&self, identities: impl Iterator<Item = String>, now: Timestamp) -> Vec<DenialRow> {
        let holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |row: &&DenialRow| now.duration_since(row.at) < KEPT;
        let mut rows: Vec<_> = identities.filter_map(|identity| holders.get(&identity)).flatten().filter(recent).cloned().collect();
        rows.sort_by_key(|row| row.at);
        let surplus = rows.len().saturating_sub(ROWS_MAX);
        rows.drain(..surplus);
        rows
    }
}

/// Sends a holder what her own sessions were denied. She was or could have been told of it there, so asking is no entry.
pub async fn why(shared: &Shared, identity: &VerifiedIdentity, writer: Writer) {
    let own = identity.credential().identities.iter().map(ToString::to_string);
    say_and_end(writer, &Tell::Denials(shared.denied.of(own, Timestamp::now())), quic_code::DONE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: i64, text: &str) -> DenialRow {
        DenialRow {
            at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(number),
            session: "040g2081040g2081".parse().expect("an id"),
            permit: "THL/1/2026".parse().expect("an id"),
            text: text.to_owned(),
        }
    }

    fn of(remembered: &Remembered, identity: &str, now: i64) -> Vec<i64> {
        let rows = remembered.of([identity.to_owned()].into_iter(), Timestamp::UNIX_EPOCH + SignedDuration::from_secs(now));
        rows.iter().map(|row| row.at.as_second()).collect()
    }

    #[test]
    fn each_holder_is_shown_her_own_the_last_of_them_and_for_a_day() {
        let remembered = Remembered::default();
        for number in 0..100 {
            remembered.note("maija", row(number, "x"));
        }
        remembered.note("bo", row(7, "y"));
        assert_eq!(of(&remembered, "maija", 100), (68..100).collect::<Vec<_>>());
        assert_eq!(of(&remembered, "bo", 100), [7]);
        assert_eq!(of(&remembered, "eve", 100), Vec::<i64>::new());
        assert_eq!(of(&remembered, "maija", 98 + 24 * 3_600), [99]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_fits_a_frame() {
        let remembered = Remembered::default();
        for number in 0..i64::try_from(HOLDERS_MAX).expect("a number") + 10 {
            remembered.note(&number.to_string(), row(number, ""));
        }
        assert_eq!(of(&remembered, "9", 2_000), Vec::<i64>::new(), "the oldest is forgotten");
        assert_eq!(of(&remembered, "10", 2_000), [10]);
        for worst in ["\u{1b}", "ä", "\"", "\\"] {
            for number in 0..100 {
                remembered.note("maija", row(number, &worst.repeat(2_000)));
            }
            let rows = remembered.of(["maija".to_owned()].into_iter(), Timestamp::UNIX_EPOCH);
            assert_eq!(rows.len(), ROWS_MAX);
            sulku_protocol::encode(&Tell::Denials(rows), &mut Vec::new()).expect("a frame");
        }
    }
}
