//! When what is done: decided by the seed before anything runs.
//!
//! First there is load alone, then every fault in an order of chance, again and again; from two thirds on nobody is killed any more, so that what
//! daemons keep in memory can be compared over time; the end is calm, so that it shows that everything is well again.

use std::time::Duration;

use sulku_stage::Daemon;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::network::Weather;

/// When something is done, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Since the beginning.
    pub at: Duration,
    /// 0 where it is over at once.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// In order of time.
    pub faults: Vec<Due>,
    /// From when on nothing is done, and what was done is over and no longer felt.
    pub calm_from: Duration,
    /// The end of the load.
    pub end: Duration,
}

/// Faults follow each other so closely on each of two tracks: the host's, and the network's.
const GAPS: [(Duration, Duration); 2] = [(Duration::from_secs(4), Duration::from_secs(16)), (Duration::from_secs(3), Duration::from_secs(10))];

impl Schedule {
    /// What this seed decides for a run of that length.
    pub fn new(seed: u64, length: Duration) -> Self {
        let (warm_up, calm) = (length.mul_f64(0.05).min(Duration::from_secs(30)), Duration::from_secs(60).min(length / 4));
        let quiet = length.saturating_sub(calm);
        let killed_until = length.mul_f64(0.6);
        let mut faults = Vec::new();
        for (track, gaps) in (0..).zip(GAPS) {
            let mut dice = Dice::new(seed, track);
            let (mut at, mut bag) = (warm_up + dice.between(Duration::ZERO, gaps.1), Vec::new());
            loop {
                if bag.is_empty() {
                    bag = if track == 0 { of_the_host(&mut dice) } else { of_the_network(&mut dice) };
                    dice.shuffle(&mut bag);
                }
                let Some((fault, lasts)) = bag.pop() else { break };
                if fault.kills() && at > killed_until {
                    continue;
                }
                if at + lasts + FELT > quiet {
                    break;
                }
                faults.push(Due { at, lasts, fault });
                at += lasts + dice.between(gaps.0, gaps.1);
            }
        }
        faults.sort_by_key(|due| due.at);
        Self { faults, calm_from: quiet, end: length }
    }

    /// A little of everything, for a test that runs with all others.
    pub fn smoke() -> Self {
        let seconds = Duration::from_secs;
        let due = |at, lasts, fault| Due { at: seconds(at), lasts: seconds(lasts), fault };
        let faults = vec![
            due(3, 0, Fault::Killed(Daemon::Gateway)),
            due(4, 3, Fault::Garbage),
            due(6, 2, Fault::ClockSet(900)),
            due(7, 4, Fault::BadWeather(Weather { lost_permille: 30, delay_ms: 10, jitter_ms: 10 })),
            due(8, 0, Fault::CertificateRevoked),
            due(9, 2, Fault::DiskFull),
            due(13, 0, Fault::Killed(Daemon::Ledger)),
        ];
        Self { faults, calm_from: seconds(18), end: seconds(22) }
    }
}

/// What was done last is over so long before the calm.
const FELT: Duration = Duration::from_secs(10);

fn of_the_host(dice: &mut Dice) -> Vec<(Fault, Duration)> {
    let seconds = |least, most, dice: &mut Dice| dice.between(Duration::from_secs(least), Duration::from_secs(most));
    vec![
        (Fault::Killed(Daemon::Gateway), Duration::ZERO),
        (Fault::Killed(Daemon::Gateway), Duration::ZERO),
        (Fault::Killed(Daemon::Warden), Duration::ZERO),
        (Fault::Killed(Daemon::Ledger), Duration::ZERO),
        (Fault::Killed(Daemon::Courier), Duration::ZERO),
        (Fault::GatewayRestarted, Duration::ZERO),
        (Fault::DiskFull, seconds(3, 9, dice)),
        (Fault::DiskSlow(20 + u32::try_from(dice.below(60)).unwrap_or_default()), seconds(5, 12, dice)),
        (Fault::LedgerStopped, seconds(1, 4, dice)),
        (Fault::LedgerStopped, seconds(6, 9, dice)),
        (Fault::ClockSet(60 + i64::try_from(dice.below(3000)).unwrap_or_default()), seconds(3, 10, dice)),
        (Fault::ClockSet(-60 - i64::try_from(dice.below(1500)).unwrap_or_default()), seconds(3, 10, dice)),
        (Fault::CertificateRevoked, Duration::ZERO),
        (Fault::PermitRevoked, seconds(3, 8, dice)),
    ]
}

fn of_the_network(dice: &mut Dice) -> Vec<(Fault, Duration)> {
    let seconds = |least, most, dice: &mut Dice| dice.between(Duration::from_secs(least), Duration::from_secs(most));
    let mut weather = || {
        let [lost, delay, jitter] = [80, 40, 30].map(|most| u32::try_from(dice.below(most)).unwrap_or_default());
        Fault::BadWeather(Weather { lost_permille: 10 + lost, delay_ms: 5 + delay, jitter_ms: 5 + jitter })
    };
    let weathers = [weather(), weather()];
    vec![
        (weathers[0], seconds(5, 15, dice)),
        (weathers[1], seconds(5, 15, dice)),
        (Fault::CutOff, seconds(1, 6, dice)),
        (Fault::Moved, Duration::ZERO),
        (Fault::SinkStalled, seconds(5, 20, dice)),
        (Fault::HalfOpen, seconds(5, 12, dice)),
        (Fault::Garbage, seconds(3, 8, dice)),
        (Fault::BadFrames, seconds(2, 5, dice)),
        (Fault::Strangers, seconds(3, 8, dice)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_have_every_fault_and_end_calmly() {
        for seed in 0..50 {
            let schedule = Schedule::new(seed, Duration::from_secs(600));
            let mut kinds: Vec<_> = schedule.faults.iter().map(|due| std::mem::discriminant(&due.fault)).collect();
            kinds.dedup();
            let all = of_the_host(&mut Dice::new(0, 0)).into_iter().chain(of_the_network(&mut Dice::new(0, 0)));
            for (fault, _) in all {
                assert!(kinds.contains(&std::mem::discriminant(&fault)), "seed {seed} has no {fault}");
            }
            for due in &schedule.faults {
                assert!(due.at + due.lasts < schedule.calm_from, "seed {seed}: {due:?}");
                assert!(!due.fault.kills() || due.at <= Duration::from_secs(360), "seed {seed}: {due:?}");
            }
            assert!(schedule.faults.is_sorted_by_key(|due| due.at));
        }
    }

    #[test]
    fn a_seed_plans_the_same_run_again() {
        let length = Duration::from_secs(600);
        assert_eq!(Schedule::new(3, length).faults, Schedule::new(3, length).faults);
        assert_ne!(Schedule::new(3, length).faults, Schedule::new(4, length).faults);
    }
}
