//! How many instructions the hot parts take, counted by callgrind: `make bench-parts`. A busy machine changes nothing of it, so that a change of
//! the code shows where a time would not. What was counted before is in `target/release/instructions.json`, and beside it stands what it is now.
//!
//! What the counts don't have: callgrind knows no AVX-512, so the tree is hashed here as on a machine without.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use sulku_load::parts;

/// What callgrind counts within: this function, and all that it calls.
const COUNTED: &str = "instructions::counted*";
/// Before the number of instructions in what callgrind says.
const SAYS: &str = "Collected : ";

/// Each part by its name: what it needs is made, and what it does is counted.
const PARTS: &[(&str, fn())] = &[
    ("admission among 100 permits", || {
        let permits = parts::permits();
        counted(&mut || drop(parts::admission(&permits)));
    }),
    ("a permit's text becomes one", || counted(&mut || drop(parts::permit_text(parts::text())))),
    ("a permit's plan as text", || {
        let permit = parts::permit();
        counted(&mut || drop(parts::plan(&permit)));
    }),
    ("filter, 16 KiB of output", || {
        let output = parts::output();
        counted(&mut || drop(parts::filter(&output)));
    }),
    ("frame there and back, 16 KiB of output", || {
        let mut output = Some(parts::output());
        counted(&mut || drop(output.take().map(parts::output_frame)));
    }),
    ("frame there and back, one key", || counted(&mut || drop(parts::key_frame(b'a')))),
    ("tree of 256 entries", || {
        let entries = parts::entries();
        counted(&mut || drop(parts::tree(&entries)));
    }),
];

#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--part") {
        let name = arguments.next().unwrap_or_default();
        let (_, part) = PARTS.iter().find(|(known, _)| *known == name).ok_or("there is no such part")?;
        part();
        return Ok(());
    }
    let kept = kept_at()?;
    let before: BTreeMap<String, u64> = std::fs::read(&kept).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let mut now = BTreeMap::new();
    println!("{:<42} {:>14} {:>14}", "", "instructions", "than before");
    for (name, _) in PARTS {
        let count = count(name)?;
        let change = before.get(*name).map_or_else(String::new, |before| format!("{:+.2} %", (count as f64 / *before as f64 - 1.0) * 100.0));
        println!("{name:<42} {count:>14} {change:>14}");
        now.insert(*name, count);
    }
    Ok(std::fs::write(kept, serde_json::to_vec_pretty(&now)?)?)
}

/// This program does one part under callgrind.
fn count(name: &str) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-atstart=no", &format!("--toggle-collect={COUNTED}"), "--callgrind-out-file=/dev/null"]);
    let output = command.arg(std::env::current_exe()?).args(["--part", name]).output();
    let output = output.map_err(|error| format!("valgrind is needed, Debian's package of that name: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once(SAYS)?.1.trim().parse::<u64>().ok()).filter(|count| *count > 0);
    count.ok_or_else(|| format!("{name}: {said}").into())
}

/// The folder of what is built, which this program is in.
fn kept_at() -> Result<PathBuf, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let built = own.ancestors().nth(2).ok_or("this program is in a folder of what is built")?;
    Ok(built.join("instructions.json"))
}
