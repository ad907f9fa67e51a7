//! Many sessions from one process, as many holders would have them: they type, flood, resize, lose their connections and come back; and
//! what each was shown is held against what the ledger's recording replays.
//!
//! The sessions are the product's own client's, over QUIC and TLS, against daemons that are processes of their own. What is counted and timed
//! here decides nothing: a figure is not a test. Every wait has an end.

pub mod course;
pub mod crowd;
pub mod parts;
pub mod played;
pub mod recorded;
pub mod revocation;
