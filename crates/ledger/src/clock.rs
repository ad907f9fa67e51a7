//! Notices when the wall clock runs away from the monotonic one: set by hand or by a time service, or back after a sleep.
//!
//! Changes no time: entries say what the clock said, and their numbers say their order. Both clocks are slewed together, so that only a
//! step sets them apart. Reads no clock itself.

use jiff::Timestamp;

/// How far the wall clock may be from where the monotonic clock says it should be: more than a leap second, and far more than time services
/// step in their daily work.
pub(crate) const RUNAWAY_MS_MAX: u64 = 2_000;

/// What an entry says of the clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) time: Timestamp,
    pub(crate) mono_ns: u64,
}

impl Reading {
    /// Where the wall clock was when the monotonic one began, in milliseconds.
    fn offset_ms(&self) -> i128 {
        (self.time.as_nanosecond() - i128::from(self.mono_ns)) / 1_000_000
    }
}

/// Where the wall clock should be.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    offset_ms: i128,
}

impl ClockWatch {
    /// A watch that goes on from the log's last entry. Of another boot nothing is known but that time does not run backwards.
    pub(crate) fn new(now: &Reading, last: Option<&Reading>, same_boot: bool) -> Self {
        let offset_ms = match last {
            Some(last) if same_boot => last.offset_ms(),
            Some(last) if last.time > now.time => now.offset_ms() + (last.time.as_nanosecond() - now.time.as_nanosecond()) / 1_000_000,
            _ => now.offset_ms(),
        };
        Self { offset_ms }
    }

    /// By how much the wall clock has jumped since it was last told, if it has.
    pub(crate) fn check(&mut self, now: &Reading) -> Option<i64> {
        let by_ms = now.offset_ms() - self.offset_ms;
        if by_ms.unsigned_abs() <= u128::from(RUNAWAY_MS_MAX) {
            return None;
        }
        self.offset_ms = now.offset_ms();
        Some(i64::try_from(by_ms).unwrap_or(if by_ms < 0 { i64::MIN } else { i64::MAX }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_ms: i64, mono_ms: u64) -> Reading {
        Reading { time: Timestamp::from_millisecond(1_800_000_000_000 + wall_ms).expect("a time"), mono_ns: mono_ms * 1_000_000 }
    }

    #[test]
    fn a_step_of_the_wall_clock_is_told_once_and_with_its_size() {
        let mut watch = ClockWatch::new(&at(0, 5), None, false);
        assert_eq!(watch.check(&at(60_000, 60_005)), None, "the control: both clocks run");
        assert_eq!(watch.check(&at(61_000 - 3_600_000, 61_005)), Some(-3_600_000), "an hour back");
        assert_eq!(watch.check(&at(62_000 - 3_600_000, 62_005)), None, "told already");
        let year_ms = 365 * 24 * 3_600_000;
        assert_eq!(watch.check(&at(63_000 - 3_600_000 + year_ms, 63_005)), Some(year_ms), "a year ahead");
    }

    #[test]
    fn small_steps_are_told_when_they_add_up() {
        let mut watch = ClockWatch::new(&at(0, 0), None, false);
        let told: Vec<_> = (1..=4).map(|step| watch.check(&at(step * 1_800, step as u64 * 1_000))).collect();
        assert_eq!(told, [None, None, Some(2_400), None], "a leap second alone is none");
    }

    #[test]
    fn a_step_while_the_ledger_was_down_is_told() {
        let last = at(100_000, 50_000);
        assert_eq!(ClockWatch::new(&at(20_000, 60_000), Some(&last), true).check(&at(20_000, 60_000)), Some(-90_000), "within a boot");
        assert_eq!(ClockWatch::new(&at(20_000, 10), Some(&last), false).check(&at(20_000, 10)), Some(-80_000), "back before the last entry");
        assert_eq!(ClockWatch::new(&at(900_000, 10), Some(&last), false).check(&at(900_000, 10)), None, "the control: later, after a reboot");
    }
}
