//! `sulku policy explain` and `who-can`: what the policies say about a person or a thing, each reason with its line.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use sulku_permit::{Action, Decision, HolderId, Permit, PermitId, Policy, Question, Target, decide};

use super::folder::PoliciesArgs;
use crate::print;

/// A question about one person.
#[derive(Args)]
pub struct ExplainArgs {
    /// The person's id
    person: HolderId,
    /// connect, reach ADDRESS:PORT/tcp, reach HOST:PORT/tcp, or read DATASET
    #[arg(required = true, num_args = 1..=2, value_names = ["ACTION", "WHAT"])]
    action: Vec<String>,
    /// Under this permit alone; else under each that lists her
    #[arg(long, value_name = "PERMIT")]
    permit: Option<PermitId>,
    /// When, as in 2026-03-02T10:00:00Z; else now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// From which address; else from the first network that the permit allows
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    #[command(flatten)]
    policies: PoliciesArgs,
}

/// A question about a thing.
#[derive(Args)]
pub struct WhoCanArgs {
    /// ADDRESS:PORT or HOST:PORT (tcp, unless /udp follows), or the name of a dataset
    what: String,
    /// When, as in 2026-03-02T10:00:00Z; else now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    #[command(flatten)]
    policies: PoliciesArgs,
}

/// Runs `sulku policy explain`. Exit code 0: allowed under at least one permit; 1: denied.
///
/// # Errors
/// The policies or the question are wrong.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (_, policy) = args.policies.sound()?;
    let action: Action =
        args.action.join(" ").parse().map_err(|help| anyhow::anyhow!("{:?} is nothing that a person does; {help}", args.action.join(" ")))?;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let question = Question { person: &args.person, at, from: args.from, action: &action };
    let asked: Vec<_> = match &args.permit {
        Some(id) => vec![policy.permits().get(id).ok_or_else(|| anyhow::anyhow!("there is no permit {id}; see sulku permit list"))?],
        None => policy.permits().iter().filter(|permit| permit.holder(&args.person).is_some()).collect(),
    };
    anyhow::ensure!(!asked.is_empty(), "no permit lists {}: she may do nothing; see sulku permit list", args.person);
    let mut allowed = false;
    for permit in asked {
        let decision = decide(policy.permits(), permit, &question);
        allowed |= decision.denial.is_none();
        print::answer(&told(permit, &action, &decision))?;
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(permit: &Permit, action: &Action, decision: &Decision) -> String {
    let mut text = match decision.denial {
        None => format!("allow  {action} under {}\n", permit.id),
        Some(denial) => format!("deny   {action} under {}: {}\n", permit.id, denial.as_str()),
    };
    for reason in &decision.reasons {
        let at = reason.at.as_ref().map(|at| format!("  ({at})")).unwrap_or_default();
        text.push_str(&format!("       {}{at}\n", reason.what));
    }
    text
}

/// Runs `sulku policy who-can`. Exit code 0: somebody; 1: nobody.
///
/// # Errors
/// The policies are wrong.
pub fn who_can(args: &WhoCanArgs) -> anyhow::Result<ExitCode> {
    let (_, policy) = args.policies.sound()?;
    let action: Action = format!("reach {}", args.what).parse().unwrap_or_else(|_| Action::Read(args.what.clone()));
    let at = args.at.unwrap_or_else(Timestamp::now);
    let mut rows = Vec::new();
    for permit in policy.permits().iter().filter(|permit| concerns(permit, &action)) {
        for holder in &permit.holders {
            let decision = decide(policy.permits(), permit, &Question { person: &holder.id, at, from: None, action: &action });
            let answer = decision.denial.map_or("allow", |denial| denial.as_str());
            let line = decision.reasons.last().and_then(|reason| reason.at.as_ref()).map(ToString::to_string).unwrap_or_default();
            rows.push(vec![answer.to_owned(), holder.id.to_string(), holder.name.clone(), permit.id.to_string(), line]);
        }
    }
    let somebody = rows.iter().any(|row| row[0] == "allow");
    if rows.is_empty() {
        print::answer(&format!("nobody: no permit names {}\n", args.what))?;
    }
    print::answer(&print::table(&rows))?;
    Ok(if somebody { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn concerns(permit: &Permit, action: &Action) -> bool {
    match action {
        Action::Connect => true,
        Action::Reach(Target::Address(to), port) => permit.destination(*to, *port).is_some(),
        Action::Reach(Target::Name(name), port) => permit.named(name, *port).is_some(),
        Action::Read(name) => permit.datasets.iter().any(|dataset| dataset.name == *name),
    }
}

/// The permit of that id, or an error that says where to look.
pub fn permit_of<'a>(policy: &'a Policy, id: &PermitId) -> anyhow::Result<&'a Permit> {
    policy.permits().get(id).map(|permit| &**permit).ok_or_else(|| anyhow::anyhow!("there is no permit {id}; see sulku permit list"))
}
