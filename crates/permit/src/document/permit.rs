//! A permit's file.

use std::ops::RangeInclusive;

use super::case::Case;
use super::reader::Reader;
use super::shared::Shared;
use crate::ids::PermitId;
use crate::model::{Assurance, Controller, Permit, Place, Problem, Programs, Rung, Status, Suspension, Validity, Workspace};
use crate::shape::{ControllerTable, Document, PermitTable, Spanned, WorkspaceTable};

/// A file system with a journal needs room for itself; more than the most is a slip of the keyboard.
const DISK_BYTES: RangeInclusive<u64> = 64 << 20..=64 << 40;

/// What a permit's file holds.
#[derive(Debug, PartialEq, Eq)]
pub struct PermitFile {
    /// The permit.
    pub permit: Permit,
    /// The cases that must come out as they say before it is in force.
    pub cases: Vec<Case>,
}

/// Turns the text of a permit's file that refers to no other file into a permit.
///
/// # Errors
/// As [`parse_with`].
pub fn parse(file: &str, text: &str) -> Result<Permit, Vec<Problem>> {
    parse_with(file, text, &Shared::default()).map(|file| file.permit)
}

/// Turns the text of a permit's file into a permit and its cases. `file` is only used to say where a problem is.
///
/// # Errors
/// Every problem found, in the order of the file; a text that is not TOML gives one.
pub fn parse_with(file: &str, text: &str, shared: &Shared) -> Result<PermitFile, Vec<Problem>> {
    let mut reader = Reader::new(file, text);
    let document = reader.shape();
    let permit = document.and_then(|document| reader.permit_file(document, shared));
    reader.finish(permit)
}

/// What the table `[permit]` says.
struct Grant {
    id: PermitId,
    version: u32,
    status: Status,
    status_at: Place,
    replaces: Option<PermitId>,
    suspended: Option<Suspension>,
    title: String,
    purpose: String,
    issuer: String,
    minimum_rung: (Rung, Option<Place>),
    minimum_assurance: Option<(Assurance, Place)>,
}

impl Reader<'_> {
    fn permit_file(&mut self, document: Document, shared: &Shared) -> Option<PermitFile> {
        let Document {
            schema,
            permit,
            controller,
            holder,
            output_checker,
            workspace,
            dataset,
            egress,
            session,
            resources,
            recording,
            retention,
            clipboard,
            output,
            airlock,
            test,
        } = document;
        self.schema(&schema);
        let at = self.at(&permit.id.span());
        let zone = self.zone(&permit.time_zone);
        let validity = zone.as_ref().and_then(|zone| {
            let (from, until) = self.period(&permit.valid_from, &permit.valid_until, zone, "the permit")?;
            Some(Validity { from, until, from_at: self.at(&permit.valid_from.span()), until_at: self.at(&permit.valid_until.span()) })
        });
        let grant = self.grant(permit, &at, validity.as_ref(), shared);
        let controller = self.controller(controller);
        let holders = self.holders(holder, zone.as_ref(), validity.as_ref());
        let output_checkers = self.output_checkers(output_checker, &holders);
        let workspace = self.workspace(workspace, shared);
        let datasets: Vec<_> = self.bounded(dataset).into_iter().filter_map(|table| self.dataset(table, shared)).collect();
        self.distinct(datasets.iter().map(|dataset| (dataset.mounted_at.display().to_string(), &dataset.at)), "is a mount point already");
        self.distinct(datasets.iter().map(|dataset| (dataset.name.clone(), &dataset.at)), "is granted already");
        let egress = self.bounded(egress);
        let egress: Vec<_> = egress.into_iter().filter_map(|table| self.destination(table, shared, zone.as_ref(), validity.as_ref())).collect();
        self.apart(&egress);
        let session = self.session(session, zone.as_ref(), shared);
        let resources = self.resources(resources);
        let recording = self.recording(recording);
        let workspace_retention_days = self.workspace_retention(retention);
        self.ways_out(clipboard, output, airlock);
        let cases = self.cases(test, zone.as_ref());
        let Grant { id, version, status, status_at, replaces, suspended, title, purpose, issuer, minimum_rung, minimum_assurance } = grant?;
        let permit = Permit {
            id,
            version,
            status,
            status_at,
            replaces,
            suspended,
            title,
            purpose,
            issuer,
            controller: controller?,
            validity: validity?,
            holders,
            output_checkers,
            workspace: workspace?,
            datasets,
            egress,
            session: session?,
            resources: resources?,
            recording: recording?,
            workspace_retention_days: workspace_retention_days?,
            minimum_rung,
            minimum_assurance,
            at,
        };
        Some(PermitFile { permit, cases })
    }

    fn grant(&mut self, table: PermitTable, at: &Place, validity: Option<&Validity>, shared: &Shared) -> Option<Grant> {
        let PermitTable {
            id,
            version,
            status,
            replaces,
            suspended,
            title,
            purpose,
            issuer,
            authority,
            valid_from: _,
            valid_until: _,
            time_zone: _,
            assurance,
            isolation,
        } = table;
        let id: Option<PermitId> = self.id(&id);
        let (title, purpose) = (self.text(title), self.text(purpose));
        let version = match version {
            None => 1,
            Some(version) if *version.get() > 0 => *version.get(),
            Some(version) => {
                self.problem(version.span(), "this is no version", "count from 1");
                1
            }
        };
        let status_at = status.as_ref().map_or_else(|| at.clone(), |status| self.at(&status.span()));
        let statuses: Vec<_> = Status::ALL.iter().map(|status| (status.name(), *status)).collect();
        let status = self.one_of(status, Status::Granted, &statuses, "is no status of a permit");
        let replaces = self.replaced(replaces, status, &status_at, id.as_ref());
        let suspended = suspended.and_then(|reason| {
            let at = self.at(&reason.span());
            self.text(reason).map(|reason| Suspension { reason, at })
        });
        let issuer = self.issuer(issuer, authority, at, validity, shared);
        let rungs: Vec<_> = Rung::ALL.iter().map(|rung| (rung.name(), *rung)).collect();
        let rung_at = isolation.as_ref().map(|rung| self.at(&rung.span()));
        let rung = self.one_of(isolation, Rung::Root, &rungs, "is no isolation of a cell");
        let minimum_assurance = match assurance {
            None => None,
            Some(level) => {
                let parsed = self.checked(level.span(), level.get().parse(), "this is no assurance")?;
                Some((parsed, self.at(&level.span())))
            }
        };
        Some(Grant {
            id: id?,
            version,
            status: status?,
            status_at,
            replaces,
            suspended,
            title: title?,
            purpose: purpose?,
            issuer: issuer?,
            minimum_rung: (rung?, rung_at),
            minimum_assurance,
        })
    }

    /// An amendment or a renewal is a new permit that names the old one.
    fn replaced(&mut self, replaces: Option<Spanned<String>>, status: Option<Status>, status_at: &Place, id: Option<&PermitId>) -> Option<PermitId> {
        let follows = matches!(status, Some(Status::Amended | Status::Renewed));
        match replaces {
            None if follows => {
                let what = format!("an {} permit replaces another", status.map_or("", Status::name));
                self.problems.push(Problem::new(status_at.clone(), what, "write replaces = \"the id of the permit before\""));
                None
            }
            None => None,
            Some(value) => {
                let old = self.id(&value);
                if status == Some(Status::Granted) {
                    self.problem(value.span(), "a granted permit replaces none", "write status = \"AMENDED\" or \"RENEWED\", or leave replaces out");
                }
                if old.is_some() && old.as_ref() == id {
                    self.problem(value.span(), "the permit replaces itself", "an amendment or renewal has an id of its own");
                }
                old
            }
        }
    }

    fn issuer(
        &mut self,
        issuer: Option<Spanned<String>>,
        authority: Option<Spanned<String>>,
        at: &Place,
        validity: Option<&Validity>,
        shared: &Shared,
    ) -> Option<String> {
        match (issuer, authority) {
            (Some(issuer), None) => self.text(issuer),
            (None, Some(name)) => {
                let authority = self.shared(&name, &shared.authorities, "authorities")?;
                if let Some(validity) = validity.filter(|validity| validity.from < authority.from || validity.until > authority.until) {
                    let (problem, what) = if validity.from < authority.from {
                        (&validity.from_at, "the permit begins before its issuer may grant any")
                    } else {
                        (&validity.until_at, "the permit ends after its issuer may grant any")
                    };
                    let help = "write a date inside the issuer's own period, or correct that";
                    self.problems.push(Problem::new(problem.clone(), what, help).with(&authority.at, "the issuer"));
                }
                Some(authority.title.clone())
            }
            (Some(_), Some(name)) => {
                self.problem(name.span(), "the issuer is named twice", "write either issuer or authority");
                None
            }
            (None, None) => {
                self.problems.push(Problem::new(
                    at.clone(),
                    "it is not said who issued the permit",
                    "write issuer = \"WORDS\" or authority = \"NAME\"",
                ));
                None
            }
        }
    }

    fn controller(&mut self, table: ControllerTable) -> Option<Controller> {
        let ControllerTable { name, contacts } = table;
        let contacts = self.texts(contacts, "write a mail address or a telephone number");
        Some(Controller { name: self.text(name)?, contacts })
    }

    fn workspace(&mut self, table: WorkspaceTable, shared: &Shared) -> Option<Workspace> {
        let WorkspaceTable { name, image, programs, disk, interfaces } = table;
        let at = self.at(&name.span());
        let name = self.id(&name);
        let image = match image {
            None => None,
            Some(image) => Some(self.shared(&image, &shared.images, "images")?.image.clone()),
        };
        let known = [Programs::Anywhere, Programs::ImageOnly].map(|programs| (programs.name(), programs));
        let programs = self.one_of(programs, Programs::Anywhere, &known, "says nothing of which programs run");
        for interface in interfaces.map(Spanned::into_inner).unwrap_or_default() {
            match interface.get().as_str() {
                "terminal" => {}
                "desktop" | "jupyter" => {
                    self.unbuilt(interface.span(), "desktop and no Jupyter", "write interfaces = [\"terminal\"], or leave it out")
                }
                _ => self.problem(interface.span(), "this is no interface", "write \"terminal\""),
            }
        }
        let disk_bytes = match disk {
            None => None,
            Some(disk) => {
                Some(self.amount(&disk, DISK_BYTES, "this is no size of a disk", "a workspace can't have a disk of this size", "64 MiB to 64 TiB")?)
            }
        };
        Some(Workspace { name: name?, image, programs: programs?, disk_bytes, at })
    }
}
