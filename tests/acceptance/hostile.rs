//! Peers that do not keep to the protocol.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sulku_protocol::{Ask, Signal, encode};
use sulku_stage::Person;
use sulku_tests::{SOON, hello, openssl, quic, session_of, shared};

/// LG-07: each is an entry; nobody else notices.
pub fn a_hostile_frame_closes_its_own_connection_alone() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut other = stage.connected(Person::Bo, &[])?;
    other.type_line("echo before")?;
    other.shows("before", SOON)?;
    let frame = |ask: &Ask| {
        let mut bytes = Vec::new();
        encode(ask, &mut bytes).map(|()| bytes)
    };
    let first = hello(&["sleep", "20"])?;
    let cases: [(&str, Vec<u8>); 7] = [
        ("longer than any frame", vec![0x02, 0xff, 0xff, 0xff, 0xff, b'x']),
        ("of no kind", vec![0x7f, 0, 0, 0, 0]),
        ("input before hello", frame(&Ask::Input(b"ls\n".to_vec()))?),
        ("a signal before hello", frame(&Ask::Signal(Signal::Int))?),
        ("hello twice", [first.clone(), first.clone()].concat()),
        ("a hello that is none", [&[0x01, 0, 0, 0, 9][..], b"{\"a\":\"b\"}"].concat()),
        ("garbage after hello", [first, vec![0xee; 64]].concat()),
    ];
    for (name, bytes) in &cases {
        for transport in ["tls", "quic"] {
            let count = || {
                stage
                    .entries(&["--event", "protocol.violated"])
                    .map(|entries| entries.iter().filter(|entry| entry.data("transport") == transport).count())
            };
            let before = count()?;
            let answer = match transport {
                "tls" => openssl(&stage, Some(Person::Maija), bytes, &[])?,
                _ => quic(&stage, Some(Person::Maija), bytes)?,
            };
            ensure!(answer.finished.took < Duration::from_secs(7), "{name} over {transport}: the gateway did not hang up: {answer:?}");
            let counted = || count().ok().filter(|now| *now > before);
            sulku_stage::poll(SOON, counted).with_context(|| format!("{name} over {transport} is no entry"))?;
        }
    }
    other.type_line("echo after")?;
    other.shows("after", SOON).context("the control: another session is untouched")?;
    session_of(&other)?;
    Ok(())
}

/// SE-06
pub fn a_peer_that_says_nothing_is_hung_up_on() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, stage.port()))?;
    silent.set_read_timeout(Some(Duration::from_secs(20)))?;
    let begun = Instant::now();
    let mut byte = [0];
    let read = silent.read(&mut byte);
    ensure!(matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "the gateway keeps a silent peer");
    ensure!((5..19).contains(&begun.elapsed().as_secs()), "after {:?}", begun.elapsed());
    Ok(())
}

/// LG-07: what the ledger keeps of a flood does not grow with it, and its size is told.
pub fn a_flood_of_refused_peers_is_counted_and_leaves_others_their_entries() -> anyhow::Result<()> {
    const FLOOD: usize = 150;
    let stage = shared()?;
    // An address of its own, whose ration no other test uses.
    let from = ["-bind", "127.0.0.9:0"];
    let entries = || stage.entries(&["--event", "certificate.refused"]);
    let of_flood = |from: &str| entries().map(|entries| entries.iter().filter(|entry| entry.data("from") == from).count());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let flooders: Vec<_> = (0..3).map(|_| scope.spawn(|| (0..FLOOD / 3).try_for_each(|_| openssl(&stage, None, b"", &from).map(drop)))).collect();
        flooders.into_iter().try_for_each(|flooder| flooder.join().expect("a thread without a panic"))
    })?;
    let counted = || {
        let entries = stage.entries(&["--event", "refusals.counted"]).ok()?;
        let of_it = entries.iter().filter(|entry| entry.data("busiest") == "127.0.0.9");
        Some(of_it.filter_map(|entry| entry.data("certificates").as_u64()).sum::<u64>()).filter(|count| *count > 0)
    };
    let counted = sulku_stage::poll(Duration::from_secs(30), counted).context("no entry has the count")?;
    let kept = of_flood("127.0.0.9")? as u64;
    ensure!(kept >= 60, "the first have their own: {kept}");
    ensure!(kept + counted == FLOOD as u64, "{kept} entries and {counted} counted of {FLOOD}");
    openssl(&stage, None, b"", &["-bind", "127.0.0.10:0"])?;
    sulku_stage::poll(SOON, || of_flood("127.0.0.10").ok().filter(|count| *count == 1)).context("the control: another address has its entry")?;
    Ok(())
}
