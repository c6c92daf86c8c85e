//! Running the programs the kit leans on.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Runs `program` and returns what it printed on standard output.
///
/// # Errors
///
/// A message with the command line, the exit status and standard error, if
/// the program cannot be started or fails.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    output_of(&mut command).map(|output| output.stdout)
}

/// Like [`run`], again if the error contains `passing`, which something that other tests do
/// at that moment can cause; 100 times at most.
pub(crate) fn run_past<S: AsRef<OsStr>>(
    passing: &str,
    program: impl AsRef<OsStr>,
    arguments: &[S],
) -> Result<(), String> {
    let mut tries = 0;
    while let Err(error) = run(&program, arguments) {
        tries += 1;
        if tries == 100 || !error.contains(passing) {
            return Err(error);
        }
    }
    Ok(())
}

/// Like [`run`], for a command already put together.
pub(crate) fn output_of(command: &mut Command) -> Result<Output, String> {
    let output = command
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    check(command, output)
}

/// Turns a failed exit into a message.
pub(crate) fn check(command: &Command, output: Output) -> Result<Output, String> {
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{stderr}", output.status))
}
