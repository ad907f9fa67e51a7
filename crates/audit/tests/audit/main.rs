//! The audit's formats against their specifications' vectors, against a plain second reckoning, and against damage of every kind.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod entries;
mod example;
mod export;
mod keys;
mod lanes;
mod logs;
mod merkle;
mod notes;
mod reading;
mod support;
mod tiles;
