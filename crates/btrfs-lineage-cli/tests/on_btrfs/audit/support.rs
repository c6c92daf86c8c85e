//! What these tests share.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::{LoopFilesystem, Sender, files, reference_receive, subvolume};

/// A host with a snapshot `monday`, and the stream of it.
pub(crate) struct Sent {
    pub(crate) from: LoopFilesystem,
    pub(crate) full: Vec<u8>,
}

impl Sent {
    pub(crate) fn new() -> Self {
        let from = LoopFilesystem::new();
        let work = subvolume::create(&from.path().join("work"));
        build(&work);
        let monday = subvolume::snapshot_read_only(&work, &from.path().join("monday"));
        let full = Sender::new(&monday).to_vec();
        Self { from, full }
    }

    /// A snapshot `tuesday`, which has one file more: its stream based on `monday`.
    pub(crate) fn incremental(&self) -> Vec<u8> {
        let work = self.from.path().join("work");
        fs::write(work.join("d/tuesday"), b"tuesday").unwrap();
        let tuesday = subvolume::snapshot_read_only(&work, &self.from.path().join("tuesday"));
        let monday = self.from.path().join("monday");
        Sender::new(&tuesday).parent(&monday).to_vec()
    }
}

/// Files whose data has blocks of its own, so that it is written late.
fn build(work: &Path) {
    fs::create_dir_all(work.join("d/e")).unwrap();
    fs::create_dir(work.join("empty")).unwrap();
    fs::write(work.join("top"), b"top").unwrap();
    for number in 0..20 {
        let data = files::pattern(number, 20_000, false);
        fs::write(work.join(format!("d/f{number}")), data).unwrap();
    }
    files::set_xattr(&work.join("d/f2"), "user.a", b"b").unwrap();
}

/// Which program receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The library of this project.
    Ours,
    /// `btrfs receive`.
    Progs,
}

/// Receives a stream of `monday` into `to`.
pub(crate) fn receive(by: By, stream: &[u8], to: &Path) -> PathBuf {
    match by {
        By::Ours => {
            let destination = BtrfsDestination::open(to).unwrap();
            let report = Receiver::new(destination).receive(stream, &mut ());
            report.unwrap();
        }
        By::Progs => reference_receive(stream, to).unwrap(),
    }
    to.join("monday")
}

/// A host to which `monday` was sent.
pub(crate) fn received(by: By) -> (LoopFilesystem, PathBuf) {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let monday = receive(by, &sent.full, to.path());
    (to, monday)
}

/// Changes a received subvolume as somebody does who calls the ioctl.
pub(crate) fn change(subvolume: &Path, change: impl FnOnce(&Path)) {
    subvolume::flip(subvolume, false);
    change(subvolume);
    subvolume::flip(subvolume, true);
}

/// Returns when the clock of the filesystem, which ticks every few milliseconds, shows
/// another time.
pub(crate) fn let_the_clock_tick(top: &Path) {
    let probe = top.join("probe");
    let now = || {
        fs::write(&probe, b"probe").unwrap();
        let meta = fs::metadata(&probe).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let before = now();
    while now() == before {}
    fs::remove_file(probe).unwrap();
}

/// Runs a script in a directory.
#[track_caller]
pub(crate) fn sh(directory: &Path, script: &str) {
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(directory)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

/// `btrfs-lineage audit` with these arguments.
pub(crate) fn audit<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btrfs-lineage"));
    command.arg("audit").args(arguments).env("TZ", "UTC");
    command.output().unwrap()
}

/// The exit status, and what was printed.
pub(crate) fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().unwrap();
    (status, text(&output.stdout), text(&output.stderr))
}

/// Nothing is found on this filesystem.
#[track_caller]
pub(crate) fn assert_clean(path: &Path) {
    let (status, stdout, stderr) = outcome(&audit([path]));
    assert_eq!((status, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.ends_with("no problem was found\n"), "{stdout}");
}

/// Something is found; returns what is printed.
#[track_caller]
pub(crate) fn assert_found(path: &Path, text: &[&str]) -> String {
    let (status, stdout, stderr) = outcome(&audit([path]));
    assert_eq!((status, stderr.as_str()), (1, ""), "{stdout}");
    for text in text {
        assert!(stdout.contains(text), "no {text:?} in:\n{stdout}");
    }
    stdout
}

/// The commands that are printed as what to do, each under its purpose.
pub(crate) fn commands(printed: &str) -> Vec<(String, String)> {
    let lines: Vec<_> = printed.lines().collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let purpose = pair[0].strip_prefix("  - ")?.strip_suffix(':')?;
        let command = pair[1].strip_prefix("      ")?;
        Some((purpose.to_owned(), command.to_owned()))
    });
    pairs.collect()
}

/// Carries out what is printed for a purpose.
#[track_caller]
pub(crate) fn carry_out(printed: &str, purpose: &str) -> String {
    let all = commands(printed);
    let found = all.iter().find(|(it, _)| it.contains(purpose));
    let (_, command) = found.unwrap_or_else(|| panic!("nothing for {purpose:?} in:\n{printed}"));
    let output = Command::new("bash").args(["-ec", command]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
