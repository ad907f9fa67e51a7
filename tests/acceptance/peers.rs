//! Programs that others wrote speak with the gateway.

use anyhow::ensure;
use sulku_stage::Person;
use sulku_tests::{Answer, hello, openssl, quic, shared};

fn worked(answer: &Answer) -> anyhow::Result<()> {
    ensure!(answer.welcomed(), "{answer:?}");
    ensure!(answer.output().contains("hello from the cell"), "{answer:?}");
    ensure!(answer.reason() == Some("shell-exited"), "{answer:?}");
    Ok(())
}

/// IA-05, SE-04
pub fn openssl_works_with_a_holders_certificate_and_not_without() -> anyhow::Result<()> {
    let stage = shared()?;
    let sent = hello(&["echo", "hello from the cell"])?;
    worked(&openssl(&stage, Some(Person::Maija), &sent, &[])?)?;
    let without = openssl(&stage, None, &sent, &[])?;
    ensure!(without.frames.is_empty() && without.said.contains("certificate required"), "{without:?}");
    let stranger = openssl(&stage, Some(Person::Stranger), &sent, &[])?;
    ensure!(stranger.frames.is_empty() && stranger.said.contains("alert"), "{stranger:?}");
    Ok(())
}

/// SE-04
pub fn openssl_gets_no_older_tls() -> anyhow::Result<()> {
    let stage = shared()?;
    let sent = hello(&["true"])?;
    let older = openssl(&stage, Some(Person::Maija), &sent, &["-tls1_2"])?;
    ensure!(older.frames.is_empty() && older.said.contains("protocol version"), "{older:?}");
    ensure!(openssl(&stage, Some(Person::Maija), &sent, &["-tls1_3"])?.welcomed(), "the control");
    Ok(())
}

/// IA-05, SE-04
pub fn aioquic_works_with_a_holders_certificate_and_not_without() -> anyhow::Result<()> {
    /// CRYPTO_ERROR (RFC 9001, section 4.8) and the alert certificate_required (RFC 8446, section 6.2).
    const CERTIFICATE_REQUIRED: &str = "closed 372";
    let stage = shared()?;
    let sent = hello(&["echo", "hello from the cell"])?;
    worked(&quic(&stage, Some(Person::Maija), &sent)?)?;
    let without = quic(&stage, None, &sent)?;
    ensure!(without.frames.is_empty() && without.said.contains(CERTIFICATE_REQUIRED), "{without:?}");
    let stranger = quic(&stage, Some(Person::Stranger), &sent)?;
    ensure!(stranger.frames.is_empty() && stranger.said.contains("closed 3"), "{stranger:?}");
    Ok(())
}
