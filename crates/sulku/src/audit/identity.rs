//! `sulku audit identity`: an auditor's key pair. The secret half opens recordings and stays with her; the public half goes to the gateway.
//!
//! The file is what `age-keygen` writes, so that the `age` program opens a recording's key with it, too.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;

use crate::print::answer;

/// The largest file of identities that is looked at.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;
/// More than one person has.
const IDENTITIES_MAX: usize = 16;

/// Whose recordings can be opened.
#[derive(Args)]
pub(super) struct IdentityArg {
    /// Your identity, as `sulku audit identity` wrote it; opens recordings
    #[arg(long, env = "SULKU_AUDIT_IDENTITY", value_name = "FILE")]
    pub(super) identity: Option<PathBuf>,
}

impl IdentityArg {
    pub(super) fn load(&self) -> anyhow::Result<Vec<Identity>> {
        let help = "recordings are encrypted; give your identity with --identity FILE or SULKU_AUDIT_IDENTITY (sulku audit identity makes one)";
        load(self.identity.as_deref().context(help)?)
    }
}

/// Makes an identity in a new file that its owner alone can read, and prints its public half.
pub(super) fn create(out: &Path) -> anyhow::Result<ExitCode> {
    let identity = Identity::generate();
    let recipient = identity.to_public();
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(out).with_context(|| {
            format!("{} can't be made; name a new file in a folder of yours, since an identity is never written over", out.display())
        })?;
    let created = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    write!(file, "# created: {created}\n# public key: {recipient}\n{}\n", identity.to_string().expose_secret())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} can't be written", out.display()))?;
    answer(&format!("{recipient}\n"))?;
    eprintln!(
        "put this into the gateway's configuration, under [[auditor]], as recipient; keep {} to yourself, and a copy of it safe",
        out.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn load(path: &Path) -> anyhow::Result<Vec<Identity>> {
    let unread = || format!("{} can't be read", path.display());
    anyhow::ensure!(std::fs::metadata(path).with_context(unread)?.len() <= IDENTITY_BYTES_MAX, "{} is too large for an identity", path.display());
    parse(&std::fs::read_to_string(path).with_context(unread)?).with_context(|| format!("{} is no identity", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Vec<Identity>> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut identities = Vec::new();
    for (number, line) in lines {
        match line.parse::<Identity>() {
            Ok(identity) if identities.len() < IDENTITIES_MAX => identities.push(identity),
            Ok(_) => bail!("it holds more than {IDENTITIES_MAX} identities"),
            Err(_) => bail!("line {} is no AGE-SECRET-KEY-1…, as `sulku audit identity` writes it", number + 1),
        }
    }
    anyhow::ensure!(!identities.is_empty(), "it holds none; `sulku audit identity --out FILE` makes one");
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_identity_is_its_owners_alone_reads_back_and_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity");
        create(&path).expect("made");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let identities = load(&path).expect("an identity");
        assert!(text.contains(&format!("# public key: {}\n", identities[0].to_public())), "{text}");
        assert!(create(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
    }

    #[test]
    fn what_is_no_identity_says_what_to_do() {
        let recipient = Identity::generate().to_public().to_string();
        for (text, said) in [("", "makes one"), ("# only a comment\n", "makes one"), (recipient.as_str(), "line 1 is no AGE-SECRET-KEY-1")] {
            let error = parse(text).map(|_| ()).expect_err(text).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
