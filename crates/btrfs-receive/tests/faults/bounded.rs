//! Peak memory of a receive, whatever the stream.
//!
//! The receive runs in a process of its own, this program started again, that
//! says what its peak was. It may have 1,024 descriptors, the usual limit.

use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, ExitCode, Stdio};

use btrfs_receive::{BtrfsDestination, Options, Receiver, StopReason};
use btrfs_sendstream::{
    Bytes, CloneRange, Command, EncodedWrite, ErrorKind, StreamPath, SubvolumeName, Timespec,
    Version, Writer,
};
use btrfs_testkit::{LoopFilesystem, Test, test};
use uuid::Uuid;

/// Peak resident memory at most, in KiB.
const MOST: u64 = 64 << 10;

const CHILD: &str = "receive-and-report-memory";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(many_small_files_all_immutable),
        test!(few_descriptors),
        test!(the_largest_writes),
        test!(the_largest_writes_after_many_small_ones),
        test!(small_steps_between_large_ones),
        test!(names_of_many_subvolumes),
        test!(long_paths_that_all_fail),
        test!(thousands_of_clone_sources),
        test!(large_attributes_that_all_fail),
        test!(a_claim_of_4_gib),
        test!(data_that_does_not_decode),
    ]
}

/// The process that receives; `None` in the one that tests.
pub(crate) fn child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != CHILD {
        return None;
    }
    let directory = arguments.next().unwrap();
    let mut options = Options::default();
    options.max_errors = 0;
    let destination = BtrfsDestination::open(Path::new(&directory)).unwrap();
    let mut receiver = Receiver::with_options(destination, options);
    let result = receiver.receive(std::io::stdin().lock(), &mut ());
    let failure = match result {
        Ok(_) => "none".to_owned(),
        Err(error) => match (&error.reason, &error.first_failure) {
            (StopReason::Failures, Some(failure)) => failure.to_string(),
            (reason, _) => reason.to_string(),
        },
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("{}\n{failure}", peak.unwrap().trim());
    Some(ExitCode::SUCCESS)
}

type Stream = Writer<std::process::ChildStdin>;

/// Receives what `write` writes. Returns the failure, after checking that
/// memory stayed bounded.
fn receive(to: &Path, write: impl FnOnce(&mut Stream)) -> String {
    receive_with(1024, to, write)
}

/// The same, with so many descriptors.
fn receive_with(descriptors: u32, to: &Path, write: impl FnOnce(&mut Stream)) -> String {
    let limited = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    let mut child = Process::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .arg(CHILD)
        .arg(to)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = Writer::new(child.stdin.take().unwrap());
    writer.header(Version::V2).unwrap();
    write(&mut writer);
    let _ = writer.flush();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (peak, failure) = text.trim_end().split_once('\n').unwrap();
    let peak: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    eprintln!("peak {peak} KiB, failure: {failure:.200}");
    assert!(peak < MOST, "{peak} KiB");
    failure.to_owned()
}

/// Writes a command; the receiver may have stopped reading.
fn put(writer: &mut Stream, command: Command) {
    if let Err(error) = writer.command(&command) {
        assert!(matches!(error.kind(), ErrorKind::Io(_)), "{error}");
    }
}

/// The largest attribute that the format has room for.
fn large() -> Bytes {
    Bytes::from(vec![7; 65_535])
}

fn path(text: impl Into<Bytes>) -> StreamPath {
    StreamPath::parse(text.into()).unwrap()
}

fn subvol(name: &'static str, uuid: u128) -> Command {
    Command::Subvol {
        name: SubvolumeName::parse(Bytes::from(name)).unwrap(),
        uuid: Uuid::from_u128(uuid),
        ctransid: 1,
    }
}

fn mkfile(name: &'static str) -> Command {
    Command::Mkfile {
        path: path(name),
        ino: 257,
    }
}

fn utimes(path: StreamPath) -> Command {
    let time = Timespec {
        seconds: 1,
        nanoseconds: 1,
    };
    Command::Utimes {
        path,
        atime: time,
        mtime: time,
        ctime: time,
        otime: None,
    }
}

/// Sets `btrfs.compression` on the root, which waits for the end.
fn deferred(data: Bytes) -> Command {
    Command::SetXattr {
        path: StreamPath::default(),
        name: Bytes::from_static(b"btrfs.compression"),
        data,
    }
}

fn many_small_files_all_immutable() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("many", 1));
        for number in 0..30_000_u64 {
            let orphan = path(format!("o{number}-7-0"));
            let file = path(format!("file {number}"));
            let ino = 257 + number;
            put(
                writer,
                Command::Mkfile {
                    path: orphan.clone(),
                    ino,
                },
            );
            put(
                writer,
                Command::Rename {
                    path: orphan,
                    to: file.clone(),
                },
            );
            put(
                writer,
                Command::Write {
                    path: file.clone(),
                    offset: 0,
                    data: Bytes::from(vec![7; 100]),
                },
            );
            put(
                writer,
                Command::FileAttr {
                    path: file.clone(),
                    attributes: 1 << 6,
                },
            );
            put(writer, utimes(file));
        }
        put(writer, Command::End);
    });
    assert_eq!(failure, "none");
}

fn few_descriptors() {
    let to = LoopFilesystem::new();
    let failure = receive_with(100, to.path(), |writer| {
        put(writer, subvol("few", 1));
        for number in 0..3000_u64 {
            let file = path(format!("file {number}"));
            let ino = 257 + number;
            let (path, data) = (file.clone(), Bytes::from(vec![7; 20_000]));
            put(writer, Command::Mkfile { path, ino });
            let (path, offset) = (file.clone(), 0);
            put(writer, Command::Write { path, offset, data });
            put(writer, utimes(file));
        }
        put(writer, Command::End);
    });
    assert_eq!(failure, "none");
}

fn the_largest_writes() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("large", 1));
        put(writer, mkfile("file"));
        let data = Bytes::from(vec![7; (16 << 20) - 64]);
        for _ in 0..16 {
            put(
                writer,
                Command::Write {
                    path: path("file"),
                    offset: 0,
                    data: data.clone(),
                },
            );
            put(writer, utimes(path("file")));
        }
        put(writer, Command::End);
    });
    assert_eq!(failure, "none");
}

/// Each of the many buffers that are used again could be exchanged for a large
/// one.
fn the_largest_writes_after_many_small_ones() {
    let to = LoopFilesystem::new();
    let write = |offset, data: &Bytes| Command::Write {
        path: path("file"),
        offset,
        data: data.clone(),
    };
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("large", 1));
        put(writer, mkfile("file"));
        let (small, large) = (large(), Bytes::from(vec![7; (16 << 20) - 64]));
        for _ in 0..10 {
            for number in 0..200 {
                put(writer, write(number << 16, &small));
            }
            // What was written before goes to the disk first, which takes long
            // enough for the reader to get as far ahead as it may.
            let clone = CloneRange {
                path: path("file"),
                offset: 64 << 20,
                len: 8 << 20,
                source_uuid: Uuid::from_u128(1),
                source_ctransid: 1,
                source_path: path("file"),
                source_offset: 0,
            };
            put(writer, Command::Clone(clone));
        }
        for _ in 0..32 {
            put(writer, write(0, &large));
            put(writer, utimes(path("file")));
        }
        put(writer, Command::End);
    });
    assert_eq!(failure, "none");
}

/// Every small step keeps a buffer alive that a large one filled, which
/// itself is not kept.
fn small_steps_between_large_ones() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("pins", 1));
        put(writer, mkfile("file"));
        let large = large();
        for number in 0..4000 {
            put(writer, deferred(large.clone()));
            put(
                writer,
                Command::Write {
                    path: path("file"),
                    offset: number * 2,
                    data: Bytes::from_static(b"x"),
                },
            );
        }
        put(writer, deferred(Bytes::from_static(b"zstd")));
        put(writer, Command::End);
    });
    assert_eq!(failure, "none");
}

/// A report keeps the name of each subvolume.
fn names_of_many_subvolumes() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        let large = large();
        for number in 0..3000 {
            put(writer, subvol("name", number + 1));
            put(writer, deferred(large.clone()));
        }
        put(writer, Command::End);
    });
    assert_ne!(failure, "none");
}

fn long_paths_that_all_fail() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("paths", 1));
        let long = Bytes::from(vec![b'x'; 60_000]);
        for _ in 0..4000 {
            put(
                writer,
                Command::Unlink {
                    path: path(long.clone()),
                },
            );
        }
        put(writer, Command::End);
    });
    assert!(failure.contains("unlink"), "{failure:.200}");
}

fn thousands_of_clone_sources() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("clones", 1));
        put(writer, mkfile("file"));
        for number in 0..3000 {
            let clone = CloneRange {
                path: path("file"),
                offset: 0,
                len: 4096,
                source_uuid: Uuid::from_u128(1000 + number),
                source_ctransid: 1,
                source_path: path("file"),
                source_offset: 0,
            };
            put(writer, Command::Clone(clone));
        }
        put(writer, Command::End);
    });
    assert!(failure.contains("clone"), "{failure}");
}

fn large_attributes_that_all_fail() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("attributes", 1));
        put(writer, mkfile("file"));
        let data = large();
        for _ in 0..2000 {
            put(
                writer,
                Command::SetXattr {
                    path: path("file"),
                    name: Bytes::from_static(b"user.large"),
                    data: data.clone(),
                },
            );
        }
        put(writer, Command::End);
    });
    assert!(failure.contains("set_xattr"), "{failure}");
}

fn a_claim_of_4_gib() {
    let to = LoopFilesystem::new();
    let failure = receive(to.path(), |writer| {
        put(writer, subvol("claim", 1));
        writer.flush().unwrap();
        let mut header = u32::MAX.to_le_bytes().to_vec();
        header.extend([15, 0, 1, 2, 3, 4]);
        writer.get_mut().write_all(&header).unwrap();
    });
    assert!(failure.contains("429496729"), "{failure}");
}

fn data_that_does_not_decode() {
    let to = LoopFilesystem::new();
    // A small file makes the kernel refuse what is not aligned, so that the
    // receiver decodes it.
    for compression in 1..=7 {
        let failure = receive(to.path(), |writer| {
            put(writer, subvol("hostile", 1));
            put(writer, mkfile("file"));
            for seed in 0..50_u8 {
                let data: Vec<u8> = (0..3000_u32).map(|at| (at as u8) ^ seed).collect();
                let write = EncodedWrite {
                    path: path("file"),
                    offset: 1,
                    unencoded_file_len: 100_000,
                    unencoded_len: 100_000,
                    unencoded_offset: 0,
                    compression: Some(compression),
                    encryption: None,
                    data: data.into(),
                };
                put(writer, Command::EncodedWrite(write));
            }
            put(writer, Command::End);
        });
        assert!(failure.contains("cannot decode"), "{failure}");
        btrfs_testkit::subvolume::delete(&to.path().join("hostile"));
    }
}
