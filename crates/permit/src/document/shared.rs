//! What several permits use, each in a file of its own: images, datasets, networks, calendars, authorities; and the halt.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use super::reader::Reader;
use crate::hours::Hours;
use crate::ids::SharedName;
use crate::model::{Budget, Halt, Image, Place, Port, Problem, Reach};
use crate::shape::{
    AuthorityFile, AuthorityTable, CalendarFile, CalendarTable, DatasetFile, HaltFile, HaltTable, ImageFile, ImageTable, NetworkFile, NetworkTable,
    SharedDatasetTable, Spanned,
};

/// What permits refer to by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shared {
    pub(super) images: BTreeMap<SharedName, SharedImage>,
    pub(super) datasets: BTreeMap<SharedName, SharedDataset>,
    pub(super) networks: BTreeMap<SharedName, Network>,
    pub(super) calendars: BTreeMap<SharedName, Hours>,
    pub(super) authorities: BTreeMap<SharedName, Authority>,
}

/// The kinds of shared files; each has a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedKind {
    /// Systems for workspaces.
    Image,
    /// Data.
    Dataset,
    /// Destinations.
    Network,
    /// Hours.
    Calendar,
    /// Issuers of permits.
    Authority,
}

impl SharedKind {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Image, Self::Dataset, Self::Network, Self::Calendar, Self::Authority];

    /// The folder of its files, beside `permits`.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Dataset => "datasets",
            Self::Network => "networks",
            Self::Calendar => "calendars",
            Self::Authority => "authorities",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct SharedImage {
    pub(super) image: Image,
    at: Place,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct SharedDataset {
    pub(super) name: SharedName,
    pub(super) path: PathBuf,
    pub(super) manifest: Option<PathBuf>,
    pub(super) persons: Option<u64>,
    pub(super) records: Option<u64>,
    at: Place,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) name: SharedName,
    pub(super) to: Reach,
    pub(super) ports: Vec<Port>,
    pub(super) budget: Budget,
    pub(super) owner: Option<String>,
    at: Place,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) title: String,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) at: Place,
}

impl Shared {
    /// Takes in one shared file.
    ///
    /// # Errors
    /// Every problem found in it, a name that is taken among them.
    pub fn add(&mut self, kind: SharedKind, file: &str, text: &str) -> Result<(), Vec<Problem>> {
        let mut reader = Reader::new(file, text);
        let done = match kind {
            SharedKind::Image => self.image(&mut reader),
            SharedKind::Dataset => self.dataset(&mut reader),
            SharedKind::Network => self.network(&mut reader),
            SharedKind::Calendar => self.calendar(&mut reader),
            SharedKind::Authority => self.authority(&mut reader),
        };
        reader.finish(done)
    }

    fn image(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let ImageFile { schema, image: ImageTable { name, title, system } } = reader.shape()?;
        reader.schema(&schema);
        let id = reader.id::<SharedName>(&name);
        reader.text(title)?;
        let digest = match system.get().as_str() {
            "host" => None,
            digest => Some(reader.checked(system.span(), digest.parse(), "this is no system")?),
        };
        let (id, at) = (id?, reader.at(&name.span()));
        let image = SharedImage { image: Image { name: id.clone(), digest }, at: at.clone() };
        put(&mut self.images, id, image, at, |image| &image.at, reader)
    }

    fn dataset(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let DatasetFile { schema, dataset: SharedDatasetTable { name, title, path, manifest, persons, records } } = reader.shape()?;
        reader.schema(&schema);
        let id = reader.id::<SharedName>(&name);
        reader.text(title)?;
        let path = reader.folder(&path, "this is no folder on the host");
        let manifest = match manifest {
            Some(manifest) => Some(reader.folder(&manifest, "this is no file on the host")?),
            None => None,
        };
        let (id, at) = (id?, reader.at(&name.span()));
        let dataset = SharedDataset { name: id.clone(), path: path?, manifest, persons, records, at: at.clone() };
        put(&mut self.datasets, id, dataset, at, |dataset| &dataset.at, reader)
    }

    fn network(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let NetworkFile { schema, network: NetworkTable { name, title, to, ports, check, within, bytes, connections, owner } } = reader.shape()?;
        reader.schema(&schema);
        let id = reader.id::<SharedName>(&name);
        reader.text(title)?;
        let ports = reader.ports(ports);
        let to = reader.reach(&to, &ports, check, within);
        let budget = reader.budget(bytes, connections);
        let owner = owner.and_then(|owner| reader.text(owner));
        let (id, at) = (id?, reader.at(&name.span()));
        let network = Network { name: id.clone(), to: to?, ports, budget: budget?, owner, at: at.clone() };
        put(&mut self.networks, id, network, at, |network| &network.at, reader)
    }

    fn calendar(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let CalendarFile { schema, calendar: CalendarTable { name, time_zone, hours, closed } } = reader.shape()?;
        reader.schema(&schema);
        let id = reader.id::<SharedName>(&name);
        let zone = reader.zone(&time_zone)?;
        let closed = reader.bounded(closed);
        let hours = reader.hours(hours, &closed, &zone)?;
        let at = hours.at.clone();
        put(&mut self.calendars, id?, hours, at, |hours| &hours.at, reader)
    }

    fn authority(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let AuthorityFile { schema, authority } = reader.shape()?;
        let AuthorityTable { name, title, contacts, time_zone, valid_from, valid_until } = authority;
        reader.schema(&schema);
        let id = reader.id::<SharedName>(&name);
        let title = reader.text(title);
        reader.texts(contacts, "write a mail address or a telephone number");
        let zone = reader.zone(&time_zone)?;
        let (from, until) = reader.period(&valid_from, &valid_until, &zone, "the authority's mandate")?;
        let at = reader.at(&name.span());
        let authority = Authority { title: title?, from, until, at: at.clone() };
        put(&mut self.authorities, id?, authority, at, |authority| &authority.at, reader)
    }
}

fn put<T>(
    map: &mut BTreeMap<SharedName, T>,
    name: SharedName,
    value: T,
    at: Place,
    place: impl Fn(&T) -> &Place,
    reader: &mut Reader<'_>,
) -> Option<()> {
    if let Some(first) = map.get(&name) {
        let problem = Problem::new(at, format!("{name} is the name of another file too"), "give each its own name").with(place(first), "first here");
        reader.problems.push(problem);
        return None;
    }
    map.insert(name, value);
    Some(())
}

/// Turns the text of `halt.toml` into the halt.
///
/// # Errors
/// Every problem found.
pub fn parse_halt(file: &str, text: &str) -> Result<Halt, Vec<Problem>> {
    let mut reader = Reader::new(file, text);
    let halt = reader.shape().and_then(|HaltFile { schema, halt: HaltTable { reason } }| {
        reader.schema(&schema);
        let at = reader.at(&Spanned::span(&reason));
        reader.text(reason).map(|reason| Halt { reason, at })
    });
    reader.finish(halt)
}
