//! The auditors' public keys, and recordings' keys wrapped for them.
//!
//! A session's key is made here, wrapped with age (age-encryption.org/v1), and handed over to the session, which wipes it at its end.
//! There is no way back in this process: it never has a key that opens what it wrapped.

use std::io::Write as _;
use std::str::FromStr;

use age::x25519::Recipient;
use serde::{Deserialize, Deserializer};
use sulku_recording::SessionKey;
use sulku_session::RecordingKey;
use zeroize::Zeroize as _;

/// More auditors than any authority appoints for one environment, few enough that wrapping a key for all of them is not felt.
pub const AUDITORS_MAX: usize = 32;

/// Somebody who can open recordings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditorConfig {
    /// For people.
    pub name: String,
    /// Her public key, as `sulku audit identity` printed it.
    #[serde(deserialize_with = "recipient")]
    pub recipient: Recipient,
}

fn recipient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Recipient, D::Error> {
    const HELP: &str = "this is no auditor's public key; write the age1… that `sulku audit identity --out FILE` printed";
    let text = String::deserialize(deserializer)?;
    let secret = text.trim_start().to_ascii_uppercase().starts_with("AGE-SECRET-KEY-");
    let help = if secret { "this is an auditor's SECRET key, which belongs on no host; write her public key, age1…" } else { HELP };
    Recipient::from_str(&text).map_err(|_| serde::de::Error::custom(help))
}

/// A key that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("the kernel gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// It can't be wrapped.
    #[error("a recording's key can't be wrapped for the auditors: {0}")]
    Wrap(String),
}

/// Makes a session's key, wrapped for all auditors.
///
/// # Errors
/// There is no key, and so no session.
pub fn make_key(auditors: &[AuditorConfig]) -> Result<RecordingKey, KeyError> {
    let mut bytes = [0; SessionKey::BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::Randomness)?;
    let wrapped = wrap(&bytes, auditors);
    let key = SessionKey::take(&mut bytes);
    bytes.zeroize();
    let recipients = auditors.iter().map(|auditor| auditor.recipient.to_string()).collect();
    Ok(RecordingKey { key, wrapped: wrapped?, recipients })
}

fn wrap(key: &[u8], auditors: &[AuditorConfig]) -> Result<Vec<u8>, KeyError> {
    let failed = |error: &dyn std::fmt::Display| KeyError::Wrap(error.to_string());
    let recipients = auditors.iter().map(|auditor| &auditor.recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
    let mut wrapped = Vec::new();
    let mut writer = encryptor.wrap_output(&mut wrapped).map_err(|error| failed(&error))?;
    writer.write_all(key).map_err(|error| failed(&error))?;
    writer.finish().map_err(|error| failed(&error))?;
    Ok(wrapped)
}

#[cfg(test)]
mod tests {
    use age::x25519::Identity;

    use super::*;

    fn auditor(identity: &Identity) -> AuditorConfig {
        AuditorConfig { name: "Aino".to_owned(), recipient: identity.to_public() }
    }

    #[test]
    fn each_auditor_opens_a_key_and_nobody_else_does() {
        let (aino, onni, stranger) = (Identity::generate(), Identity::generate(), Identity::generate());
        let made = make_key(&[auditor(&aino), auditor(&onni)]).expect("a key");
        for identity in [&aino, &onni] {
            assert_eq!(age::decrypt(identity, &made.wrapped).expect("it opens"), made.key.expose());
        }
        assert!(age::decrypt(&stranger, &made.wrapped).is_err());
        assert_eq!(made.recipients, [&aino, &onni].map(|identity| identity.to_public().to_string()));
        assert!(!made.wrapped.windows(8).any(|bytes| made.key.expose().windows(8).any(|key| key == bytes)), "it is not in the clear");
    }

    #[test]
    fn no_two_sessions_have_one_key() {
        let aino = [auditor(&Identity::generate())];
        assert_ne!(make_key(&aino).expect("a key").key.expose(), make_key(&aino).expect("a key").key.expose());
        assert!(make_key(&[]).is_err(), "for nobody there is none");
    }
}
