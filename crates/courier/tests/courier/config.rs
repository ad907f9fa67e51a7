//! The configuration: its sample, and mistakes in it.

use sulku_courier::config::{MetricsPlace, parse};

const GOOD: &str = "ledger_socket = \"/run/l.sock\"\nledger_key = \"/etc/l.pub\"\nstate = \"/var/lib/c\"\n";
const SYSLOG: &str = "[[syslog]]\nname = \"siem\"\naddress = \"siem.example:6514\"\nauthority = \"/etc/ca.pem\"\n";

fn error(words: &str) -> String {
    parse("courier.toml", &format!("{GOOD}{words}"), "host").unwrap_err().to_string()
}

#[test]
fn the_sample_is_a_configuration_also_with_all_that_it_shows() {
    let sample = include_str!("../../../../config/courier.toml");
    let settings = parse("config/courier.toml", sample, "host").unwrap();
    assert_eq!((settings.files.len(), settings.syslogs.len(), settings.run_as.unwrap().uid), (1, 0, 64_022));
    assert!(matches!(settings.metrics, Some(MetricsPlace::Loopback(_))) && settings.serve.is_none());
    // What is commented out, but for explanations and the second of two that exclude each other.
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(code) if (code.starts_with('[') || code.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))) && !code.starts_with("socket") => {
            code.to_owned()
        }
        _ => line.to_owned(),
    };
    let all: String = sample.lines().map(|line| uncomment(line) + "\n").collect();
    let settings = parse("config/courier.toml", &all, "host").unwrap_or_else(|error| panic!("{error}\n{all}"));
    let syslog = &settings.syslogs[0];
    assert_eq!((syslog.message_bytes_max, syslog.facility, syslog.client.is_some()), (8192, 13, true));
    assert!(settings.serve.unwrap().clients.is_some());
    assert_eq!(settings.witnesses[0].url.to_string(), "https://witness.example.fi:443");
}

#[test]
fn what_is_left_out_has_its_default() {
    let settings = parse("courier.toml", &format!("{GOOD}{SYSLOG}"), "host.example").unwrap();
    let syslog = &settings.syslogs[0];
    assert_eq!((syslog.server_name.as_str(), syslog.hostname.as_str(), syslog.message_bytes_max), ("siem.example", "host.example", 8192));
    assert!(settings.metrics.is_none() && settings.serve.is_none() && settings.files.is_empty());
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_to_do() {
    for (words, expected) in [
        ("surplus = 1\n", "courier.toml:4:1: unknown field `surplus`"),
        ("[[file]]\nname = \"a\"\npath = \"relative\"\n", "courier.toml:6:8: relative is not an absolute path; write the path from / on"),
        ("[[file]]\nname = \"A b\"\npath = \"/a\"\n", "courier.toml:5:8: \"A b\" can't name a sink"),
        ("[[file]]\nname = \"a\"\npath = \"/a\"\n[[file]]\nname = \"a\"\npath = \"/b\"\n", "courier.toml:8:8: two sinks are named \"a\""),
        ("[[file]]\nname = \"a\"\npath = \"/a\"\nrotate_mib = 0\n", "courier.toml:7:14: 0 is not within 1 to 65536"),
        ("[[syslog]]\nname = \"a\"\naddress = \"siem\"\nauthority = \"/c\"\n", "courier.toml:6:11: \"siem\" is not a host and a port"),
        (&format!("{SYSLOG}message_bytes_max = 480\n"), "courier.toml:8:21: 480 is not within 2048 to 1048576"),
        (&format!("{SYSLOG}private_key = \"/k\"\n"), "courier.toml:8:15: a certificate and its key go together"),
        ("[metrics]\nlisten = \"0.0.0.0:9464\"\n", "courier.toml:5:10: 0.0.0.0:9464 is not this host's own"),
        ("[metrics]\n", "courier.toml:4:1: [metrics] needs one place; give listen or socket"),
        ("run_as = { uid = 0, gid = 0 }\n", "courier.toml:4:10: the courier can't run as root"),
        (
            "[[witness]]\nname = \"a\"\nurl = \"http://witness.example\"\nkeys = []\n",
            "courier.toml:6:7: \"http://witness.example\" is no witness's address",
        ),
        (
            "[[witness]]\nname = \"a\"\nurl = \"https://witness.example\"\nkeys = []\n",
            "courier.toml:6:7: https:// goes with the authority of the witness's certificate",
        ),
        ("[[witness]]\nname = \"a\"\nurl = \"https://witness.example\"\nauthority = \"/c\"\nkeys = [\"x\"]\n", "courier.toml:8:9: "),
        (
            "[serve]\nlisten = \"127.0.0.1:1\"\ncertificate = \"/c\"\nprivate_key = \"/k\"\n",
            "courier.toml:4:1: nobody could fetch: there is no authority of the clients' certificates",
        ),
    ] {
        let found = error(words);
        assert!(found.starts_with(expected), "{words}\n{found}");
        assert!(found.contains("; "), "says what to do: {found}");
    }
}
