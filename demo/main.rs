//! `cargo demo`: builds the command, and then runs `demo.sh` with it.

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

fn main() -> ExitCode {
    match demo() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<ExitStatus, Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let built = Command::new(cargo)
        .args(["build", "--package", "btrfs-recv-rs"])
        .current_dir(here)
        .status()?;
    if !built.success() {
        return Ok(built);
    }
    // The command is built beside this program.
    let program = std::env::current_exe()?.with_file_name("btrfs-recv-rs");
    let streams = here.with_file_name("testdata").join("streams");
    let script = here.join("demo.sh");
    let demo = Command::new("sh")
        .arg(script)
        .arg(program)
        .arg(streams)
        .status()?;
    Ok(demo)
}
