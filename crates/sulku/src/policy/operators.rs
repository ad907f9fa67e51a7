//! Who signs: the operators of a configuration, an operator's private key, and the lines that a configuration needs of her.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use sulku_permit::HolderId;
use sulku_policy::{Approval, Operator, OperatorKey, Operators, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

/// The largest configuration, certificate or key that is looked at.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Whose signatures count.
#[derive(Args)]
pub struct OperatorsArgs {
    /// The operators and how many must sign: the gateway's or the warden's configuration, or a file with their [[operator]] and [approval] alone
    #[arg(long, value_name = "FILE", default_value = "/etc/sulku/gateway.toml")]
    pub operators: PathBuf,
}

/// Who signs.
#[derive(Args)]
pub struct SignerArgs {
    /// The operator who signs, as the configuration names her
    #[arg(long = "as", value_name = "OPERATOR")]
    pub operator: HolderId,
    /// The private key of her certificate, PEM; only she may be able to read it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// What is read of a configuration; its other tables are other readers'.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    operator: Vec<OperatorTable>,
    #[serde(default)]
    approval: Approval,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorTable {
    id: HolderId,
    #[serde(default)]
    key: Option<OperatorKey>,
    #[serde(rename = "certificate")]
    _certificate: Option<toml::Value>,
}

impl OperatorsArgs {
    /// Reads the operators.
    pub fn read(&self) -> anyhow::Result<Operators> {
        let file = &self.operators;
        let help = || format!("{} can't be read; name the operators' file with --operators", file.display());
        let text = text_of(file).with_context(help)?;
        let document: Document = toml::from_str(&text).with_context(|| format!("{} is no configuration with operators", file.display()))?;
        let Document { operator, approval } = document;
        let keys = operator.into_iter().filter_map(|OperatorTable { id, key, _certificate }| Some(Operator { id, key: key? })).collect();
        Operators::new(keys, approval.signatures)
            .with_context(|| format!("{}: the operators can't sign; see each [[operator]] key and [approval] signatures", file.display()))
    }
}

impl SignerArgs {
    /// Reads the key, if it is the operator's and nobody else can read it.
    pub fn read(&self, operators: &Operators) -> anyhow::Result<SigningKey> {
        let key = private_key(&self.key)?;
        let Self { operator, key: file } = self;
        anyhow::ensure!(
            operators.keys_of(operator).any(|known| known == key.public()),
            "{} is not the key that the configuration has for {operator}; name the operator with --as, or see `sulku policy key --key {0}`",
            file.display()
        );
        Ok(key)
    }
}

fn private_key(file: &Path) -> anyhow::Result<SigningKey> {
    let mode = fs::metadata(file).with_context(|| format!("{} can't be read; name the private key with --key", file.display()))?.permissions().mode();
    anyhow::ensure!(
        mode & 0o077 == 0,
        "{} can be read by others than its owner; nobody signs with such a key: chmod go= {0}, and think whether it needs to be replaced",
        file.display()
    );
    let text = Zeroizing::new(text_of(file).with_context(|| format!("{} can't be read", file.display()))?);
    SigningKey::from_pem(&text).with_context(|| format!("{} can't sign", file.display()))
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    anyhow::ensure!(text.len() as u64 <= FILE_BYTES_MAX, "it is larger than {FILE_BYTES_MAX} bytes");
    Ok(text)
}

/// Print the [[operator]] table of a certificate or key.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// The operator's certificate, PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Her private key, PEM, if the certificate is not at hand
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Args)]
pub struct KeyArgs {
    #[command(flatten)]
    source: Source,
    /// The name that entries and revisions use
    #[arg(long = "as", value_name = "OPERATOR", default_value = "NAME")]
    operator: String,
}

/// The lines that gateway.toml and warden.toml need.
pub fn table(args: &KeyArgs) -> anyhow::Result<String> {
    let (certificate, key) = match (&args.source.certificate, &args.source.key) {
        (Some(file), _) => of_certificate(file).with_context(|| format!("{} is no operator's certificate", file.display()))?,
        (None, Some(file)) => ("# certificate = { uri = \"…\" }     what her certificate shows".to_owned(), private_key(file)?.public().clone()),
        (None, None) => anyhow::bail!("name a certificate or a key"),
    };
    Ok(format!("[[operator]]\nid = \"{}\"\n{certificate}\nkey = \"{key}\"          # {}\n", args.operator, key.algorithm()))
}

/// What the certificate shows of her, and its key.
fn of_certificate(file: &Path) -> anyhow::Result<(String, OperatorKey)> {
    let text = text_of(file)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes())?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents)?;
    let key = OperatorKey::from_der(certificate.public_key().raw)?;
    let names = certificate.subject_alternative_name()?;
    let uri = names.iter().flat_map(|extension| &extension.value.general_names).find_map(|name| match name {
        GeneralName::URI(uri) => Some(format!("{{ uri = {uri:?} }}")),
        _ => None,
    });
    let shown = uri.unwrap_or_else(|| format!("{{ key_sha256 = \"{}\" }}", sulku_policy::Digest::of(key.der())));
    Ok((format!("certificate = {shown}"), key))
}
