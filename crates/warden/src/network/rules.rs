//! The router's one ruleset, put in force: installed with `nft`, read back and compared with its own text (`plan::ruleset`).
//!
//! What stood in the namespace before is replaced in the same transaction, so that there is no moment without rules.

use std::io::Write as _;
use std::process::{Command, Stdio};

use sulku_audit::WhyDenied;
use sulku_plan::ruleset;
pub(super) use sulku_plan::ruleset::LOG_GROUP;

/// The nft programme, by its whole path: the environment has no say in what runs as root.
pub const NFT: &str = "/usr/sbin/nft";

/// Why the ruleset is not in force.
#[derive(Debug, thiserror::Error)]
pub enum RulesetError {
    /// nft could not be run.
    #[error("{NFT} could not be run; install the package nftables")]
    Nft(#[source] std::io::Error),
    /// nft refused.
    #[error("nft refused the ruleset: {0}")]
    Refused(String),
    /// What is in force is not what was installed.
    #[error("the ruleset read back differs from the one installed: {0}")]
    Differs(String),
}

/// Installs the ruleset in the network namespace in which this runs, in place of all that is there, reads it back and compares.
pub(super) fn install() -> Result<(), RulesetError> {
    nft(&["-f", "-"], format!("flush ruleset\n{}", ruleset::TEXT).as_bytes())?;
    compare()
}

/// Why a packet was denied, by the words with which its rule logs it.
pub(super) fn why(prefix: &[u8]) -> WhyDenied {
    match prefix.split(|byte| *byte == 0).next() {
        Some(b"spoofed") => WhyDenied::Spoofed,
        Some(b"spent") => WhyDenied::OverQuota,
        Some(b"hurried") => WhyDenied::TooFast,
        _ => WhyDenied::NotListed,
    }
}

/// Reads back everything that is in force in the network namespace in which this runs, and compares: there is this ruleset alone.
pub(super) fn compare() -> Result<(), RulesetError> {
    let found = nft(&["--stateless", "--terse", "list", "ruleset"], &[])?;
    let found = String::from_utf8_lossy(&found);
    let (mut wanted, mut found) = (ruleset::lines(ruleset::TEXT), ruleset::lines(&found));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Ok(()),
            (wanted, found) if wanted == found => {}
            (wanted, found) => {
                return Err(RulesetError::Differs(format!("{:?} became {:?}", wanted.unwrap_or("its end"), found.unwrap_or("its end"))));
            }
        }
    }
}

/// Runs nft with nothing of this process's environment, and takes its complaints instead of letting them go to ours.
fn nft(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, RulesetError> {
    let piped = || Stdio::piped();
    let mut child = Command::new(NFT)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(piped())
        .stdout(piped())
        .stderr(piped())
        .spawn()
        .map_err(RulesetError::Nft)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(RulesetError::Nft)?;
    }
    let output = child.wait_with_output().map_err(RulesetError::Nft)?;
    if output.status.success() { Ok(output.stdout) } else { Err(RulesetError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
}
