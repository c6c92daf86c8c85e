//! System calls that fail, by strace(1): for each kind of call the k-th one
//! of each thread.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_sendstream::Command::{End, FileAttr, Mkfile, SetXattr, Subvol};
use btrfs_sendstream::{StreamPath, SubvolumeName, Version, Writer, inode_flags};
use btrfs_testkit::{LoopFilesystem, SentSample, Test, subvolume, test};
use rustix::fs::{IFlags, ioctl_getflags};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::support::{COMMAND, check, clear, is_unfinished, run};

/// The calls a receive consists of.
const CALLS: [&str; 26] = [
    "pwrite64",
    "pwritev",
    "fsetxattr",
    "setxattr",
    "lsetxattr",
    "fgetxattr",
    "fremovexattr",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "renameat2",
    "linkat",
    "unlinkat",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "openat2",
    "ioctl",
    "syncfs",
    "ftruncate",
    "fallocate",
    "fstat",
    "open_by_handle_at",
    "lseek",
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_failed_call_is_a_failed_receive, 1, "EIO"),
        test!(a_failed_call_is_a_failed_receive, 2, "EROFS"),
        test!(a_failed_call_is_a_failed_receive, 3, "ENOSPC"),
        test!(a_failed_call_is_a_failed_receive, 4, "EPERM"),
        test!(a_failed_call_is_a_failed_receive, 20, "EIO"),
        test!(the_stamp_is_taken_back),
        test!(a_change_after_the_first_look_is_noticed, ""),
        test!(a_change_after_the_first_look_is_noticed, "--atomic"),
        test!(nothing_is_sealed_unwatched_for_a_shortage),
        test!(an_unfinished_parent_is_refused),
        test!(flags_are_set_beside_the_flags_of_write_back),
    ]
}

/// Whether strace(1) is there and may do its work.
pub(crate) fn no_strace() -> bool {
    let works = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .status();
    let works = works.is_ok_and(|status| status.success());
    let required = std::env::var_os("BTRFS_TESTS").is_some_and(|value| value == "required");
    assert!(works || !required, "strace does not work here");
    if !works {
        eprintln!("left out: needs strace");
    }
    !works
}

/// Receives with faults as `inject` says, in the words of strace.
fn receive(stream: &[u8], directory: &Path, log: &Path, inject: &str) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(log);
    if inject.is_empty() {
        command.args(["-e", "trace=ioctl"]);
    } else {
        let (calls, _) = inject.split_once(':').unwrap();
        command.args(["--seccomp-bpf", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={inject}")]);
    }
    run(command.arg(COMMAND).arg(directory), stream)
}

/// With errors that are no refusal: EINVAL would stand for a clone, an encoded
/// write or a compression that the destination does not take, and be survived.
fn a_failed_call_is_a_failed_receive(k: u32, error: &str) {
    if no_strace() {
        return;
    }
    let sent = SentSample::new();
    let to = LoopFilesystem::new();
    let mut failed = 0;
    for call in CALLS {
        let inject = format!("{call}:error={error}:when={k}");
        let output = receive(&sent.stream, to.path(), Path::new("/dev/null"), &inject);
        let received = check(to.path(), sent.from.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            // The call is not made that often, or does without.
            Some(0) => assert_eq!(received, 2, "{inject}"),
            // 127: the program did not even start.
            Some(1 | 127) => {
                failed += 1;
                assert!(received < 2 && !stderr.is_empty(), "{inject}: {stderr}");
            }
            _ => panic!("{inject}: {output:?}"),
        }
        clear(to.path());
    }
    assert!(failed > 0);
}

/// In which thread's how many-th ioctl a request is made for the first time.
fn number_of(log: &str, request: &str) -> usize {
    let line = log.lines().find(|line| line.contains(request)).unwrap();
    let thread = line.split(' ').next().unwrap();
    let of_thread = log
        .lines()
        .filter(|line| line.starts_with(thread) && line.contains(" ioctl("));
    let position = of_thread.into_iter().position(|other| other == line);
    position.unwrap() + 1
}

fn the_stamp_is_taken_back() {
    if no_strace() {
        return;
    }
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), b"hello").unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snap"));
    let stream = btrfs_testkit::Sender::new(&snapshot).to_vec();
    let to = LoopFilesystem::new();
    let received = to.path().join("snap");
    let log: PathBuf = from.path().join("log");

    assert!(receive(&stream, to.path(), &log, "").status.success());
    subvolume::delete(&received);
    let calls = std::fs::read_to_string(&log).unwrap();
    for (request, left_over) in [
        ("BTRFS_IOC_SET_RECEIVED_SUBVOL", ""),
        ("BTRFS_IOC_SUBVOL_SETFLAGS", ""),
        // This and the call that takes the stamp back.
        ("BTRFS_IOC_SUBVOL_SETFLAGS", "+"),
    ] {
        let k = number_of(&calls, request);
        let last = if left_over.is_empty() { k } else { k + 1 };
        let inject = format!("ioctl:error=EROFS:when={k}..{last}");
        let output = receive(&stream, to.path(), Path::new("/dev/null"), &inject);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{inject}: {stderr}");
        let facts = subvolume::facts(&received);
        assert!(!facts.read_only, "{request}");
        if left_over.is_empty() {
            assert!(facts.received_uuid.is_none(), "{request}: {stderr}");
        } else {
            assert!(stderr.contains("to do: delete the subvolume"), "{stderr}");
        }
        subvolume::delete(&received);
    }
}

/// Stands for a change that was under way when the subvolume became read-only.
fn a_change_after_the_first_look_is_noticed(option: &str) {
    if no_strace() {
        return;
    }
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), b"hello").unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snap"));
    let stream = from.path().join("stream");
    std::fs::write(&stream, btrfs_testkit::Sender::new(&snapshot).to_vec()).unwrap();
    let to = LoopFilesystem::new();

    // The only fsync is that of the directory, when the subvolume has its name.
    let mut receive = Command::new("strace")
        .args(["-f", "-e", "trace=fsync", "-e", "inject=fsync:signal=STOP"])
        .args([COMMAND, "-f"])
        .args([&stream, to.path()])
        .args(Some(option).filter(|it| !it.is_empty()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(receive.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("--- stopped by SIGSTOP ---") {
        assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "{text}");
    }
    let received = to.path().join("snap");
    assert!(subvolume::facts(&received).read_only);
    subvolume::set_read_only(&received, false);
    std::fs::write(received.join("file"), b"other").unwrap();
    subvolume::set_read_only(&received, true);
    let id = receive.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let child = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(child, Signal::CONT).unwrap();
    stderr.read_to_string(&mut text).unwrap();

    assert_eq!(receive.wait().unwrap().code(), Some(1), "{text}");
    assert!(text.contains("another process changed inode 257"), "{text}");
    let built = if option.is_empty() {
        "snap"
    } else {
        "snap.receiving"
    };
    assert!(text.contains(&format!("{built} is incomplete")), "{text}");
    let facts = subvolume::facts(&to.path().join(built));
    assert!(facts.received_uuid.is_none() && !facts.read_only);
}

/// Whether others get in at the last moment is not found out without CAP_SYS_ADMIN; with it,
/// there is no seal without finding out.
fn nothing_is_sealed_unwatched_for_a_shortage() {
    if no_strace() {
        return;
    }
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), b"hello").unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snap"));
    let stream = btrfs_testkit::Sender::new(&snapshot).to_vec();
    let to = LoopFilesystem::new();
    let received = to.path().join("snap");
    for (error, is_refused) in [
        ("EMFILE", false),
        ("ENOMEM", false),
        ("EPERM", true),
        ("ENOSYS", true),
    ] {
        let inject = format!("fanotify_init:error={error}");
        let output = receive(&stream, to.path(), Path::new("/dev/null"), &inject);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_refused, "{error}: {stderr}");
        assert_eq!(stderr.contains("fanotify_init"), !is_refused, "{stderr}");
        let facts = subvolume::facts(&received);
        assert_eq!(facts.read_only, is_refused, "{error}");
        assert_eq!(facts.received_uuid.is_some(), is_refused, "{error}");
        subvolume::delete(&received);
    }
}

/// The kernel may mark a file as not compressible while its compression
/// property is being set: it then has two flags that exclude each other, and
/// refuses every other until the property is set again.
fn flags_are_set_beside_the_flags_of_write_back() {
    if no_strace() {
        return;
    }
    let path = || StreamPath::parse(&b"file"[..]).unwrap();
    let commands = [
        Subvol {
            name: SubvolumeName::parse(&b"tiny"[..]).unwrap(),
            uuid: Uuid::from_u128(7),
            ctransid: 8,
        },
        Mkfile {
            path: path(),
            ino: 257,
        },
        SetXattr {
            path: path(),
            name: b"btrfs.compression",
            data: b"zstd",
        },
        FileAttr {
            path: path(),
            attributes: inode_flags::NODUMP | inode_flags::COMPRESS,
        },
        End,
    ];
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V2).unwrap();
    for command in &commands {
        writer.command::<&[u8]>(command).unwrap();
    }
    let stream = writer.finish().unwrap();
    let to = LoopFilesystem::new();
    let received = to.path().join("tiny");
    let file = received.join("file");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    // All calls, and then with the first of those that set flags refused.
    for refused in [false, true] {
        let calls = std::fs::read_to_string(&log).unwrap_or_default();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(&log);
        strace.arg("-P").arg(&file).args(["-e", "trace=ioctl"]);
        if refused {
            let before = calls
                .lines()
                .take_while(|line| !line.contains("FSSETXATTR"));
            let k = before.count() + 1;
            strace.args(["-e", &format!("inject=ioctl:error=EINVAL:when={k}")]);
        }
        let output = run(strace.arg(COMMAND).arg(to.path()), &stream);
        assert!(output.status.success(), "{calls}{output:?}");
        let flags = ioctl_getflags(File::open(&file).unwrap()).unwrap();
        assert!(
            flags.contains(IFlags::NODUMP | IFlags::COMPRESSED),
            "{flags:?}"
        );
        subvolume::delete(&received);
    }
    let calls = std::fs::read_to_string(&log).unwrap();
    assert!(calls.contains("(INJECTED)"), "{calls}");
}

/// Killed between the call that sets the received UUID and the one that makes
/// it read-only.
fn an_unfinished_parent_is_refused() {
    if no_strace() {
        return;
    }
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), b"hello").unwrap();
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    std::fs::write(work.join("file"), b"world").unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    let full = btrfs_testkit::Sender::new(&first).to_vec();
    let change = btrfs_testkit::Sender::new(&second).parent(&first).to_vec();
    let to = LoopFilesystem::new();
    let receive = |stream: &[u8], options: &[&str]| {
        let mut command = Command::new(COMMAND);
        run(command.args(options).arg(to.path()), stream)
    };
    // The only attribute that is removed is the mark itself.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fremovexattr"]);
    strace.args(["-e", "inject=fremovexattr:error=EIO:signal=KILL:when=1"]);
    strace.args([COMMAND, "--resumable"]).arg(to.path());
    let output = run(&mut strace, &full);
    assert!(!output.status.success(), "{output:?}");
    let entries = std::fs::read_dir(to.path()).unwrap();
    let mut subvolumes = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::metadata(path).unwrap().ino() == 256);
    let built = subvolumes.next().unwrap();
    assert!(subvolumes.next().is_none());
    let facts = subvolume::facts(&built);
    assert!(!facts.read_only && facts.received_uuid.is_some());
    assert!(is_unfinished(&built));

    for options in [&[][..], &["--dry-run"]] {
        let output = receive(&change, options);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let why = "its receive was interrupted before it was made read-only";
        assert!(
            stderr.contains(why) || stdout.contains(why),
            "{stderr}{stdout}"
        );
        assert!(!to.path().join("second").exists());
    }
    for (stream, sent, name) in [(&full, &first, "first"), (&change, &second, "second")] {
        let output = receive(stream, &["--resumable"]);
        assert!(output.status.success(), "{output:?}");
        let received = to.path().join(name);
        assert!(subvolume::facts(&received).read_only);
        btrfs_testkit::assert_same_tree(sent, &received);
    }
}
