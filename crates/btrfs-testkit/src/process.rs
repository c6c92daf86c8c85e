//! Commands run as the processes they are.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs a command with `input` on a pipe as standard input, and waits for it. Of
/// its output, what the caller has piped is returned.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The command may end before it has read everything.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

/// The same; both its outputs are returned.
pub fn output_with_input(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    run_with_input(pipes, input)
}
