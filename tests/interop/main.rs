//! The audit's formats against programs that others wrote: Go's `sumdb`, Cloudflare's crates, `ct-merkle`, aics-tlog, aics-witness.
//!
//! `make test` installs Go and its packages from Debian and the two of PyPI into `target/peers-tlog`, where a Python of 3.12 or
//! later is present. Without one, the two tests that need it say so.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod cloudflare;
mod ct;
mod go;
mod log;
mod python;
