//! The only privileged process: builds cells, enforces plans, reaps.
