//! Checkpoints to witnesses and their cosignatures back to the ledger.
//!
//! A witness is asked through one trait, with the newest head that was checked here. Keeps nothing itself: what a witness last saw it
//! says in its answer, and what the policy asks for the ledger knows.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::trail::{Head, Trail};

/// How often a new head is offered.
const OFFER_EVERY: Duration = Duration::from_secs(1);

/// A witness that did not cosign.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WitnessError(pub(crate) String);

/// Somebody outside who cosigns checkpoints.
pub(crate) trait Witness: Send {
    /// Offers a head to the witness and hands its cosignature to the ledger.
    fn offer(&mut self, head: &Arc<Head>) -> impl Future<Output = Result<(), WitnessError>> + Send;
}

/// Offers each new head to one witness until told to stop.
pub(crate) async fn offer_heads(name: String, mut witness: impl Witness, trail: Trail, stop: CancellationToken) {
    let (mut backoff, mut heads, mut offered) = (Backoff::default(), trail.heads(), 0);
    loop {
        let newest = heads.borrow_and_update().clone().filter(|head| head.checkpoint.size > offered);
        let wait = match newest {
            None => OFFER_EVERY,
            Some(head) => match witness.offer(&head).await {
                Ok(()) => {
                    offered = head.checkpoint.size;
                    backoff.reset();
                    OFFER_EVERY
                }
                Err(error) => {
                    let wait = backoff.next();
                    tracing::warn!(witness = name, %error, again_in_ms = wait.as_millis(), "a witness did not cosign");
                    wait
                }
            },
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}
