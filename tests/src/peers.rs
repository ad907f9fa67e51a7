//! later
pub struct Answer;
pub fn openssl() {}
pub fn quic() {}
