//! The reference sender and receiver.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tool;

/// A run of `btrfs send`.
#[derive(Clone, Debug)]
pub struct Sender {
    snapshots: Vec<PathBuf>,
    parent: Option<PathBuf>,
    clone_sources: Vec<PathBuf>,
    options: Vec<String>,
}

impl Sender {
    /// Sends one snapshot, in full unless told otherwise.
    pub fn new(snapshot: &Path) -> Self {
        Self::several([snapshot])
    }

    /// Sends several snapshots into one stream, one after the other.
    pub fn several<'a>(snapshots: impl IntoIterator<Item = &'a Path>) -> Self {
        Self {
            snapshots: snapshots.into_iter().map(Path::to_owned).collect(),
            parent: None,
            clone_sources: Vec::new(),
            options: Vec::new(),
        }
    }

    /// Sends the difference to `parent`.
    pub fn parent(mut self, parent: &Path) -> Self {
        self.parent = Some(parent.to_owned());
        self
    }

    /// Lets the sender clone from `source` too.
    pub fn clone_source(mut self, source: &Path) -> Self {
        self.clone_sources.push(source.to_owned());
        self
    }

    /// Sets the version of the stream; 1 unless set, 0 for the kernel's highest,
    /// which serves for a higher one too.
    pub fn version(self, version: u32) -> Self {
        let version = version.min(Self::highest_version());
        self.option("--proto").option(&version.to_string())
    }

    /// Sends compressed extents as they are (version 2), if the kernel does.
    pub fn compressed(self) -> Self {
        match Self::highest_version() {
            ..2 => self,
            _ => self.option("--compressed-data"),
        }
    }

    /// The highest version that this kernel sends.
    pub fn highest_version() -> u32 {
        let version = std::fs::read_to_string("/sys/fs/btrfs/features/send_stream_version");
        // Kernels without that file send version 1.
        version.map_or(1, |version| version.trim().parse().unwrap())
    }

    /// Leaves out the data (`--no-data`).
    pub fn no_data(self) -> Self {
        self.option("--no-data")
    }

    /// Leaves out END between the snapshots (`-e`).
    pub fn omit_end(self) -> Self {
        self.option("-e")
    }

    /// Returns the stream.
    ///
    /// # Panics
    ///
    /// If `btrfs send` fails, with what it said.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut command = self.command();
        let output = tool::output_of(command.stdin(Stdio::null()));
        output.unwrap_or_else(|error| panic!("{error}")).stdout
    }

    /// The command, ready to be started with its output where it is wanted.
    pub fn command(&self) -> Command {
        let mut command = Command::new("btrfs");
        command.args(["--quiet", "send"]).args(&self.options);
        if let Some(parent) = &self.parent {
            command.arg("-p").arg(parent);
        }
        for source in &self.clone_sources {
            command.arg("-c").arg(source);
        }
        command.args(&self.snapshots);
        command
    }

    fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }
}

/// Receives a stream into `directory` with the reference implementation.
///
/// # Errors
///
/// What `btrfs receive` said, if it failed.
pub fn reference_receive(stream: &[u8], directory: &Path) -> Result<(), String> {
    let mut command = Command::new("btrfs");
    command.args(["--quiet", "receive"]).arg(directory);
    let input = file_of(stream).map_err(|error| error.to_string())?;
    tool::output_of(command.stdin(input)).map(drop)
}

/// An unnamed file with the bytes, to be a program's standard input.
fn file_of(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}
