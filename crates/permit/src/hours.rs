//! The hours of a week at which sessions may be open, in a time zone, and the days on which they may not.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use crate::model::Place;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// So many days ahead an end is looked for: past a whole week without one there is none.
const DAYS_AHEAD: usize = 8;
const WEEK: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

/// When sessions may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    zone: TimeZone,
    /// For each weekday, Monday first: the open stretches as minutes of the day, half-open, in order, neither touching nor overlapping.
    week: [Vec<(u16, u16)>; 7],
    closed: BTreeSet<Date>,
    /// As written, for people.
    words: Vec<String>,
    /// Where they are set.
    pub at: Place,
}

/// One rule such as `Mon-Fri 06:00-22:00`.
#[derive(Debug)]
pub(crate) struct Rule {
    days: Vec<usize>,
    from: u16,
    until: u16,
}

impl Rule {
    /// Reads a rule.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const HELP: &str = "write days and hours, as in \"Mon-Fri 06:00-22:00\" or \"Sat,Sun 08:00-24:00\"";
        let (days, hours) = text.split_once(' ').ok_or(HELP)?;
        let (from, until) = hours.split_once('-').ok_or(HELP)?;
        let (from, until) = (minutes(from).ok_or(HELP)?, minutes(until).ok_or(HELP)?);
        if from >= until {
            return Err("the hours end before they begin; write two rules for a stretch over midnight");
        }
        let mut list = Vec::new();
        for part in days.split(',') {
            match part.split_once('-') {
                None => list.push(weekday(part).ok_or(HELP)?),
                Some((first, last)) => {
                    let (first, last) = (weekday(first).ok_or(HELP)?, weekday(last).ok_or(HELP)?);
                    if first > last {
                        return Err("the days end before they begin; a week begins with Mon");
                    }
                    list.extend(first..=last);
                }
            }
        }
        Ok(Self { days: list, from, until })
    }
}

fn weekday(name: &str) -> Option<usize> {
    WEEK.iter().position(|(known, _)| *known == name)
}

fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse::<u16>().ok()).flatten();
    let at = two(hour)? * 60 + two(minute).filter(|minute| *minute < 60)?;
    (at <= DAY).then_some(at)
}

impl Hours {
    pub(crate) fn new(zone: TimeZone, rules: &[Rule], words: Vec<String>, closed: BTreeSet<Date>, at: Place) -> Self {
        let mut week: [Vec<(u16, u16)>; 7] = Default::default();
        for rule in rules {
            for day in &rule.days {
                week[*day].push((rule.from, rule.until));
            }
        }
        for day in &mut week {
            day.sort_unstable();
            let mut merged: Vec<(u16, u16)> = Vec::with_capacity(day.len());
            for (from, until) in day.drain(..) {
                match merged.last_mut() {
                    Some((_, end)) if from <= *end => *end = until.max(*end),
                    _ => merged.push((from, until)),
                }
            }
            *day = merged;
        }
        Self { zone, week, closed, words, at }
    }

    /// Whether sessions may be open then.
    #[must_use]
    pub fn are_open(&self, now: Timestamp) -> bool {
        let local = now.to_zoned(self.zone.clone()).datetime();
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        self.of(local.date()).iter().any(|(from, until)| (*from..*until).contains(&minute))
    }

    /// When the stretch that `now` is in ends: `None` when it is not in one, or when there is no end.
    #[must_use]
    pub fn close_after(&self, now: Timestamp) -> Option<Timestamp> {
        let local = now.to_zoned(self.zone.clone()).datetime();
        let mut date = local.date();
        let mut minute = local.hour() as u16 * 60 + local.minute() as u16;
        for _ in 0..=DAYS_AHEAD {
            let stretch = self.of(date).iter().find(|(from, until)| (*from..*until).contains(&minute));
            match stretch {
                // Midnight of a day that goes on, or one at whose beginning nothing is open.
                None => return if minute == 0 && date != local.date() { self.instant(date, 0) } else { None },
                Some((_, DAY)) => (date, minute) = (date.tomorrow().ok()?, 0),
                Some((_, until)) => return self.instant(date, *until),
            }
        }
        None
    }

    /// Whether every moment at which these are open is one at which the others are too.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        let inside =
            |day: usize| self.week[day].iter().all(|(from, until)| other.week[day].iter().any(|(first, last)| first <= from && until <= last));
        self.zone == other.zone && (0..7).all(inside) && other.closed.iter().all(|date| self.closed.contains(date) || self.of(*date).is_empty())
    }

    /// As the permit or the calendar writes them.
    #[must_use]
    pub fn words(&self) -> String {
        let closed = match self.closed.len() {
            0 => String::new(),
            1 => ", one day closed".to_owned(),
            days => format!(", {days} days closed"),
        };
        format!("{} in {}{closed}", self.words.join(", "), self.zone.iana_name().unwrap_or("its time zone"))
    }

    fn of(&self, date: Date) -> &[(u16, u16)] {
        if self.closed.contains(&date) { &[] } else { &self.week[date.weekday().to_monday_zero_offset() as usize] }
    }

    fn instant(&self, date: Date, minute: u16) -> Option<Timestamp> {
        let time = date.to_datetime(jiff::civil::Time::midnight()).checked_add(jiff::Span::new().minutes(i64::from(minute))).ok()?;
        self.zone.to_timestamp(time).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(rules: &[&str], closed: &[&str]) -> Hours {
        let words = rules.iter().map(ToString::to_string).collect();
        let rules: Vec<_> = rules.iter().map(|rule| Rule::parse(rule).expect("a rule")).collect();
        let zone = TimeZone::get("Europe/Helsinki").expect("a zone");
        Hours::new(zone, &rules, words, closed.iter().map(|date| date.parse().expect("a date")).collect(), Place::line_of("h.toml", 1))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn hours_are_those_of_the_time_zone() {
        let office = hours(&["Mon-Fri 06:00-22:00"], &[]);
        // A Monday in winter: Helsinki is two hours ahead.
        assert!(!office.are_open(at("2026-03-02T03:59:59Z")) && office.are_open(at("2026-03-02T04:00:00Z")));
        assert_eq!(office.close_after(at("2026-03-02T04:00:00Z")), Some(at("2026-03-02T20:00:00Z")));
        // And in summer three.
        assert_eq!(office.close_after(at("2026-06-01T10:00:00Z")), Some(at("2026-06-01T19:00:00Z")));
        assert!(!office.are_open(at("2026-03-07T10:00:00Z")), "a Saturday");
        assert_eq!(office.close_after(at("2026-03-07T10:00:00Z")), None);
    }

    #[test]
    fn a_night_goes_on_over_midnight_and_a_week_without_end_has_none() {
        let night = hours(&["Mon-Sun 20:00-24:00", "Mon-Sun 00:00-06:00"], &[]);
        assert_eq!(night.close_after(at("2026-06-01T18:00:00Z")), Some(at("2026-06-02T03:00:00Z")));
        assert_eq!(hours(&["Mon-Sun 00:00-24:00"], &[]).close_after(at("2026-06-01T18:00:00Z")), None);
        assert_eq!(hours(&["Mon 00:00-24:00"], &[]).close_after(at("2026-06-01T18:00:00Z")), Some(at("2026-06-01T21:00:00Z")), "at midnight");
    }

    #[test]
    fn a_closed_day_is_closed_from_its_first_minute() {
        let hours = hours(&["Mon-Sun 00:00-24:00"], &["2026-12-06"]);
        assert!(!hours.are_open(at("2026-12-06T10:00:00Z")) && hours.are_open(at("2026-12-05T21:59:00Z")));
        assert_eq!(hours.close_after(at("2026-12-05T10:00:00Z")), Some(at("2026-12-05T22:00:00Z")));
    }

    #[test]
    fn shorter_hours_are_within_longer_ones_and_not_the_other_way_round() {
        let (long, short) = (hours(&["Mon-Fri 06:00-22:00"], &[]), hours(&["Mon-Thu 08:00-12:00", "Mon 12:00-16:00"], &["2026-12-07"]));
        assert!(short.within(&long) && !long.within(&short) && long.within(&long));
        let closed = hours(&["Mon-Fri 06:00-22:00"], &["2026-12-07"]);
        assert!(closed.within(&long) && !long.within(&closed));
    }

    #[test]
    fn what_is_no_rule_says_how_to_write_one() {
        for bad in [
            "",
            "Mon",
            "Mon-Fri",
            "Mon-Fri 6:00-22:00",
            "Fri-Mon 06:00-22:00",
            "Mon 22:00-06:00",
            "Mon 06:00-24:01",
            "mon 06:00-22:00",
            "Mon 06:00-06:60",
        ] {
            assert!(Rule::parse(bad).is_err(), "{bad}");
        }
    }
}
