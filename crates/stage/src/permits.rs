//! The permits of `policies/permits`, with this machine's folders and this day's dates filled in.

use std::path::Path;

use jiff::Timestamp;

use crate::authority::Person;
use crate::error::StageError;
use crate::ground::Ground;
use crate::host::PORT;
use crate::stage::{MIRROR, MIRROR_NAME};

/// The permit that Maija holds.
pub const STATINS: &str = "DEMO/1/2026";
/// The permit that Bo holds.
pub const ASTHMA: &str = "DEMO/2/2026";

const STATINS_TEXT: &str = include_str!("../../../policies/permits/statins-and-dementia.toml");
const ASTHMA_TEXT: &str = include_str!("../../../policies/permits/asthma-and-air.toml");
const DATASETS: &str = "/srv/sulku/datasets";

/// A permit's file, as it will lie in the folder of permits.
#[derive(Debug, Clone)]
pub struct PermitFile {
    /// Its name without folder.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl PermitFile {
    /// The permit of the statin study.
    pub(crate) fn statins(folder: &Path, ground: Ground) -> Result<Self, StageError> {
        fill("statins-and-dementia.toml", STATINS_TEXT, folder, None, ground)
    }

    /// The permit of the asthma study, which may end early.
    pub(crate) fn asthma(folder: &Path, ends: Option<Timestamp>, ground: Ground) -> Result<Self, StageError> {
        fill("asthma-and-air.toml", ASTHMA_TEXT, folder, ends, ground)
    }

    /// A permit without data and without destinations, for one person; `session` and what else is in `tables` is TOML.
    #[must_use]
    pub fn bare(id: &str, workspace: &str, holder: Person, tables: &str) -> Self {
        let text = format!(
            "schema = 1\n\n[permit]\nid = \"{id}\"\ntitle = \"A permit for one test\"\npurpose = \"testing\"\nissuer = \"the tests\"\n\
             valid_from = 2026-01-01\nvalid_until = 2090-12-31\ntime_zone = \"Europe/Helsinki\"\n\n\
             [controller]\nname = \"the tests\"\ncontacts = [\"tests@demo.sulku.example\"]\n\n\
             [[holder]]\nid = \"{name}\"\nname = \"{person}\"\ncertificate = {{ uri = \"{uri}\" }}\nroles = [\"analyst\"]\n\n[workspace]\nname = \"{workspace}\"\n\n{tables}\n",
            name = holder.name(),
            person = full_name(holder),
            uri = holder.uri(),
        );
        Self { name: format!("{workspace}.toml"), text }
    }

    /// A permit that lists the mirror by its name, for one person.
    #[must_use]
    pub fn by_name(id: &str, workspace: &str, holder: Person) -> Self {
        let tables = format!(
            "[session]\nfrom_networks = [\"127.0.0.0/8\"]\nmax_per_person = 4\n\n[[egress]]\nname = \"package mirror\"\nto = \"{MIRROR_NAME}\"\n\
             check = \"address-only\"\nwithin = [\"{MIRROR}/32\"]\nports = [\"{PORT}/tcp\"]\nreason = \"packages, mirrored inside the environment\""
        );
        Self::bare(id, workspace, holder, &tables)
    }

    /// The same with another line in place of one that it has.
    ///
    /// # Errors
    /// It has no such line.
    pub fn with(mut self, line: &str, instead: &str) -> Result<Self, StageError> {
        if !self.text.lines().any(|known| known == line) {
            return Err(StageError::Unexpected { what: format!("{} has no line {line:?}", self.name) });
        }
        self.text = self.text.replace(line, instead);
        Ok(self)
    }
}

/// A person has one name in all permits.
fn full_name(person: Person) -> &'static str {
    match person {
        Person::Maija | Person::Stranger | Person::Forged | Person::Expired | Person::Revoked => "Maija Meikäläinen",
        Person::Bo => "Bo Bergström",
        Person::Tiina => "Tiina Testaaja",
        Person::Onni => "Onni Operaattori",
        Person::Unlisted => "Nobody Here",
    }
}

fn fill(name: &'static str, text: &str, folder: &Path, ends: Option<Timestamp>, ground: Ground) -> Result<PermitFile, StageError> {
    let datasets = folder.join("datasets").display().to_string();
    let mut text = replaced(name, text, DATASETS, &datasets)?;
    if !ground.is_machine() {
        // A permit asks for the strongest isolation unless it says that less will do.
        text = replaced(name, &text, "[permit]\n", "[permit]\nisolation = \"rootless\"\n")?;
    }
    if let Some(ends) = ends {
        let line = "valid_until = 2030-12-31";
        // A permit's date and time is written to the second.
        text = replaced(name, &text, line, &format!("valid_until = {}", ends.strftime("%Y-%m-%dT%H:%M:%SZ")))?;
    }
    Ok(PermitFile { name: name.to_owned(), text })
}

fn replaced(file: &'static str, text: &str, from: &str, to: &str) -> Result<String, StageError> {
    if text.contains(from) { Ok(text.replace(from, to)) } else { Err(StageError::PermitLine { file, line: from.to_owned() }) }
}
