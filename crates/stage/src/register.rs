//! A synthetic care register: made from a seed, of nobody.
//!
//! The columns are those of a hospital discharge register. Age, statin use and dementia hang together a little, so that an analysis
//! finds something; no figure here comes from real people.

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::StageError;

/// Rows of a register: enough that an analysis is one.
pub const REGISTER_ROWS: u32 = 120_000;
/// The file's name in its dataset.
pub(crate) const FILE: &str = "visits.csv";

const COUNTIES: &[&str] = &["Uusimaa", "Varsinais-Suomi", "Pirkanmaa", "Pohjois-Pohjanmaa", "Pohjois-Savo", "Lappi"];
const OTHER_DIAGNOSES: &[&str] = &["I10", "E11.9", "J45.9", "M54.5", "I48.9", "K21.9", "J18.9", "S72.0"];

/// SplitMix64 (Steele, Lea and Flood 2014): small, seeded, and nothing here has to be hard to guess.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of(&mut self, list: &[&'static str]) -> &'static str {
        let index = self.below(list.len() as u64);
        usize::try_from(index).ok().and_then(|index| list.get(index)).copied().unwrap_or_default()
    }
}

/// Writes a register of that many rows into a new folder.
pub(crate) fn write(folder: &Path, seed: u64, rows: u32) -> Result<(), StageError> {
    fs::create_dir_all(folder).map_err(StageError::file("making a folder", folder))?;
    let path = folder.join(FILE);
    let file = fs::File::create_new(&path).map_err(StageError::file("making a register", &path))?;
    rows_of(seed, rows, &mut BufWriter::new(file)).map_err(StageError::file("writing a register", &path))?;
    // Whatever this process's umask: the cell's user reads it as anybody.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(StageError::file("opening a register for the cells", &path))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(StageError::file("opening a register for the cells", folder))
}

fn rows_of(seed: u64, rows: u32, out: &mut impl Write) -> std::io::Result<()> {
    let mut chance = Chance(seed);
    writeln!(out, "pseudonym,birth_year,sex,county,visit_date,diagnosis,statin,days,cost_eur")?;
    for _ in 0..rows {
        let pseudonym = chance.next() >> 16;
        let birth_year = 1925 + chance.below(75);
        let sex = if chance.percent(54) { "F" } else { "M" };
        let (year, month, day) = (2010 + chance.below(15), 1 + chance.below(12), 1 + chance.below(28));
        let age = year.saturating_sub(birth_year);
        let statin = chance.percent(if age >= 55 { 38 } else { 6 });
        let dementia = chance.percent(match (age, statin) {
            (75.., true) => 11,
            (75.., false) => 14,
            (60..75, _) => 3,
            _ => 0,
        });
        let diagnosis = if dementia { "G30.1" } else { chance.one_of(OTHER_DIAGNOSES) };
        let days = chance.below(if dementia { 30 } else { 9 });
        let cost = 180 + days * 740 + chance.below(400);
        let county = chance.one_of(COUNTIES);
        writeln!(out, "{pseudonym:012x},{birth_year},{sex},{county},{year}-{month:02}-{day:02},{diagnosis},{},{days},{cost}", u8::from(statin))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_register() {
        let register = |seed| {
            let mut bytes = Vec::new();
            rows_of(seed, 1_000, &mut bytes).expect("memory takes all");
            bytes
        };
        assert_eq!(register(7), register(7));
        assert_ne!(register(7), register(8));
        let lines = String::from_utf8(register(7)).expect("text");
        assert_eq!(lines.lines().count(), 1_001);
        assert!(lines.lines().all(|line| line.split(',').count() == 9));
    }
}
