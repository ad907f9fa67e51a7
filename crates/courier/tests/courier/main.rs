//! The courier between a real ledger and real receivers: rsyslog as Debian ships it, files, mirrors, Prometheus.
//!
//! Everything is on loopback and in folders that go away. rsyslogd and its TLS module have to be there; `make test` installs them.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod authority;
mod config;
mod figures;
mod files;
mod mirrors;
mod receivers;
mod rsyslog;
mod support;
mod witnesses;
