//! What these tests share.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_lineage::{Inventory, Resolver};
use btrfs_receive::{BtrfsDestination, Receiver};

/// The command under test.
pub(crate) fn lineage<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btrfs-lineage"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What the command printed, if it succeeded.
#[track_caller]
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command said on standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Receives with the receiver of this repository.
pub(crate) fn receive(stream: &[u8], into: &Path) -> Result<(), String> {
    let destination = BtrfsDestination::open(into).map_err(|error| error.to_string())?;
    let received = Receiver::new(destination).receive(stream, &mut ());
    received.map(drop).map_err(|error| error.to_string())
}

/// Describes the filesystem that a directory lies on.
pub(crate) fn inventory(directory: &Path) -> Inventory {
    Resolver::new(File::open(directory).unwrap())
        .unwrap()
        .inventory()
}

/// Writes the inventory of the filesystem at `path` as another host would get it.
pub(crate) fn write_inventory(path: &Path, to: &Path) -> PathBuf {
    let text = printed(lineage(["inventory", "--json"]).arg(path));
    std::fs::write(to, text).unwrap();
    to.to_owned()
}

/// Gives the words of standard output to `btrfs send`, as a shell would, and
/// returns the stream.
pub(crate) fn send(arguments: &[u8], snapshot: &Path) -> Result<Vec<u8>, String> {
    use std::os::unix::ffi::OsStrExt;

    let script = [
        b"exec btrfs --quiet send ",
        arguments.trim_ascii_end(),
        b" \"$0\"",
    ]
    .concat();
    let output = Command::new("sh")
        .arg("-c")
        .arg(OsStr::from_bytes(&script))
        .arg(snapshot)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(said(&output))
}
