//! How long a holder waits for her prompt, from the order to what the shell shows on her terminal, with 1, 100, 500 and 1,000 cells alive; and beside it,
//! in the same run and one after the other, what `bwrap` and `unshare` take for `/bin/true` in fresh namespaces, which is less: no network that leads
//! anywhere, no limits, no Landlock, no filter, no terminal, no record, no shell. Some minutes, as root.
#![allow(clippy::print_stdout, reason = "it reports")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stage::{Options, Running, Stage};
use sulku_plan::order::{Order, Report};

const ROUNDS: usize = 200;
/// Cells that idle meanwhile, the measured one not counted.
const ALIVE: [usize; 4] = [0, 100, 500, 1_000];
const BWRAP: &[&str] = &["/usr/bin/bwrap", "--unshare-all", "--ro-bind", "/", "/", "/bin/true"];
const UNSHARE: &[&str] = &["/usr/bin/unshare", "-Urmpnui", "--fork", "--mount-proc", "/bin/true"];

#[derive(Default)]
struct Times {
    bwrap: Vec<Duration>,
    unshare: Vec<Duration>,
    launched: Vec<Duration>,
    prompted: Vec<Duration>,
    gone: Vec<Duration>,
}

fn main() {
    let mut stage = Stage::with(Options { pool: 16, cells_max: 1_100, ..Options::default() });
    let mut idle: Vec<Running> = Vec::new();
    println!("{:<14} {:<30} {:>9} {:>9} {:>9}   {:>14} {:>10}", "cells alive", "", "median", "p99", "worst", "median/bwrap's", "p99/bwrap's");
    // `-- 0 500` measures with these alone.
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    for alive in if asked.is_empty() { ALIVE.to_vec() } else { asked } {
        while idle.len() < alive {
            idle.push(stage.launch("two.toml", Some(&["/bin/sleep", "3600"])));
        }
        let mut times = Times::default();
        for _ in 0..ROUNDS {
            round(&mut stage, &mut times);
        }
        let bwrap = summary(&mut times.bwrap);
        for (what, times) in [
            ("bwrap /bin/true", &mut times.bwrap),
            ("unshare /bin/true", &mut times.unshare),
            ("order to launched", &mut times.launched),
            ("order to prompt", &mut times.prompted),
            ("end order to nothing left", &mut times.gone),
        ] {
            let [median, p99, worst] = summary(times);
            let ratio = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
            println!(
                "{:<14} {what:<30} {median:>9.2?} {p99:>9.2?} {worst:>9.2?}   {:>13.2}× {:>9.2}×",
                alive + 1,
                ratio(median, bwrap[0]),
                ratio(p99, bwrap[1])
            );
        }
    }
    // What idles goes with its warden; until it has, its control groups can't be removed.
    stage.warden.kill().expect("killed");
    stage.warden.wait().expect("its end");
    stage::eventually("no process of a cell is left", || stage.cell_processes().is_empty().then_some(()));
}

fn round(stage: &mut Stage, times: &mut Times) {
    times.bwrap.push(run(BWRAP));
    // What is ready for the next cell is made in the background; a person comes seldom enough for that.
    std::thread::sleep(Duration::from_millis(40));
    let draft = stage.opening("one.toml", None);
    let receipt = stage.ledger.keep(&draft);
    let begun = Instant::now();
    stage.gateway.order(&stage::launch(receipt));
    let (Report::Launched { session }, Some(master)) = stage.gateway.report() else { panic!("not launched") };
    times.launched.push(begun.elapsed());
    Running { session, master }.read_until("$ ");
    times.prompted.push(begun.elapsed());
    times.unshare.push(run(UNSHARE));
    let ended = Instant::now();
    stage.gateway.order(&Order::End { session, reason: "holder-left".to_owned() });
    let (Report::Reaped { .. }, _) = stage.gateway.report() else { panic!("not reaped") };
    times.gone.push(ended.elapsed());
}

fn run(command: &[&str]) -> Duration {
    let begun = Instant::now();
    let status = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).status().expect("it runs");
    assert!(status.success(), "{command:?}");
    begun.elapsed()
}

/// Median, 99th percentile, worst.
fn summary(times: &mut [Duration]) -> [Duration; 3] {
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]]
}
