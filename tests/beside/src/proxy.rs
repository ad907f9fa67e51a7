//! Gateways that end mutual TLS before a plain service: HAProxy, nginx, stunnel; each alone, as one process, TLS 1.3, no resumption.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use sulku_stage::{Authority, Interrupt, Running, find_in, poll};
use tempfile::TempDir;

const READY: Duration = Duration::from_secs(20);

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HAProxy.
    HaProxy,
    /// nginx, its stream module.
    Nginx,
    /// stunnel.
    Stunnel,
}

impl Kind {
    /// As the table calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx stream",
            Self::Stunnel => "stunnel",
        }
    }
}

/// One that runs. Dropped, it is gone.
#[derive(Debug)]
pub struct Proxy {
    running: Running,
    _folder: TempDir,
    /// Its port on the loopback.
    pub port: u16,
}

impl Proxy {
    /// Starts it with that authority's certificates before the service at that port.
    ///
    /// # Errors
    /// It is missing or does not start; with what it says.
    pub fn start(kind: Kind, authority: &Authority, service: u16) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sulku-beside-proxy-").tempdir()?;
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        let (certificate, key) = authority.files_of("gateway");
        let bundle = fs::read_to_string(&certificate)? + &fs::read_to_string(&key)?;
        fs::write(path.join("server.pem"), bundle)?;
        fs::copy(authority.certificate(), path.join("authority.pem"))?;
        fs::copy(authority.revoked(), path.join("revoked.pem"))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (text, command) = match kind {
            Kind::HaProxy => (haproxy(path, port, service), command("haproxy", "haproxy", &["-db", "-f"])?),
            Kind::Nginx => (nginx(path, port, service), command("nginx", "nginx-light", &["-c"])?),
            Kind::Stunnel => (stunnel(path, port, service), command("stunnel4", "stunnel4", &[])?),
        };
        fs::write(path.join("config"), text)?;
        let mut command = command;
        command.arg(path.join("config"));
        let running = Running::start(command, &Interrupt::never())?;
        let answers = poll(READY, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        answers.with_context(|| format!("{} does not listen: {}", kind.name(), running.err()))?;
        Ok(Self { running, _folder: folder, port })
    }

    /// Its process, or the first of them.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // In order, so that nginx takes its worker with it; whatever still runs then is killed.
        self.running.signal(rustix::process::Signal::TERM);
        let pid = self.running.pid();
        let _gone = poll(READY, || crate::processes::family(&[pid]).iter().all(|pid| crate::processes::memory_kib(*pid, "Rss") == 0).then_some(()));
    }
}

fn command(program: &str, package: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(find_in(program, package)?);
    command.args(arguments);
    Ok(command)
}

fn haproxy(path: &Path, port: u16, service: u16) -> String {
    let at = path.display();
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n  tune.ssl.cachesize 0\n\
         defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
         frontend in\n  bind 127.0.0.1:{port} ssl crt {at}/server.pem ca-file {at}/authority.pem crl-file {at}/revoked.pem verify required \
         ssl-min-ver TLSv1.3 no-tls-tickets curves X25519\n  default_backend out\n\
         backend out\n  server one 127.0.0.1:{service}\n"
    )
}

fn nginx(path: &Path, port: u16, service: u16) -> String {
    let at = path.display();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nuser root;\nworker_processes 1;\npid {at}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 4000; }}\n\
         stream {{ server {{ listen 127.0.0.1:{port} ssl; proxy_pass 127.0.0.1:{service};\n\
         ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.pem; ssl_client_certificate {at}/authority.pem; ssl_crl {at}/revoked.pem;\n\
         ssl_verify_client on; ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets off; ssl_ecdh_curve X25519; }} }}\n"
    )
}

fn stunnel(path: &Path, port: u16, service: u16) -> String {
    let at = path.display();
    format!(
        "foreground = yes\npid =\ndebug = err\n[one]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{service}\ncert = {at}/server.pem\n\
         CAfile = {at}/authority.pem\nCRLfile = {at}/revoked.pem\nverifyChain = yes\nrequireCert = yes\nsslVersionMin = TLSv1.3\ncurves = X25519\n\
         sessionCacheSize = 1\nsessionResume = no\n"
    )
}
