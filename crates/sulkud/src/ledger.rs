//! `sulkud ledger`: the process that keeps the audit. Gives up root first, then recovers the log; ends on SIGTERM and SIGINT.

use std::path::PathBuf;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sulku_ledger::{Ledger, config, key, privilege};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration.
    #[arg(long, default_value = "/etc/sulku/ledger.toml")]
    config: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = config::load(&arguments.config)?;
    // The key may be root's alone, so it is read before the user changes; nothing else is.
    let mut signer = key::load(&settings.signing_key)?;
    if let Some(previous) = &settings.previous_signing_key {
        let named = || format!("{} can't be what {} replaces", previous.display(), settings.signing_key.display());
        signer = signer.replacing(key::load(previous)?).with_context(named)?;
    }
    privilege::drop(settings.run_as)?;
    let (socket, key) = (settings.socket.clone(), signer.own_keys().keys()[0].short());
    // From here on the signals are heard, so that none ends the process between the first entry and the loop below.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("signals could not be taken")?;
    let ledger = Ledger::start(settings, signer)?;
    let stopper = ledger.stopper();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            stopper.stop(if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
        }
    })?;
    tracing::info!(socket = %socket.display(), %key, "the ledger is ready");
    ledger.run()?;
    tracing::info!("the ledger stopped in order");
    Ok(())
}
