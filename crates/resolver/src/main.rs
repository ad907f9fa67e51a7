//! `sulku-resolver`: what the warden starts in the router's network namespace. Its standard input is the warden's socket.
#![allow(clippy::print_stderr, reason = "what is wrong is told on standard error")]

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use sulku_plan::naming::{DNS_PORT, RESOLVER, TLS_PORT};
use sulku_resolver::{Addresses, chain, run};

/// Answers cells' questions for names that their permits list, and checks the names of their TLS connections. The warden starts it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where questions are answered, over UDP and TCP.
    #[arg(long, default_value_t = SocketAddr::from((RESOLVER, DNS_PORT)))]
    dns: SocketAddr,
    /// Where TLS connections are taken that the router has turned here.
    #[arg(long, default_value_t = SocketAddr::from((RESOLVER, TLS_PORT)))]
    tls: SocketAddr,
}

fn main() -> ExitCode {
    let Arguments { dns, tls } = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env().add_directive(tracing::Level::INFO.into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(Addresses { dns, tls }) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("sulku-resolver: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
