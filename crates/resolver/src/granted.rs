//! Which addresses a session got for which name, and for how long. No clock of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sulku_permit::HostName;

/// Names that a session may hold at once.
pub const NAMES_MAX: usize = 256;
/// Addresses of a name that stay good at once: those of large distributors have other ones in each answer, at the soonest every 30 s.
pub const ADDRESSES_OF_A_NAME_MAX: usize = 64;
/// An answer that is good for less is renewed before it is given again, so that no address dies on its way to a connection.
pub const RENEWED_BEFORE: Duration = Duration::from_secs(5);
/// How long after its time a connection to an address may still begin: programs ask first and connect a little later. What the router
/// lets through has its own time-out; this one only keeps the name to it.
pub const GRACE: Duration = Duration::from_secs(60);

/// The addresses of a session, by name.
#[derive(Debug, Default)]
pub struct Granted(HashMap<HostName, Grant>);

#[derive(Debug)]
struct Grant {
    /// The last answer.
    answer: Vec<IpAddr>,
    until: Instant,
    /// All answers whose time is not over.
    good: Vec<(IpAddr, Instant)>,
}

/// The session holds as many names or addresses as it may.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session holds as many names as it may")]
pub struct Full;

impl Granted {
    /// The last answer for this name and the seconds that it is still good for, unless it is due for renewal.
    #[must_use]
    pub fn answer(&self, name: &HostName, now: Instant) -> Option<(Vec<IpAddr>, u32)> {
        let grant = self.0.get(name)?;
        let left = grant.until.checked_duration_since(now).filter(|left| *left >= RENEWED_BEFORE)?;
        Some((grant.answer.clone(), u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)))
    }

    /// Whether the name had an answer, not long ago.
    #[must_use]
    pub fn knows(&self, name: &HostName) -> bool {
        self.0.contains_key(name)
    }

    /// Whether this address was the answer for this name, not long ago.
    #[must_use]
    pub fn holds(&self, name: &HostName, address: IpAddr, now: Instant) -> bool {
        let grant = self.0.get(name);
        grant.is_some_and(|grant| grant.good.iter().any(|(good, until)| *good == address && now < *until + GRACE))
    }

    /// Whether there is room for one more name.
    ///
    /// # Errors
    /// [`Full`].
    pub fn make_room(&mut self, name: &HostName, now: Instant) -> Result<(), Full> {
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(name) {
            self.0.retain(|_, grant| now < grant.until + GRACE);
            if self.0.len() >= NAMES_MAX {
                return Err(Full);
            }
        }
        Ok(())
    }

    /// Notes an answer that the kernel lets through. The oldest addresses go where there are too many.
    ///
    /// # Errors
    /// [`Full`].
    pub fn note(&mut self, name: HostName, answer: Vec<IpAddr>, until: Instant, now: Instant) -> Result<(), Full> {
        self.make_room(&name, now)?;
        let grant = self.0.entry(name).or_insert_with(|| Grant { answer: Vec::new(), until, good: Vec::new() });
        grant.good.retain(|(address, until)| now < *until + GRACE && !answer.contains(address));
        grant.good.extend(answer.iter().map(|address| (*address, until)));
        let beyond = grant.good.len().saturating_sub(ADDRESSES_OF_A_NAME_MAX);
        grant.good.drain(..beyond);
        (grant.answer, grant.until) = (answer, until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().expect("a name")
    }

    #[test]
    fn an_address_is_good_for_its_name_and_its_time_alone() {
        let (begin, mut granted) = (Instant::now(), Granted::default());
        let at = |s| begin + Duration::from_secs(s);
        let (one, two): (IpAddr, IpAddr) = ([93, 184, 0, 1].into(), [93, 184, 0, 2].into());
        granted.note(name("a.org"), vec![one], at(30), begin).expect("room");
        assert_eq!(granted.answer(&name("a.org"), at(10)), Some((vec![one], 20)));
        assert_eq!(granted.answer(&name("a.org"), at(26)), None, "due for renewal");
        assert!(granted.holds(&name("a.org"), one, at(89)) && !granted.holds(&name("a.org"), one, at(90)));
        assert!(!granted.holds(&name("b.org"), one, at(1)) && !granted.holds(&name("a.org"), two, at(1)));
        // Another answer in between does not cut off who still goes to the first.
        granted.note(name("a.org"), vec![two], at(60), at(29)).expect("room");
        assert!(granted.holds(&name("a.org"), one, at(40)) && granted.holds(&name("a.org"), two, at(40)));
        assert_eq!(granted.answer(&name("a.org"), at(40)), Some((vec![two], 20)));
    }

    #[test]
    fn names_and_addresses_have_an_end() {
        let (begin, mut granted) = (Instant::now(), Granted::default());
        let until = begin + Duration::from_secs(30);
        for number in 0..NAMES_MAX {
            granted.note(name(&format!("n{number}.org")), vec![[93, 184, 0, 1].into()], until, begin).expect("room");
        }
        assert_eq!(granted.note(name("more.org"), Vec::new(), until, begin), Err(Full));
        assert_eq!(granted.note(name("n1.org"), Vec::new(), until, begin), Ok(()), "one that it holds");
        assert_eq!(granted.note(name("more.org"), Vec::new(), until, until + GRACE), Ok(()), "when others are over");
        let mut granted = Granted::default();
        for number in 0..=255 {
            granted.note(name("a.org"), vec![[93, 184, 0, number].into()], until, begin).expect("room");
        }
        assert!(!granted.holds(&name("a.org"), [93, 184, 0, 0].into(), begin) && granted.holds(&name("a.org"), [93, 184, 0, 255].into(), begin));
    }
}
