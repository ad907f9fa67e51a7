//! `sulku policy new`: the file of a permit, with a comment on every line that an operator decides.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::civil::Date;
use sulku_permit::{HolderId, PermitId, WorkspaceName};

use crate::print;

/// The facts that every permit has. What else it may say stands in the file as a comment.
#[derive(Args)]
pub struct NewArgs {
    /// The diary number
    #[arg(long)]
    id: PermitId,
    /// The title
    #[arg(long)]
    title: String,
    /// What the data may be used for
    #[arg(long, default_value = "scientific research")]
    purpose: String,
    /// Who issued it
    #[arg(long)]
    issuer: String,
    /// The organisation that answers for the processing
    #[arg(long)]
    controller: String,
    /// A mail address or telephone number of it
    #[arg(long)]
    contact: String,
    /// The first day
    #[arg(long, value_name = "DATE")]
    from: Date,
    /// The last day
    #[arg(long, value_name = "DATE")]
    until: Date,
    /// The time zone of both
    #[arg(long, default_value = "Europe/Helsinki")]
    time_zone: String,
    /// A holder: her id, her name and the URI in her certificate; as often as there are holders
    #[arg(long, num_args = 3, value_names = ["ID", "NAME", "URI"], action = clap::ArgAction::Append, required = true)]
    holder: Vec<String>,
    /// The workspace's name; else made of the diary number
    #[arg(long)]
    workspace: Option<WorkspaceName>,
    /// A network that holders may connect from; as often as there are networks
    #[arg(long = "network", value_name = "NETWORK", required = true)]
    networks: Vec<String>,
    /// Where to write it, such as policies/permits/statins.toml; else it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `sulku policy new`.
///
/// # Errors
/// The facts make no good permit, or the file is there already.
pub fn run(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let text = text(args)?;
    let name = args.out.as_ref().map_or_else(|| "the permit".to_owned(), |out| out.display().to_string());
    if let Err(problems) = sulku_permit::parse(&name, &text) {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        anyhow::bail!("these facts make no good permit\n{}", lines.join("\n"));
    }
    match &args.out {
        None => print::answer(&text)?,
        Some(out) => {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(out)
                .with_context(|| format!("{name} can't be written; a file that is there stays as it is"))?;
            file.write_all(text.as_bytes())?;
            print::answer(&format!("{name} is written; complete it, then: sulku policy check\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(args: &NewArgs) -> anyhow::Result<String> {
    // A JSON string of printable text is a TOML basic string.
    let quoted = |text: &str| serde_json::to_string(text).context("a text can't be written");
    let workspace = match &args.workspace {
        Some(workspace) => workspace.to_string(),
        None => args.id.as_str().to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
    };
    let mut holders = String::new();
    for person in args.holder.chunks_exact(3) {
        let id: HolderId = person[0].parse()?;
        holders.push_str(&format!(
            "[[holder]]\nid = {}\nname = {}\ncertificate = {{ uri = {} }}\n# \"analyst\" works in the workspace, \"export-requester\" asks for results, \"observer\" opens no session.\n\
             roles = [\"analyst\"]\n# valid_until = {}        # when her own right ends, if before the permit's\n\n",
            quoted(id.as_str())?,
            quoted(&person[1])?,
            quoted(&person[2])?,
            args.until,
        ));
    }
    let networks = args.networks.iter().map(|network| quoted(network)).collect::<anyhow::Result<Vec<_>>>()?.join(", ");
    Ok(format!(
        "#:schema ../../config/schema/permit.schema.json\n\
         # One permit, one file. What is not named here is denied. policies/README.md explains every key.\n\
         schema = 1\n\n\
         [permit]\nid = {id}\ntitle = {title}\npurpose = {purpose}\nissuer = {issuer}\n\
         # Both days are inside the period, in this time zone.\n\
         valid_from = {from}\nvalid_until = {until}\ntime_zone = {zone}\n\
         # assurance = \"substantial\"     # the least that a holder's certificate must give\n\n\
         [controller]\nname = {controller}\ncontacts = [{contact}]\n\n\
         # One table for each natural person. The certificate has to match letter for letter.\n{holders}\
         [workspace]\nname = {workspace}\n# disk = \"20 GiB\"           # the most that it holds, set aside by the host; else it shares the host's\n\n\
         # The data, read-only. Copy the table for more, or write dataset = \"NAME\" for one that several permits use.\n\
         # [[dataset]]\n# name = \"hilmo-2010-2024\"\n# path = \"/srv/sulku/datasets/hilmo\"\n# mounted_at = \"/data/hilmo\"\n# persons = 250000          # about how many, for a notice of a breach\n\n\
         # What the workspace may reach. Without a table it reaches nothing.\n\
         # [[egress]]\n# name = \"package mirror\"\n# to = \"10.20.30.40\"\n# ports = [\"443/tcp\"]\n# reason = \"R packages, mirrored inside the environment\"\n\
         # bytes = \"2 GiB\"           # what a session may send there\n\n\
         # [[egress]]\n# name = \"CRAN\"\n# to = \"cran.r-project.org\"  # or \"*.r-project.org\", all below it\n# ports = [\"443/tcp\"]\n# reason = \"R packages\"\n\n\
         [session]\nfrom_networks = [{networks}]\n# max_per_person = 1\n# max_length = \"12 h\"\n# idle_disconnect = \"30 min\"\n# max_detached = \"30 min\"\n# allowed_hours = [\"Mon-Fri 06:00-22:00\"]\n\n\
         [recording]\n# \"output-and-input\" also records what is typed, passwords included.\nterminal = \"output-and-input-timing\"\ndurability = \"strict\"\nretention = \"5 y\"\n\n\
         # What must come of it; checked before each activation.\n\
         [[test]]\nname = \"nobody after the permit has ended\"\nperson = {first}\nat = {after}T12:00:00\ndoes = \"connect\"\nexpect = \"deny permit-expired\"\n",
        id = quoted(args.id.as_str())?,
        title = quoted(&args.title)?,
        purpose = quoted(&args.purpose)?,
        issuer = quoted(&args.issuer)?,
        from = args.from,
        until = args.until,
        zone = quoted(&args.time_zone)?,
        controller = quoted(&args.controller)?,
        contact = quoted(&args.contact)?,
        workspace = quoted(&workspace)?,
        first = quoted(args.holder.first().map_or("", String::as_str))?,
        after = args.until.tomorrow().context("the last day is the last of all")?,
    ))
}
