//! `sulku demo`: a researcher's day, the walls she meets, and the auditor who proves it, on this machine, in one minute.
//!
//! The environment is a [`Stage`]: the same programs and processes as in production, on throw-away certificates and a synthetic
//! register. Each expectation is judged by what really happened (exit codes, output, the ledger's entries, what arrived at a host), and
//! each "is stopped" has a control beside it: the same probe where it is allowed. The demo makes no way around any check.

mod probe;
mod report;
mod scenes;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sulku_stage::{ASTHMA, Daemon, Interrupt, Leftover, Options, PermitFile, Person, STATINS, Stage, StageError};

use report::{Report, Verdict, Voice};
use scenes::Play;

/// The permit that Tiina holds, which lists a host by its name.
const BY_NAME: &str = "DEMO/3/2026";
/// How long the second permit lasts, so that it runs out while its holder works. Everything that she shows comes before.
const ASTHMA_LASTS: Duration = Duration::from_secs(25);

/// Show a whole environment on this machine: a session, the walls around it, and the audit's proof. Takes about half a minute. As
/// root on the rung `root`; as anybody else on the rung `rootless`, and says what differs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the environment running afterwards and print commands for a second terminal; Ctrl-C ends it.
    #[arg(long)]
    stay: bool,
    /// Print one JSON object instead of the story: {"expectations": [{"name", "met", "detail"}], "elapsed_s"}.
    #[arg(long, conflicts_with = "stay")]
    json: bool,
}

/// Plays the demo.
///
/// # Errors
/// The stage can't be raised (something is missing on this machine), or somebody pressed Ctrl-C. What the product did wrong is no
/// error but an expectation that is not met, and a failing exit code.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::on_signals()?;
    let mut report = Report::new(if args.json { Voice::Silent } else { Voice::of_stdout() });
    report.title("Sulku demo", "throw-away certificates (12 h), a synthetic register, this computer only");
    match play(&mut report, &interrupt, &args) {
        Ok(left) => {
            report.scene("The end");
            report.expect("nothing is left on this machine", || Ok(nothing_of(&left)))?;
        }
        Err(error) => {
            report.break_off();
            return Err(error);
        }
    }
    report.finish()?;
    Ok(if report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(report: &mut Report, interrupt: &Interrupt, args: &DemoArgs) -> anyhow::Result<Vec<Leftover>> {
    let mut by_name = PermitFile::by_name(BY_NAME, "by-name", Person::Tiina);
    if !rustix::process::geteuid().is_root() {
        by_name = by_name.with("[permit]", "[permit]\nisolation = \"rootless\"")?;
    }
    let options = Options { asthma_ends_after: Some(ASTHMA_LASTS), permits: vec![by_name], interrupt: interrupt.clone(), ..Options::default() };
    let stage = Stage::raise(&options)?;
    let mut play = Play::new(&stage, report);
    play.the_environment()?;
    play.bo_begins()?;
    play.maija_works()?;
    play.the_walls()?;
    play.hosts_by_name()?;
    play.bad_certificates()?;
    play.the_operator()?;
    play.the_permit_ends()?;
    play.the_permit_is_revoked()?;
    play.the_auditor()?;
    if args.stay {
        report.say_all(&second_terminal(&stage));
        match interrupt.until("", Duration::MAX, || Ok(None::<()>)) {
            Err(StageError::Interrupted) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !report.all_met() {
        for daemon in Daemon::ALL {
            eprintln!("--- the {}'s log ---\n{}", daemon.name(), stage.log(*daemon));
        }
    }
    Ok(stage.close())
}

fn nothing_of(left: &[Leftover]) -> Verdict {
    if left.is_empty() {
        return Verdict::met("no process, network namespace, interface, control group, mount or file");
    }
    Verdict::not_met(left.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// What a person at a second terminal can try. Bo's permit has ended by now; Maija's has not.
fn second_terminal(stage: &Stage) -> Vec<String> {
    let sulku = stage.programs().join("sulku").display().to_string();
    let profile = |person| stage.profile(person).display().to_string();
    let audit = format!("--ledger {} --key {}", stage.ledger_socket().display(), stage.ledger_key().display());
    vec![
        String::new(),
        if stage.ground().is_machine() {
            "The environment stays. In a second terminal, as root:".to_owned()
        } else {
            format!(
                "The environment stays, in namespaces of its own. In a second terminal, first: nsenter --target {} --user --net --preserve-credentials",
                std::process::id()
            )
        },
        String::new(),
        format!("  # work as Maija, whose permit is {STATINS}; leave with exit"),
        format!("  {sulku} connect --profile {}", profile(Person::Maija)),
        format!("  # try as Bo, whose permit {ASTHMA} has ended"),
        format!("  {sulku} connect --profile {}", profile(Person::Bo)),
        "  # operate".to_owned(),
        format!("  {sulku} sessions list --profile {}", profile(Person::Onni)),
        format!("  {sulku} sessions end SESSION --profile {}", profile(Person::Onni)),
        "  # audit".to_owned(),
        format!("  {sulku} audit list --denied {audit}"),
        format!("  {sulku} audit play SESSION --identity {} {audit}", stage.auditor_identity().display()),
        format!("  {sulku} audit verify {audit}"),
        String::new(),
        "Ctrl-C ends it and leaves nothing behind.".to_owned(),
    ]
}
