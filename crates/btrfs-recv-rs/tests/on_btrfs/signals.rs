//! What signals do to a receive.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};

use crate::support::{Sent, command};
use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};
use rustix::process::{Pid, Signal, kill_process};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(stops_says_what_it_leaves_and_dies_by_it, Stop::Hangup, ""),
        test!(
            stops_says_what_it_leaves_and_dies_by_it,
            Stop::Interrupt,
            ""
        ),
        test!(
            stops_says_what_it_leaves_and_dies_by_it,
            Stop::Terminate,
            ""
        ),
        test!(
            stops_says_what_it_leaves_and_dies_by_it,
            Stop::Interrupt,
            "--buffer=1M"
        ),
        test!(an_ignored_signal_stays_ignored),
        test!(a_dump_dies_at_once),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    Hangup,
    Interrupt,
    Terminate,
}

impl Stop {
    fn signal(self) -> (Signal, &'static str) {
        match self {
            Self::Hangup => (Signal::HUP, "SIGHUP"),
            Self::Interrupt => (Signal::INT, "SIGINT"),
            Self::Terminate => (Signal::TERM, "SIGTERM"),
        }
    }
}

/// A receive that has begun and waits for the rest of its stream.
struct Waiting {
    child: Child,
    stdin: ChildStdin,
    stderr: BufReader<ChildStderr>,
}

impl Waiting {
    fn start(mut command: Command, stream: &[u8]) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(stream).unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert_eq!(line, "At subvol first\n");
        Self {
            child,
            stdin,
            stderr,
        }
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// A receive into `to` that ignores no signal, whatever the tests inherited:
/// SIGHUP is ignored under nohup, SIGINT in the background of a script.
fn listening(to: &Path) -> Command {
    let mut env = Command::new("env");
    env.arg("--default-signal=HUP,INT,TERM")
        .arg(command(&[]).get_program())
        .arg(to)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    env
}

fn assert_partial(path: &Path) {
    let facts = subvolume::facts(path);
    assert!(!facts.read_only && facts.received_uuid.is_none());
}

fn stops_says_what_it_leaves_and_dies_by_it(stop: Stop, option: &str) {
    let (signal, name) = stop.signal();
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let mut receive = listening(to.path());
    receive.args(Some(option).filter(|it| !it.is_empty()));
    let mut waiting = Waiting::start(receive, &sent.full[..sent.full.len() - 30]);
    waiting.send(signal);
    // The pipe stays open: it is the signal that ends the read.
    let status = waiting.child.wait().unwrap();
    assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    assert_eq!(
        waiting.rest(),
        format!(
            "ERROR: stopped by {name}\n\
             ERROR: {path} is incomplete, writable and without received UUID; \
             delete it (btrfs subvolume delete {path}) before receiving again\n",
            path = to.path().join("first").display()
        )
    );
    assert_partial(&to.path().join("first"));
}

fn an_ignored_signal_stays_ignored() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let mut nohup = Command::new("sh");
    nohup
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(command(&[]).get_program())
        .arg(to.path())
        .stderr(Stdio::piped());
    let (begin, rest) = sent.full.split_at(sent.full.len() - 30);
    let mut waiting = Waiting::start(nohup, begin);
    waiting.send(Signal::HUP);
    waiting.stdin.write_all(rest).unwrap();
    let Waiting {
        mut child, stdin, ..
    } = waiting;
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(subvolume::facts(&to.path().join("first")).read_only);
}

fn a_dump_dies_at_once() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut child = command(&["--dump"]).stdin(reader).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}
