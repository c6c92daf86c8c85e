//! Programs that run while a test does.

use std::process::{Child, Command};

/// A program with mounts and processes of its own, which end with it: when
/// this is dropped, and if the test is killed.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// The command line that a program is to be added to.
    pub(crate) fn command() -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid"])
            .args(["--fork", "--kill-child", "--mount-proc"]);
        command
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
