//! What was expected and whether it was met: told line by line, or as one JSON object.

use std::io::{IsTerminal, Write, stdout};
use std::time::Instant;

use serde::Serialize;
use sulku_stage::StageError;

/// Details longer than this are cut where they are told; the JSON has them whole.
const DETAIL_CHARS_MAX: usize = 110;

/// How the report is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// A terminal: colours, and the sentence is there before its mark.
    Terminal,
    /// Plain lines.
    Plain,
    /// Nothing until the JSON at the end.
    Silent,
}

impl Voice {
    /// As standard output is.
    pub fn of_stdout() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stdout().is_terminal() && !plain { Self::Terminal } else { Self::Plain }
    }
}

/// How an expectation came out.
#[derive(Debug)]
pub struct Verdict {
    met: bool,
    detail: String,
}

impl Verdict {
    /// As expected.
    pub fn met(detail: impl Into<String>) -> Self {
        Self { met: true, detail: detail.into() }
    }

    /// Not as expected.
    pub fn not_met(detail: impl Into<String>) -> Self {
        Self { met: false, detail: detail.into() }
    }

    /// Met when each of these holds, else the first that does not, by its name.
    pub fn all(facts: &[(&str, bool)], detail: impl Into<String>) -> Self {
        match facts.iter().find(|(_, holds)| !holds) {
            None => Self::met(detail),
            Some((fact, _)) => Self::not_met(format!("it does not hold that {fact}; {}", detail.into())),
        }
    }
}

#[derive(Debug, Serialize)]
struct Expectation {
    name: String,
    met: bool,
    detail: String,
}

#[derive(Serialize)]
struct Whole<'a> {
    expectations: &'a [Expectation],
    elapsed_s: f64,
}

/// The expectations so far.
#[derive(Debug)]
pub struct Report {
    voice: Voice,
    begun: Instant,
    expectations: Vec<Expectation>,
}

impl Report {
    /// An empty report.
    pub fn new(voice: Voice) -> Self {
        Self { voice, begun: Instant::now(), expectations: Vec::new() }
    }

    /// The first line.
    pub fn title(&self, name: &str, rest: &str) {
        self.line(&format!("\n{}  {}", self.bold(name), self.dim(rest)));
    }

    /// A new scene.
    pub fn scene(&self, name: &str) {
        self.line(&format!("\n{}", self.bold(name)));
    }

    /// Lines as they are.
    pub fn say_all(&self, lines: &[String]) {
        for line in lines {
            self.line(line);
        }
    }

    /// Tries an expectation and tells how it came out. An error of the stage is an expectation not met.
    ///
    /// # Errors
    /// [`StageError::Interrupted`] alone.
    pub fn expect(&mut self, name: &str, outcome: impl FnOnce() -> Result<Verdict, StageError>) -> Result<(), StageError> {
        if self.voice == Voice::Terminal {
            self.raw(&format!("  {} {name}", self.dim("·")));
        }
        let verdict = match outcome() {
            Ok(verdict) => verdict,
            Err(StageError::Interrupted) => return Err(StageError::Interrupted),
            Err(error) => Verdict::not_met(chain(&error)),
        };
        let mark = if verdict.met { self.coloured("32", "✓") } else { self.coloured("1;31", "✗") };
        let again = if self.voice == Voice::Terminal { "\r" } else { "" };
        self.line(&format!("{again}  {mark} {name}"));
        let shown = if verdict.met { cut(&verdict.detail) } else { verdict.detail.clone() };
        if !shown.is_empty() {
            self.line(&format!("    {}", self.dim(&shown)));
        }
        self.expectations.push(Expectation { name: name.to_owned(), met: verdict.met, detail: verdict.detail });
        Ok(())
    }

    /// Whether every expectation was met, and there was one.
    pub fn all_met(&self) -> bool {
        !self.expectations.is_empty() && self.expectations.iter().all(|expectation| expectation.met)
    }

    /// Ends a line that was begun.
    pub fn break_off(&self) {
        if self.voice == Voice::Terminal {
            self.line("");
        }
    }

    /// The last line, or the JSON.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn finish(&self) -> std::io::Result<()> {
        let elapsed_s = (self.begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        if self.voice == Voice::Silent {
            let whole = serde_json::to_string_pretty(&Whole { expectations: &self.expectations, elapsed_s })?;
            return writeln!(stdout(), "{whole}");
        }
        let met = self.expectations.iter().filter(|expectation| expectation.met).count();
        let sum = format!("{met} of {} expectations met in {elapsed_s} s", self.expectations.len());
        let sum = if self.all_met() { self.coloured("1;32", &sum) } else { self.coloured("1;31", &sum) };
        writeln!(stdout(), "\n{sum}\n")
    }

    fn line(&self, text: &str) {
        self.raw(&format!("{text}\n"));
    }

    /// A closed output ends no demo: the environment has to be taken down all the same, and the exit code still tells.
    fn raw(&self, text: &str) {
        if self.voice != Voice::Silent {
            let mut out = stdout();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    fn bold(&self, text: &str) -> String {
        self.coloured("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.coloured("2", text)
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        if self.voice == Voice::Terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn cut(detail: &str) -> String {
    if detail.chars().count() <= DETAIL_CHARS_MAX {
        return detail.to_owned();
    }
    let mut shown: String = detail.chars().take(DETAIL_CHARS_MAX - 1).collect();
    shown.push('…');
    shown
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_is_not_met() {
        assert!(!Report::new(Voice::Silent).all_met());
    }

    #[test]
    fn one_expectation_that_is_not_met_fails_the_whole() {
        let mut report = Report::new(Voice::Silent);
        report.expect("first", || Ok(Verdict::met(""))).expect("not interrupted");
        assert!(report.all_met());
        report.expect("second", || Ok(Verdict::all(&[("the sky is blue", true), ("pigs fly", false)], "seen"))).expect("not interrupted");
        assert!(!report.all_met());
        assert_eq!(report.expectations[1].detail, "it does not hold that pigs fly; seen");
    }

    #[test]
    fn the_json_has_the_promised_shape() {
        let expectations = [Expectation { name: "n".into(), met: true, detail: "d".into() }];
        let json = serde_json::to_string(&Whole { expectations: &expectations, elapsed_s: 1.5 }).expect("plain fields");
        assert_eq!(json, r#"{"expectations":[{"name":"n","met":true,"detail":"d"}],"elapsed_s":1.5}"#);
    }
}
