//! How long a holder waits for her prompt, and how long it takes until nothing of her session is left. A few seconds, as root.
#![allow(clippy::print_stdout, reason = "it reports")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::time::{Duration, Instant};

use stage::Stage;
use sulku_plan::order::{Order, Report};

const ROUNDS: usize = 30;

fn main() {
    let mut stage = Stage::new();
    let (mut launched, mut prompted, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // The pool is filled in the background; a person comes seldom enough for that.
        std::thread::sleep(Duration::from_millis(60));
        let draft = stage.opening("one.toml", None);
        let receipt = stage.ledger.keep(&draft);
        let begun = Instant::now();
        stage.gateway.order(&stage::launch(receipt));
        let (Report::Launched { session }, Some(master)) = stage.gateway.report() else { panic!("not launched") };
        launched.push(begun.elapsed());
        let shell = stage::Running { session, master };
        shell.read_until("$ ");
        prompted.push(begun.elapsed());
        let ended = Instant::now();
        stage.gateway.order(&Order::End { session, reason: "holder-left".to_owned() });
        let (Report::Reaped { .. }, _) = stage.gateway.report() else { panic!("not reaped") };
        gone.push(ended.elapsed());
    }
    for (what, mut times) in [("launch order to launched", launched), ("launch order to prompt", prompted), ("end order to nothing left", gone)] {
        times.sort_unstable();
        println!("{what:<28} median {:>10.2?}   p90 {:>10.2?}   worst {:>10.2?}", times[ROUNDS / 2], times[ROUNDS * 9 / 10], times[ROUNDS - 1]);
    }
}
