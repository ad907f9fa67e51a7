//! A warden on a host that lacks something: it holds no cell, and says to the gateway what is missing, so that every refused
//! session's entry names it. It makes no namespace, no rule and no entry, and takes no order.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use sulku_plan::order::{ORDER_VERSION, Order, Report};

use super::RunError;
use crate::config::Config;
use crate::gateway::{Gateway, Heard, Listener, Phase};

/// Refuses every cell until SIGTERM or SIGINT.
pub(super) fn refuse(config: &Config, signals: &OwnedFd, missing: &[String]) -> Result<(), RunError> {
    let system = |step| move |source| RunError::System { step, source };
    for missing in missing {
        tracing::error!(missing, "this host can't hold cells; every session is refused until it can and the warden is started anew");
    }
    let listener = Listener::at(&config.socket, config.gateway_uid).map_err(system("listen for the gateway"))?;
    let mut gateway: Option<Gateway> = None;
    loop {
        let here = gateway.as_ref().map_or(listener.as_fd(), AsFd::as_fd);
        let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(here, PollFlags::IN)];
        if let Err(error) = rustix::io::retry_on_intr(|| poll(&mut fds, None)) {
            return Err(system("wait")(error.into()));
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        gateway = match gateway.take() {
            None => listener.accept(),
            Some(gateway) => answer(gateway, missing),
        };
    }
}

/// Answers one order; a gateway that is gone, or does not read, is let go.
fn answer(mut gateway: Gateway, missing: &[String]) -> Option<Gateway> {
    let report = match gateway.hear() {
        None => return Some(gateway),
        Some(Heard::Gone) => return None,
        Some(Heard::Order(order)) if matches!(*order, Order::Hello { version: ORDER_VERSION }) => {
            gateway.phase = Phase::Serving;
            Report::Ready { version: ORDER_VERSION, rung: String::new(), missing: missing.to_vec(), orphans: 0, gone: 0 }
        }
        Some(Heard::Order(_) | Heard::Nonsense(_)) => {
            Report::Refused { session: None, reason: format!("this host can't hold cells: {}", missing.join("; ")) }
        }
    };
    gateway.report(&report, None).is_ok().then_some(gateway)
}
