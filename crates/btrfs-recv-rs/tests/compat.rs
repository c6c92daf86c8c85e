//! The same input to `btrfs receive` and to this command: same exit status,
//! same standard output, same lines on standard error.
//!
//! docs/differences.md lists what may differ. Of that, control characters are
//! made the same here, see [`as_reference`]; the rest is not asked for.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use btrfs_testkit::raw::{RawStream, attr};
use btrfs_testkit::{LoopFilesystem, Mount, Sample, Sender, Test, subvolume, test};

/// The name of the side that is compared with.
const REFERENCE: &str = "btrfs receive";

/// Levels 0 to 3 of what is told.
const LEVELS: [&[&str]; 4] = [&["-q"], &[], &["-v"], &["-vv"]];

/// Streams of testdata/streams that follow each other.
const SAMPLES: [&[&str]; 8] = [
    &["full.v1", "incr.v1", "incr-swap.v1"],
    &["full.v2", "incr.v2", "incr-clone.v2"],
    &["multi.v1"],
    &["multi-one-end.v1"],
    &["concat-mixed"],
    &["encoded-zlib.v2"],
    &["encoded-lzo.v2"],
    &["encoded-zstd.v2"],
];

/// One of the two commands, and where it receives.
struct Side {
    name: &'static str,
    filesystem: LoopFilesystem,
}

/// Both, with the same files around them.
struct Sides {
    reference: Side,
    ours: Side,
}

impl Sides {
    fn new() -> Self {
        let side = |name| Side {
            name,
            filesystem: LoopFilesystem::new(),
        };
        Self {
            reference: side(REFERENCE),
            ours: side("btrfs-recv-rs"),
        }
    }

    /// Runs both with the same options, and compares what they say; `args`
    /// makes the arguments from the destination.
    fn compare(&self, what: &str, stream: &[u8], args: impl Fn(&Path) -> Vec<String>) {
        self.compare_as(what, stream, args, |heard| heard);
    }

    /// As [`compare`](Self::compare), of what `part` takes from the outcome.
    fn compare_as<P: PartialEq + Debug>(
        &self,
        what: &str,
        stream: &[u8],
        args: impl Fn(&Path) -> Vec<String>,
        part: impl Fn(Heard) -> P,
    ) {
        let [theirs, ours] = [&self.reference, &self.ours].map(|side| {
            let mut command = side.command();
            command.args(args(side.filesystem.path()));
            let output = command.stdin(file_of(stream)).output().unwrap();
            part(side.heard(output))
        });
        assert_eq!(ours, theirs, "{what}: ours on the left");
    }

    /// Removes everything received.
    fn clear(&self) {
        for side in [&self.reference, &self.ours] {
            for entry in std::fs::read_dir(side.filesystem.path()).unwrap() {
                subvolume::delete(&entry.unwrap().path());
            }
        }
    }
}

/// Exit status, standard output, standard error.
type Heard = (Option<i32>, String, String);

impl Side {
    fn command(&self) -> Command {
        let mut command = match self.name {
            REFERENCE => {
                let mut command = Command::new("btrfs");
                command.arg("receive");
                command
            }
            _ => Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs")),
        };
        command
            .env_remove("POSIXLY_CORRECT")
            .env("LC_ALL", "C")
            .current_dir(self.filesystem.path())
            .stdin(Stdio::null());
        command
    }

    fn heard(&self, output: Output) -> Heard {
        let place = self.filesystem.path().to_str().unwrap();
        let text = |bytes: Vec<u8>| {
            let bytes = match self.name {
                REFERENCE => bytes,
                _ => as_reference(&bytes),
            };
            bytes.escape_ascii().to_string().replace(place, "DEST")
        };
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

/// What the reference would have written: it says nothing of causes, remedies
/// and time, and where this command escapes control characters, these are raw,
/// and the value of an attribute ends at NUL.
fn as_reference(ours: &[u8]) -> Vec<u8> {
    let mut theirs = Vec::new();
    let said = ours.split_inclusive(|&byte| byte == b'\n');
    let more: [&[u8]; 2] = [b"ERROR:   ", b"receive took "];
    for line in said.filter(|line| !more.iter().any(|it| line.starts_with(it))) {
        let nul = find(line, b" data=").and_then(|at| Some(at + find(&line[at..], br"\000")?));
        match nul {
            Some(nul) if line.starts_with(b"set_xattr ") => {
                unescape(&line[..nul], &mut theirs);
                theirs.push(b'\n');
            }
            _ => unescape(line, &mut theirs),
        }
    }
    theirs
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Undoes the escapes of control characters; a backslash before anything
/// else is part of a name.
fn unescape(mut text: &[u8], into: &mut Vec<u8>) {
    const LETTERS: [(u8, u8); 8] = [
        (b'a', 7),
        (b'b', 8),
        (b'e', 27),
        (b'f', 12),
        (b'n', b'\n'),
        (b'r', b'\r'),
        (b't', b'\t'),
        (b'v', 11),
    ];
    while let [first, rest @ ..] = text {
        let (byte, len) = match rest {
            _ if *first != b'\\' => (*first, 1),
            [a @ b'0'..=b'1', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                let digits = [a, b, c].map(|digit| digit - b'0');
                (digits.iter().fold(0, |byte, digit| byte * 8 + digit), 4)
            }
            [letter, ..] => match LETTERS.iter().find(|(name, _)| name == letter) {
                Some((_, byte)) => (*byte, 2),
                None => (*first, 1),
            },
            [] => (*first, 1),
        };
        into.push(byte);
        text = &text[len..];
    }
}

fn file_of(stream: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(stream).unwrap();
    file.rewind().unwrap();
    file
}

fn sample(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    std::fs::read(root.join(format!("{name}.stream"))).unwrap()
}

fn with_options(options: &[&str]) -> impl Fn(&Path) -> Vec<String> {
    let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
    move |destination| {
        let mut args = options.clone();
        args.push(destination.to_str().unwrap().to_owned());
        args
    }
}

fn samples_sound_the_same(level: usize) {
    let sides = Sides::new();
    // A kernel that takes no encoded writes makes both decode them, and each says
    // so in its own way.
    let decodes = Sender::highest_version() < 2;
    for chain in SAMPLES {
        if decodes && chain[0].starts_with("encoded") {
            continue;
        }
        for name in chain {
            let what = format!("{name} {:?}", LEVELS[level]);
            sides.compare(&what, &sample(name), with_options(LEVELS[level]));
        }
        sides.clear();
    }
}

fn streams_can_be_left_and_decompressed() {
    let sides = Sides::new();
    for (name, options) in [
        ("multi.v1", &["-e"][..]),
        ("concat-mixed", &["-e", "-v"]),
        ("multi-one-end.v1", &["-e"]),
        ("encoded-zlib.v2", &["--force-decompress", "-vv"]),
        ("encoded-lzo.v2", &["--force-decompress", "-vv"]),
        ("encoded-zstd.v2", &["--force-decompress", "-vv"]),
    ] {
        sides.compare(name, &sample(name), with_options(options));
        sides.clear();
    }
}

/// A full stream and an incremental one of the sample tree.
fn fresh(version: u32) -> (LoopFilesystem, [Vec<u8>; 2]) {
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    Sample::for_reference().build(&work);
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    Sample::for_reference().change(&work);
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    let sender = |snapshot: &PathBuf| Sender::new(snapshot).version(version);
    let streams = [
        sender(&first).to_vec(),
        sender(&second).parent(&first).to_vec(),
    ];
    (from, streams)
}

fn a_fresh_send_sounds_the_same(version: u32) {
    let (_from, streams) = fresh(version);
    let sides = Sides::new();
    for options in LEVELS {
        for stream in &streams {
            let what = format!("version {version} {options:?}");
            sides.compare(&what, stream, with_options(options));
        }
        sides.clear();
    }
}

fn options_and_paths_mean_the_same() {
    let sides = Sides::new();
    let stream = sample("full.v1");
    let spellings: &[&[&str]] = &[
        &["DEST", "-v"],
        &["-v", "--", "DEST"],
        &["-v", "-q", "DEST"],
        &["-q", "-v", "DEST"],
        &["-qv", "DEST"],
        &["-vqv", "DEST", "-v"],
        &["DEST", "-eE0", "--quie"],
        &["-vE", "3", "DEST", "--"],
        &["DEST", "-f", ""],
        &["--quiet", "DEST"],
        &["--max-errors=0", "DEST/"],
        &["-E0", "DEST//"],
        &["--max-e", "3", "DEST"],
        &["-e", "DEST/."],
        &["."],
        &["./"],
        &["-f", "", "--", "."],
        &["DEST", "--force-decompress"],
        &["--forc", "-ve", "--", "DEST"],
        &["-E", "", "DEST"],
        &["--max-errors=", "DEST"],
        &["--max-errors", "1", "--chroot", "DEST"],
        &["-C", "."],
        &["--chr", "DEST/"],
        &["-m", "DEST", "DEST"],
        &["-mDEST", "."],
    ];
    for spelling in spellings {
        sides.compare(&format!("{spelling:?}"), &stream, |destination| {
            let name = destination.to_str().unwrap();
            spelling
                .iter()
                .map(|arg| arg.replace("DEST", name))
                .collect()
        });
        sides.clear();
    }
}

fn a_magic_link_is_a_destination() {
    let sides = Sides::new();
    let mut stream = tempfile::NamedTempFile::new().unwrap();
    stream.write_all(&sample("full.v1")).unwrap();
    let heard = [&sides.reference, &sides.ours].map(|side| {
        let mut command = side.command();
        command.arg("-f").arg(stream.path()).arg("/proc/self/fd/0");
        let directory = File::open(side.filesystem.path()).unwrap();
        side.heard(command.stdin(directory).output().unwrap())
    });
    assert_eq!(heard[1], heard[0]);
    assert_eq!(heard[1].0, Some(0));
}

fn the_name_btrfs_receive_is_enough() {
    let sides = Sides::new();
    let stream = sample("full.v1");
    let side = &sides.ours;
    let mut command = side.command();
    command.arg0("btrfs-receive").arg(".");
    let ours = side.heard(command.stdin(file_of(&stream)).output().unwrap());
    let side = &sides.reference;
    let mut command = side.command();
    let theirs = side.heard(command.arg(".").stdin(file_of(&stream)).output().unwrap());
    assert_eq!(ours, theirs);
}

fn destinations_that_are_none_fail_alike() {
    let sides = Sides::new();
    let plain = Mount::tmpfs(1 << 20);
    let plain = plain.path().to_str().unwrap().to_owned();
    for destination in ["/no/such", &plain] {
        sides.compare(destination, &sample("full.v1"), |_| {
            vec![destination.to_owned()]
        });
    }
    // Ours goes on to say what may be the reason.
    sides.compare_as("no input", b"", with_options(&[]), |heard| {
        let (status, stdout, stderr) = heard;
        let said = stderr.starts_with("ERROR: empty stream is not considered valid");
        (status, stdout, said)
    });
}

/// What callers rely on when a receive fails: the exit status, what is said
/// before the first `ERROR: `, and that there is one. The reasons differ.
fn failures_fail_alike() {
    let sides = Sides::new();
    let full = sample("full.v1");
    let flipped = RawStream::new(1).end().flip(30);
    let subvolume = RawStream::new(1);
    let name_twice = subvolume.clone().end().next_header(1).subvol("s").end();
    let junk_after = subvolume
        .clone()
        .end()
        .bytes(b"something that is no header");
    let unlinked = subvolume.clone().command(11, [attr::path("gone")]).end();
    let cases = [
        ("header cut", RawStream::header(1).cut(9).into_bytes()),
        ("no magic", b"not a stream, but long enough".to_vec()),
        ("version 9", RawStream::new(9).end().into_bytes()),
        ("no end", subvolume.into_bytes()),
        ("cut", full[..full.len() / 2].to_vec()),
        ("damaged", flipped.into_bytes()),
        ("no parent", sample("incr.v1")),
        ("name exists", name_twice.into_bytes()),
        ("junk after END", junk_after.into_bytes()),
        ("a command fails", unlinked.into_bytes()),
    ];
    for (what, stream) in cases {
        for options in [&[][..], &["-v"], &["-e"], &["-q", "-E", "7"]] {
            sides.compare_as(what, &stream, with_options(options), |heard| {
                let (status, stdout, stderr) = heard;
                let before = stderr.split("ERROR: ").next().unwrap_or_default();
                let failed = before.len() < stderr.len();
                (status, stdout, before.to_owned(), failed)
            });
            sides.clear();
        }
    }
}

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        test!(samples_sound_the_same, 0),
        test!(samples_sound_the_same, 1),
        test!(samples_sound_the_same, 2),
        test!(samples_sound_the_same, 3),
        test!(streams_can_be_left_and_decompressed),
        test!(a_fresh_send_sounds_the_same, 1),
        test!(a_fresh_send_sounds_the_same, 2),
        test!(options_and_paths_mean_the_same),
        test!(a_magic_link_is_a_destination),
        test!(the_name_btrfs_receive_is_enough),
        test!(destinations_that_are_none_fail_alike),
        test!(failures_fail_alike),
    ];
    btrfs_testkit::main(tests)
}
