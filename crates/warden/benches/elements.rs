//! What it takes to let a session through the router and to cut it off, with 1, 101 and 1,001 sessions there; and beside it, in turns, what `nft` takes for
//! an element of the same set. A quarter of a minute, as root.
#![allow(clippy::print_stdout, reason = "it reports")]

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sulku_permit::{Port, Protocol, Shared};
use sulku_plan::Plan;
use sulku_warden::network::{CellNetwork, Grant, Look, NFT, Router, Way};

const ROUNDS: u32 = 200;
/// `nft` itself is slow, and less of it does.
const NFT_ROUNDS: u32 = 30;
const ALIVE: [u32; 3] = [0, 100, 1_000];
/// Three addresses, one of them with a budget; with a network and its budget; with a name.
const PERMITS: [(&str, &str); 3] = [
    (
        "three addresses",
        "[[egress]]\nname = \"a\"\nto = \"198.18.0.10\"\nports = [\"443/tcp\", \"80/tcp\"]\nreason = \"it is needed\"\n\
         [[egress]]\nname = \"b\"\nto = \"198.18.0.11\"\nports = [\"443/tcp\"]\nbytes = \"1 GiB\"\nreason = \"it is needed\"\n",
    ),
    ("a network", "[[egress]]\nname = \"a\"\nto = \"198.18.0.0/24\"\nports = [\"443/tcp\"]\nbytes = \"1 GiB\"\nreason = \"it is needed\"\n"),
    ("a name", "[[egress]]\nname = \"a\"\nto = \"mirror.example\"\nports = [\"443/tcp\"]\nreason = \"it is needed\"\n"),
];

fn main() {
    println!("{:<10} {:<44} {:>10} {:>10} {:>10}", "sessions", "", "median", "p99", "of nft's");
    for (what, egress) in PERMITS {
        let plan = plan(egress);
        let (router, _watch, _drift) = Router::make(&[], None).expect("a router");
        let network = |mark| CellNetwork::without_link(mark).expect("a namespace");
        let mut there = 0;
        for alive in ALIVE {
            while there < alive {
                there += 1;
                admit(&router, &Grant::new(there, &network(there), &plan));
            }
            let own = network(5_000);
            let (mut admitted, mut opened, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                let mut grant = Grant::new(10_000 + round, &own, &plan);
                admitted.push(timed(|| admit(&router, &grant)));
                if what == "a name" {
                    opened.push(timed(|| open(&router, &mut grant)));
                }
                revoked.push(timed(|| router.elements.revoke(&grant).expect("revoked")));
            }
            let (mut adds, mut deletes) = (Vec::new(), Vec::new());
            let element = "allowed { 0x0000ffff . 198.18.0.99 . tcp . 443 }";
            for _ in 0..NFT_ROUNDS {
                adds.push(timed(|| nft(&router, &format!("add element inet sulku {element}"))));
                deletes.push(timed(|| nft(&router, &format!("delete element inet sulku {element}"))));
            }
            let (add, delete) = (summary(&mut adds)[0], summary(&mut deletes)[0]);
            for (step, times, theirs) in
                [("let through", &mut admitted, add), ("a name's address opened", &mut opened, add), ("cut off", &mut revoked, delete)]
            {
                if !times.is_empty() {
                    let [median, p99] = summary(times);
                    let ratio = median.as_secs_f64() / theirs.as_secs_f64();
                    println!("{:<10} {:<44} {median:>10.2?} {p99:>10.2?} {ratio:>9.3}×", alive + 1, format!("{step}, {what}"));
                }
            }
            println!("{:<10} {:<44} {add:>10.2?}", alive + 1, "nft add element");
            println!("{:<10} {:<44} {delete:>10.2?}", alive + 1, "nft delete element");
        }
    }
}

fn plan(egress: &str) -> Plan {
    let text = format!(
        "schema = 1\n[permit]\nid = \"THL/1/2026\"\ntitle = \"A study\"\npurpose = \"scientific research\"\nissuer = \"Findata\"\n\
         valid_from = 2020-01-01\nvalid_until = 2099-12-31\ntime_zone = \"Europe/Helsinki\"\n\
         [controller]\nname = \"the tests\"\ncontacts = [\"tests@spe.example.fi\"]\n\
         [[holder]]\nid = \"maija\"\nname = \"Maija M\"\ncertificate = {{ uri = \"spiffe://spe.example.fi/person/maija\" }}\nroles = [\"analyst\"]\n\
         [session]\nfrom_networks = [\"127.0.0.0/8\"]\n[workspace]\nname = \"ws-one\"\n{egress}\n\
         [resources]\nmemory = \"256 MiB\"\nprocesses = 64\ncpus = 1.0\n"
    );
    Plan::of(&sulku_permit::parse_with("permits/one.toml", &text, &Shared::default()).expect("a good permit").permit)
}

fn admit(router: &Router, grant: &Grant) {
    let now = Timestamp::now();
    router.elements.admit(grant, now, now + SignedDuration::from_hours(8)).expect("let through");
}

/// As when the resolver has an answer: the cell hears of it when the kernel has the element.
fn open(router: &Router, grant: &mut Grant) {
    let now = Timestamp::now();
    let way = Way {
        address: Ipv4Addr::new(198, 18, 0, 20),
        port: Port { number: 443, protocol: Protocol::Tcp },
        line: 0,
        look: Look::Checked,
        lasts: now + SignedDuration::from_secs(60),
        closes: now + SignedDuration::from_hours(8),
    };
    let name = "mirror.example".parse().expect("a name");
    router.elements.open_ways(grant, std::slice::from_ref(&way), &[], now).expect("opened");
    grant.named.note(&name, &[way], &[]);
}

fn nft(router: &Router, command: &str) {
    use std::os::fd::AsFd as _;
    let namespace = format!("--net=/proc/{}/fd/{}", std::process::id(), router.namespace().as_fd().as_raw_fd());
    let status = Command::new("/usr/bin/nsenter").arg(namespace).arg(NFT).args(command.split(' ')).status().expect("nsenter");
    assert!(status.success(), "{command}");
}

fn timed(run: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    run();
    begun.elapsed()
}

/// Median and 99th percentile.
fn summary(times: &mut [Duration]) -> [Duration; 2] {
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}
