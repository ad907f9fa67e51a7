//! Permits one by one: seen, ended, held up, prolonged. Each change is made in the permit's own file as it is in force, whose comments
//! stay, and applied; then in the operator's copy. So a revocation never waits for, nor carries along, what somebody is writing there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use sulku_permit::{HolderId, Permit, PermitId, Policy};
use sulku_policy::{File, HALT, Tree, TreePath};
use toml_edit::{DocumentMut, Item, Table, value};

use crate::policy::apply::{self, SigningArgs};
use crate::policy::ask::permit_of;
use crate::policy::folder::{PoliciesArgs, sound};
use crate::policy::plan::understood;
use crate::print;

/// What to do with permits.
#[derive(Subcommand)]
pub enum PermitCommand {
    /// List the permits of the folder
    List(ListArgs),
    /// Print all that a permit says
    Show(OneArgs),
    /// Take a permit back, or one person's part in it; her open sessions end within a second
    Revoke(RevokeArgs),
    /// Hold a permit up: open sessions end, nobody is admitted until it is resumed
    Suspend(ChangeArgs),
    /// Put a suspended permit in force again
    Resume(ChangeArgs),
    /// Give a permit, or one person's part in it, another last day
    Extend(ExtendArgs),
    /// List what is due: permits that end soon, workspaces that may be deleted
    Due(DueArgs),
}

#[derive(Args)]
pub struct ListArgs {
    /// Only what a public register of permits shows: no persons, no networks
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    policies: PoliciesArgs,
}

#[derive(Args)]
pub struct OneArgs {
    /// The permit
    permit: PermitId,
    #[command(flatten)]
    policies: PoliciesArgs,
}

#[derive(Args)]
pub struct DueArgs {
    /// Look so many days ahead
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    within: u32,
    #[command(flatten)]
    policies: PoliciesArgs,
}

/// A change that is applied at once.
#[derive(Args)]
pub struct ChangeArgs {
    /// The permit
    permit: PermitId,
    /// Why, in one line; it stands in the revision and, where it is a suspension, in the permit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    policies: PoliciesArgs,
    #[command(flatten)]
    signing: SigningArgs,
}

#[derive(Args)]
pub struct RevokeArgs {
    /// Only this person's part
    #[arg(long, value_name = "PERSON")]
    holder: Option<HolderId>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args)]
pub struct ExtendArgs {
    /// The last day, which is inside the period
    #[arg(long, value_name = "DATE")]
    until: Date,
    /// Only this person's part
    #[arg(long, value_name = "PERSON")]
    holder: Option<HolderId>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `sulku halt`: everything, now.
#[derive(Args)]
pub struct HaltArgs {
    /// Let it go on
    #[arg(long)]
    lift: bool,
    /// Why, in one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    policies: PoliciesArgs,
    #[command(flatten)]
    signing: SigningArgs,
}

/// Runs `sulku permit`.
///
/// # Errors
/// The policies are wrong, there is no such permit, or the change can't be applied.
pub fn run(command: &PermitCommand) -> anyhow::Result<ExitCode> {
    match command {
        PermitCommand::List(args) => {
            let (_, policy) = args.policies.sound()?;
            print::answer(&if args.public { register(&policy) } else { list(&policy, Timestamp::now()) })?;
        }
        PermitCommand::Show(args) => {
            let (_, policy) = args.policies.sound()?;
            print::answer(&show(permit_of(&policy, &args.permit)?))?;
        }
        PermitCommand::Due(args) => {
            let (_, policy) = args.policies.sound()?;
            print::answer(&due(&policy, Timestamp::now(), args.within))?;
        }
        PermitCommand::Revoke(RevokeArgs { holder, change }) => {
            return change.made(|document| match holder {
                None => set(permit_table(document)?, "status", value("REVOKED")),
                Some(holder) => set(holder_table(document, holder)?, "revoked", moment(Timestamp::now())?),
            });
        }
        PermitCommand::Suspend(change) => return change.made(|document| set(permit_table(document)?, "suspended", value(change.reason.as_str()))),
        PermitCommand::Resume(change) => {
            return change.made(|document| {
                permit_table(document)?.remove("suspended").map(drop).ok_or_else(|| anyhow::anyhow!("{} is not suspended", change.permit))
            });
        }
        PermitCommand::Extend(ExtendArgs { until, holder, change }) => {
            let last = value(until.to_string().parse::<toml_edit::Datetime>().context("this is no date")?);
            return change.made(|document| match holder {
                None => set(permit_table(document)?, "valid_until", last.clone()),
                Some(holder) => set(holder_table(document, holder)?, "valid_until", last.clone()),
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `sulku halt`. Works on what is in force: nobody's half-written permit stands in its way.
///
/// # Errors
/// Nothing is halted that could be lifted, or the store can't take a revision now.
pub fn halt(args: &HaltArgs) -> anyhow::Result<ExitCode> {
    let mut document = DocumentMut::new();
    document["schema"] = value(1);
    document["halt"] = Item::Table(Table::new());
    document["halt"]["reason"] = value(args.reason.as_str());
    let text = document.to_string();
    let folder = &args.policies.policies;
    let done = apply::revise(&args.reason, &args.signing, |in_force| {
        anyhow::ensure!(!args.lift || in_force.get(HALT).is_some(), "nothing is halted by what is in force");
        with(folder, in_force, HALT, (!args.lift).then_some(&text))
    })?;
    let file = folder.join(HALT);
    let followed = if args.lift { fs::remove_file(&file).map_err(Into::into) } else { replace(&file, &text) };
    told_if_behind(&file, followed)?;
    Ok(done)
}

impl ChangeArgs {
    /// Makes a change in the permit as it is in force, and then in the operator's own copy of its file.
    fn made(&self, change: impl Fn(&mut DocumentMut) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
        let folder = &self.policies.policies;
        let edited = |text: &str| -> anyhow::Result<String> {
            let mut document: DocumentMut = text.parse().context("its file can't be edited")?;
            change(&mut document)?;
            Ok(document.to_string())
        };
        let mut path = String::new();
        let done = apply::revise(&self.reason, &self.signing, |in_force| {
            path = self.path(in_force)?;
            let text = edited(in_force.get(&path).context("the permit's file is one of the tree's")?.text())?;
            with(folder, in_force, &path, Some(&text))
        })?;
        let file = folder.join(&path);
        let followed = fs::read_to_string(&file).map_err(Into::into).and_then(|text| edited(&text)).and_then(|text| replace(&file, &text));
        told_if_behind(&file, followed)?;
        Ok(done)
    }

    /// Where the permit stands in what is in force.
    fn path(&self, in_force: &Tree) -> anyhow::Result<String> {
        let policy = understood(in_force)?;
        let mut paths = in_force.iter().map(|(path, _)| path.as_str());
        let found = paths.find(|path| policy.in_file(path).is_some_and(|permit| permit.id == self.permit));
        found.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("no permit {} is in force; see sulku policy log", self.permit))
    }
}

/// The files in force with another text in one place, or with none there.
fn with(folder: &Path, in_force: &Tree, path: &str, text: Option<&String>) -> anyhow::Result<Tree> {
    anyhow::ensure!(!in_force.is_empty(), "nothing is in force yet that could be changed; see sulku policy apply");
    let others = in_force.iter().filter(|(known, _)| known.as_str() != path).map(|(known, file)| (known.clone(), file.clone()));
    let changed = text.map(|text| Ok::<_, anyhow::Error>((path.parse::<TreePath>()?, File::new(text)))).transpose()?;
    let tree: Tree = others.chain(changed).collect();
    sound(folder, &tree)?;
    Ok(tree)
}

/// The signed change stands; the copy from which the next revision is made has to follow it.
fn told_if_behind(file: &Path, followed: anyhow::Result<()>) -> anyhow::Result<()> {
    if let Err(error) = followed {
        let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
        let file = file.display();
        print::answer(&format!("but {file} could not follow ({}): make the same change there before you apply again\n", causes.join(": ")))?;
    }
    Ok(())
}

fn permit_table(document: &mut DocumentMut) -> anyhow::Result<&mut Table> {
    document.get_mut("permit").and_then(Item::as_table_mut).context("the permit's file has no table [permit]")
}

fn holder_table<'d>(document: &'d mut DocumentMut, holder: &HolderId) -> anyhow::Result<&'d mut Table> {
    let holders = document.get_mut("holder").and_then(Item::as_array_of_tables_mut).context("the permit's file has no tables [[holder]]")?;
    let hers = holders.iter_mut().find(|table| table.get("id").and_then(Item::as_str) == Some(holder.as_str()));
    hers.ok_or_else(|| anyhow::anyhow!("the permit does not list {holder}"))
}

/// Sets a key, and keeps what is commented beside it.
fn set(table: &mut Table, key: &str, new: Item) -> anyhow::Result<()> {
    match (table.get_mut(key).and_then(Item::as_value_mut), new) {
        (Some(old), Item::Value(mut new)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (_, new) => {
            table.insert(key, new);
        }
    }
    Ok(())
}

fn moment(time: Timestamp) -> anyhow::Result<Item> {
    let text = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Ok(value(text.parse::<toml_edit::Datetime>().context("the time can't be written")?))
}

/// The old text or the new, never a part of one.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let written = || {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside: PathBuf = file.with_file_name(name);
        fs::write(&beside, text)?;
        fs::rename(&beside, file)
    };
    written().with_context(|| format!("{} can't be written", file.display()))
}

fn list(policy: &Policy, now: Timestamp) -> String {
    let mut rows = vec![["PERMIT", "STATE", "UNTIL", "PERSONS", "WORKSPACE", "TITLE"].map(str::to_owned).to_vec()];
    for permit in policy.permits().iter() {
        let until = permit.validity.until.to_string();
        rows.push(vec![
            permit.id.to_string(),
            state(permit, now).to_owned(),
            until.chars().take(10).collect(),
            permit.holders.len().to_string(),
            permit.workspace.name.to_string(),
            permit.title.clone(),
        ]);
    }
    let mut text = print::table(&rows);
    if let Some(halt) = policy.permits().halt() {
        text.push_str(&format!("everything is halted: {}\n", halt.reason));
    }
    text
}

/// What is public about a permit: who answers for what, with which data, until when. No persons, no networks.
fn register(policy: &Policy) -> String {
    let mut text = String::new();
    for permit in policy.permits().iter() {
        let data: Vec<_> = permit.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        text.push_str(&format!(
            "{}  {}\n  {}\n  purpose: {}\n  controller: {}\n  issuer: {}\n  period: {} to {}\n  data: {}\n",
            permit.id,
            permit.status.name(),
            permit.title,
            permit.purpose,
            permit.controller.name,
            permit.issuer,
            permit.validity.from,
            permit.validity.until,
            if data.is_empty() { "none".to_owned() } else { data.join("; ") },
        ));
    }
    text
}

fn state(permit: &Permit, now: Timestamp) -> &'static str {
    if permit.ended_by(now) && permit.status == sulku_permit::Status::Revoked {
        "revoked"
    } else if permit.ended_by(now) {
        "ended"
    } else if permit.suspended.is_some() {
        "suspended"
    } else if now < permit.validity.from {
        "not begun"
    } else {
        "in force"
    }
}

fn show(permit: &Permit) -> String {
    let mut rows = Vec::new();
    let mut row = |name: &str, what: String| rows.push(vec![name.to_owned(), what]);
    row("permit", format!("{}, version {}", permit.id, permit.version));
    row("status", permit.status.name().to_owned());
    if let Some(replaces) = &permit.replaces {
        row("replaces", replaces.to_string());
    }
    if let Some(suspension) = &permit.suspended {
        row("suspended", suspension.reason.clone());
    }
    row("title", permit.title.clone());
    row("purpose", permit.purpose.clone());
    row("issuer", permit.issuer.clone());
    row("controller", format!("{}, {}", permit.controller.name, permit.controller.contacts.join(", ")));
    row("period", format!("{} to {}", permit.validity.from, permit.validity.until));
    for holder in &permit.holders {
        let roles: Vec<_> = holder.roles.iter().map(|role| role.name()).collect();
        let until = holder.until.map(|until| format!(", until {until}")).unwrap_or_default();
        let revoked = holder.revoked.as_ref().map(|(since, _)| format!(", taken back {since}")).unwrap_or_default();
        row("holder", format!("{} ({}), {}{until}{revoked}; {}", holder.id, holder.name, roles.join(" and "), holder.identity));
    }
    for checker in &permit.output_checkers {
        row("output checker", format!("{} ({}); {}", checker.id, checker.name, checker.identity));
    }
    row("workspace", permit.workspace.name.to_string());
    for dataset in &permit.datasets {
        row("data", format!("{} at {}", dataset.name, dataset.mounted_at.display()));
    }
    for destination in &permit.egress {
        let ports: Vec<_> = destination.ports.iter().map(ToString::to_string).collect();
        let check = destination.to.names().map(|names| format!(" {}", names.check.name())).unwrap_or_default();
        row("reach", format!("{} {}{check}: {} ({})", destination.to, ports.join(" "), destination.name, destination.reason));
    }
    let networks: Vec<_> = permit.session.from_networks.iter().map(ToString::to_string).collect();
    row("from", networks.join(" "));
    row("hours", permit.session.hours.as_ref().map_or_else(|| "any".to_owned(), sulku_permit::Hours::words));
    row(
        "recording",
        format!("{}, {}, kept {} days", permit.recording.terminal.name(), permit.recording.durability.name(), permit.recording.retention_days),
    );
    print::table(&rows)
}

fn due(policy: &Policy, now: Timestamp, within: u32) -> String {
    let ahead = now.checked_add(jiff::SignedDuration::from_hours(24 * i64::from(within))).unwrap_or(Timestamp::MAX);
    let mut rows = Vec::new();
    for permit in policy.permits().iter() {
        let until = permit.validity.until;
        let kept = jiff::SignedDuration::from_hours(24 * i64::from(permit.workspace_retention_days));
        let deletable = until.checked_add(kept).unwrap_or(Timestamp::MAX);
        if permit.ended_by(now) {
            let what = if now >= deletable { "may be deleted: sulku workspace delete" } else { "is sealed, and kept" };
            rows.push((deletable, vec![deletable.to_string(), permit.id.to_string(), format!("workspace {} {what}", permit.workspace.name)]));
        } else if until <= ahead {
            rows.push((until, vec![until.to_string(), permit.id.to_string(), "the permit ends".to_owned()]));
        }
        for holder in permit.holders.iter().filter(|_| !permit.ended_by(now)) {
            if let Some(until) = holder.until.filter(|until| *until > now && *until <= ahead) {
                rows.push((until, vec![until.to_string(), permit.id.to_string(), format!("{}'s own time ends", holder.id)]));
            }
        }
    }
    rows.sort();
    if rows.is_empty() {
        format!("nothing is due within {within} days\n")
    } else {
        print::table(&rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>())
    }
}
