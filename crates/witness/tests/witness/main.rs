//! Witness, client and mirror as a log and an auditor meet them: over HTTPS on loopback, with real logs, lying logs and broken disks.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod client;
mod config;
mod hostile;
mod mirror;
mod service;
mod support;
