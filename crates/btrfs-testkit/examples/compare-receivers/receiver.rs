//! The two programs, run alike.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_testkit::raw::RawStream;
use btrfs_testkit::subvolume;

use crate::first_line;

/// After this many seconds a receive has hung, or does not end by itself.
const PATIENCE: &str = "5";

/// What `timeout` exits with when it had to stop the program.
const TIMED_OUT: i32 = 124;

/// A program that takes the options of `btrfs receive`.
pub(crate) struct Receiver {
    program: PathBuf,
    verb: Option<&'static str>,
}

/// How a receive ended.
pub(crate) struct Ended {
    /// The exit status, or the signal, or that there was none.
    pub(crate) how: String,
    /// It claims success.
    pub(crate) success: bool,
    /// Lines on standard error.
    pub(crate) lines: usize,
}

impl Receiver {
    /// `btrfs receive` from the path.
    pub(crate) fn reference() -> Self {
        Self {
            program: "btrfs".into(),
            verb: Some("receive"),
        }
    }

    /// `btrfs-recv-rs` from the environment, or from the build that this
    /// program belongs to.
    pub(crate) fn ours() -> Result<Self, String> {
        let beside = || -> Option<PathBuf> {
            let example = std::env::current_exe().ok()?;
            Some(example.parent()?.parent()?.join("btrfs-recv-rs"))
        };
        let program = std::env::var_os("BTRFS_RECV_RS").map(PathBuf::from);
        let program = program.or_else(beside).unwrap_or_default();
        match program.is_file() {
            true => Ok(Self {
                program,
                verb: None,
            }),
            false => Err("not built: cargo build -p btrfs-recv-rs".to_owned()),
        }
    }

    pub(crate) fn version(&self) -> String {
        first_line(Command::new(&self.program).arg("--version"))
    }

    /// Receives a stream from a file on standard input.
    pub(crate) fn run(&self, stream: RawStream, options: &[&str], directory: &Path) -> Ended {
        let mut input = tempfile::tempfile().expect("a temporary file");
        input
            .write_all(&stream.into_bytes())
            .and_then(|()| input.rewind())
            .expect("room for a stream");
        self.run_with(Some(input), options, directory)
    }

    pub(crate) fn run_with(
        &self,
        input: Option<File>,
        options: &[&str],
        directory: &Path,
    ) -> Ended {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", PATIENCE]).arg(&self.program);
        command.args(self.verb).args(options).arg(directory);
        let output = command
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .env("LC_ALL", "C")
            .output()
            .expect("timeout(1)");
        Ended::new(&output)
    }
}

impl Ended {
    fn new(output: &Output) -> Self {
        let how = match (output.status.code(), output.status.signal()) {
            (Some(TIMED_OUT | 137), _) | (_, Some(9)) => "**does not end**".to_owned(),
            (Some(code @ 129..=159), _) => format!("**dies by signal {}**", code - 128),
            (Some(0), _) => "exit 0".to_owned(),
            (Some(code), _) => format!("exit {code}"),
            (None, signal) => format!("**dies by signal {}**", signal.unwrap_or_default()),
        };
        Self {
            how,
            success: output.status.success(),
            lines: output.stderr.iter().filter(|&&byte| byte == b'\n').count(),
        }
    }
}

/// What became of a subvolume, in words.
pub(crate) fn state(path: &Path) -> &'static str {
    if !path.exists() {
        return "no subvolume";
    }
    let facts = subvolume::facts(path);
    match (facts.received_uuid.is_some(), facts.read_only) {
        (true, true) => "stamped",
        (false, false) => "not stamped",
        (true, false) => "**stamped but writable**",
        (false, true) => "**read-only without stamp**",
    }
}
