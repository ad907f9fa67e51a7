//! The gateway's role: everything is in its crate.

use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/sulku/gateway.toml")]
    config: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    Ok(sulku_gateway::run(&arguments.config)?)
}
