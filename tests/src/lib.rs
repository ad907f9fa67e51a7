//! The harness of the acceptance tests.
