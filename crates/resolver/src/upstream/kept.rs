//! Answers that are still good. Bounded: the one that ends first goes first.

use std::collections::HashMap;
use std::time::Instant;

use sulku_permit::HostName;

use super::Answer;

/// Names that are kept at once, of all sessions.
const NAMES_MAX: usize = 1024;

/// Answers by name.
#[derive(Debug, Default)]
pub struct Kept(HashMap<HostName, Answer>);

impl Kept {
    /// The answer for this name, if it is still good.
    pub fn get(&self, name: &HostName, now: Instant) -> Option<Answer> {
        self.0.get(name).filter(|answer| until(answer).is_some_and(|until| now < until)).cloned()
    }

    /// Keeps an answer for its time.
    pub fn put(&mut self, name: HostName, answer: Answer, now: Instant) {
        if until(&answer).is_none() {
            return;
        }
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(&name) {
            self.0.retain(|_, answer| until(answer).is_some_and(|until| now < until));
        }
        if self.0.len() >= NAMES_MAX
            && !self.0.contains_key(&name)
            && let Some(first) = self.0.iter().min_by_key(|(_, answer)| until(answer)).map(|(name, _)| name.clone())
        {
            self.0.remove(&first);
        }
        self.0.insert(name, answer);
    }
}

/// Until when it is good; a failure is not kept.
fn until(answer: &Answer) -> Option<Instant> {
    match answer {
        Answer::Addresses(_, until) | Answer::NoAddresses(until) | Answer::NoSuchName(until) => Some(*until),
        Answer::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn answers_are_kept_for_their_time_and_the_first_to_end_makes_room() {
        let (now, mut kept) = (Instant::now(), Kept::default());
        let name = |number: usize| format!("n{number}.org").parse::<HostName>().expect("a name");
        for number in 0..=NAMES_MAX {
            kept.put(name(number), Answer::NoSuchName(now + Duration::from_secs(10 + number as u64)), now);
        }
        assert_eq!(kept.0.len(), NAMES_MAX);
        assert_eq!(kept.get(&name(0), now), None);
        assert!(kept.get(&name(1), now).is_some() && kept.get(&name(1), now + Duration::from_secs(11)).is_none());
        kept.put(name(5), Answer::Failed, now);
        assert!(kept.get(&name(5), now).is_some(), "a failure does not take away what is known");
    }
}
