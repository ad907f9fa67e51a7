//! Answers on standard output, and times and amounts as people read them. A reader that has gone away is no error.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Writes a whole answer.
///
/// # Errors
/// Standard output can't be written, other than because its reader has gone.
pub fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// An instant in the time zone of this computer.
pub fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// An amount in the largest unit of which there is one.
pub fn amount(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{}.{} {unit}", bytes >> shift, ((bytes & ((1 << shift) - 1)) * 10) >> shift),
        None => format!("{bytes} B"),
    }
}

/// A length of time, to a tenth of what matters.
pub fn length(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// Columns as wide as their widest cell, two spaces between.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_lengths_read_as_people_say_them() {
        assert_eq!([0, 1023, 1024, 1536, 5 << 20, u64::MAX].map(amount), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "17179869183.9 GiB"]);
        assert_eq!([0, 119, 120, 7_200].map(length), ["0 s", "119 s", "2 min", "2 h"]);
    }

    #[test]
    fn columns_of_a_table_stand_below_each_other() {
        let rows = [vec!["A".into(), "BB".into()], vec!["ääkköset".into(), "x".into()]];
        assert_eq!(table(&rows), "A         BB\nääkköset  x\n");
    }
}
