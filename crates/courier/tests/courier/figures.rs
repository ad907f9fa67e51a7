//! The figures as Prometheus gets them, read by a strict parser of its text format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::{Home, free_port, until};

/// Samples by name and labels, and the kind of each family.
#[derive(Debug)]
pub struct Figures {
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
    kinds: BTreeMap<String, String>,
}

impl Figures {
    /// The sample of this sink.
    pub fn of(&self, name: &str, sink: &str) -> f64 {
        let labelled = |labels: &[(String, String)]| labels.iter().any(|(label, value)| label == "sink" && value == sink);
        let found = self.samples.iter().find(|((found, labels), _)| found == name && labelled(labels));
        *found.unwrap_or_else(|| panic!("no {name} of {sink} in {self:?}")).1
    }

    /// The sample without labels.
    pub fn single(&self, name: &str) -> f64 {
        *self.samples.get(&(name.to_owned(), Vec::new())).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// Reads the text. Panics on whatever the format does not allow.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n') && !text.contains('\r'), "lines end with a newline");
        let (mut samples, mut kinds, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty() && helped.insert(name.to_owned()), "{line}");
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(name == family && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}: told twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}: counters end in _total, others do not");
            } else {
                let (name, labels, value) = sample(line);
                let kind = kinds.get(&family).unwrap_or_else(|| panic!("{line}: a sample before its TYPE"));
                let of_family = match kind.as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"].iter().any(|suffix| name == format!("{family}{suffix}")),
                    _ => name == family,
                };
                assert!(of_family, "{line}: not of the family {family}");
                assert!(kind == "gauge" || value >= 0.0, "{line}");
                assert!(samples.insert((name, labels), value).is_none(), "{line}: told twice");
            }
        }
        let figures = Self { samples, kinds };
        figures.check_histograms();
        figures
    }

    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter(|((found, _), _)| *found == format!("{name}_bucket"))
                .map(|((_, labels), count)| (labels[0].1.replace("+Inf", "inf").parse().unwrap(), *count))
                .collect();
            let mut sorted = buckets;
            sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
            assert!(sorted.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {sorted:?}");
            let (bound, total) = *sorted.last().unwrap();
            assert!(bound.is_infinite() && total >= self.single(&format!("{name}_count")), "{name}: {sorted:?}");
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b':')
}

fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = match value {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        number => number.parse().unwrap_or_else(|error| panic!("{line}: {error}")),
    };
    let Some((name, rest)) = series.split_once('{') else {
        assert!(is_name(series), "{line}");
        return (series.to_owned(), Vec::new(), value);
    };
    assert!(is_name(name), "{line}");
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label) && !label.contains(':'), "{line}");
        let (mut text, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in after.char_indices() {
            match (escaped, c) {
                (true, 'n') => text.push('\n'),
                (true, '"' | '\\') => text.push(c),
                (true, _) => panic!("{line}: no such escape"),
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, '\\') => {}
                (false, c) => text.push(c),
            }
            escaped = !escaped && c == '\\';
        }
        labels.push((label.to_owned(), text));
        rest = &after[end.unwrap_or_else(|| panic!("{line}: no end of a label")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value)
}

/// What is at `/metrics` of that port; `None` while nobody listens there.
pub fn scrape(port: u16) -> Option<Figures> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    Some(Figures::parse(body))
}

#[test]
fn the_figures_are_read_by_a_strict_parser_and_tell_the_truth() {
    let home = Home::new();
    let ledger = home.ledger();
    let port = free_port();
    let words = format!("[[file]]\nname = \"lines\"\npath = {:?}\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n", home.path("lines.jsonl"));
    let _courier = home.courier(&words);
    let size = ledger.grow(600);
    let figures =
        until("a sink that is up to date", || scrape(port).filter(|figures| figures.of("sulku_courier_sink_cursor", "lines") >= size as f64));
    let head = figures.single("sulku_courier_head_entries");
    assert!(head >= size as f64 && figures.single("sulku_courier_ledger_connected") == 1.0);
    assert_eq!(figures.of("sulku_courier_sink_lag_entries", "lines"), head - figures.of("sulku_courier_sink_cursor", "lines"));
    assert!(figures.of("sulku_courier_sink_sent_total", "lines") >= size as f64);
    for nothing in ["sulku_courier_sink_resent_total", "sulku_courier_sink_errors_total", "sulku_courier_sink_gaps_total"] {
        assert_eq!(figures.of(nothing, "lines"), 0.0, "{nothing}");
    }
    assert_eq!(figures.single("sulku_courier_log_fault"), 0.0);
    // The ledger's own, through the courier.
    assert!(figures.single("sulku_ledger_entries") >= size as f64);
    assert!(figures.single("sulku_ledger_append_seconds_count") >= 600.0 && figures.single("sulku_ledger_append_seconds_sum") > 0.0);
    assert!(figures.single("sulku_ledger_batch_entries_sum") >= size as f64);
    assert_eq!((figures.single("sulku_ledger_full"), figures.single("sulku_ledger_witness_effect")), (0.0, 0.0));
    // This scrape's own request.
    assert_eq!(figures.single("sulku_ledger_unacknowledged_requests"), 0.0);
    assert!(figures.single("sulku_ledger_checkpoint_age_seconds") < 60.0 && figures.single("sulku_ledger_cosignature_age_seconds").is_nan());
}

#[test]
fn the_strict_parser_is_strict() {
    let good = "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"y\"} 1\n";
    assert_eq!(Figures::parse(good).samples.len(), 1, "the control");
    for bad in [
        "a_total 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"y} 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total one\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total 1\na_total 2\n",
        "# HELP a Help.\n# TYPE a counter\na 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\nb_total 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total 1",
    ] {
        assert!(std::panic::catch_unwind(|| Figures::parse(bad)).is_err(), "{bad}");
    }
}
