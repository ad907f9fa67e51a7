//! Every file of a stage: registers, permits, keys, configurations, profiles.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use jiff::Timestamp;

use super::{FORBIDDEN, MIRROR, Options, Stage};
use crate::authority::{Person, SERVER_NAME};
use crate::disk::Disk;
use crate::error::StageError;
use crate::names;
use crate::permits::PermitFile;
use crate::register;

/// The program that asks for names.
const RESOLVER: &str = "sulku-resolver";

impl Stage {
    /// Writes every file: registers, permits, keys, configurations, profiles.
    pub(super) fn furnish(&mut self, options: &Options) -> Result<(), StageError> {
        for folder in ["policies", "policies/permits", "policy", "datasets", "workspaces", "config", "profiles", "log", "run", "ledger", "courier"] {
            let path = self.root.join(folder);
            fs::create_dir(&path).map_err(StageError::file("making a folder", &path))?;
            open_for_all(&path)?;
        }
        self.ledger_disk = options.ledger_disk_mib.map(|mib| Disk::raise(&self.root.join("ledger.disk"), &self.ledger_dir(), mib)).transpose()?;
        for folder in ["run", "ledger"] {
            let path = self.root.join(folder);
            give(&path, self.instance.ledger_user())?;
        }
        give(&self.courier_dir(), self.instance.courier_user())?;
        register::write(&self.root.join("datasets/care-register"), 1, options.rows)?;
        register::write(&self.root.join("datasets/asthma-register"), 2, options.rows)?;
        let ends = options.asthma_ends_after.map(|after| Timestamp::now() + after);
        let ground = self.instance.ground();
        let permits = [PermitFile::statins(&self.root, ground)?, PermitFile::asthma(&self.root, ends, ground)?];
        for permit in permits.iter().chain(&options.permits) {
            self.write(&format!("policies/permits/{}", permit.name), &permit.text)?;
        }
        self.made_by_sulku(&["audit", "keygen", "--origin", &self.instance.origin(), "--out", &self.shown("config/ledger.key")])?;
        give(&self.root.join("config/ledger.key"), self.instance.ledger_user())?;
        self.write("config/ledger.toml", &self.ledger_config())?;
        let operator = self.made_by_sulku(&["policy", "key", "--as", "onni", "--key", &self.authority.files_of("onni").1.display().to_string()])?;
        let key = operator.lines().find(|line| line.starts_with("key = ")).unwrap_or_default();
        // A copy, which its user gets at wherever the programs are, and which is whose the stage is.
        let (built, copied) = (self.programs.join(RESOLVER), self.root.join("config").join(RESOLVER));
        fs::copy(&built, &copied).map_err(StageError::file("copying", &built))?;
        open_for_all(&copied)?;
        self.write("config/warden.toml", &self.warden_config(options, key))?;
        let recipient = self.made_by_sulku(&["audit", "identity", "--out", &self.auditor_identity().display().to_string()])?;
        self.write("config/gateway.toml", &self.gateway_config(options, recipient.trim(), key))?;
        self.apply("the first revision")?;
        if let Some(sinks) = &options.courier {
            self.write("config/courier.toml", &self.courier_config(sinks))?;
        }
        for person in Person::ALL {
            let (certificate, key) = self.authority.files_of(person.name());
            let profile = format!(
                "gateway = \"{}:{}\"\nserver_name = \"{SERVER_NAME}\"\nauthority = {:?}\ncertificate = {certificate:?}\nprivate_key = {key:?}\n",
                self.listen,
                self.port,
                self.authority.certificate(),
            );
            self.write(&format!("profiles/{}.toml", person.name()), &profile)?;
        }
        Ok(())
    }

    /// Puts the folder of policies in force, as Onni does.
    ///
    /// # Errors
    /// What is wrong with it, in the command's words.
    pub fn apply(&self, reason: &str) -> Result<String, StageError> {
        self.operate(&["policy", "apply"], reason)
    }

    /// Runs a command of `sulku` that changes what is in force, signed by Onni.
    ///
    /// # Errors
    /// What is wrong with it, in the command's words.
    pub fn operate(&self, command: &[&str], reason: &str) -> Result<String, StageError> {
        let shown = |name: &str| self.shown(name);
        let (policies, store, operators) = (shown("policies"), shown("policy"), shown("config/gateway.toml"));
        let key = self.authority.files_of("onni").1.display().to_string();
        let place = ["--policies", &policies, "--store", &store, "--operators", &operators];
        let signer = ["--as", "onni", "--key", &key, "--reason", reason, "--yes"];
        self.made_by_sulku(&[command, &place[..], &signer[..]].concat())
    }

    /// Whom a daemon becomes; one that root has not started stays who it is.
    fn run_as(&self, uid: u32) -> String {
        if self.instance.ground().is_machine() { format!("run_as = {{ uid = {uid}, gid = {uid} }}\n") } else { String::new() }
    }

    fn ledger_config(&self) -> String {
        format!(
            "origin = {:?}\ndirectory = {:?}\nsocket = {:?}\nsigning_key = {:?}\n{}gateway_uid = {}\nwarden_uid = {}\ncourier_uid = {}\n{}",
            self.instance.origin(),
            self.ledger_dir(),
            self.ledger_socket(),
            self.root.join("config/ledger.key"),
            self.run_as(self.instance.ledger_uid()),
            self.instance.gateway_uid(),
            self.instance.warden_uid(),
            self.instance.courier_uid(),
            // Root reads every ledger; another user must be named.
            if self.instance.ground().is_machine() {
                String::new()
            } else {
                format!("\n[[auditor]]\nuid = {}\nperson = \"aino\"\n", self.instance.warden_uid())
            },
        )
    }

    fn warden_config(&self, options: &Options, key: &str) -> String {
        let is_machine = self.instance.ground().is_machine();
        // The hosts lie behind the far ends of their links, as in a real network.
        let uplink = |name: &str, host: Ipv4Addr, near: &str, far: &str| {
            let namespace = self.instance.namespace(name);
            format!(
                "\n[[uplink]]\nname = {name:?}\npeer_namespace = \"/run/netns/{namespace}\"\nrouter_address = \"{near}/30\"\n\
                 peer_address = \"{far}/30\"\nroutes = [\"{host}/32\"]\n"
            )
        };
        let resolver = format!(
            "\n[resolver]\nprogram = {:?}\nuid = {}\nupstream = [\"{MIRROR}:{}\"]\n",
            self.root.join("config").join(RESOLVER),
            self.instance.resolver_uid(),
            names::PORT,
        );
        format!(
            "instance = {:?}\nsocket = {:?}\ngateway_uid = {}\nledger_socket = {:?}\nledger_origin = {:?}\nledger_key = {:?}\npolicy = {:?}\nworkspaces = {:?}\n\
             cell_network = \"10.210.0.0/16\"\n{}gateway_lost_grace_s = {}\npool = 4\ncells_max = 64\n\n\
             [[operator]]\nid = \"onni\"\n{key}\n{}{}{}",
            self.instance.name,
            self.warden_socket(),
            self.instance.gateway_uid(),
            self.ledger_socket(),
            self.instance.origin(),
            self.ledger_key(),
            self.root.join("policy"),
            self.root.join("workspaces"),
            if is_machine { format!("cell_uid_base = {}\n", self.instance.cell_uids().start) } else { String::new() },
            options.gateway_lost_grace_s,
            resolver,
            if is_machine { uplink("mirror", MIRROR, "10.211.0.1", "10.211.0.2") } else { String::new() },
            if is_machine { uplink("other", FORBIDDEN, "10.211.0.5", "10.211.0.6") } else { String::new() },
        )
    }

    fn gateway_config(&self, options: &Options, recipient: &str, key: &str) -> String {
        let (certificate, private) = self.authority.files_of("gateway");
        format!(
            "listen = \"{}:{}\"\ncertificate = {certificate:?}\nprivate_key = {private:?}\npolicy = {:?}\nledger_socket = {:?}\nwarden_socket = {:?}\n\
             {run_as}\n[[issuer]]\nname = \"demo\"\ncertificate = {:?}\ncrl = {:?}\n\n\
             [[operator]]\nid = \"onni\"\ncertificate = {{ uri = {:?} }}\n{key}\n\n[[auditor]]\nname = \"Aino\"\nrecipient = {recipient:?}\n\n[limits]\n{}\n",
            self.listen,
            self.port,
            self.root.join("policy"),
            self.ledger_socket(),
            self.warden_socket(),
            self.authority.certificate(),
            self.authority.revoked(),
            Person::Onni.uri(),
            options.limits,
            run_as = self.run_as(self.instance.gateway_uid()),
        )
    }

    fn courier_config(&self, sinks: &str) -> String {
        format!(
            "ledger_socket = {:?}\nledger_key = {:?}\nstate = {:?}\n{run_as}[metrics]\nsocket = {:?}\n{}",
            self.ledger_socket(),
            self.ledger_key(),
            self.courier_dir(),
            self.figures_socket(),
            sinks.replace("{root}", &self.root.display().to_string()),
            run_as = self.run_as(self.instance.courier_uid()),
        )
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StageError> {
        let path = self.root.join(name);
        fs::write(&path, text).map_err(StageError::file("writing", path))
    }

    pub(super) fn shown(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }
}

fn give(path: &Path, (uid, gid): (u32, u32)) -> Result<(), StageError> {
    chown(path, Some(uid), Some(gid)).map_err(StageError::file("giving away", path))
}

/// The daemons' own users have to get through, or at it.
pub(super) fn open_for_all(folder: &Path) -> Result<(), StageError> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(StageError::file("opening a folder for the daemons", folder))
}
