//! What this computer has and lacks: the host's part is the warden's own judgement, the client's is its profile. Repairs nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use sulku_client::Profile;

use crate::print;
use crate::profile::ProfileArgs;

const WARDEN: &str = "sulku-warden";
/// A renewal takes people some days.
const RENEWAL_WARNING: Duration = Duration::from_secs(14 * 24 * 3_600);

/// Which checks, and how they are shown.
#[derive(clap::Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// The warden's own answer as JSON, without the profile's part
    #[arg(long)]
    json: bool,
}

/// Runs `sulku doctor`.
///
/// # Errors
/// The warden is there and can't be run, or JSON was asked for and there is none.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let warden = warden_in(std::env::current_exe().ok().as_deref(), std::env::var_os("PATH").as_deref());
    let host = match &warden {
        Some(warden) => {
            let mut command = Command::new(warden);
            command.arg("doctor").args(args.json.then_some("--json")).stdin(Stdio::null());
            let status = command.status().with_context(|| format!("{} can't be run; check its permissions", warden.display()))?;
            status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
        }
        None if args.json => anyhow::bail!("{WARDEN} is neither beside sulku nor in PATH; install it to check this host"),
        None => {
            print::answer(&line("none", "host", &format!("{WARDEN} is not installed; a researcher's computer needs none")))?;
            0
        }
    };
    let client = if args.json { Verdict::Good } else { client(&args.profile)? };
    Ok(match (host, client) {
        (0, Verdict::Bad) => ExitCode::FAILURE,
        (host, _) => ExitCode::from(host),
    })
}

enum Verdict {
    Good,
    Bad,
}

fn client(args: &ProfileArgs) -> anyhow::Result<Verdict> {
    let path = args.path()?;
    let shown = path.display();
    if !args.is_named() && !path.exists() {
        print::answer(&line("none", "profile", &format!("none at {shown}; only who connects needs one")))?;
        return Ok(Verdict::Good);
    }
    let (text, verdict) = match Profile::load(&path) {
        Ok(profile) => {
            let (dates, verdict) = certificate(profile.certificate_validity(), Timestamp::now());
            let gateway = line("ok", "profile", &format!("{shown}, for the gateway at {}", profile.gateway()));
            (gateway + &line("ok", "private key", "readable by you alone, and belongs to the certificate") + &dates, verdict)
        }
        Err(error) => (error.to_string().lines().map(|problem| line("wrong", "profile", problem)).collect(), Verdict::Bad),
    };
    print::answer(&text)?;
    Ok(verdict)
}

fn certificate((from, until): (Timestamp, Timestamp), now: Timestamp) -> (String, Verdict) {
    let soon = now.checked_add(RENEWAL_WARNING).unwrap_or(Timestamp::MAX);
    let (begins, ends) = (print::local(from), print::local(until));
    let (label, found, verdict) = if now < from {
        ("wrong", format!("begins {begins}; check this computer's clock"), Verdict::Bad)
    } else if now > until {
        ("wrong", format!("ended {ends}; renew it with the body that issued it"), Verdict::Bad)
    } else if soon > until {
        ("soon", format!("ends {ends}; renew it with the body that issued it"), Verdict::Good)
    } else {
        ("ok", format!("valid until {ends}"), Verdict::Good)
    };
    (line(label, "certificate", &found), verdict)
}

/// One line, in the columns of the warden's own.
fn line(label: &str, what: &str, found: &str) -> String {
    format!("{label:<8} {what:<20} {found}\n")
}

/// The warden beside our own program, or else in `PATH`.
fn warden_in(own: Option<&Path>, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let beside = own.and_then(Path::parent).map(Path::to_path_buf);
    let folders = path.map(|path| std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect::<Vec<_>>()).unwrap_or_default();
    beside.into_iter().chain(folders).map(|folder| folder.join(WARDEN)).find(|warden| warden.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificates_line_tells_what_to_do_about_it() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let period = (time("2026-01-02T00:00:00Z"), time("2026-12-30T00:00:00Z"));
        let lines = ["2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z", "2026-12-20T00:00:00Z", "2026-12-30T00:00:01Z"]
            .map(|now| certificate(period, time(now)));
        let expected = [("wrong", "begins 2026"), ("ok", "valid until 2026"), ("soon", "ends 2026"), ("wrong", "ended 2026")];
        for ((line, verdict), (label, found)) in lines.iter().zip(expected) {
            assert!(line.starts_with(&format!("{label:<8} certificate          {found}")), "{line}");
            assert_eq!(matches!(verdict, Verdict::Bad), label == "wrong");
        }
    }

    #[test]
    fn the_warden_beside_us_comes_before_the_one_in_path() {
        let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let own = ours.path().join("sulku");
        let path = std::env::join_paths([Path::new("relative"), theirs.path()]).expect("a path");
        assert_eq!(warden_in(Some(&own), Some(&path)), None);
        std::fs::write(theirs.path().join(WARDEN), "").expect("written");
        assert_eq!(warden_in(Some(&own), Some(&path)), Some(theirs.path().join(WARDEN)));
        std::fs::write(ours.path().join(WARDEN), "").expect("written");
        assert_eq!(warden_in(Some(&own), Some(&path)), Some(ours.path().join(WARDEN)));
    }
}
