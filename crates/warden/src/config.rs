//! The warden's configuration: one TOML file that only the user whom the warden runs as can write: root, or somebody on a rung below.
//!
//! Every error says file, line, column and what to do. Of persons it names operators alone; permits and their
//! holders come from the policy's store.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::Deserialize;
use sulku_audit::{LogKeys, Verifier};
use sulku_permit::{HolderId, Rung, SharedName};
use sulku_policy::{Approval, Operator, OperatorKey, Operators};
use toml::Spanned;

use crate::network::overlap;

/// The longest file that is looked at.
const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// A name that becomes part of interface and cgroup names.
const NAME_BYTES_MAX: usize = 8;
/// Resolvers that are asked one after the other.
const UPSTREAM_MAX: usize = 4;
/// Workspaces, and so user ids, that one warden serves.
pub const CELL_UIDS: u32 = 65_536;

/// All that the warden is told.
#[derive(Debug)]
pub struct Config {
    /// Its name on this host; several wardens have several.
    pub instance: String,
    /// The rung of isolation that it is to give, and no other; the strongest that it can, if none is named.
    pub rung: Option<Rung>,
    /// Where the gateway connects.
    pub socket: PathBuf,
    /// The gateway's user id; no other may connect.
    pub gateway_uid: u32,
    /// Where the ledger listens.
    pub ledger_socket: PathBuf,
    /// The ledger's public key; its name is the ledger's origin.
    pub ledger_keys: Vec<Verifier>,
    /// The policy's store.
    pub policy: PathBuf,
    /// Whose signatures count there.
    pub operators: Operators,
    /// Where the workspaces' folders are.
    pub workspaces: PathBuf,
    /// Addresses of cells.
    pub cell_network: Ipv4Net,
    /// Who owns the workspaces' folders, and what runs in them.
    pub users: Users,
    /// How long cells stay, frozen, after the gateway was lost.
    pub gateway_lost_grace: Duration,
    /// Networks kept ready, and processes that wait to become cells.
    pub pool: usize,
    /// Cells at once.
    pub cells_max: usize,
    /// Ways out of the router.
    pub uplinks: Vec<Uplink>,
    /// Who answers cells' questions for names. Without one, permits that list names are refused.
    pub resolver: Option<Resolver>,
    /// Where the images are that permits name.
    pub images: Vec<ImageFile>,
}

/// Where an image is. What it must be, the policy says.
#[derive(Debug)]
pub struct ImageFile {
    /// Its name in the policy's `images/`.
    pub name: SharedName,
    /// Its file.
    pub path: PathBuf,
}

/// The program that answers cells' questions for names.
#[derive(Debug)]
pub struct Resolver {
    /// Its file, which only root can write, or whom the warden runs as.
    pub program: PathBuf,
    /// The user id that it runs as, and nobody else; also its group's.
    pub uid: u32,
    /// Whom it asks, in this order.
    pub upstream: Vec<SocketAddr>,
}

impl Config {
    /// What no name may lead to: cells, and the links between router and world.
    #[must_use]
    pub fn own_networks(&self) -> Vec<Ipv4Net> {
        std::iter::once(self.cell_network).chain(self.uplinks.iter().map(|uplink| uplink.router_address.trunc())).collect()
    }
}

/// Which users of the host workspaces get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// Each its own, of [`CELL_UIDS`] from this one on.
    Each(u32),
    /// All of them the warden's own, which is 0 in its user namespace.
    Own,
}

/// A way out of the router.
#[derive(Debug)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// The router's address on it.
    pub router_address: Ipv4Net,
    /// The address at the far end.
    pub peer_address: Ipv4Net,
    /// Where the far end is.
    pub peer: Peer,
    /// What is reached over it.
    pub routes: Vec<Ipv4Net>,
    instance: String,
}

impl Uplink {
    /// The interface's name at the far end.
    #[must_use]
    pub fn peer_interface(&self) -> String {
        format!("{}-{}", self.instance, self.name)
    }
}

/// Where an uplink's far end is.
#[derive(Debug)]
pub enum Peer {
    /// In the network namespace in which the warden was started.
    Host,
    /// In the network namespace that this file stands for.
    Namespace(PathBuf),
}

/// A configuration that can't be used: where, what, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}; {help}")]
pub struct ConfigError {
    file: String,
    line: usize,
    column: usize,
    what: String,
    help: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    instance: Spanned<String>,
    rung: Option<Spanned<String>>,
    socket: Spanned<PathBuf>,
    gateway_uid: Spanned<u32>,
    ledger_socket: Spanned<PathBuf>,
    ledger_origin: Spanned<String>,
    ledger_key: Spanned<PathBuf>,
    policy: Spanned<PathBuf>,
    workspaces: Spanned<PathBuf>,
    cell_network: Spanned<Ipv4Net>,
    cell_uid_base: Option<Spanned<u32>>,
    gateway_lost_grace_s: Spanned<u64>,
    pool: Spanned<usize>,
    cells_max: Spanned<usize>,
    operator: Spanned<Vec<OperatorTable>>,
    #[serde(default)]
    approval: Approval,
    #[serde(default)]
    uplink: Vec<UplinkTable>,
    resolver: Option<ResolverTable>,
    #[serde(default)]
    image: Vec<ImageTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageTable {
    name: Spanned<SharedName>,
    path: Spanned<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolverTable {
    program: Spanned<PathBuf>,
    uid: Spanned<u32>,
    upstream: Spanned<Vec<SocketAddr>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorTable {
    id: HolderId,
    key: OperatorKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UplinkTable {
    name: Spanned<String>,
    router_address: Spanned<Ipv4Net>,
    peer_address: Spanned<Ipv4Net>,
    peer_namespace: Spanned<String>,
    routes: Vec<Ipv4Net>,
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    /// The user whom the warden runs as.
    own: u32,
}

impl Reader<'_> {
    fn error(&self, span: &Range<usize>, what: impl fmt::Display, help: impl fmt::Display) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ConfigError { file: self.file.display().to_string(), line, column, what: what.to_string(), help: help.to_string() }
    }

    fn name(&self, name: &Spanned<String>) -> Result<String, ConfigError> {
        let text = name.get_ref();
        let good = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if good {
            Ok(text.clone())
        } else {
            Err(self.error(&name.span(), format!("{text:?} is no name"), format!("write 1 to {NAME_BYTES_MAX} of a-z 0-9")))
        }
    }

    fn absolute(&self, path: Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
        let span = path.span();
        let path = path.into_inner();
        let plain = path.is_absolute() && path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        if plain {
            Ok(path)
        } else {
            Err(self.error(&span, format!("{} is no absolute path", path.display()), "write one that begins with / and has no .."))
        }
    }

    fn owner(&self) -> String {
        if self.own == 0 { "root".to_owned() } else { format!("user {}", self.own) }
    }

    fn folder_of_its_own(&self, path: Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
        let span = path.span();
        let path = self.absolute(path)?;
        let found = std::fs::metadata(&path).map_err(|error| self.error(&span, format!("{}: {error}", path.display()), "make the folder"))?;
        if found.is_dir() && found.uid() == self.own && found.mode() & 0o022 == 0 {
            Ok(path)
        } else {
            let what = format!("{} is not a folder that only {} can write", path.display(), self.owner());
            Err(self.error(&span, what, format!("chown {0} {1} && chmod go-w {1}", self.owner(), path.display())))
        }
    }

    fn resolver(&self, table: ResolverTable) -> Result<Resolver, ConfigError> {
        let ResolverTable { program, uid, upstream } = table;
        let span = program.span();
        let program = self.absolute(program)?;
        let found =
            std::fs::metadata(&program).map_err(|error| self.error(&span, format!("{}: {error}", program.display()), "install sulku-resolver"))?;
        if !found.is_file() || !(found.uid() == 0 || found.uid() == self.own) || found.mode() & 0o022 != 0 {
            let what = format!("{} is not a file that only {} can write", program.display(), self.owner());
            return Err(self.error(&span, what, format!("chown {0} {1} && chmod go-w {1}", self.owner(), program.display())));
        }
        let span = upstream.span();
        let upstream = upstream.into_inner();
        let usable = |to: &SocketAddr| to.is_ipv4() && to.port() != 0 && !to.ip().is_loopback() && !to.ip().is_unspecified();
        if upstream.is_empty() || upstream.len() > UPSTREAM_MAX || !upstream.iter().all(usable) {
            let help = format!("write 1 to {UPSTREAM_MAX} IPv4 addresses with their ports that the uplinks lead to, as in [\"10.211.0.2:53\"]");
            return Err(self.error(&span, "these can't be asked for names", help));
        }
        Ok(Resolver { program, uid: self.within(&uid, 1..=u32::MAX - 2)?, upstream })
    }

    fn images(&self, tables: Vec<ImageTable>) -> Result<Vec<ImageFile>, ConfigError> {
        let mut images: Vec<ImageFile> = Vec::with_capacity(tables.len());
        for ImageTable { name, path } in tables {
            if images.iter().any(|image| image.name == *name.get_ref()) {
                return Err(self.error(&name.span(), format!("there are two images {}", name.get_ref()), "give each a name of its own"));
            }
            images.push(ImageFile { name: name.into_inner(), path: self.absolute(path)? });
        }
        Ok(images)
    }

    fn within<T: PartialOrd + fmt::Display + Copy>(&self, value: &Spanned<T>, range: std::ops::RangeInclusive<T>) -> Result<T, ConfigError> {
        let number = *value.get_ref();
        let what = format!("{number} is out of bounds");
        if range.contains(&number) { Ok(number) } else { Err(self.error(&value.span(), what, format!("write {} to {}", range.start(), range.end()))) }
    }

    /// What the rungs below `root` can't have.
    fn below_root(&self, gateway_uid: &Spanned<u32>, uplinks: &[UplinkTable]) -> Result<(), ConfigError> {
        if *gateway_uid.get_ref() != self.own {
            let help = format!("write {}; a warden without root sees no other user, and the gateway must run as its own", self.own);
            return Err(self.error(&gateway_uid.span(), "the gateway is another user than the warden", help));
        }
        match uplinks.first() {
            Some(uplink) => Err(self.error(
                &uplink.name.span(),
                "a warden without root has no uplinks",
                "leave [[uplink]] out; listed destinations are reached from the network in which the warden is started",
            )),
            None => Ok(()),
        }
    }

    fn uplink(&self, table: UplinkTable, instance: &str, cells: &Ipv4Net) -> Result<Uplink, ConfigError> {
        let UplinkTable { name, router_address, peer_address, peer_namespace, routes } = table;
        let (router, peer_end) = (*router_address.get_ref(), *peer_address.get_ref());
        if router.trunc() != peer_end.trunc() || router.addr() == peer_end.addr() || router.prefix_len() > 31 {
            let help = "write two addresses of one network, as in \"10.211.0.1/30\" and \"10.211.0.2/30\"";
            return Err(self.error(&peer_address.span(), "the two ends are not on one network", help));
        }
        if overlap(&router.trunc(), cells) {
            return Err(self.error(&router_address.span(), "the uplink lies inside cell_network", "give the uplink another network"));
        }
        let peer = match peer_namespace.get_ref().as_str() {
            "host" => Peer::Host,
            path if path.starts_with('/') => Peer::Namespace(path.into()),
            _ => return Err(self.error(&peer_namespace.span(), "this is no namespace", "write \"host\" or a file as in \"/run/netns/uplink\"")),
        };
        Ok(Uplink { name: self.name(&name)?, router_address: router, peer_address: peer_end, peer, routes, instance: instance.to_owned() })
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let own = rustix::process::geteuid().as_raw();
        let nothing = Reader { file, text: "", own };
        let unreadable = |error: std::io::Error| nothing.error(&(0..0), error, format!("name a file that {} can read", nothing.owner()));
        let found = std::fs::metadata(file).map_err(unreadable)?;
        if found.uid() != own || found.mode() & 0o022 != 0 || found.len() > CONFIG_BYTES_MAX {
            let help = format!("chown {0} {1} && chmod go-w {1}", nothing.owner(), file.display());
            return Err(nothing.error(&(0..0), format!("somebody else than {} can write this file", nothing.owner()), help));
        }
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        Self::parse(&Reader { file, text: &text, own })
    }

    fn parse(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let document: Document = toml::from_str(reader.text).map_err(|error| {
            reader.error(&error.span().unwrap_or(0..0), error.message().trim().replace('\n', ", "), "see config/warden.toml for what belongs here")
        })?;
        let Document {
            instance,
            rung,
            socket,
            gateway_uid,
            ledger_socket,
            ledger_origin,
            ledger_key,
            policy,
            workspaces,
            cell_network,
            cell_uid_base,
            gateway_lost_grace_s,
            pool,
            cells_max,
            operator,
            approval,
            uplink,
            resolver,
            image,
        } = document;
        let span = operator.span();
        let keys = operator.into_inner().into_iter().map(|OperatorTable { id, key }| Operator { id, key }).collect();
        let operators = Operators::new(keys, approval.signatures)
            .map_err(|error| reader.error(&span, error, "write each operator's table as in gateway.toml, without her certificate"))?;
        let instance = reader.name(&instance)?;
        let rung = rung.map(|rung| rung.get_ref().parse().map_err(|help| reader.error(&rung.span(), "this is no rung", help))).transpose()?;
        let is_below_root = reader.own != 0 || rung.is_some_and(|rung| rung < Rung::Root);
        let users = if is_below_root {
            reader.below_root(&gateway_uid, &uplink)?;
            Users::Own
        } else {
            let base =
                cell_uid_base.ok_or_else(|| reader.error(&(0..0), "cell_uid_base is missing", "see config/warden.toml for what belongs here"))?;
            Users::Each(reader.within(&base, 65_536..=u32::MAX - CELL_UIDS - 1)?)
        };
        let cells = cell_network.get_ref().trunc();
        if cells.prefix_len() > 30 || cells.prefix_len() < 8 {
            return Err(reader.error(
                &cell_network.span(),
                "cell_network has an unusable size",
                "write a prefix of 8 to 30, as in \"10.210.0.0/16\"",
            ));
        }
        let uplinks = uplink.into_iter().map(|table| reader.uplink(table, &instance, &cells)).collect::<Result<Vec<_>, _>>()?;
        let key_span = ledger_key.span();
        let key_file = reader.absolute(ledger_key)?;
        let key_text = std::fs::read_to_string(&key_file).map_err(|error| {
            reader.error(&key_span, format!("{}: {error}", key_file.display()), "put the ledger's public key there: sulku audit keygen")
        })?;
        let keys: LogKeys = key_text
            .parse()
            .map_err(|error| reader.error(&key_span, format!("{}: {error}", key_file.display()), "put the ledger's .pub file there as it is"))?;
        // Receipts are signed with Ed25519 alone. While the ledger's key is being replaced, the file holds the old one and the new one.
        let ledger_keys = keys.verifiers();
        if ledger_keys.is_empty() {
            return Err(reader.error(&key_span, format!("{} holds no Ed25519 key", key_file.display()), "put the ledger's .pub file there as it is"));
        }
        if keys.origin() != ledger_origin.get_ref() {
            let what = format!("the key is of {:?}, not of {:?}", keys.origin(), ledger_origin.get_ref());
            return Err(reader.error(&ledger_origin.span(), what, "write the origin that the ledger's own configuration has"));
        }
        Ok(Self {
            socket: reader.absolute(socket)?,
            gateway_uid: gateway_uid.into_inner(),
            ledger_socket: reader.absolute(ledger_socket)?,
            ledger_keys,
            policy: reader.folder_of_its_own(policy)?,
            operators,
            workspaces: reader.folder_of_its_own(workspaces)?,
            cell_network: cells,
            users,
            rung,
            gateway_lost_grace: Duration::from_secs(reader.within(&gateway_lost_grace_s, 0..=3_600)?),
            pool: reader.within(&pool, 0..=256)?,
            cells_max: reader.within(&cells_max, 1..=4_096)?,
            uplinks,
            resolver: resolver.map(|table| reader.resolver(table)).transpose()?,
            images: reader.images(image)?,
            instance,
        })
    }
}
