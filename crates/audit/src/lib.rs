//! Events, their encoding, the Merkle tree over them, proofs, checkpoints and verification.
