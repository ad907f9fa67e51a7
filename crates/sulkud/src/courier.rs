//! The courier's role: everything is in its crate.

use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The courier's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/sulku/courier.toml")]
    config: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    Ok(sulku_courier::run(&arguments.config)?)
}
