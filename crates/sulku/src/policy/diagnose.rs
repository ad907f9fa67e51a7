//! Problems as an operator sees them: the lines, a mark below what is wrong, and what to write.

use std::fmt;
use std::io::IsTerminal as _;
use std::path::Path;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use sulku_permit::{Note, Place, Problem};
use sulku_policy::Tree;

/// So many problems are drawn; nobody reads more at once.
const SHOWN_MAX: usize = 50;
/// Columns of a drawing where the terminal does not say.
const WIDTH: usize = 120;

/// Problems with the texts they are in.
pub struct Diagnoses<'a> {
    folder: &'a Path,
    tree: &'a Tree,
    problems: &'a [Problem],
}

impl<'a> Diagnoses<'a> {
    /// The problems of this folder's files.
    pub const fn of(folder: &'a Path, tree: &'a Tree, problems: &'a [Problem]) -> Self {
        Self { folder, tree, problems }
    }

    /// All of them as text, with colours where a terminal reads it.
    pub fn render(&self) -> String {
        let theme = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH);
        let mut text = String::new();
        for problem in self.problems.iter().take(SHOWN_MAX) {
            if handler.render_report(&mut text, &self.drawn(problem)).is_err() {
                text.push_str(&format!("{problem}\n"));
            }
        }
        if self.problems.len() > SHOWN_MAX {
            text.push_str(&format!("and {} more problems\n", self.problems.len() - SHOWN_MAX));
        }
        text
    }

    fn drawn(&self, problem: &Problem) -> Drawn {
        let mut labels = vec![LabeledSpan::new_primary_with_span(None, span(&problem.at))];
        let mut elsewhere = Vec::new();
        for Note { at, what } in &problem.notes {
            if at.file == problem.at.file {
                labels.push(LabeledSpan::new_with_span(Some(what.clone()), span(at)));
            } else {
                elsewhere.push(format!("{at}: {what}"));
            }
        }
        let help = std::iter::once(problem.help.clone()).chain(elsewhere).collect::<Vec<_>>().join("\n");
        Drawn { what: problem.what.clone(), help, labels, source: self.source(&problem.at) }
    }

    fn source(&self, at: &Place) -> NamedSource<String> {
        let path = Path::new(&*at.file).strip_prefix(self.folder).unwrap_or(Path::new(&*at.file));
        let text = path.to_str().and_then(|path| self.tree.get(path)).map(|file| file.text().to_string());
        NamedSource::new(&*at.file, text.unwrap_or_default())
    }
}

fn span(at: &Place) -> SourceSpan {
    (at.span.start as usize, (at.span.end.saturating_sub(at.span.start)) as usize).into()
}

/// One problem, as the drawing library wants it.
#[derive(Debug)]
struct Drawn {
    what: String,
    help: String,
    labels: Vec<LabeledSpan>,
    source: NamedSource<String>,
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Drawn {}

impl Diagnostic for Drawn {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        Some(Box::new(&self.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}
