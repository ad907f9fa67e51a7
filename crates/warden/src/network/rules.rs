//! The router's one ruleset (`plan::ruleset`), put in force: installed with `nft`, read back and compared.
//!
//! It is compared with what this host's `nft` lists where nothing but the ruleset's text was ever installed, since versions of `nft` list the
//! same rules in different words. What stood in the namespace before is replaced in the same transaction, so that there is no moment
//! without rules.

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

/// The ruleset, as this host's `nft` lists it.
#[derive(Debug)]
pub(super) struct Rules {
    listed: Vec<String>,
}

impl Rules {
    /// Learns how it is listed, in the network namespace in which this runs: one in which nothing is and which nobody else knows.
    pub(super) fn learn() -> Result<Self, RulesetError> {
        nft(&["-f", "-"], ruleset::TEXT)?;
        let listed = list()?;
        // Whatever its words, it has a line for each of the text's.
        let (listed_lines, lines) = (listed.len(), ruleset::lines(ruleset::TEXT).count());
        if listed_lines < lines {
            return Err(RulesetError::Differs(format!("{lines} lines became {listed_lines} when they were listed")));
        }
        Ok(Self { listed })
    }

    /// Installs it in the network namespace in which this runs, in place of all that is there.
    pub(super) fn install(&self) -> Result<(), RulesetError> {
        nft(&["-f", "-"], &format!("flush ruleset\n{}", ruleset::TEXT)).map(drop)
    }

    /// Puts its sets and maps where they are missing. Those that are there stay as they are. Gives the process that did it.
    pub(super) fn declare(&self) -> Result<u32, RulesetError> {
        nft(&["-f", "-"], &ruleset::without_chains()).map(|(process, _)| process)
    }

    /// Puts all of its rules in place of those that its chains have, in one transaction. Its sets, and what is in them, stay. Gives the process that did it.
    pub(super) fn rewrite(&self) -> Result<u32, RulesetError> {
        nft(&["-f", "-"], &format!("flush table inet {}\n{}", ruleset::TABLE, ruleset::TEXT)).map(|(process, _)| process)
    }

    /// Reads back everything that is in force in the network namespace in which this runs, and compares: there is this ruleset alone.
    /// Elements and sessions' budgets are not looked at.
    pub(super) fn compare(&self) -> Result<(), RulesetError> {
        let found = list()?;
        let (mut wanted, mut found) = (self.listed.iter(), found.iter());
        loop {
            match (wanted.next(), found.next()) {
                (None, None) => return Ok(()),
                (wanted, found) if wanted == found => {}
                (wanted, found) => {
                    let words = |line: Option<&String>| line.map_or("its end".to_owned(), Clone::clone);
                    return Err(RulesetError::Differs(format!("{:?} became {:?}", words(wanted), words(found))));
                }
            }
        }
    }
}

/// The lines of what is in force, without sessions' budgets: those are objects of their own, beside the rules.
fn list() -> Result<Vec<String>, RulesetError> {
    let (_, found) = nft(&["--stateless", "--terse", "list", "ruleset"], "")?;
    let mut within_budget = false;
    let counts = |line: &str| line.starts_with("quota bytes-") || line.starts_with("limit rate-");
    let found = String::from_utf8_lossy(&found);
    let lines = ruleset::lines(&found).filter(|line| {
        let begins = counts(line) && line.ends_with('{');
        let skipped = within_budget || begins;
        within_budget = skipped && *line != "}";
        !skipped
    });
    Ok(lines.map(str::to_owned).collect())
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

/// Runs nft with nothing of this process's environment, and takes its complaints instead of letting them go to ours. Gives its process
/// and what it said.
fn nft(arguments: &[&str], input: &str) -> Result<(u32, Vec<u8>), RulesetError> {
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
        stdin.write_all(input.as_bytes()).map_err(RulesetError::Nft)?;
    }
    let process = child.id();
    let output = child.wait_with_output().map_err(RulesetError::Nft)?;
    if output.status.success() {
        Ok((process, output.stdout))
    } else {
        Err(RulesetError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
