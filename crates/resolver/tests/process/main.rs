//! The real program, in a network namespace of its own, between a scripted warden, fake resolvers upstream that write down every
//! question, and clients that others wrote.
//!
//! Every test has its own resolver, upstream, sessions and addresses; `stage.rs` says which.

mod names;
mod stage;
mod tls;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use stage::Stage;

/// Set in the process that stands in its own namespace.
const INSIDE: &str = "SULKU_RESOLVER_TEST_INSIDE";

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let itself = std::env::current_exe().expect("the test has a path");
        let error = Command::new("unshare").arg("--net").arg(itself).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
        panic!("unshare can't be started: {error}");
    }
    let arguments = Arguments::from_args();
    if !arguments.list {
        stage::network();
    }
    let tests: Vec<stage::Test> = [names::TESTS, tls::TESTS].concat();
    let trials = tests.into_iter().enumerate().map(|(number, (name, test))| {
        Trial::test(name, move || {
            let number = u8::try_from(number + 1).map_err(|_| Failed::from("too many tests for their addresses"))?;
            test(Stage::new(number));
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
