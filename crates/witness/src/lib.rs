//! A witness and a mirror for logs that others keep, and the client that asks witnesses.
//!
//! A witness ([`service`]) sees each checkpoint of a log, checks that it continues the one before, and says so with its signature; a
//! log whose operator shows two histories, or goes back, gets no second signature, and the witness keeps what shows it. A mirror
//! ([`mirror`]) also holds every entry. Both are of use only where the log's operator has no power, so both run for one authority on
//! one host with one file of settings, and know nothing of permits, sessions or what entries say.
//!
//! This crate neither writes to a log nor holds a log's key.

pub mod client;
pub mod config;
pub mod daemon;
mod files;
pub mod https;
pub mod keys;
pub mod mirror;
pub mod serve;
pub mod service;
pub mod state;

pub use client::{Answer, Client};
pub use config::Settings;

pub use mirror::Mirror;
pub use service::Service;
