//! The courier: carries the published audit out of the host, and nothing into it but cosignatures.
//!
//! Reads the log through the ledger's socket as an announced reader, checks what it read against the log's key and against what it
//! saw before, and feeds sinks (a file, syslog over TLS), mirrors (tiles over HTTPS) and Prometheus; has witnesses cosign it. Each sink has a task, a durable
//! cursor and bounded buffers of its own, and pulls: one that stalls slows neither another nor the ledger, which does not know
//! that there are sinks.
//!
//! It has neither the signing key nor a personal key, so it can't write an entry or open a seal, and its delivery never counts as
//! durability: the ledger's disk alone does. It forgets nothing and skips nothing; what it sends twice carries the same
//! `metadata.uid`.

mod backoff;
pub mod config;
mod confine;
mod cursor;
mod daemon;
mod file;
mod http;
mod metrics;
mod runner;
mod serve;
mod sink;
mod syslog;
mod tls;
mod trail;
mod witness;

pub use config::Settings;
pub use daemon::{Courier, RunError, run};
pub use sink::{Record, Sink, SinkError};
