//! Debian's rsyslogd with its TLS module, as a process on loopback that writes what it gets to a file.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::authority::Authority;
use crate::support::until;

const PROGRAM: &str = "/usr/sbin/rsyslogd";

/// A receiver that can be killed and started again.
pub struct Rsyslog {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Rsyslog {
    /// One that lets in whom the first authority certified, and shows a certificate of the second.
    pub fn new(folder: &Path, senders: &Authority, own: &Authority, port: u16) -> Self {
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing; install rsyslog and rsyslog-gnutls, as `make test` does");
        std::fs::create_dir_all(folder).unwrap();
        let (certificate, key) = own.files_of("localhost");
        let config = format!(
            "global(workDirectory={folder:?} maxMessageSize=\"64k\" defaultNetstreamDriver=\"gtls\"\n\
               defaultNetstreamDriverCAFile={:?} defaultNetstreamDriverCertFile={certificate:?} defaultNetstreamDriverKeyFile={key:?})\n\
             module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/certvalid\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             template(name=\"raw\" type=\"string\" string=\"%pri% %hostname% %app-name% %msgid% %structured-data% %msg%\\n\")\n\
             action(type=\"omfile\" file={:?} template=\"raw\" flushOnTXEnd=\"on\")\n",
            senders.certificate(),
            folder.join("received"),
        );
        std::fs::write(folder.join("rsyslog.conf"), config).unwrap();
        Self { folder: folder.to_owned(), port, process: None }
    }

    pub fn start(&mut self) {
        let output = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("output")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("-n").arg("-f").arg(self.folder.join("rsyslog.conf")).arg("-i").arg(self.folder.join("pid"));
        let process = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        self.process = Some(process);
        until("rsyslogd's port", || {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("rsyslogd ended: {status}\n{}", std::fs::read_to_string(self.folder.join("output")).unwrap());
            }
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// SIGSTOP: its kernel goes on taking what comes, and it reads nothing of it.
    pub fn pause(&self) {
        let pid = rustix::process::Pid::from_child(self.process.as_ref().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        // A pid file that is left would keep the next one from starting.
        let _gone_already = std::fs::remove_file(self.folder.join("pid"));
    }

    /// The lines that it has received.
    pub fn received(&self) -> Vec<String> {
        let text = std::fs::read(self.folder.join("received")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        whole.lines().map(str::to_owned).collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.kill();
    }
}
