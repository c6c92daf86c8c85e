//! What unit tests on real btrfs share. They need root and loop devices;
//! elsewhere they are left out, unless `BTRFS_TESTS=required` is in the
//! environment.

use std::path::Path;
use std::process::Command;

use crate::LoopFilesystem;

const CHILD: &str = "UNIT_TEST_PRIVATE_MOUNTS";

/// Runs a case, a closure in a test function, in a process with a mount
/// namespace of its own: even if it is killed, nothing stays mounted.
pub fn on_btrfs<F: FnOnce(&LoopFilesystem)>(case: F) {
    if std::env::var_os(CHILD).is_some() {
        return case(&LoopFilesystem::new());
    }
    let required = std::env::var_os("BTRFS_TESTS").is_some_and(|value| value == "required");
    let possible = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !required && !possible {
        eprintln!("left out: needs root and loop devices");
        return;
    }
    // crate::module::test::{{closure}}
    let name = std::any::type_name::<F>();
    let (_, name) = name.split_once("::").unwrap();
    let (name, _) = name.rsplit_once("::").unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}
