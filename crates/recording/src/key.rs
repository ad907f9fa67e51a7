//! A session's key: 32 bytes that live as long as the session, and are wiped where they lay when it ends.
//!
//! Made by whoever has randomness; wrapped to auditors elsewhere.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The key of one session's recording. Wiped when dropped; printed nowhere.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; Self::BYTES]);

impl SessionKey {
    /// Its length.
    pub const BYTES: usize = 32;

    /// The key of these bytes, which are wiped where they came from.
    #[must_use]
    pub fn take(bytes: &mut [u8; Self::BYTES]) -> Self {
        let key = Self(*bytes);
        bytes.zeroize();
        key
    }

    /// Its bytes, to be wrapped or to encrypt with.
    #[must_use]
    pub const fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(..)")
    }
}
