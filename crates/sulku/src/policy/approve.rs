//! `sulku policy approve`, `withdraw`, `log` and `show`: a revision that is in the store already.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sulku_policy::store::{self, Store as _};
use sulku_policy::{Operators, Signed, Signers, Tree, Unapproved, verify};

use super::apply::{ConfirmArgs, StoreArgs, changes, confirm, current, outcome};
use super::folder::sound;
use super::operators::{OperatorsArgs, SignerArgs};
use super::store::FolderStore;
use crate::print;

#[derive(Args)]
pub struct ApproveArgs {
    /// The revision's number
    number: u64,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    operators: OperatorsArgs,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Runs `sulku policy approve`.
///
/// # Errors
/// The revision is not one that this operator can sign now.
pub fn approve(args: &ApproveArgs) -> anyhow::Result<ExitCode> {
    let operators = args.operators.read()?;
    let key = args.signer.read(&operators)?;
    let store = FolderStore::at(&args.store.store);
    let lock = store.lock()?;
    let (number, operator) = (args.number, &args.signer.operator);
    let mut signed = store.signed(number)?;
    let signers = Signers::of(&signed, &operators).with_context(|| format!("revision {number} is not what was signed"))?;
    anyhow::ensure!(!signers.known.contains(operator), "{operator} has signed revision {number} already; another operator has to");
    let before = base(&store, &operators, &signed)?;
    let tree = store::files(&store, &signed.revision)?;
    sound(&args.store.store, &tree)?;
    print::answer(&format!("by {}: {}\n{}", signed.revision.by(), signed.revision.reason(), changes(&before, &tree)?))?;
    print::answer(&format!("revision {number}: {} files, SHA-256 {}\n", tree.len(), signed.revision.digest()))?;
    confirm(&args.confirm, &format!("Sign it as {operator}?"))?;
    signed.signatures.push(signed.revision.sign(operator.clone(), &key));
    lock.add_signatures(&signed)?;
    print::answer(&outcome(&store, &operators, &signed, &args.store, &args.operators)?)?;
    Ok(ExitCode::SUCCESS)
}

/// What the revision is compared with: what is in force now, if it was made to follow that.
fn base(store: &FolderStore, operators: &Operators, signed: &Signed) -> anyhow::Result<Tree> {
    let revision = &signed.revision;
    // The newest revision of operators who have left is signed again by who stays; until then nothing can be verified.
    if let Err(Unapproved::Strangers { .. }) = verify(signed, operators) {
        anyhow::ensure!(store.highest()? == revision.number(), "revision {} is not the newest; apply again", revision.number());
        return Ok(Tree::default());
    }
    let current = current(store, operators)?;
    let Some(in_force) = current.in_force else { return Ok(Tree::default()) };
    let now = in_force.revision();
    if now.digest() == revision.digest() {
        return Ok(in_force.tree().clone());
    }
    anyhow::ensure!(
        revision.previous() == Some(now.digest()),
        "revision {} was made to follow another than {}, which is in force now; take it back (sulku policy withdraw {0}) and apply again",
        revision.number(),
        now.number()
    );
    Ok(in_force.tree().clone())
}

#[derive(Args)]
pub struct WithdrawArgs {
    /// The revision's number
    number: u64,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    operators: OperatorsArgs,
}

/// Runs `sulku policy withdraw`.
///
/// # Errors
/// The revision is not one that waits.
pub fn withdraw(args: &WithdrawArgs) -> anyhow::Result<ExitCode> {
    let operators = args.operators.read()?;
    let store = FolderStore::at(&args.store.store);
    let lock = store.lock()?;
    let signed = store.signed(args.number)?;
    let current = current(&store, &operators)?;
    anyhow::ensure!(
        current.waiting.contains(&args.number),
        "revision {} does not wait for a signature; what counts is not taken back but followed by another: sulku policy apply",
        args.number
    );
    lock.withdraw(&signed.revision)?;
    print::answer(&format!("revision {} is withdrawn\n", args.number))?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Args)]
pub struct LogArgs {
    /// So many, the newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    last: usize,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    operators: OperatorsArgs,
}

/// Runs `sulku policy log`. What can't be verified is told in its line, and with exit code 1.
///
/// # Errors
/// The store can't be read.
pub fn log(args: &LogArgs) -> anyhow::Result<ExitCode> {
    let operators = args.operators.read()?;
    let store = FolderStore::at(&args.store.store);
    let mut numbers = store.revisions().with_context(|| format!("{} can't be read; name the store with --store", args.store.store.display()))?;
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let found = current(&store, &operators);
    let in_force = found.as_ref().ok().and_then(|current| current.in_force.as_ref()).map(|in_force| in_force.revision().number());
    let mut rows = Vec::new();
    for number in numbers.into_iter().take(args.last) {
        let row = match store.signed(number) {
            Err(error) => vec![number.to_string(), "?".to_owned(), "?".to_owned(), "damaged".to_owned(), error.root_cause().to_string()],
            Ok(signed) => {
                let standing = standing(&signed, &operators, in_force);
                let revision = &signed.revision;
                vec![number.to_string(), print::local(revision.made()), standing.0, standing.1, revision.reason().to_owned()]
            }
        };
        rows.push(row);
    }
    print::answer(&print::table(&rows))?;
    found.map(|_| ExitCode::SUCCESS)
}

/// Who signed it, and how it stands.
fn standing(signed: &Signed, operators: &Operators, in_force: Option<u64>) -> (String, String) {
    let names = |signers: &Signers| signers.known.iter().chain(&signers.unknown).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let number = signed.revision.number();
    match Signers::of(signed, operators) {
        Err(_) => ("?".to_owned(), "forged".to_owned()),
        Ok(signers) => {
            let standing = match in_force {
                Some(now) if now == number => "in force",
                Some(now) if now > number && verify(signed, operators).is_ok() => "was in force",
                Some(now) if now > number => "passed over",
                _ => "waits",
            };
            (names(&signers), standing.to_owned())
        }
    }
}

#[derive(Args)]
pub struct ShowArgs {
    /// The revision's number
    number: u64,
    /// A file of it, such as permits/statins.toml, instead of the revision
    path: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    operators: OperatorsArgs,
}

/// Runs `sulku policy show`.
///
/// # Errors
/// There is no such revision or file, or it is not what was signed.
pub fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let operators = args.operators.read()?;
    let store = FolderStore::at(&args.store.store);
    let signed = store.signed(args.number)?;
    let signers = Signers::of(&signed, &operators).with_context(|| format!("revision {} is not what was signed", args.number))?;
    if let Some(path) = &args.path {
        let tree = store::files(&store, &signed.revision)?;
        let file = tree.get(path).with_context(|| format!("revision {} has no file {path}", args.number))?;
        print::answer(file.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{}\nSHA-256 {}\n", signed.revision.text(), signed.revision.digest());
    signers.known.iter().for_each(|operator| text.push_str(&format!("signed by {operator}, verified\n")));
    signers.unknown.iter().for_each(|stranger| text.push_str(&format!("signed by {stranger}, who is no operator here\n")));
    print::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}
