//! Messages, channels, exit status, and what is left behind.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Sent, command, encode, names_in, receive, run_with_input, text};
use btrfs_sendstream::{Command, EncodedWrite, StreamPath, SubvolumeName, Uuid, Version};
use btrfs_testkit::{LoopFilesystem, Mount, Sender, Test, assert_same_tree, subvolume, test};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(announces_full_and_incremental_on_their_channels),
        test!(quiet_says_nothing),
        test!(verbose_tells_of_data_and_then_of_every_command),
        test!(options_may_stand_behind_the_path),
        test!(takes_a_relative_and_a_magic_destination),
        test!(two_receives_share_one_pipe),
        test!(several_streams_are_received_to_the_end_of_input),
        test!(waits_for_input_that_is_not_ready),
        test!(input_may_be_buffered, "--sandbox"),
        test!(input_may_be_buffered, "--resumable"),
        test!(nobody_has_to_read_the_messages),
        test!(an_existing_name_is_left_alone),
        test!(truncated_input_leaves_a_writable_rest),
        test!(max_errors_never_completes_what_failed),
        test!(garbage_after_the_end_is_a_failure),
        test!(names_cannot_make_up_lines),
        test!(root_mount_is_checked),
        test!(chroot_refuses_a_parent_outside),
        test!(a_destination_that_is_no_btrfs_is_refused),
        test!(a_missing_file_is_a_failure),
        test!(compressed_data_may_be_decompressed_here).needs_version(2),
        test!(compressed_data_may_be_tested_first).needs_version(2),
        test!(decisions_are_logged_on_request),
    ]
}

fn announces_full_and_incremental_on_their_channels() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let full = receive(&sent.full, &[], to.path());
    assert!(full.status.success(), "{full:?}");
    assert_eq!(text(&full), ("", "At subvol first\n"));
    let incremental = receive(&sent.incremental, &[], to.path());
    assert!(incremental.status.success(), "{incremental:?}");
    assert_eq!(text(&incremental), ("At snapshot second\n", ""));
    for name in ["first", "second"] {
        let facts = subvolume::facts(&to.path().join(name));
        assert!(facts.read_only && facts.received_uuid.is_some());
        assert_eq!(facts.parent_uuid.is_some(), name == "second");
        assert_same_tree(&sent.from.path().join(name), &to.path().join(name));
    }
    assert_eq!(names_in(to.path()), ["first", "second"]);
}

fn quiet_says_nothing() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    for stream in [&sent.full, &sent.incremental] {
        let output = receive(stream, &["-q"], to.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output), ("", ""));
    }
}

fn verbose_tells_of_data_and_then_of_every_command() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let output = receive(&sent.full, &["-v"], to.path());
    let lines: Vec<_> = text(&output).1.lines().collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[0], "At subvol first");
    assert!(lines[1].starts_with("receiving subvol first uuid="));
    assert_eq!(lines[2], "write file - offset=0 length=5");
    assert!(lines[3].starts_with("BTRFS_IOC_SET_RECEIVED_SUBVOL uuid="));
    assert!(lines[4].starts_with("receive took "), "{}", lines[4]);
    let output = receive(&sent.incremental, &["-vv"], to.path());
    let (stdout, stderr) = text(&output);
    assert_eq!(stdout, "At snapshot second\n");
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines[0].starts_with("receiving snapshot second uuid="));
    for line in [
        "truncate file size=3",
        "utimes file",
        "chmod file - mode=0640",
    ] {
        assert!(lines.contains(&line), "{line} in {stderr}");
    }
}

fn options_may_stand_behind_the_path() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let stored = tempfile::NamedTempFile::new().unwrap();
    fs::write(stored.path(), &sent.full).unwrap();
    let destination = format!("{}/", to.path().display());
    let file = stored.path().to_str().unwrap();
    let output = command(&["receive", &destination, "-f", file, "-q"]).output();
    assert!(output.unwrap().status.success());
    assert_eq!(names_in(to.path()), ["first"]);
}

fn takes_a_relative_and_a_magic_destination() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let below = to.path().join("below");
    fs::create_dir(&below).unwrap();
    let output = run_with_input(command(&["."]).current_dir(to.path()), &sent.full);
    assert!(output.status.success(), "{output:?}");
    let opened = File::open(&below).unwrap();
    let magic = format!("/proc/{}/fd/{}", std::process::id(), opened.as_raw_fd());
    let output = receive(&sent.full, &[], Path::new(&magic));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names_in(&below), ["first"]);
}

fn two_receives_share_one_pipe() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let input = [&sent.full[..], &sent.incremental].concat();
    let mut rest = Vec::new();
    std::thread::scope(|scope| {
        // A failure must close the pipe, or the writer would wait for ever.
        let mut reader = reader;
        scope.spawn(move || writer.write_all(&input));
        for _ in 0..2 {
            let output = command(&["-e"])
                .arg(to.path())
                .stdin(reader.try_clone().unwrap())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        reader.read_to_end(&mut rest).unwrap();
    });
    assert!(rest.is_empty());
    for name in ["first", "second"] {
        assert_same_tree(&sent.from.path().join(name), &to.path().join(name));
    }
}

fn several_streams_are_received_to_the_end_of_input() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let input = [&sent.full[..], &sent.incremental].concat();
    let output = receive(&input, &[], to.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output), ("At snapshot second\n", "At subvol first\n"));
}

fn waits_for_input_that_is_not_ready() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let child = command(&[])
        .arg(to.path())
        .stdin(Stdio::from(OwnedFd::from(reader)))
        .spawn()
        .unwrap();
    for piece in sent.full.chunks(60) {
        writer.write_all(piece).unwrap();
        std::thread::yield_now();
    }
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn input_may_be_buffered(option: &str) {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    for (size, stream, name) in [
        ("--buffer=10", &sent.full, "first"),
        ("--buffer=1M", &sent.incremental, "second"),
    ] {
        let output = receive(stream, &[option, size], to.path());
        assert!(output.status.success(), "{output:?}");
        assert_same_tree(&sent.from.path().join(name), &to.path().join(name));
    }
    let cut = &sent.incremental[..sent.incremental.len() - 10];
    let output = receive(cut, &["--buffer=1M", "--name=third"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!subvolume::facts(&to.path().join("third")).read_only);
}

fn nobody_has_to_read_the_messages() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    for stream in [&sent.full, &sent.incremental] {
        let [stdout, stderr] = [(); 2].map(|()| std::io::pipe().unwrap().1);
        let mut command = command(&["-vv"]);
        command.arg(to.path()).stdout(stdout).stderr(stderr);
        let status = run_with_input(&mut command, stream).status;
        assert!(status.success(), "{status}");
    }
    assert!(subvolume::facts(&to.path().join("second")).read_only);
}

fn an_existing_name_is_left_alone() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let existing = subvolume::create(&to.path().join("first"));
    fs::write(existing.join("file"), b"mine").unwrap();
    for options in [&[][..], &["-E5"], &["-E0", "-e"]] {
        let output = receive(&sent.full, options, to.path());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = text(&output).1;
        let expected = "ERROR: creating subvolume first failed: File exists: the name";
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(stderr.matches("failed: ").count(), 1, "{stderr}");
        assert_eq!(fs::read(existing.join("file")).unwrap(), b"mine");
        let facts = subvolume::facts(&existing);
        assert!(!facts.read_only && facts.received_uuid.is_none());
    }
}

fn truncated_input_leaves_a_writable_rest() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let first = to.path().join("first");
    // At the boundary before END, and inside the command before it.
    for cut in [10, 25] {
        for options in [&[][..], &["-E0"], &["-e"]] {
            let stream = &sent.full[..sent.full.len() - cut];
            let output = receive(stream, options, to.path());
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(text(&output).1.contains("\nERROR: "), "{output:?}");
            let facts = subvolume::facts(&first);
            assert!(!facts.read_only && facts.received_uuid.is_none());
            // As callers that clean up do.
            let partial = to.path().join("partial");
            fs::rename(&first, &partial).unwrap();
            subvolume::delete(&partial);
        }
    }
}

fn max_errors_never_completes_what_failed() {
    let to = LoopFilesystem::new();
    let path = |name: &'static str| StreamPath::parse(name.as_bytes()).unwrap();
    let stream = encode(
        Version::V1,
        &[
            Command::Subvol {
                name: SubvolumeName::parse(&b"bad"[..]).unwrap(),
                uuid: Uuid::from_u128(1),
                ctransid: 1,
            },
            Command::Unlink {
                path: path("missing"),
            },
            Command::Mkfile {
                path: path("file"),
                ino: 257,
            },
            Command::Rmdir {
                path: path("missing"),
            },
            Command::End,
        ],
    );
    let bad = to.path().join("bad");
    for (options, errors) in [
        (&["-E0"][..], 2),
        (&["-E0", "-e"], 2),
        (&["--max-errors=99"], 2),
        (&["-E1"], 1),
        (&[], 1),
    ] {
        let output = receive(&stream, options, to.path());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = text(&output).1;
        let expected = "ERROR: unlink missing failed: No such file or directory (";
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(stderr.matches("failed: ").count(), errors, "{stderr}");

        let facts = subvolume::facts(&bad);
        assert!(!facts.read_only && facts.received_uuid.is_none());
        subvolume::delete(&bad);
    }
}

fn garbage_after_the_end_is_a_failure() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let first = to.path().join("first");
    let input = [&sent.full[..], b"what is this, and what does it do here?"].concat();
    let output = receive(&input, &[], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output).1.ends_with("\ncomplete: first\n"),
        "{output:?}"
    );
    assert!(subvolume::facts(&first).received_uuid.is_some());
    subvolume::delete(&first);
    let output = receive(&input, &["-e"], to.path());
    assert!(output.status.success(), "{output:?}");
}

fn names_cannot_make_up_lines() {
    let from = LoopFilesystem::new();
    let to = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    let name = "A\nERROR: x \x1b[1m\u{fc}";
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join(name));
    let output = receive(&Sender::new(&snapshot).to_vec(), &[], to.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output).1, "At subvol A\\nERROR: x \\e[1m\u{fc}\n");
    assert!(to.path().join(name).is_dir());
}

fn root_mount_is_checked() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let below = to.path().join("below");
    fs::create_dir(&below).unwrap();
    let mount = below.to_str().unwrap();
    let output = receive(&sent.full, &["-m", mount], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output).1;
    assert!(stderr.contains("is not below the mount point"), "{stderr}");
    assert_eq!(names_in(to.path()), ["below"]);
    let mount = to.path().to_str().unwrap();
    let output = receive(&sent.full, &["-m", mount], &below);
    assert!(output.status.success(), "{output:?}");
}

fn chroot_refuses_a_parent_outside() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let jail = to.path().join("jail");
    fs::create_dir(&jail).unwrap();
    assert!(receive(&sent.full, &[], to.path()).status.success());
    let output = receive(&sent.incremental, &["-C"], &jail);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output).1;
    let announced = format!("Chroot to {}\n", jail.canonicalize().unwrap().display());
    assert!(stderr.starts_with(&announced), "{stderr}");
    // Every further line tells of the failure, and says so.
    let errors: Vec<_> = stderr.lines().skip(1).collect();
    assert!(errors[0].starts_with("ERROR: creating snapshot second failed: "));
    assert!(
        errors.iter().all(|line| line.starts_with("ERROR: ")),
        "{stderr}"
    );
    assert!(names_in(&jail).is_empty());
    for stream in [&sent.full, &sent.incremental] {
        let output = receive(stream, &["--chroot"], &jail);
        assert!(output.status.success(), "{output:?}");
    }
}

fn a_destination_that_is_no_btrfs_is_refused() {
    let sent = Sent::small();
    let plain = Mount::tmpfs(1 << 20);
    let missing = "ERROR: realpath(/no/such) failed: No such file or directory\n";
    let not_btrfs = format!(
        "ERROR: {} doesn't belong to btrfs mount point\n",
        plain.path().display()
    );
    for (path, text_of_it) in [
        (plain.path(), not_btrfs.as_str()),
        (Path::new("/no/such"), missing),
    ] {
        let output = receive(&sent.full, &[], path);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output).1.starts_with(text_of_it), "{output:?}");
    }
    assert!(names_in(plain.path()).is_empty());
}

fn a_missing_file_is_a_failure() {
    let to = LoopFilesystem::new();
    let output = receive(b"", &["-f", "/no/such"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        text(&output).1,
        "ERROR: cannot open /no/such: No such file or directory\n"
    );
    let output = receive(b"", &["-f", ""], to.path());
    assert_eq!(
        text(&output).1,
        "ERROR: empty stream is not considered valid: the input is empty; did btrfs send fail?\n"
    );
}

fn compressed_data_may_be_decompressed_here() {
    const SIZE: u64 = 32 << 20;
    let from = LoopFilesystem::builder()
        .mount_options("compress-force=zstd")
        .build();
    let work = subvolume::create(&from.path().join("work"));
    fs::write(work.join("file"), vec![b'x'; SIZE as usize]).unwrap();
    from.sync();
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snapshot"));
    let stream = Sender::new(&snapshot).version(2).compressed().to_vec();
    for options in [&["-vv"][..], &["-vv", "--force-decompress"]] {
        let to = LoopFilesystem::new();
        let free_before = free_bytes(to.path());
        let output = receive(&stream, options, to.path());
        assert!(output.status.success(), "{output:?}");
        assert!(
            text(&output)
                .1
                .contains("encoded_write file - offset=0, len=")
        );
        assert_same_tree(&snapshot, &to.path().join("snapshot"));
        to.sync();
        let used = free_before - free_bytes(to.path());
        let decompressed = options.contains(&"--force-decompress");
        assert_eq!(used > SIZE / 2, decompressed, "{used} bytes used");
    }
}

fn compressed_data_may_be_tested_first() {
    let path = |name: &'static str| StreamPath::parse(name.as_bytes()).unwrap();
    let stream = encode(
        Version::V2,
        &[
            Command::Subvol {
                name: SubvolumeName::parse(&b"sub"[..]).unwrap(),
                uuid: Uuid::from_u128(5),
                ctransid: 5,
            },
            Command::Mkfile {
                path: path("file"),
                ino: 257,
            },
            // No zlib stream at all.
            Command::EncodedWrite(EncodedWrite {
                path: path("file"),
                offset: 0,
                unencoded_file_len: 8192,
                unencoded_len: 8192,
                unencoded_offset: 0,
                compression: Some(1),
                encryption: Some(0),
                data: &[0x55; 4096][..],
            }),
            Command::End,
        ],
    );
    let to = LoopFilesystem::new();
    assert!(receive(&stream, &[], to.path()).status.success());
    // What the kernel stored cannot be read.
    assert!(fs::read(to.path().join("sub/file")).is_err());

    let to = LoopFilesystem::new();
    let output = receive(&stream, &["--test-encoded"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output).1;
    assert!(
        stderr.contains("ERROR: encoded_write file failed: cannot decode"),
        "{stderr}"
    );
    assert!(
        subvolume::facts(&to.path().join("sub"))
            .received_uuid
            .is_none()
    );
}

fn free_bytes(path: &Path) -> u64 {
    let facts = rustix::fs::statvfs(path).unwrap();
    facts.f_bfree * facts.f_frsize
}

/// What can be heard of the library: on standard error, in lines that no caller
/// takes for something else.
fn decisions_are_logged_on_request() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let log = |level: &str, stream: &[u8]| {
        let mut command = command(&[]);
        command.arg(to.path()).env("BTRFS_RECV_LOG", level);
        run_with_input(&mut command, stream)
    };
    let full = log("off", &sent.full);
    assert_eq!(text(&full), ("", "At subvol first\n"));
    let incremental = log("debug", &sent.incremental);
    assert!(incremental.status.success(), "{incremental:?}");
    let (stdout, stderr) = text(&incremental);
    assert_eq!(stdout, "At snapshot second\n");
    for told in [
        "considered subvolume",
        "found a source",
        "marked as received",
    ] {
        assert!(stderr.contains(told), "no {told}:\n{stderr}");
    }
    assert!(!stderr.contains("ERROR: "), "{stderr}");
    let wrong = log("everything", &sent.full);
    let (_, stderr) = text(&wrong);
    assert!(stderr.starts_with("WARNING: BTRFS_RECV_LOG is"), "{stderr}");
}
