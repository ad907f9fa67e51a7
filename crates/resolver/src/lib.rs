//! Who asks for names on behalf of cells, and who looks whether their TLS connections mean what they say.
//!
//! One process in the router's network namespace, started by the warden as a user without rights. It must be able to bind its ports
//! there (`net.ipv4.ip_unprivileged_port_start` of that namespace at or below 53), is told by tasks what each session may reach, and
//! tells by findings what it learned ([`sulku_plan::naming`]). It asks upstream for nothing that a permit does not list, and answers
//! nothing that the kernel does not let through already.
//!
//! It opens no way itself: addresses are let through by the warden. It keeps no log of names, reads no file, runs no program, knows
//! no person, ends no TLS. Whatever is wrong with the warden's socket ends the process, and with it every way by a name.

pub mod answer;
pub mod budget;
pub mod confine;
pub mod dns;
pub mod granted;
pub mod hello;
pub mod judge;
pub mod relay;
mod run;
pub mod sessions;
mod shared;
pub mod tls;
pub mod upstream;
pub mod warden;
pub mod wire;

pub use run::{Addresses, RunError, chain, run};
