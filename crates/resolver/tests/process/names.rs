//! Questions for names.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use sulku_plan::naming::{Denied, NameCheck, QuestionDenied, Task};

use crate::stage::{
    Forgery, Says, Stage, Tells, Test, Upstream, addresses, ask, ask_over, assert_answer, connect, exchange, heard, listed, session, until,
};

pub const TESTS: &[Test] = &[
    ("a_listed_name_is_answered_once_its_addresses_are_let_through", a_listed_name_is_answered_once_its_addresses_are_let_through),
    ("an_unlisted_name_is_asked_nowhere", an_unlisted_name_is_asked_nowhere),
    ("what_looks_like_a_tunnel_is_asked_nowhere", what_looks_like_a_tunnel_is_asked_nowhere),
    ("only_addresses_are_told", only_addresses_are_told),
    ("a_private_address_spoils_the_whole_answer", a_private_address_spoils_the_whole_answer),
    ("without_the_wardens_word_nobody_is_told_an_address", without_the_wardens_word_nobody_is_told_an_address),
    ("aliases_are_followed_and_not_told", aliases_are_followed_and_not_told),
    ("forgeries_are_not_heard", forgeries_are_not_heard),
    ("a_silent_resolver_is_followed_by_the_next", a_silent_resolver_is_followed_by_the_next),
    ("questions_over_tcp_are_answered_too", questions_over_tcp_are_answered_too),
    ("who_has_no_session_hears_nothing", who_has_no_session_hears_nothing),
    ("a_flood_is_denied_and_every_denial_counted", a_flood_is_denied_and_every_denial_counted),
    ("a_warden_that_reads_nothing_costs_questions_and_no_memory", a_warden_that_reads_nothing_costs_questions_and_no_memory),
    ("upstream_is_asked_once_by_many", upstream_is_asked_once_by_many),
    ("nonsense_from_either_side_breaks_nothing", nonsense_from_either_side_breaks_nothing),
    ("a_warden_that_ends_ends_the_resolver", a_warden_that_ends_ends_the_resolver),
    ("the_resolver_has_no_rights", the_resolver_has_no_rights),
    ("the_walls_hold_what_was_open_before_them", the_walls_hold_what_was_open_before_them),
    ("who_asks_with_edns_reads_why", who_asks_with_edns_reads_why),
    ("a_client_that_others_wrote_finds_the_name", a_client_that_others_wrote_finds_the_name),
];

fn checked(names: &str) -> Vec<sulku_plan::naming::Listed> {
    vec![listed(names, NameCheck::NameChecked, &[])]
}

fn a_listed_name_is_answered_once_its_addresses_are_let_through(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("*.example.org"));
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1), stage.host(2)], 60));
    upstream.knows("brief.example.org", Tells::Addresses(vec![stage.host(3)], 0));
    upstream.knows("lasting.example.org", Tells::Addresses(vec![stage.host(4)], 86_400));
    let answer = ask(stage.cell(1), stage, "WWW.example.ORG", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_answer(&answer, &[(stage.host(1), 60), (stage.host(2), 60)]);
    let [(name, found, ttl_s)] = resolver.resolved().try_into().expect("one finding");
    assert_eq!((&*name, found), ("www.example.org", vec![stage.host(1).into(), stage.host(2).into()]));
    assert!((30..=60).contains(&ttl_s), "{ttl_s}");
    // Again, within its time: neither upstream nor the warden hears of it.
    assert_eq!(addresses(&ask(stage.cell(1), stage, "www.example.org", RecordType::A)).len(), 2);
    assert_eq!((upstream.asked().len(), resolver.resolved().len()), (1, 1));
    // Times have bounds.
    assert_answer(&ask(stage.cell(1), stage, "brief.example.org", RecordType::A), &[(stage.host(3), 30)]);
    assert_answer(&ask(stage.cell(1), stage, "lasting.example.org", RecordType::A), &[(stage.host(4), 300)]);
    // A name that is not there is none, and no denial.
    assert_eq!(ask(stage.cell(1), stage, "nothing.example.org", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(resolver.denials(), []);
}

fn an_unlisted_name_is_asked_nowhere(stage: Stage) {
    let (resolver, upstream) = stage.served([checked("*.example.org"), vec![listed("shut.example.org", NameCheck::Closed, &[])]].concat());
    for (name, record, why) in [
        ("pypi.org", RecordType::A, QuestionDenied::NotListed),
        ("example.org", RecordType::A, QuestionDenied::NotListed),
        ("example.org.evil.net", RecordType::TXT, QuestionDenied::NotListed),
        ("under_score.example.org", RecordType::A, QuestionDenied::NotListed),
        ("1.0.0.10.in-addr.arpa", RecordType::PTR, QuestionDenied::NotListed),
        ("shut.example.org", RecordType::A, QuestionDenied::Closed),
    ] {
        let before = resolver.denials().len();
        let answer = ask(stage.cell(1), stage, name, record);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::Refused, 0), "{name}");
        let denial = until("a denial", || resolver.denials().get(before).cloned());
        assert_eq!(denial, (Denied::Question { name: name.to_owned(), record: record.to_string(), why }, 0));
    }
    assert_eq!(upstream.asked(), [""; 0], "upstream heard of none of them");
    // The control: what is listed is asked.
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    ask(stage.cell(1), stage, "www.example.org", RecordType::A);
    assert_eq!(upstream.asked(), ["www.example.org"]);
}

fn what_looks_like_a_tunnel_is_asked_nowhere(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("*.example.org"));
    let long = format!("{}.example.org", "a".repeat(41));
    for name in ["a.b.c.d.e.example.org", "1234567890abcdef1234.example.org", &long] {
        assert_eq!(ask(stage.cell(1), stage, name, RecordType::A).metadata.response_code, ResponseCode::Refused, "{name}");
    }
    until("three denials", || (resolver.denials().len() == 3).then_some(()));
    for (denial, _) in resolver.denials() {
        assert!(matches!(denial, Denied::Question { why: QuestionDenied::LooksLikeATunnel, .. }), "{denial:?}");
    }
    assert_eq!(upstream.asked(), [""; 0]);
    ask(stage.cell(1), stage, "a.b.c.d.example.org", RecordType::A);
    assert_eq!(upstream.asked(), ["a.b.c.d.example.org"], "the control");
}

fn only_addresses_are_told(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("www.example.org"));
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    for record in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
        let answer = ask(stage.cell(1), stage, "www.example.org", record);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 0), "{record}");
    }
    assert_eq!(resolver.denials(), [], "what browsers ask unasked is no denial");
    for record in [RecordType::TXT, RecordType::MX, RecordType::NULL, RecordType::ANY, RecordType::CNAME, RecordType::Unknown(65_400)] {
        let before = resolver.denials().len();
        let answer = ask(stage.cell(1), stage, "www.example.org", record);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 0), "{record}");
        let (denial, _) = until("a denial", || resolver.denials().get(before).cloned());
        assert!(matches!(denial, Denied::Question { why: QuestionDenied::OtherRecord, .. }), "{denial:?}");
    }
    assert_eq!(upstream.asked(), [""; 0]);
    assert_eq!(addresses(&ask(stage.cell(1), stage, "www.example.org", RecordType::A)).len(), 1, "the control");
}

fn a_private_address_spoils_the_whole_answer(stage: Stage) {
    let pinned = listed("pinned.example.org", NameCheck::NameChecked, &["10.9.0.0/16"]);
    let pinned_at_home = listed("home.example.org", NameCheck::NameChecked, &["127.0.0.0/8", "169.254.0.0/16"]);
    let (resolver, upstream) = stage.served([checked("*.rebinds.org"), vec![pinned, pinned_at_home]].concat());
    let private = [
        [10, 0, 0, 1],
        [127, 0, 0, 1],
        [169, 254, 169, 254],
        [169, 254, stage.dns().ip().to_string().split('.').nth(2).and_then(|n| n.parse().ok()).expect("a number"), 53],
        [100, 64, 0, 1],
        [192, 168, 1, 1],
        [224, 0, 0, 1],
        [0, 0, 0, 0],
        [255, 255, 255, 255],
        [203, 0, 113, 9],
    ];
    for (number, address) in private.into_iter().enumerate() {
        let name = format!("n{number}.rebinds.org");
        upstream.knows(&name, Tells::Addresses(vec![stage.host(1), Ipv4Addr::from(address)], 60));
        let answer = ask(stage.cell(1), stage, &name, RecordType::A);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::Refused, 0), "{address:?}");
    }
    upstream.knows("pinned.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    upstream.knows("home.example.org", Tells::Addresses(vec![[127, 0, 0, 1].into()], 60));
    for name in ["pinned.example.org", "home.example.org"] {
        assert_eq!(ask(stage.cell(1), stage, name, RecordType::A).metadata.response_code, ResponseCode::Refused, "{name}");
    }
    until("all denials", || (resolver.denials().len() == private.len() + 2).then_some(()));
    for (denial, _) in resolver.denials() {
        assert!(matches!(denial, Denied::Question { why: QuestionDenied::ForbiddenAddress, .. }), "{denial:?}");
    }
    assert_eq!(resolver.resolved(), [], "none of it was asked of the warden");
    // The controls: public addresses, and private ones where the permit pins them. The bad answer before them was not kept for long.
    upstream.knows("good.rebinds.org", Tells::Addresses(vec![stage.host(1)], 60));
    assert_eq!(addresses(&ask(stage.cell(1), stage, "good.rebinds.org", RecordType::A)).len(), 1);
    resolver.open(session(2), stage.cell(2), vec![listed("inside.example.org", NameCheck::NameChecked, &["10.9.0.0/16"])]);
    upstream.knows("inside.example.org", Tells::Addresses(vec![[10, 9, 0, 1].into()], 60));
    assert_eq!(addresses(&ask(stage.cell(2), stage, "inside.example.org", RecordType::A)).len(), 1);
}

fn without_the_wardens_word_nobody_is_told_an_address(stage: Stage) {
    let upstream = Upstream::start(stage.upstream(1));
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    for says in [Says::Refused, Says::Nothing] {
        let resolver = stage.resolver_of(&[stage.upstream(1)], says);
        resolver.open(session(1), stage.cell(1), checked("www.example.org"));
        let answer = ask(stage.cell(1), stage, "www.example.org", RecordType::A);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
        assert_eq!(resolver.resolved().len(), 1);
        if says == Says::Nothing {
            // A word that comes too late opens nothing.
            resolver.tell(&Task::Opened { question: 1 });
            assert_eq!(ask(stage.cell(1), stage, "www.example.org", RecordType::A).metadata.response_code, ResponseCode::ServFail);
        }
    }
    let resolver = stage.resolver();
    resolver.open(session(1), stage.cell(1), checked("www.example.org"));
    assert_eq!(addresses(&ask(stage.cell(1), stage, "www.example.org", RecordType::A)).len(), 1, "the control");
}

fn aliases_are_followed_and_not_told(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("*.example.org"));
    upstream.knows("here.example.org", Tells::Aliases(vec!["a.cdn.net", "b_c.cdn.net"], vec![stage.host(1)], 40));
    upstream.knows("there.example.org", Tells::Aliases(vec!["far.cdn.net"], vec![], 35));
    upstream.knows("far.cdn.net", Tells::Addresses(vec![stage.host(2)], 200));
    upstream.knows("round.example.org", Tells::Aliases(vec!["round.example.org"], vec![], 60));
    upstream.knows("circle.example.org", Tells::Aliases(vec!["one.cdn.net"], vec![], 60));
    upstream.knows("one.cdn.net", Tells::Aliases(vec!["two.cdn.net"], vec![], 60));
    upstream.knows("two.cdn.net", Tells::Aliases(vec!["one.cdn.net"], vec![], 60));
    let answer = ask(stage.cell(1), stage, "here.example.org", RecordType::A);
    assert_answer(&answer, &[(stage.host(1), 40)]);
    assert_eq!(answer.answers.len(), 1);
    assert_answer(&ask(stage.cell(1), stage, "there.example.org", RecordType::A), &[(stage.host(2), 35)]);
    for name in ["round.example.org", "circle.example.org"] {
        assert_eq!(ask(stage.cell(1), stage, name, RecordType::A).metadata.response_code, ResponseCode::ServFail, "{name}");
    }
    assert!(upstream.asked().len() < 40, "circles have an end");
    // The alias itself was never listed, and the cell may not ask for it.
    assert_eq!(ask(stage.cell(1), stage, "far.cdn.net", RecordType::A).metadata.response_code, ResponseCode::Refused);
    assert_eq!(resolver.resolved().len(), 2);
}

fn forgeries_are_not_heard(stage: Stage) {
    let (_resolver, upstream) = stage.served(checked("*.example.org"));
    let good = vec![stage.host(1)];
    upstream.knows("number.example.org", Tells::Forged(Forgery::OtherNumber, good.clone()));
    upstream.knows("name.example.org", Tells::Forged(Forgery::OtherName, good.clone()));
    upstream.knows("small.example.org", Tells::SmallLetters(good.clone()));
    upstream.knows("large.example.org", Tells::Truncated(good));
    for name in ["number.example.org", "name.example.org", "small.example.org", "large.example.org"] {
        assert_answer(&ask(stage.cell(1), stage, name, RecordType::A), &[(stage.host(1), 60)]);
    }
    // Letters of random size, numbers that don't count up, nothing of the client.
    let raw = upstream.raw();
    assert!(raw.iter().any(|message| message.queries[0].name().to_string().bytes().any(|byte| byte.is_ascii_uppercase())));
    assert!(raw.windows(2).any(|two| two[0].metadata.id.wrapping_add(1) != two[1].metadata.id));
    assert!(raw.iter().all(|message| message.edns.as_ref().is_some_and(|edns| edns.options().as_ref().is_empty())));
}

fn a_silent_resolver_is_followed_by_the_next(stage: Stage) {
    let (first, second) = (Upstream::start(stage.upstream(1)), Upstream::start(stage.upstream(2)));
    first.knows("silent.example.org", Tells::Silence);
    first.knows("broken.example.org", Tells::Code(ResponseCode::ServFail));
    for name in ["silent.example.org", "broken.example.org"] {
        second.knows(name, Tells::Addresses(vec![stage.host(1)], 60));
    }
    let resolver = stage.resolver_of(&[stage.upstream(1), stage.upstream(2)], Says::Opened);
    resolver.open(session(1), stage.cell(1), checked("*.example.org"));
    for name in ["silent.example.org", "broken.example.org"] {
        assert_eq!(addresses(&ask(stage.cell(1), stage, name, RecordType::A)).len(), 1, "{name}");
    }
    assert_eq!((first.asked().len(), second.asked().len()), (2, 2));
}

fn questions_over_tcp_are_answered_too(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("www.example.org"));
    upstream.knows("www.example.org", Tells::Addresses((1..=200).map(|number| stage.host(number)).collect(), 60));
    let mut stream = connect(stage.cell(1), stage.dns()).expect("the resolver listens");
    let answer = ask_over(&mut stream, "www.example.org", RecordType::A).expect("an answer");
    assert_eq!(addresses(&answer).len(), 16, "as many as are let through");
    assert_eq!(ask_over(&mut stream, "evil.org", RecordType::A).expect("an answer").metadata.response_code, ResponseCode::Refused);
    until("the denial", || (resolver.denials().len() == 1).then_some(()));
    // As many connections as a session may have; the next is shut.
    let more: Vec<_> = (1..8).map(|_| connect(stage.cell(1), stage.dns()).expect("the resolver listens")).collect();
    for stream in &more {
        ask_over(&mut stream.try_clone().expect("a descriptor"), "www.example.org", RecordType::A).expect("one of eight");
    }
    let ninth = connect(stage.cell(1), stage.dns()).and_then(|mut stream| ask_over(&mut stream, "www.example.org", RecordType::A));
    assert!(ninth.is_err(), "a ninth connection is answered");
    // The end of the session is the end of its connections.
    resolver.tell(&Task::Close { session: session(1) });
    let mut rest = [0; 1];
    assert!(matches!(std::io::Read::read(&mut stream, &mut rest), Ok(0) | Err(_)));
}

fn who_has_no_session_hears_nothing(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("www.example.org"));
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    assert!(heard(stage.cell(1), stage, "www.example.org", RecordType::A).is_some(), "the control");
    assert!(heard(stage.cell(9), stage, "www.example.org", RecordType::A).is_none());
    let nobody = connect(stage.cell(9), stage.dns()).and_then(|mut stream| ask_over(&mut stream, "www.example.org", RecordType::A));
    assert!(nobody.is_err());
    resolver.tell(&Task::Close { session: session(1) });
    assert!(heard(stage.cell(1), stage, "www.example.org", RecordType::A).is_none(), "after its end");
    // Another session at another address, with another list, has nothing of the first.
    resolver.open(session(2), stage.cell(2), checked("other.example.org"));
    assert_eq!(ask(stage.cell(2), stage, "www.example.org", RecordType::A).metadata.response_code, ResponseCode::Refused);
}

fn a_flood_is_denied_and_every_denial_counted(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("*.example.org"));
    let asked = Cell::new(0);
    let flood = |questions: u64| {
        for number in 0..questions {
            let answer = ask(stage.cell(1), stage, &format!("n{number}.evil.org"), RecordType::A);
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        }
        asked.set(asked.get() + questions);
    };
    flood(600);
    // A finding says of its own denial why, and only counts the others; now and then a question of the flood is one that the session may ask.
    let too_many = |(what, _): &(Denied, u64)| matches!(what, Denied::Question { why: QuestionDenied::TooMany, .. });
    until("a finding that says that it is a flood", || {
        flood(60);
        resolver.denials().iter().any(too_many).then_some(())
    });
    let counted = || resolver.denials().iter().map(|(_, suppressed)| 1 + suppressed).sum::<u64>();
    until("every denial in one finding", || (counted() == asked.get()).then_some(()));
    assert!((resolver.denials().len() as u64) < asked.get() / 2, "most of them only counted");
    assert_eq!(upstream.asked(), [""; 0]);
    // Fresh names below a listed suffix have a bound of their own; the last denials come with the session's end.
    resolver.open(session(2), stage.cell(2), checked("*.example.org"));
    let refused = (0..120).filter(|number| {
        let answer = ask(stage.cell(2), stage, &format!("n{number}.example.org"), RecordType::A);
        answer.metadata.response_code == ResponseCode::Refused
    });
    let refused = refused.count() as u64;
    assert!((1..=56).contains(&refused), "{refused}");
    resolver.tell(&Task::Close { session: session(2) });
    until("every denial in one finding", || (counted() == asked.get() + refused).then_some(()));
}

fn a_warden_that_reads_nothing_costs_questions_and_no_memory(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("*.example.org"));
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    let resident = |pid: u32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    };
    let turn = resolver.reading.lock().expect("a turn");
    let before = resident(resolver.pid());
    // Denials of many sessions, until the socket and the queue are full, and far beyond.
    const CELLS: u8 = 40;
    for cell in 10..10 + CELLS {
        resolver.open(session(cell), stage.cell(cell), checked("*.example.org"));
        for number in 0..100 {
            ask(stage.cell(cell), stage, &format!("n{number}.evil.org"), RecordType::A);
        }
    }
    assert_eq!(ask(stage.cell(1), stage, "www.example.org", RecordType::A).metadata.response_code, ResponseCode::ServFail);
    let grown = resident(resolver.pid()).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    drop(turn);
    let counted = || resolver.denials().iter().map(|(_, suppressed)| 1 + suppressed).sum::<u64>();
    until("every denial in one finding", || (counted() == u64::from(CELLS) * 100).then_some(()));
    assert_eq!(addresses(&ask(stage.cell(1), stage, "www.example.org", RecordType::A)).len(), 1, "it answers again");
}

fn upstream_is_asked_once_by_many(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("*.example.org"));
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    for cell in 2..10 {
        resolver.open(session(cell), stage.cell(cell), checked("*.example.org"));
    }
    let asking: Vec<_> = (1..10)
        .flat_map(|cell| [cell; 4])
        .map(|cell| thread::spawn(move || addresses(&ask(stage.cell(cell), stage, "www.example.org", RecordType::A)).len()))
        .collect();
    assert!(asking.into_iter().all(|asked| asked.join().expect("asked") == 1));
    assert_eq!(upstream.asked(), ["www.example.org"]);
    assert_eq!(resolver.resolved().len(), 9, "once for each session");
}

fn nonsense_from_either_side_breaks_nothing(stage: Stage) {
    let (resolver, upstream) = stage.served(checked("*.example.org"));
    let good =
        hickory_proto::serialize::binary::BinEncodable::to_bytes(&crate::stage::question("www.example.org", RecordType::A)).expect("a question");
    for cut in 12..good.len() {
        assert!(exchange(stage.cell(1), stage, &good[..cut]).is_some_and(|answer| answer[3] & 0xf == 1), "FORMERR at {cut}");
    }
    // A header that promises 65,535 records costs no room for them.
    let mut promising = good.clone();
    promising[4..12].fill(0xff);
    assert!(exchange(stage.cell(1), stage, &promising).is_some_and(|answer| answer[3] & 0xf == 1));
    let mut other = good.clone();
    other[2] |= 0x28;
    assert!(exchange(stage.cell(1), stage, &other).is_some_and(|answer| answer[3] & 0xf == 4), "NOTIMP to an UPDATE");
    // An answer is no question; who answered it would have two servers talk for ever. A question after it is answered.
    let socket = std::net::UdpSocket::bind((stage.cell(1), 0)).expect("an address");
    socket.connect(stage.dns()).expect("the resolver");
    let mut echo = good.clone();
    echo[2] |= 0x80;
    for silent in [echo.as_slice(), &good[..11], &[]] {
        socket.send(silent).expect("sent");
    }
    socket.send(&good[..12]).expect("sent");
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).expect("an answer");
    assert_eq!((length, &answer[..2]), (12, &good[..2]), "the first answer is that to the last packet");
    let pieces: [&[u8]; 4] = [b"", &[0xff; 600], b"HTTP/1.1 200 OK\r\n\r\n", &[0; 12]];
    let asking = pieces.into_iter().enumerate().map(|(number, piece)| {
        let name = format!("n{number}.example.org");
        upstream.knows(&name, Tells::Bytes(piece.to_vec()));
        thread::spawn(move || ask(stage.cell(1), stage, &name, RecordType::A).metadata.response_code)
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.join().expect("an answer"), ResponseCode::ServFail);
    }
    assert!(resolver.is_running());
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    assert_eq!(addresses(&ask(stage.cell(1), stage, "www.example.org", RecordType::A)).len(), 1);
}

fn a_warden_that_ends_ends_the_resolver(stage: Stage) {
    let resolver = stage.resolver();
    assert!(resolver.is_running());
    resolver.hang_up();
    // So does one that says what is no task.
    for nonsense in [&b"{}"[..], br#"{"task":"serve","version":1,"upstream":["127.0.0.1:53"]}"#, b"\xff"] {
        let resolver = stage.resolver();
        resolver.say(nonsense);
        until("the end of the resolver", || (!resolver.is_running()).then_some(()));
    }
}

fn the_resolver_has_no_rights(stage: Stage) {
    let resolver = stage.resolver();
    let status = std::fs::read_to_string(format!("/proc/{}/status", resolver.pid())).expect("a process");
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of the kernel's").trim().to_owned();
    for (key, value) in [("CapEff:", "0000000000000000"), ("CapPrm:", "0000000000000000"), ("NoNewPrivs:", "1"), ("Seccomp:", "2")] {
        assert_eq!(line(key), value, "{key}");
    }
    assert!(line("Uid:").split_whitespace().all(|uid| uid == "65534"));
}

/// What a thread can do, one line for each.
fn abilities(stage: Stage) -> Vec<(&'static str, bool)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
    let socket = |family, kind, protocol| socket_with(family, kind, SocketFlags::CLOEXEC, protocol).is_ok();
    let connects = |port: u16| TcpStream::connect((stage.host(1), port)).is_ok();
    vec![
        ("reads a file", std::fs::read("/etc/passwd").is_ok()),
        ("lists a folder", std::fs::read_dir("/").is_ok()),
        ("starts a program", Command::new("/bin/true").status().is_ok()),
        ("connects to another port", connects(8080)),
        ("binds a port", TcpListener::bind((stage.host(2), 8080)).is_ok()),
        ("opens a unix socket", socket(AddressFamily::UNIX, SocketType::STREAM, None)),
        ("opens a netlink socket", socket(AddressFamily::NETLINK, SocketType::RAW, None)),
        ("opens an MPTCP socket", socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP))),
        ("opens a UDPLITE socket", socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::UDPLITE))),
        ("connects to port 443", connects(443)),
        ("opens a UDP socket", socket(AddressFamily::INET, SocketType::DGRAM, None)),
    ]
}

fn the_walls_hold_what_was_open_before_them(stage: Stage) {
    let _hosts = [443, 8080].map(|port| TcpListener::bind((stage.host(1), port)).expect("a host's address"));
    // A user, Landlock and seccomp are a thread's own, and of what it starts.
    let walled = thread::spawn(move || {
        let (user, group) = (rustix::thread::Uid::from_raw(65_534), rustix::thread::Gid::from_raw(65_534));
        rustix::thread::set_thread_res_gid(group, group, group).expect("root may");
        rustix::thread::set_thread_res_uid(user, user, user).expect("root may");
        let before = abilities(stage);
        let confined = sulku_resolver::confine::confine(&[stage.upstream(1)]).map_err(io::Error::other);
        (before, confined, abilities(stage))
    });
    let (before, confined, after) = walled.join().expect("a thread");
    confined.expect("walls");
    assert!(before.iter().all(|(_, can)| *can), "the control: {before:?}");
    for (what, can) in after {
        assert_eq!(can, ["connects to port 443", "opens a UDP socket"].contains(&what), "{what}");
    }
    let as_root = thread::spawn(move || sulku_resolver::confine::confine(&[stage.upstream(1)]).map_err(|error| error.to_string()));
    assert_eq!(as_root.join().expect("a thread"), Err("the resolver was started as root; the warden gives it a user of its own".to_owned()));
}

fn who_asks_with_edns_reads_why(stage: Stage) {
    use hickory_proto::op::Edns;
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    use hickory_proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
    let (_resolver, _upstream) = stage.served(checked("www.example.org"));
    let mut asked = crate::stage::question("evil.org", RecordType::A);
    asked.set_edns(Edns::new());
    let answer = exchange(stage.cell(1), stage, &asked.to_bytes().expect("a question")).expect("an answer");
    let answer = hickory_proto::op::Message::from_bytes(&answer).expect("an answer");
    let edns = answer.edns.expect("who asks with EDNS is answered with it");
    let Some(EdnsOption::Unknown(_, why)) = edns.option(EdnsCode::Unknown(15)) else { panic!("no reason: {edns:?}") };
    assert_eq!((&why[..2], &why[2..]), (&[0, 18][..], &b"not on this permit's list (egress-not-listed)"[..]));
    assert!(ask(stage.cell(1), stage, "evil.org", RecordType::A).edns.is_none(), "and who asks without is not");
}

fn a_client_that_others_wrote_finds_the_name(stage: Stage) {
    let (_resolver, upstream) = stage.served(checked("www.example.org"));
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    // glibc asks A and AAAA from one socket; its own resolv.conf, in a mount namespace of its own.
    let script = format!(
        "mount -t tmpfs none /mnt && printf 'nameserver {}\\noptions timeout:2 attempts:1\\n' >/mnt/resolv.conf && \
         mount --bind /mnt/resolv.conf /etc/resolv.conf && ip addr add {}/32 dev lo && \
         ip route replace local 169.254.0.0/16 dev lo src {} && getent ahosts www.example.org; getent ahosts evil.org && exit 3; true",
        stage.dns().ip(),
        stage.cell(1),
        stage.cell(1),
    );
    let told = crate::stage::must("unshare", &["--mount", "sh", "-c", &script]);
    assert!(told.contains(&stage.host(1).to_string()), "{told}");
    assert_eq!(upstream.asked(), ["www.example.org"]);
}
