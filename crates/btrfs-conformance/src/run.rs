//! Adapters as processes.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use serde_json::Value;

use crate::judge::Omits;
use crate::report::{self, End, Report};

/// How long an adapter may take for a stream.
pub const TIME: Duration = Duration::from_secs(20);

/// How many bytes of memory of its own an adapter may have: the streams are small, but
/// some claim to be large.
const MEMORY: u64 = 1 << 30;

/// How many bytes it may print.
const OUTPUT: u64 = 64 << 20;

/// A program that reports what a parser says.
#[derive(Clone, Debug)]
pub struct Adapter {
    program: PathBuf,
    /// The parser's name.
    pub name: String,
    /// The parser's version.
    pub version: String,
    /// What its reports do not have.
    pub omits: Omits,
}

impl Adapter {
    /// Asks an adapter what it is.
    ///
    /// # Errors
    ///
    /// A text, if it cannot be started or does not describe itself.
    pub fn start(program: &Path) -> Result<Self, String> {
        let fail = |why: &str| format!("{}: {why}", program.display());
        let mut command = Command::new(program);
        command.arg("--describe");
        let output = answer(command, &[], TIME).map_err(|why| fail(&why))?;
        let description: Value =
            serde_json::from_slice(&output).map_err(|_| fail("--describe prints no JSON"))?;
        let text = |key: &str| {
            let text = description.get(key).and_then(Value::as_str);
            text.map(str::to_owned)
                .ok_or_else(|| fail(&format!("its description has no {key}")))
        };
        let omits = description.get("omits").and_then(Value::as_array);
        let omits = omits.ok_or_else(|| fail("its description has no omits"))?;
        let omits = omits.iter().map(|name| name.as_str().unwrap_or_default());
        Ok(Self {
            program: program.to_owned(),
            name: text("name")?,
            version: text("version")?,
            omits: Omits::parse(omits).map_err(|why| fail(&why))?,
        })
    }

    /// What the parser says of an input.
    pub fn report(&self, input: &[u8], time: Duration) -> Report {
        answer(Command::new(&self.program), input, time).map_or_else(
            |why| Report {
                items: Vec::new(),
                end: End::Crashed(why),
            },
            |output| report::parse(&output),
        )
    }
}

/// The standard output of a command that is given `input`.
fn answer(mut command: Command, input: &[u8], time: Duration) -> Result<Vec<u8>, String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // With what it starts itself, so that all of it can be ended.
        .process_group(0);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        limit_memory(pid);
    }
    // The threads are not waited for: a process that left the group may have the pipes.
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // An adapter may end before it has read everything.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut output = Vec::new();
            let read = stdout.take(OUTPUT).read_to_end(&mut output);
            let _ = sender.send(read.map(|_| output));
        });
    }
    let output = receiver.recv_timeout(time);
    // They may have ended already.
    let _ = pid.map(|pid| kill_process_group(pid, Signal::KILL));
    // An adapter can be in another group by now.
    let _ = child.kill();
    let _ = child.wait();
    match output {
        Ok(output) => output.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer after {} s", time.as_secs())),
    }
}

fn limit_memory(pid: Pid) {
    let limit = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    // It may have ended already.
    let _ = prlimit(Some(pid), Resource::Data, limit);
}
