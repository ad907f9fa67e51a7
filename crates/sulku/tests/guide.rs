//! The operator's guide is run as it stands: each block of commands, in order, in an empty folder.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::Path;
use std::process::{Command, Stdio};

const GUIDE: &str = include_str!("../../../docs/operator-guide.md");

#[test]
fn the_operators_first_day_goes_as_the_guide_says() {
    let folder = tempfile::tempdir().unwrap();
    let programmes = Path::new(env!("CARGO_BIN_EXE_sulku")).parent().unwrap();
    let path = format!("{}:{}", programmes.display(), std::env::var("PATH").unwrap());
    let blocks: Vec<_> = GUIDE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 7, "the guide has its commands");
    let mut said = Vec::new();
    for block in blocks {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", block]).env("PATH", &path).current_dir(&folder).stdin(Stdio::null());
        let output = shell.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "{block}\n{out}{err}");
        said.push(out);
    }
    let all = said.join("\n");
    for promised in [
        "1 permit in 1 file, 3 cases: no problem",
        "3 of 3 cases come out as they say",
        "allow  connect under THL/7/2026",
        "egress 10.20.30.40/32 443/tcp by asthma.toml",
        "+ THL/7/2026: is new, GRANTED",
        "revision 1 does not count yet",
        "revision 1 counts, signed by onni and aino",
        "revision 2 counts, signed by onni",
        "revision 3 does not count yet",
        "is REVOKED now, GRANTED before, and its sessions end",
        "everything is halted, and every session ends: an incident",
        "revision 7 counts, signed by onni and aino",
    ] {
        assert!(all.contains(promised), "{promised} is not in\n{all}");
    }
}
