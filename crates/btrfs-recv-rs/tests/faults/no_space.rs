//! Filesystems that have no space for a moment, or none at all.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use btrfs_sendstream::Command::{Clone, End, Link, Mkfile, Subvol, Write};
use btrfs_sendstream::{CloneRange, CommandRef, StreamPath, SubvolumeName, Version, Writer};
use btrfs_testkit::{LoopFilesystem, Sender, SentSample, Test, subvolume, test};
use rustix::io::Errno;
use uuid::Uuid;

use crate::support::{COMMAND, check, clear, noise, receive, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(what_finds_no_space_once_is_repeated).needs("strace"),
        test!(what_finds_no_space_twice_is_repeated).needs("strace"),
        test!(what_never_finds_space_fails_soon).needs("strace"),
        test!(clones_that_overlap_are_not_repeated).needs("strace"),
        test!(space_that_was_just_freed_is_used),
        test!(a_full_filesystem_is_described),
        test!(no_room_for_metadata_alone_is_another_remedy),
        test!(a_quota_is_another_thing),
    ]
}

/// Receives with a fault in the words of strace; `log` gets the calls traced.
fn inject(stream: &[u8], to: &Path, log: &Path, calls: &str, inject: &str) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "--seccomp-bpf", "-o"]).arg(log);
    command.args(["-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={inject}")]);
    run(command.arg(COMMAND).arg(to), stream)
}

const SAID: &str = "found no space, and succeeded after everything was written to disk";

fn what_finds_no_space_once_is_repeated() {
    // Calls of the data, the names and the metadata. Of the others, which the end of a
    // receive makes too, some may fail.
    const ALWAYS: [&str; 8] = [
        "pwrite64",
        "pwritev",
        "mkdirat",
        "symlinkat",
        "mknodat",
        "linkat",
        "ftruncate",
        "fallocate",
    ];
    const OTHERS: [&str; 7] = [
        "renameat2",
        "unlinkat",
        "fsetxattr",
        "fchmod",
        "fchmodat",
        "utimensat",
        "openat2",
    ];
    let sent = SentSample::new();
    let to = LoopFilesystem::new();
    let mut repeated = 0;
    for call in ALWAYS.into_iter().chain(OTHERS) {
        for k in 1..=3 {
            let fault = format!("{call}:error=ENOSPC:when={k}");
            let log = Path::new("/dev/null");
            let output = inject(&sent.stream, to.path(), log, call, &fault);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let received = check(to.path(), sent.from.path());
            match output.status.code() {
                Some(0) => assert_eq!(received, 2, "{fault}"),
                Some(1) if OTHERS.contains(&call) => assert!(received < 2, "{fault}"),
                other => panic!("{fault}: {other:?}: {stderr}"),
            }
            repeated += u64::from(output.status.success() && stderr.contains(SAID));
            clear(to.path());
        }
    }
    eprintln!("{repeated} faults were survived");
    assert!(repeated >= 12);
}

fn what_finds_no_space_twice_is_repeated() {
    let sent = SentSample::new();
    let to = LoopFilesystem::new();
    // The first directory is what the subvolume is created in.
    for call in ["pwrite64", "mkdirat", "symlinkat"] {
        let fault = format!("{call}:error=ENOSPC:when=1..2");
        let log = Path::new("/dev/null");
        let output = inject(&sent.stream, to.path(), log, call, &fault);
        assert!(output.status.success(), "{fault}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(SAID));
        assert_eq!(check(to.path(), sent.from.path()), 2);
        clear(to.path());
    }
}

/// Three clones of one file under two names, each of the block after: joined, and
/// carried out one by one, since together they overlap. If all were repeated after the last, the first would read what the second has written.
fn clones_that_overlap_are_not_repeated() {
    const BLOCK: u64 = 4096;
    let uuid = Uuid::from_u128(0x1111);
    let path = |name: &'static str| StreamPath::parse(name.as_bytes()).unwrap();
    let content: Vec<u8> = (b'a'..b'e').flat_map(|it| [it; BLOCK as usize]).collect();
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V1).unwrap();
    let mut commands: Vec<CommandRef<'_>> = vec![
        Subvol {
            name: SubvolumeName::parse(&b"some"[..]).unwrap(),
            uuid,
            ctransid: 7,
        },
        Mkfile {
            path: path("file"),
            ino: 257,
        },
        Write {
            path: path("file"),
            offset: 0,
            data: &content,
        },
        Link {
            path: path("link"),
            existing: path("file"),
        },
    ];
    commands.extend((0..3).map(|number| {
        Clone(CloneRange {
            path: path("link"),
            offset: number * BLOCK,
            len: BLOCK,
            source_uuid: uuid,
            source_ctransid: 7,
            source_path: path("file"),
            source_offset: (number + 1) * BLOCK,
        })
    }));
    commands.push(End);
    for command in &commands {
        writer.command(command).unwrap();
    }
    let stream = writer.finish().unwrap();
    let to = LoopFilesystem::new();
    let root = to.path().join("some");
    let expected = [&content[BLOCK as usize..], &content[3 * BLOCK as usize..]].concat();
    for k in 1..=4 {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl"]);
        command.args(["-e", &format!("inject=ioctl:error=ENOSPC:when={k}")]);
        for name in ["file", "link"] {
            command.arg("-P").arg(root.join(name));
        }
        let output = run(command.arg(COMMAND).arg(to.path()), &stream);
        let facts = subvolume::facts(&root);
        let is_complete = facts.read_only && facts.received_uuid.is_some();
        assert_eq!(output.status.success(), is_complete, "{k}: {output:?}");
        // Only of the first, nothing is done yet.
        assert_eq!(is_complete, ![2, 3].contains(&k), "{k}: {output:?}");
        if is_complete {
            assert!(fs::read(root.join("file")).unwrap() == expected, "{k}");
        }
        clear(to.path());
    }
}

/// And does not write everything to disk for each operation that fails.
fn what_never_finds_space_fails_soon() {
    let sent = SentSample::new();
    let to = LoopFilesystem::new();
    let log = sent.from.path().join("log");
    for call in ["pwrite64", "symlinkat"] {
        let fault = format!("{call}:error=ENOSPC:when=1+");
        let calls = format!("{call},syncfs");
        let output = inject(&sent.stream, to.path(), &log, &calls, &fault);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("No space left on device"), "{stderr}");
        assert_eq!(check(to.path(), sent.from.path()), 0);
        clear(to.path());
        let calls = fs::read_to_string(&log).unwrap();
        let syncs = calls.matches("syncfs(").count();
        // Each lane may have begun.
        assert!((2..=40).contains(&syncs), "{calls}");
        if call == "symlinkat" {
            assert_eq!(syncs, 2, "{calls}");
        }
    }
}

/// A snapshot with files of `len` bytes that do not compress, and its stream.
fn send(from: &LoopFilesystem, count: u64, len: usize) -> Vec<u8> {
    let work = subvolume::create(&from.path().join("work"));
    for number in 0..count {
        let content = noise(number + 1, len);
        fs::write(work.join(format!("file {number}")), content).unwrap();
    }
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snap"));
    Sender::new(&snapshot).to_vec()
}

/// Writes a file until there is no more space.
fn fill(path: &Path) {
    let file = File::create(path).unwrap();
    let block = noise(77, 1 << 20);
    for len in [1 << 20, 4096] {
        for at in (file.metadata().unwrap().len()..).step_by(len) {
            match file.write_at(&block[..len], at) {
                Ok(_) => {}
                Err(error) => {
                    let errno = Errno::from_io_error(&error);
                    assert_eq!(errno, Some(Errno::NOSPC));
                    break;
                }
            }
        }
    }
    let _ = file.sync_all();
}

fn space_that_was_just_freed_is_used() {
    let from = LoopFilesystem::new();
    let stream = send(&from, 60, 1 << 20);
    let to = LoopFilesystem::builder().size(200 << 20).build();
    let filler = to.path().join("filler");
    fill(&filler);
    // Without a commit, the space is not free yet.
    fs::remove_file(&filler).unwrap();
    let output = receive(&stream, to.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(check(to.path(), from.path()), 1);
}

fn a_full_filesystem_is_described() {
    let from = LoopFilesystem::new();
    let stream = send(&from, 20, 1 << 20);
    let to = LoopFilesystem::builder().size(200 << 20).build();
    fill(&to.path().join("filler"));
    let output = receive(&stream, to.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in [
        "likely: the filesystem is full: data ",
        " used (single), metadata ",
        " used (DUP), ",
        " unallocated",
        "to do: delete snapshots",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let facts = subvolume::facts(&to.path().join("snap"));
    assert!(facts.received_uuid.is_none() && !facts.read_only);
}

/// All of the disk is given to data, which then has room again.
fn no_room_for_metadata_alone_is_another_remedy() {
    let from = LoopFilesystem::new();
    let stream = send(&from, 3000, 1900);
    let to = LoopFilesystem::builder().size(128 << 20).build();
    let filler = |number: usize| to.path().join(format!("filler {number}"));
    let mut fillers = 0;
    while fs::write(filler(fillers), noise(7, 1 << 20)).is_ok() {
        fillers += 1;
    }
    to.sync();
    // What is left keeps each block group from being given back.
    for number in (0..=fillers).filter(|number| number % 4 != 0) {
        fs::remove_file(filler(number)).unwrap();
    }
    to.sync();
    // Small files lie in the metadata.
    let mut number = 0_u64;
    while fs::write(
        to.path().join(format!("small {number}")),
        noise(number, 1900),
    )
    .is_ok()
    {
        number += 1;
    }
    let output = receive(&stream, to.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no room for metadata: data "), "{stderr}");
    assert!(stderr.contains("btrfs balance start -dusage="), "{stderr}");
}

/// The limit is set once the subvolume is there.
fn a_quota_is_another_thing() {
    let from = LoopFilesystem::new();
    let stream = send(&from, 20, 1 << 20);
    let to = LoopFilesystem::new();
    let btrfs = |arguments: &[&str]| {
        let path = to.path();
        let status = Command::new("btrfs").args(arguments).arg(path).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    btrfs(&["quota", "enable"]);
    btrfs(&["qgroup", "create", "1/7"]);
    btrfs(&["qgroup", "limit", "-e", "5M", "1/7"]);
    let mut child = Command::new(COMMAND)
        .arg(to.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (first, rest) = stream.split_at(4096);
    stdin.write_all(first).unwrap();
    while !to.path().join("snap").exists() {
        std::thread::yield_now();
    }
    btrfs(&["qgroup", "limit", "5M", "0/256"]);
    // The command stops before it has read everything.
    let _ = stdin.write_all(rest);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(subvolume::facts(&to.path().join("snap")).id, 256);
    for part in [
        "Disk quota exceeded",
        "likely: the limit of a qgroup is reached: 0/256 has ",
        " of 5.0 MiB referenced\n",
        "to do: raise the limit (btrfs qgroup limit; ",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert_eq!(check(to.path(), from.path()), 0);
}
