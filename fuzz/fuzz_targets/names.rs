//! Fuzz target: `cargo +nightly fuzz run names`; see `sulku_fuzz::names`. Built without cargo-fuzz, it tries what comes on standard input.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sulku_fuzz::names(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    sulku_fuzz::from_standard_input(sulku_fuzz::names)
}
