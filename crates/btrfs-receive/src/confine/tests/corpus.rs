//! Every input of the fuzz target `confine`.

use btrfs_testkit::fuzz_inputs;

use crate::confine::fuzzing;

#[test]
fn nothing_outside_changes() {
    for (path, input) in fuzz_inputs("confine") {
        println!("{}", path.display());
        fuzzing::confine(&input);
    }
}
