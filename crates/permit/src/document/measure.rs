//! Quantities as people write them in a permit: `"12 h"`, `"64 GiB"`, `"443/tcp"`.

use std::time::Duration;

use crate::model::{Period, Port, Protocol, Rate};

/// Splits `"12 h"` into its whole number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

/// A length of time: a whole number and `s`, `min`, `h` or `d`.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const HELP: &str = "write a whole number and a unit: s, min, h or d, as in \"30 min\"";
    let (number, unit) = number_and_unit(text).ok_or(HELP)?;
    let seconds_each = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(HELP),
    };
    let seconds = number.checked_mul(seconds_each).ok_or(HELP)?;
    if seconds == 0 { Err("a length of time must be more than nothing") } else { Ok(Duration::from_secs(seconds)) }
}

/// How long something is kept, in days: a whole number and `d` or `y`. A year is 366 days, so that no leap day makes it short.
pub(super) fn days(text: &str) -> Result<u32, &'static str> {
    const HELP: &str = "write a whole number and a unit: d or y, as in \"5 y\"";
    let (number, unit) = number_and_unit(text).ok_or(HELP)?;
    let days_each = match unit {
        "d" => 1,
        "y" => 366,
        _ => return Err(HELP),
    };
    number.checked_mul(days_each).and_then(|days| u32::try_from(days).ok()).ok_or(HELP)
}

/// An amount of bytes: a whole number and `KiB`, `MiB`, `GiB` or `TiB`.
pub(super) fn bytes(text: &str) -> Result<u64, &'static str> {
    const HELP: &str = "write a whole number and a unit: KiB, MiB, GiB or TiB, as in \"64 GiB\"";
    let (number, unit) = number_and_unit(text).ok_or(HELP)?;
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(HELP),
    };
    match number.checked_mul(1 << shift) {
        Some(0) | None => Err(HELP),
        Some(amount) => Ok(amount),
    }
}

/// New connections in a time, as in `60 a minute`.
pub(super) fn rate(text: &str) -> Result<Rate, &'static str> {
    const HELP: &str = "write a whole number from 1 to 1000000 and a time, as in \"5 a second\", \"60 a minute\" or \"500 an hour\"";
    let (connections, per) = number_and_unit(text).ok_or(HELP)?;
    let per = match per {
        "a second" => Period::Second,
        "a minute" => Period::Minute,
        "an hour" => Period::Hour,
        _ => return Err(HELP),
    };
    match u32::try_from(connections) {
        Ok(connections @ 1..=1_000_000) => Ok(Rate { connections, per }),
        _ => Err(HELP),
    }
}

/// A port of a protocol, as in `443/tcp`.
pub(super) fn port(text: &str) -> Result<Port, &'static str> {
    const HELP: &str = "write a port from 1 to 65535 and its protocol, as in \"443/tcp\" or \"123/udp\"";
    let (number, protocol) = text.split_once('/').ok_or(HELP)?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(HELP),
    };
    match number.parse::<u16>() {
        Ok(number) if number > 0 && !text.starts_with('+') => Ok(Port { number, protocol }),
        _ => Err(HELP),
    }
}
