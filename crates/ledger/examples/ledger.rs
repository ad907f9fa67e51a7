//! A ledger by itself, for tests and measurements: `ledger CONFIG`. Keeps the user it was started as; `sulkud ledger` does not.

#![expect(clippy::print_stdout, reason = "says on its output when it is ready")]

use std::path::Path;
use std::process::ExitCode;

use sulku_ledger::{Ledger, config, key};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = std::env::args().nth(1).ok_or("usage: ledger CONFIG")?;
    let settings = config::load(Path::new(&config))?;
    let signer = key::load(&settings.signing_key)?;
    let ledger = Ledger::start(settings, signer)?;
    let stopper = ledger.stopper();
    // Ends in order when its input ends; a test that wants it to end otherwise kills it.
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stopper.stop("its input ended");
    });
    println!("ready");
    match ledger.run() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(broken) => {
            println!("{broken}");
            Ok(ExitCode::FAILURE)
        }
    }
}
