//! Which names and addresses a session may have.

use proptest::prelude::*;
use sulku_plan::naming::OpenPort;

use super::*;

fn listed(names: &str, check: NameCheck, port: u16, within: &[&str]) -> Listed {
    Listed {
        names: names.parse().expect("a pattern"),
        ports: vec![OpenPort { number: port, protocol: Protocol::Tcp }],
        check,
        within: within.iter().map(|net| net.parse().expect("a network")).collect(),
    }
}

fn name(text: &str) -> HostName {
    text.parse().expect("a name")
}

#[test]
fn what_is_closed_by_one_destination_is_closed() {
    let list = [
        listed("*.example.org", NameCheck::NameChecked, 443, &[]),
        listed("shut.example.org", NameCheck::Closed, 443, &[]),
        listed("*.shut.example.org", NameCheck::Closed, 443, &[]),
    ];
    for (text, judged) in [
        ("www.example.org", Ok(())),
        ("shut.example.org", Err(QuestionDenied::Closed)),
        ("a.shut.example.org", Err(QuestionDenied::Closed)),
        ("example.org", Err(QuestionDenied::NotListed)),
        ("anexample.org", Err(QuestionDenied::NotListed)),
    ] {
        assert_eq!(question(&list, &name(text)), judged, "{text}");
        assert_eq!(is_connectable(&list, &name(text)), judged.is_ok(), "{text}");
    }
}

#[test]
fn names_that_carry_data_are_known_by_their_shape_and_only_below_a_suffix() {
    let list = [listed("*.example.org", NameCheck::NameChecked, 443, &[])];
    let long = "a".repeat(LABEL_BELOW_BYTES_MAX);
    for (below, plain) in [
        ("d111111abcdef8", true),
        ("my-bucket.s3.eu-north-1", true),
        ("r3---sn-5hne6nsz", true),
        ("a.b.c.d", true),
        ("a.b.c.d.e", false),
        (&*long, true),
        (&*format!("{long}a"), false),
        ("0123456789abcdef", false),
        ("4f6e6520736d616c6c20", false),
        (&*format!("{long}.{long}"), false),
    ] {
        let judged = question(&list, &name(&format!("{below}.example.org")));
        assert_eq!(judged, if plain { Ok(()) } else { Err(QuestionDenied::LooksLikeATunnel) }, "{below}");
    }
    let exact = name("0123456789abcdef.example.org");
    let both = [list[0].clone(), listed("0123456789abcdef.example.org", NameCheck::NameChecked, 443, &[])];
    assert_eq!(question(&both, &exact), Ok(()), "the operator has written it down");
}

#[test]
fn a_name_without_port_443_is_answered_and_takes_no_tls() {
    let list = [listed("git.example.org", NameCheck::AddressOnly, 22, &[])];
    assert_eq!(question(&list, &name("git.example.org")), Ok(()));
    assert!(!is_connectable(&list, &name("git.example.org")));
}

#[test]
fn addresses_are_public_or_pinned_and_never_the_routers_own() {
    let (open, pinned) =
        (listed("a.org", NameCheck::NameChecked, 443, &[]), listed("a.org", NameCheck::NameChecked, 443, &["10.0.0.0/8", "fd00::/8"]));
    let everything = listed("a.org", NameCheck::NameChecked, 443, &["0.0.0.0/0", "::/0"]);
    for (address, public, private) in [
        ("93.184.216.34", true, false),
        ("1.1.1.1", true, false),
        ("10.1.2.3", false, true),
        ("172.16.0.1", false, false),
        ("172.32.0.1", true, false),
        ("192.168.0.1", false, false),
        ("100.64.0.1", false, false),
        ("100.128.0.1", true, false),
        ("198.18.0.1", false, false),
        ("192.0.2.1", false, false),
        ("2606:2800:220:1::1", true, false),
        ("fd00::1", false, true),
        ("2001:db8::1", false, false),
        ("2002:a00:1::", false, false),
        ("64:ff9b::a00:1", false, false),
    ] {
        let address: IpAddr = address.parse().expect("an address");
        assert_eq!(are_usable(std::slice::from_ref(&open), &name("a.org"), &[address]), public, "{address}");
        assert_eq!(are_usable(std::slice::from_ref(&pinned), &name("a.org"), &[address]), private, "{address}");
    }
    for never in [
        "127.0.0.1",
        "169.254.169.254",
        "169.254.0.53",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "::ffff:93.184.216.34",
    ] {
        let address: IpAddr = never.parse().expect("an address");
        assert!(!are_usable(std::slice::from_ref(&everything), &name("a.org"), &[address]), "{never}");
    }
    // One among many, at any place, spoils all; and each destination that means the name has its say.
    let (good, bad): (IpAddr, IpAddr) = ([93, 184, 0, 1].into(), [10, 0, 0, 1].into());
    for place in 0..3 {
        let mut addresses = vec![good; 2];
        addresses.insert(place, bad);
        assert!(!are_usable(std::slice::from_ref(&open), &name("a.org"), &addresses));
    }
    assert!(!are_usable(&[open, pinned], &name("a.org"), &[bad]));
}

proptest! {
    #[test]
    fn nothing_is_asked_that_no_destination_lists(text in "([a-z0-9-]{1,20}\\.){1,4}(org|fi|example\\.org)") {
        let list = [listed("*.example.org", NameCheck::NameChecked, 443, &[]), listed("a.fi", NameCheck::AddressOnly, 443, &[])];
        if let Ok(name) = text.parse::<HostName>()
            && question(&list, &name).is_ok()
        {
            prop_assert!(name.as_str() == "a.fi" || name.as_str().ends_with(".example.org"));
        }
    }

    #[test]
    fn no_address_of_the_special_registries_is_public(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let list = [listed("a.org", NameCheck::NameChecked, 443, &[])];
        if are_usable(&list, &name("a.org"), &[address.into()]) {
            prop_assert!(!(address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()));
            prop_assert!(!(address.is_broadcast() || address.is_documentation() || address.is_unspecified()));
        }
    }
}
