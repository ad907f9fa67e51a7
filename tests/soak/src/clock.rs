//! The host's clock, set forward and back, as the daemons see it. The machine's own is not touched: each daemon asks a small library
//! instead, which is compiled here.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

const SOURCE: &str = include_str!("../clock.c");

/// A clock that can be set.
pub struct Clock {
    moved: File,
    env: Vec<(&'static str, PathBuf)>,
}

impl Clock {
    /// Compiles the library in that folder.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let [source, library, moved] = ["clock.c", "clock.so", "clock"].map(|name| folder.join(name));
        fs::write(&source, SOURCE)?;
        let made = Command::new("cc").args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
        let made = made.context("cc, a C compiler, is needed; Debian has it in gcc")?;
        ensure!(made.status.success(), "cc: {}", String::from_utf8_lossy(&made.stderr));
        let mut file = File::create(&moved)?;
        file.write_all(&0_i64.to_ne_bytes())?;
        Ok(Self { moved: file, env: vec![("LD_PRELOAD", library), ("SULKU_SOAK_CLOCK", moved)] })
    }

    /// What tells a daemon to ask it.
    pub fn env(&self) -> &[(&'static str, PathBuf)] {
        &self.env
    }

    /// From now on it shows so many seconds more than the machine's.
    ///
    /// # Errors
    /// Its file can't be written.
    pub fn is_ahead_by(&self, seconds: i64) -> anyhow::Result<()> {
        Ok(self.moved.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
