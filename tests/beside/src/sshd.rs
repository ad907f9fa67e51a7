//! OpenSSH's server, set up as its users have it where certificates are: one of its own on the loopback, in namespaces of its own, so that an
//! account, logs and its run folder exist for it alone, nothing of this machine is changed, and nothing that it started outlives it.
//!
//! What is fair: no PAM, no look-up of names, no message of the day, no limit on sessions that start at once, the classical key exchange
//! alone, the same shell with the same profile as in a cell. It builds no cell and records nothing, unless `script` is asked for.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sulku_stage::{Interrupt, Running, find_in, poll};
use tempfile::TempDir;

/// The account that exists in the server's own namespace.
pub const ACCOUNT: &str = "bench";
const UID: u32 = 60_989;
const READY: Duration = Duration::from_secs(20);
const TOOL_TIME: Duration = Duration::from_secs(20);
/// As the cell's own: the prompt and no more.
const PROFILE: &str = "if [ \"${PS1-}\" ]; then PS1='\\u@\\h:\\w\\$ '; fi\numask 027\n";
/// Arguments: the folder, then the server and its own. No file may grow beyond 2 GiB: `script` writes on when nobody reads any more.
const ENTER: &str = "ulimit -f 2097152 && mount -t tmpfs none /run && mkdir -m 755 /run/sshd && mount -t tmpfs none /var/log \
                     && mount --bind $0/passwd /etc/passwd && mount --bind $0/group /etc/group && mount --bind $0/profile /etc/profile \
                     && exec \"$@\"";

/// The kind of all keys and certificates of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Ed25519, which `ssh-keygen` makes when not told otherwise.
    Ed25519,
    /// ECDSA over P-256, as our own certificates in these runs.
    Ecdsa,
}

impl Keys {
    /// As `ssh-keygen` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Ecdsa => "ecdsa",
        }
    }
}

/// A server that runs. Dropped, it is gone.
#[derive(Debug)]
pub struct Sshd {
    running: Running,
    folder: TempDir,
    /// Its port on the loopback.
    pub port: u16,
    /// Its keys' kind.
    pub keys: Keys,
}

impl Sshd {
    /// Starts it.
    ///
    /// # Errors
    /// A program is missing, or it does not start; with what it says.
    pub fn start(keys: Keys) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sulku-beside-sshd-").tempdir()?;
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        for key in ["host", "authority", "user"] {
            keygen(&["-t", keys.name(), "-N", "", "-f", &shown(&path.join(key))])?;
        }
        keygen(&["-s", &shown(&path.join("authority")), "-I", ACCOUNT, "-n", ACCOUNT, "-V", "-1h:+12h", &shown(&path.join("user.pub"))])?;
        let home = path.join("home");
        fs::create_dir(&home)?;
        chown(&home, Some(UID), Some(UID))?;
        let account = format!("{ACCOUNT}:x:{UID}:{UID}::{}:/bin/bash\n", home.display());
        fs::write(path.join("passwd"), fs::read_to_string("/etc/passwd")? + &account)?;
        fs::write(path.join("group"), format!("{}{ACCOUNT}:x:{UID}:\n", fs::read_to_string("/etc/group")?))?;
        fs::write(path.join("profile"), PROFILE)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        fs::write(path.join("config"), config(path, port))?;
        let mut command = Command::new(find_in("unshare", "util-linux")?);
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", ENTER]).arg(path);
        command.arg(find_in("sshd", "openssh-server")?).args(["-D", "-e", "-f"]).arg(path.join("config"));
        let running = Running::start(command, &Interrupt::never())?;
        let answers = poll(READY, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        answers.with_context(|| format!("sshd does not listen: {}", running.err()))?;
        Ok(Self { running, folder, port, keys })
    }

    /// The process that all of the server's descend from.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The account's private key; its certificate lies beside it, as `ssh` expects.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    /// The account's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("user-cert.pub")
    }

    /// `ssh` itself, with a terminal on the far side, that runs this there.
    ///
    /// # Errors
    /// It is missing.
    pub fn client(&self, script: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(find_in("ssh", "openssh-client")?);
        command.args(["-tt", "-q", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"]);
        command.arg("-i").arg(self.key()).args(["-p", &self.port.to_string(), &format!("{ACCOUNT}@127.0.0.1"), script]);
        Ok(command)
    }
}

fn config(path: &Path, port: u16) -> String {
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nTrustedUserCAKeys {0}/authority.pub\nPidFile none\nUsePAM no\nUseDNS no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\nPrintLastLog no\nStrictModes no\nLogLevel ERROR\n\
         MaxStartups 1000\nMaxSessions 1000\nKexAlgorithms curve25519-sha256\nCiphers aes128-gcm@openssh.com,aes256-gcm@openssh.com\n",
        path.display()
    )
}

fn keygen(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(find_in("ssh-keygen", "openssh-client")?);
    command.arg("-q").args(arguments);
    let finished = Running::start(command, &Interrupt::never())?.finish_input(TOOL_TIME)?;
    ensure!(finished.status.success(), "{}", finished.gist());
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
