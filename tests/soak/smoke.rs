//! The soak, small: all that it does, it does once, and what must be true afterwards is. No time is asserted.

use std::process::Command;

/// LG-02, LG-05, NW-06: under load, while daemons are killed, a disk is full and a network bad.
#[test]
fn nothing_is_lost_on_a_bad_day() {
    let output = Command::new(env!("CARGO_BIN_EXE_sulku-soak")).arg("--smoke").output().expect("sulku-soak runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("PASS"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // The control: something was done, and felt.
    for felt in ["the gateway is back", "the ledger is back", "1 ledger.full", "lost, "] {
        assert!(said.contains(felt), "{felt:?} is not in:\n{said}");
    }
}
