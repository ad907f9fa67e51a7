//! Which profile is meant: the one named, that of the environment, or the one in its usual place.

use std::path::PathBuf;

use anyhow::Context;
use sulku_client::{Profile, Transport};

/// Who one is, and how to reach the gateway.
#[derive(clap::Args)]
pub struct ProfileArgs {
    /// Your profile: gateway, certificate and key [default: ~/.config/sulku/profile.toml]
    #[arg(long, value_name = "FILE", env = "SULKU_PROFILE", hide_env_values = true)]
    profile: Option<PathBuf>,
}

/// How to reach the gateway.
#[derive(clap::Args)]
pub struct TransportArgs {
    /// auto tries QUIC and falls back to TLS within 300 ms
    #[arg(long, value_name = "HOW", default_value = "auto")]
    transport: Choice,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Choice {
    Auto,
    Quic,
    Tls,
}

impl TransportArgs {
    /// The transport chosen.
    pub fn transport(&self) -> Transport {
        match self.transport {
            Choice::Auto => Transport::Auto,
            Choice::Quic => Transport::Quic,
            Choice::Tls => Transport::Tls,
        }
    }
}

impl ProfileArgs {
    /// Where the profile is, whether or not it exists.
    ///
    /// # Errors
    /// None is named, and there is no home folder to look in.
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        let usual = || {
            let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let folder = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
            Some(folder.join("sulku/profile.toml"))
        };
        self.profile.clone().or_else(usual).context("HOME is not set; name your profile with --profile FILE")
    }

    /// Whether the profile was named rather than looked for.
    pub fn is_named(&self) -> bool {
        self.profile.is_some()
    }

    /// The profile.
    ///
    /// # Errors
    /// It is not there, or has problems.
    pub fn load(&self) -> anyhow::Result<Profile> {
        Ok(Profile::load(&self.path()?)?)
    }
}
