//! The suites of the rung `root` once more, on the rung below it: a warden that an ordinary user starts, without a capability.

#[path = "cells.rs"]
mod cells;
