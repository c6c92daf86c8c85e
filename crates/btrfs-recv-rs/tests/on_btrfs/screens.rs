//! What a person sees at a terminal, as tmux captures it.

use std::fs::File;
use std::io::Write;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use btrfs_sendstream::{Command, StreamPath, SubvolumeName, Uuid, Version};
use btrfs_testkit::{LoopFilesystem, Test, test};

use crate::support::{command, encode, run_with_input, text};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_line_comes_and_goes, 80),
        test!(a_line_comes_and_goes, 40),
        test!(no_terminal_no_progress),
    ]
}

/// How long to wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal of its own, in a server of its own.
struct Terminal {
    server: String,
}

impl Terminal {
    /// Runs `script` with a shell; `None` if there is no tmux.
    fn start(columns: u32, script: &str) -> Option<Self> {
        let server = format!("btrfs-recv-rs-{}-{columns}", std::process::id());
        let this = Self { server };
        let columns = columns.to_string();
        let arguments = ["new-session", "-d", "-x", &columns, "-y", "12", script];
        let started = this.tmux(&arguments);
        let required = std::env::var_os("BTRFS_TESTS").is_some_and(|it| it == "required");
        match started {
            Some(_) => Some(this),
            None if required => panic!("tmux is missing"),
            None => None,
        }
    }

    fn tmux(&self, arguments: &[&str]) -> Option<String> {
        let mut tmux = Process::new("tmux");
        tmux.args(["-L", &self.server, "-f", "/dev/null"])
            .args(arguments);
        let output = tmux.env("LC_ALL", "C.UTF-8").output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    }

    /// The screen, once it is as it should be.
    #[track_caller]
    fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]).unwrap_or_default();
            if is_there(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "no {what}:\n{screen}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// 8 MiB of data in one file.
fn stream() -> Vec<u8> {
    let data = vec![7; 128 << 10];
    let path = || StreamPath::parse(&b"file"[..]).unwrap();
    let mut commands = vec![
        Command::Subvol {
            name: SubvolumeName::parse(&b"monday"[..]).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 1,
        },
        Command::Mkfile {
            path: path(),
            ino: 257,
        },
    ];
    commands.extend((0..64).map(|index| Command::Write {
        path: path(),
        offset: index << 17,
        data: &data[..],
    }));
    commands.push(Command::End);
    encode(Version::V2, &commands)
}

fn a_line_comes_and_goes(columns: u32) {
    let to = LoopFilesystem::new();
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let stream = stream();
    let script = format!(
        "{} --size={} {} <{}; echo status $?; read -r never",
        command(&[]).get_program().display(),
        stream.len(),
        to.path().display(),
        fifo.display()
    );
    let Some(terminal) = Terminal::start(columns, &script) else {
        return;
    };
    let mut writer = File::options().write(true).open(&fifo).unwrap();
    let (begin, rest) = stream.split_at(stream.len().div_ceil(4));
    let percent = |screen: &str, percent: &str| {
        let mut lines = screen.lines();
        lines.any(|line| line.trim_start().starts_with(percent) && line.contains("/s"))
    };
    let screen = terminal.wait_for("line at the start", |screen| percent(screen, "0%"));
    show("start", columns, &screen);
    writer.write_all(begin).unwrap();
    let screen = terminal.wait_for("line in the middle", |screen| percent(screen, "25%"));
    show("middle", columns, &screen);
    // One message, and the line below it.
    let lines: Vec<_> = screen.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2, "{screen}");
    assert_eq!(lines[0], "At subvol monday");
    assert!(
        lines[1].starts_with(" 25%  2.0 MiB of 8.0 MiB  "),
        "{screen}"
    );
    assert!(lines[1].len() < columns as usize, "{screen}");
    assert_eq!(lines[1].ends_with("  monday"), columns == 80, "{screen}");
    writer.write_all(rest).unwrap();
    drop(writer);
    let screen = terminal.wait_for("end", |screen| screen.contains("status"));
    show("end", columns, &screen);
    assert_eq!(screen.trim_end(), "At subvol monday\nstatus 0");
}

/// For a person who runs the test with `--nocapture`.
fn show(when: &str, columns: u32, screen: &str) {
    println!("--- {when}, {columns} columns\n{}", screen.trim_end());
}

fn no_terminal_no_progress() {
    for options in [&[][..], &["--progress"], &["--size=8M"]] {
        let to = LoopFilesystem::new();
        let output = run_with_input(command(options).arg(to.path()), &stream());
        assert!(output.status.success(), "{output:?}");
        // Ten seconds do not pass.
        assert_eq!(text(&output), ("", "At subvol monday\n"));
    }
}
