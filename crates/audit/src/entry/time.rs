//! Times as entries write them, `2026-11-23T08:00:00.000000Z`: always UTC, always six digits after the point, no other form.
//!
//! Every entry has one, so it is written and read digit by digit: a general formatter takes longer than the rest of the entry.

use jiff::Timestamp;

/// Days from 1970-01-01 back to 0000-03-01, where the reckoning by eras of 400 years begins.
const EPOCH_DAYS: i64 = 719_468;
const ERA_DAYS: i64 = 146_097;
const SECONDS_A_DAY: i64 = 86_400;
const MICROSECONDS: i64 = 1_000_000;
const FORM: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";

/// A time as entries write it.
#[must_use]
pub fn time_text(time: Timestamp) -> String {
    match digits(time) {
        Some(text) => std::str::from_utf8(&text).expect("digits are ASCII").to_owned(),
        // No entry has such a time; but whoever asks is told the truth.
        None => time.to_string(),
    }
}

/// Adds a time as entries write it.
pub(super) fn push_time(bytes: &mut Vec<u8>, time: Timestamp) {
    match digits(time) {
        Some(text) => bytes.extend_from_slice(&text),
        None => bytes.extend_from_slice(time.to_string().as_bytes()),
    }
}

/// `None` for a year that has not four digits.
fn digits(time: Timestamp) -> Option<[u8; 27]> {
    let microseconds = time.as_microsecond();
    let (seconds, fraction) = (microseconds.div_euclid(MICROSECONDS), microseconds.rem_euclid(MICROSECONDS));
    let (days, second) = (seconds.div_euclid(SECONDS_A_DAY), seconds.rem_euclid(SECONDS_A_DAY));
    let (year, month, day) = date(days);
    if !(0..=9999).contains(&year) {
        return None;
    }
    let mut text = *FORM;
    let mut put = |at: std::ops::Range<usize>, mut value: i64| {
        for digit in text[at].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    for (at, value) in [(0..4, year), (5..7, month), (8..10, day), (11..13, second / 3600), (14..16, second / 60 % 60), (17..19, second % 60)] {
        put(at, value);
    }
    put(20..26, fraction);
    Some(text)
}

/// Reads what [`time_text`] writes; `None` for anything else.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let text: &[u8; 27] = text.as_bytes().try_into().ok()?;
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if !text.iter().zip(FORM).all(fits) {
        return None;
    }
    let number = |at: std::ops::Range<usize>| text[at].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let days = days(year, month, day);
    if hour > 23 || minute > 59 || second > 59 || date(days) != (year, month, day) {
        return None;
    }
    Timestamp::from_microsecond((days * SECONDS_A_DAY + hour * 3600 + minute * 60 + second) * MICROSECONDS + number(20..26)).ok()
}

/// Year, month and day of the day that many days after 1970-01-01. Years begin in March here, so that a leap day ends one.
const fn date(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let january = (month >= 10) as i64;
    (era * 400 + year + january, month + 3 - 12 * january, day)
}

/// The reverse of [`date`]; of a date that does not exist, some day whose date is another.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - (month <= 2) as i64;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every day for 800 years, and odd times of day, against jiff.
    #[test]
    fn times_are_written_and_read_as_jiff_does() {
        for day in (-200_000..200_000).chain([-719_528, -719_469, 2_932_890]) {
            let time =
                Timestamp::from_microsecond(day * SECONDS_A_DAY * MICROSECONDS + (day * 7_919_000_003).rem_euclid(SECONDS_A_DAY * MICROSECONDS));
            let time = time.expect("within jiff's range");
            let text = time_text(time);
            if day % 97 == 0 || day.abs() > 199_990 {
                assert_eq!(text, time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
            }
            assert_eq!(parse_time(&text), Some(time), "{text}");
        }
    }

    #[test]
    fn a_time_has_one_form_and_its_date_exists() {
        assert!(parse_time("2024-02-29T23:59:59.999999Z").is_some(), "the control");
        for wrong in [
            "2023-02-29T00:00:00.000000Z",
            "1900-02-29T00:00:00.000000Z",
            "2026-04-31T00:00:00.000000Z",
            "2026-00-10T00:00:00.000000Z",
            "2026-13-10T00:00:00.000000Z",
            "2026-01-00T00:00:00.000000Z",
            "2026-01-32T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:60:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01T00:00:00.00000Z",
            "2026-01-01T00:00:00.000000z",
            "2026-01-01 00:00:00.000000Z",
            "+026-01-01T00:00:00.000000Z",
            "2026-01-01T00:00:00.000000+",
            "",
        ] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }
}
