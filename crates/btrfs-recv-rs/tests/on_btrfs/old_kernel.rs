//! What is said on a kernel that does not report every failed write: as far as
//! `uname` tells, which `setarch --uname-2.6` changes.

use std::path::Path;
use std::process::{Command, Output};

use btrfs_testkit::{LoopFilesystem, Test, test};

use crate::support::{Sent, receive, run_with_input, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(failed_writes_are_warned_of_once),
        test!(nothing_received_needs_no_warning),
    ]
}

const WARNING: &str = "WARNING: Linux 2.6 does not report every failed write";

fn on_an_old_kernel(stream: &[u8], options: &[&str], destination: &Path) -> Output {
    let mut command = Command::new("setarch");
    command
        .args([std::env::consts::ARCH, "--uname-2.6"])
        .arg(env!("CARGO_BIN_EXE_btrfs-recv-rs"))
        .args(options)
        .arg(destination)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    run_with_input(&mut command, stream)
}

fn warnings(output: &Output) -> usize {
    text(output).1.matches(WARNING).count()
}

/// Two subvolumes of one input, in every mode.
fn failed_writes_are_warned_of_once() {
    let sent = Sent::small();
    let both = [&sent.full[..], &sent.incremental].concat();
    for options in [
        &[][..],
        &["-q"],
        &["-v", "--json"],
        &["--dry-run"],
        &["--extract"],
        &["--sandbox"],
    ] {
        let to = LoopFilesystem::new();
        let output = on_an_old_kernel(&both, options, to.path());
        assert!(output.status.success(), "{options:?}: {output:?}");
        assert_eq!(warnings(&output), 1, "{options:?}: {output:?}");
        let (stdout, _) = text(&output);
        let in_json = stdout.matches(r#""event":"warning""#).count();
        assert_eq!(
            in_json,
            usize::from(options.contains(&"--json")),
            "{stdout}"
        );
    }
    // This kernel reports them.
    let to = LoopFilesystem::new();
    let output = receive(&both, &[], to.path());
    assert!(output.status.success(), "{output:?}");
    assert!(!text(&output).1.contains("WARNING"), "{output:?}");
}

/// There is nothing to rely on.
fn nothing_received_needs_no_warning() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let output = on_an_old_kernel(&sent.incremental, &[], to.path());
    assert!(!output.status.success());
    assert_eq!(warnings(&output), 0, "{output:?}");
}
