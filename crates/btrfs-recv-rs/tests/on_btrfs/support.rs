//! What the tests of the command share.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use btrfs_sendstream::{CommandRef, Version, Writer};
pub(crate) use btrfs_testkit::run_with_input;
use btrfs_testkit::{LoopFilesystem, Sample, Sender, subvolume};

/// Two read-only snapshots, `first` and `second`, and their streams.
pub(crate) struct Sent {
    /// Holds the snapshots.
    pub(crate) from: LoopFilesystem,
    /// The full stream of `first`.
    pub(crate) full: Vec<u8>,
    /// The incremental one of `second`.
    pub(crate) incremental: Vec<u8>,
}

impl Sent {
    /// Every kind of file.
    pub(crate) fn new() -> Self {
        Self::with(
            |work| Sample::default().build(work),
            |work| Sample::default().change(work),
        )
    }

    /// One file, which gets another size and mode.
    pub(crate) fn small() -> Self {
        let build = |work: &Path| fs::write(work.join("file"), b"hello").unwrap();
        let change = |work: &Path| {
            let file = fs::File::options().write(true).open(work.join("file"));
            let file = file.unwrap();
            file.set_len(3).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
            file.set_permissions(mode).unwrap();
        };
        Self::with(build, change)
    }

    fn with(build: impl FnOnce(&Path), change: impl FnOnce(&Path)) -> Self {
        let from = LoopFilesystem::new();
        let work = subvolume::create(&from.path().join("work"));
        build(&work);
        let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
        change(&work);
        let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
        let full = Sender::new(&first).version(2).to_vec();
        let incremental = Sender::new(&second).parent(&first).version(2).to_vec();
        Self {
            from,
            full,
            incremental,
        }
    }
}

/// The command under test.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"));
    command
        .args(args)
        .env_remove("POSIXLY_CORRECT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Receives `stream`, written to a pipe, into `destination`.
pub(crate) fn receive(stream: &[u8], options: &[&str], destination: &Path) -> Output {
    run_with_input(command(options).arg(destination), stream)
}

/// A stream of version 1 that holds `commands`.
pub(crate) fn encode(version: Version, commands: &[CommandRef<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.header(version).unwrap();
    for command in commands {
        writer.command(command).unwrap();
    }
    writer.finish().unwrap()
}

/// Standard output and standard error.
pub(crate) fn text(output: &Output) -> (&str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// The names in a directory, sorted.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
