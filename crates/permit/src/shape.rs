//! The shape of a permit's file, as serde sees it. Unknown keys are errors: a typo must never widen access.

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) schema: Spanned<u32>,
    pub(crate) permit: PermitTable,
    pub(crate) holder: Spanned<Vec<HolderTable>>,
    pub(crate) workspace: WorkspaceTable,
    #[serde(default)]
    pub(crate) dataset: Vec<DatasetTable>,
    #[serde(default)]
    pub(crate) egress: Vec<EgressTable>,
    #[serde(default)]
    pub(crate) session: SessionTable,
    #[serde(default)]
    pub(crate) resources: ResourcesTable,
    #[serde(default)]
    pub(crate) recording: RecordingTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PermitTable {
    pub(crate) id: Spanned<String>,
    pub(crate) title: Spanned<String>,
    pub(crate) purpose: Spanned<String>,
    pub(crate) issuer: Spanned<String>,
    pub(crate) valid_from: Spanned<Datetime>,
    pub(crate) valid_until: Spanned<Datetime>,
    pub(crate) time_zone: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HolderTable {
    pub(crate) id: Spanned<String>,
    pub(crate) name: Spanned<String>,
    pub(crate) certificate: Spanned<CertificateTable>,
    pub(crate) valid_until: Option<Spanned<Datetime>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateTable {
    pub(crate) uri: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) subject_serial_number: Option<String>,
    pub(crate) key_sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkspaceTable {
    pub(crate) name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatasetTable {
    pub(crate) name: Spanned<String>,
    pub(crate) path: Spanned<String>,
    pub(crate) mounted_at: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EgressTable {
    pub(crate) name: Spanned<String>,
    pub(crate) to: Spanned<String>,
    pub(crate) ports: Spanned<Vec<Spanned<String>>>,
    pub(crate) reason: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionTable {
    pub(crate) max_per_person: Option<Spanned<u32>>,
    pub(crate) max_length: Option<Spanned<String>>,
    pub(crate) idle_disconnect: Option<Spanned<String>>,
    pub(crate) from_networks: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourcesTable {
    pub(crate) memory: Option<Spanned<String>>,
    pub(crate) processes: Option<Spanned<u32>>,
    pub(crate) cpus: Option<Spanned<f64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordingTable {
    pub(crate) terminal: Option<Spanned<String>>,
    pub(crate) durability: Option<Spanned<String>>,
    pub(crate) retention: Option<Spanned<String>>,
}
