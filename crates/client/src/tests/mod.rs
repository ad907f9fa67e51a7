mod again;
mod alerts;
mod carriers;
mod gateway;
mod hostile;
mod pacing;
mod profiles;

use std::future::Future;
use std::time::Duration;

use gateway::{Desk, Gateway};
use sulku_protocol::{Stay, Tell, WelcomeFrame};

use crate::*;

/// Nothing here takes a tenth of this; a test that hangs must say so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test to its end or to its deadline.
fn within_patience(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test did not end in time") });
    runtime.shutdown_background();
}

fn terminal() -> Terminal {
    Terminal { term: "xterm".into(), columns: 80, rows: 24 }
}

async fn open(profile: &Profile, transport: Transport) -> Result<Session, DialError> {
    connect(profile, transport, None, None, terminal(), Stay::Ends).await
}

fn welcome() -> WelcomeFrame {
    gateway::welcome()
}

fn welcomed() -> Tell {
    Tell::Welcome(welcome())
}
