//! The ways around a list of destinations, each tried for real. Nobody but the world says what came of it: it hears every packet that reaches it,
//! of whatever protocol, and it hears the very same attempts when the wall is down.
//!
//! What packets can do is tried by root with every power in a cell's network, whom nothing but the router holds; what names and TLS can do, in
//! a whole cell. The wardens of the first are this program again. Needs root.

mod names;
mod oracle;
mod packets;
#[path = "../../crates/warden/tests/stage/mod.rs"]
mod stage;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use stage::MISSING_LAYERS;
use sulku_warden::config::Config;
use sulku_warden::layers::{Layer, Layers};

fn main() -> ExitCode {
    if let Ok(missing) = std::env::var(MISSING_LAYERS) {
        return be_a_warden(&missing);
    }
    let trials: Vec<(&str, fn())> = vec![
        (
            "no_packet_that_the_permit_does_not_list_arrives_whatever_it_is_made_of",
            packets::no_packet_that_the_permit_does_not_list_arrives_whatever_it_is_made_of,
        ),
        (
            "no_name_that_the_permit_does_not_list_is_reached_however_it_is_dressed",
            names::no_name_that_the_permit_does_not_list_is_reached_however_it_is_dressed,
        ),
        ("an_address_that_was_learned_elsewhere_opens_nothing", names::an_address_that_was_learned_elsewhere_opens_nothing),
        ("an_answer_that_holds_for_days_opens_its_address_for_minutes", names::an_answer_that_holds_for_days_opens_its_address_for_minutes),
    ];
    let trial = |(name, run): (&str, fn())| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().map(trial).collect()).exit_code()
}

/// A warden whose cells lack layers: `run --config FILE`, as the real one is started.
fn be_a_warden(missing: &str) -> ExitCode {
    let config = std::env::args().nth(3).expect("a configuration");
    let missing: Vec<Layer> = Layer::ALL.into_iter().filter(|layer| missing.split(',').any(|name| name == layer.name())).collect();
    match Config::read(Path::new(&config)).map_err(Into::into).and_then(|config| sulku_warden::run_without(config, Layers::without(&missing))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => panic!("{}", sulku_warden::chain(&error)),
    }
}
