//! The researcher's end of a session.
