//! Fuzz target: `cargo +nightly fuzz run recordings`; see `sulku_fuzz::recordings`. Built without cargo-fuzz, it tries what comes on standard input.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sulku_fuzz::recordings(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    sulku_fuzz::from_standard_input(sulku_fuzz::recordings)
}
