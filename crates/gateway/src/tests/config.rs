use std::path::Path;

use crate::config::{Config, ConfigError};

const SAMPLE: &str = include_str!("../../../../config/gateway.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("gateway.toml"), text)
}

#[test]
fn the_sample_is_a_good_configuration() {
    let config = parse(SAMPLE).expect("the sample parses");
    assert_eq!((config.operator.len(), config.limits.sessions), (1, 4096));
}

#[test]
fn each_mistake_is_named_with_its_place() {
    for (from, to, what) in [
        ("listen = \"0.0.0.0:8443\"", "listen = \"everywhere\"", "invalid socket address"),
        ("certificate = \"/etc/sulku/gateway.pem\"", "certificat = \"/etc/sulku/gateway.pem\"", "unknown field `certificat`"),
        ("{ uri = \"spiffe://spe.example.fi/operator/onni\" }", "{ common_name = \"onni\" }", "unknown field `common_name`"),
        ("{ uri = \"spiffe://spe.example.fi/operator/onni\" }", "{ uri = \"mailto:onni\" }", "SPIFFE"),
        ("age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj", "age1zvkyg", "no auditor's public key"),
        ("age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj", "AGE-SECRET-KEY-1QQ", "SECRET key"),
        (
            "[[auditor]]\nname = \"Health data access body\"\nrecipient = \"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\"\n",
            "",
            "sulku audit identity --out",
        ),
        ("key = \"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD", "key = \"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQ", "sulku policy key"),
        ("# signatures = 1", "signatures = 2", "2 signatures are wanted of 1 operators"),
        ("# signatures = 1", "signature = 2", "unknown field `signature`"),
        ("policy = \"/var", "permits = \"/var", "unknown field `permits`"),
        ("# sessions = 4096", "sessions = 0", "a limit is zero"),
        ("crl = \"/etc/sulku/authority.crl\"", "", "missing field `crl`"),
        ("# assurance = \"substantial\"", "assurance = \"some\"", "substantial"),
        ("# crl_alarm_after = \"24 h\"", "crl_alarm_after = \"1 day\"", "min, h or d"),
        ("# crl_alarm_after = \"24 h\"", "crl_alarm_after = \"2 h\"\ncrl_refuse_after = \"1 h\"", "nobody would hear of it"),
    ] {
        assert!(SAMPLE.contains(from), "the sample has {from}");
        let error = parse(&SAMPLE.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(what) && error.starts_with("gateway.toml:"), "{to}: {error}");
    }
}
