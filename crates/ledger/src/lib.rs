//! Keeps the audit's entries durably, signs and publishes checkpoints.
