//! The command as its users see it: files, pipes, messages, exit statuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use btrfs_testkit::output_with_input;

/// A stream that a kernel sent.
fn kernel_stream(name: &str) -> PathBuf {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    streams.join(format!("{name}.stream"))
}

fn sendstream(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendstream"));
    output_with_input(command.args(arguments), input)
}

/// What a run that has to succeed wrote.
fn ok(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let output = sendstream(arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    output.stdout
}

/// What a run that has to fail said.
fn fails(arguments: &[&str], input: &[u8], status: i32) -> String {
    let output = sendstream(arguments, input);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// What is compressed gives what it gives uncompressed, in files and pipes.
#[test]
fn inputs_may_be_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let stream = fs::read(kernel_stream("full.v2")).unwrap();
    fs::write(at("plain"), &stream).unwrap();
    for (writer, format) in [
        ("zstd", "zstd"),
        ("gzip", "gzip"),
        ("lz4", "lz4"),
        ("xz", "xz"),
    ] {
        let output = Command::new(writer).args(["-c", &at("plain")]).output();
        let packed = output.unwrap().stdout;
        fs::write(at("packed"), &packed).unwrap();
        let option = format!("--decompress={format}");
        for command in [
            &["cat"][..],
            &["diff"],
            &["list"],
            &["dump"],
            &["dump", "--format=json"],
            &["dump", "--format=summary"],
            &["verify"],
            &["upgrade"],
            &["join"],
            &["rewrite", "--name=other"],
            &["filter", "--exclude=no-such-file"],
        ] {
            let expected = ok(command, &stream);
            assert!(ok(command, &packed) == expected, "{writer}, {command:?}");
            assert!(ok(&[command, &[&option]].concat(), &packed) == expected);
            if command[0] != "verify" {
                assert!(ok(&[command, &[&at("packed")]].concat(), b"") == expected);
            }
            // It does not end in silence when it is cut off, nor is it read where
            // it is not to be.
            fails(command, &packed[..packed.len() - 1], 1);
            fails(&[command, &["--decompress=none"]].concat(), &packed, 1);
            fails(&[command, &["--decompress=bzip2"]].concat(), &packed, 2);
        }
        let order = ok(&["order", &at("packed")], b"");
        assert_eq!(String::from_utf8(order).unwrap(), at("packed") + "\n");
        let into = at(writer);
        fs::create_dir(&into).unwrap();
        ok(&["split", "--directory", &into, &at("packed")], b"");
        assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
    }
    // One after the other.
    let twice = ok(&["cat", &at("packed"), &at("plain")], b"");
    assert!(twice == [&stream[..], &stream].concat());
}

#[test]
fn cat_passes_streams_on_as_they_are() {
    for name in [
        "full.v1",
        "incr.v2",
        "encoded-zstd.v2",
        "multi-one-end.v1",
        "concat-mixed",
    ] {
        let path = kernel_stream(name);
        let stream = fs::read(&path).unwrap();
        assert!(ok(&["cat"], &stream) == stream, "{name}");
        let path = path.to_str().unwrap();
        assert!(ok(&["cat", path, "-"], &stream) == [&stream[..], &stream[..]].concat());
    }
}

#[test]
fn versions_go_up_and_down() {
    let original = fs::read(kernel_stream("full.v1")).unwrap();
    let upgraded = ok(&["upgrade", "--threads", "2"], &original);
    assert!(upgraded.starts_with(b"btrfs-stream\0\x02"));
    let back = ok(&["downgrade", "--to", "1"], &upgraded);
    assert!(back.starts_with(b"btrfs-stream\0\x01"));
    let output = sendstream(&["upgrade", "-v", "-c", "zlib", "-l", "9"], &original);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("sendstream: ") && said.contains("extents compressed"),
        "{said}"
    );
}

#[test]
fn subvolumes_get_files_of_their_own() {
    let stream = kernel_stream("multi-one-end.v1");
    let stream = stream.to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    ok(&["split", "-d", at, stream], b"");
    let mut files: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 1, "{files:?}");
    let mut arguments = vec!["join"];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    assert!(ok(&arguments, b"") == fs::read(stream).unwrap());
    // Nothing is overwritten.
    let said = fails(&["split", "-d", at, stream], b"", 1);
    assert!(said.contains("0001-") && said.contains("exists"), "{said}");
}

#[test]
fn names_and_paths_are_changed() {
    let stream = fs::read(kernel_stream("full.v1")).unwrap();
    let renamed = ok(&["rewrite", "--name", "another name"], &stream);
    let holds = |stream: &[u8], text: &[u8]| stream.windows(text.len()).any(|part| part == text);
    assert!(holds(&renamed, b"another name") && !holds(&stream, b"another name"));
    let nothing = ok(&["filter", "--include", "/no/such/path/"], &stream);
    assert!(nothing.len() < stream.len());
    let said = fails(
        &["rewrite", "--uuid", "00000000-0000-0000-0000-000000000000"],
        b"",
        2,
    );
    assert!(said.contains("zeros"), "{said}");
    fails(&["filter", "--include", "a/../b"], b"", 2);
}

#[test]
fn failures_say_where_and_leave_no_file() {
    let stream = fs::read(kernel_stream("full.v1")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let at = path.to_str().unwrap();
    let cut = &stream[..stream.len() - 7];
    let said = fails(&["upgrade", "-o", at], cut, 1);
    assert!(said.starts_with("sendstream: standard input: "), "{said}");
    assert!(said.contains("stream 1, command "), "{said}");
    assert!(!path.exists());
    ok(&["cat", "-o", at], &stream);
    assert!(fs::read(&path).unwrap() == stream);
    let said = fails(&["cat", "-o", at], &stream, 1);
    assert!(said.contains("exists"), "{said}");
    ok(&["cat", "-f", "-o", at], &stream);
    let said = fails(&["cat", "/no/such/file"], b"", 1);
    assert!(said.contains("/no/such/file: No such file"), "{said}");
    fails(&["frobnicate"], b"", 2);
    assert!(fails(&["cat"], b"", 1).contains("empty"));
}

/// A file of the parent with a hole up to its end, and beyond.
fn hole_in_an_existing_file() -> Vec<u8> {
    use btrfs_sendstream::{Command, StreamPath, SubvolumeName, Uuid, Version, Writer};
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V2).unwrap();
    let snapshot = Command::Snapshot {
        name: SubvolumeName::parse(&b"s"[..]).unwrap(),
        uuid: Uuid::from_u128(2),
        ctransid: 2,
        parent_uuid: Uuid::from_u128(1),
        parent_ctransid: 1,
    };
    let hole = Command::Fallocate {
        path: StreamPath::parse(&b"directory/file"[..]).unwrap(),
        mode: 3,
        offset: 4,
        len: 100,
    };
    for command in [snapshot, hole, Command::End] {
        writer.command(&command).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn sizes_are_looked_up_in_the_parent() {
    let stream = hole_in_an_existing_file();
    let said = fails(&["downgrade"], &stream, 1);
    assert!(
        said.contains("directory/file: a hole up to byte 104"),
        "{said}"
    );
    assert!(
        said.contains("--parent DIR") && said.contains("--assume-size"),
        "{said}"
    );
    let parent = tempfile::tempdir().unwrap();
    let at = parent.path().to_str().unwrap();
    fs::create_dir(parent.path().join("directory")).unwrap();
    fs::write(parent.path().join("directory/file"), b"123456789").unwrap();
    let lower = ok(&["downgrade", "--parent", at], &stream);
    let mut reader = btrfs_sendstream::Reader::new(&lower[..]);
    let writes: Vec<_> = std::iter::from_fn(|| reader.next_owned().unwrap())
        .filter_map(|item| match item {
            btrfs_sendstream::Item::Command(btrfs_sendstream::Command::Write {
                offset,
                data,
                ..
            }) => Some((offset, data.to_vec())),
            _ => None,
        })
        .collect();
    assert_eq!(writes, [(4, vec![0; 5])]);
    // No link leads to a file elsewhere.
    fs::rename(parent.path().join("directory"), parent.path().join("other")).unwrap();
    std::os::unix::fs::symlink("other", parent.path().join("directory")).unwrap();
    fails(&["downgrade", "--parent", at], &stream, 1);
    let said = fails(&["downgrade", "--parent", "/no/such"], &stream, 1);
    assert!(said.contains("/no/such: No such file"), "{said}");
}

#[test]
fn a_closed_output_is_an_error() {
    let run = |redirection: &str| {
        Command::new("sh")
            .args(["-c", &format!("\"$0\" cat \"$1\" {redirection}")])
            .arg(env!("CARGO_BIN_EXE_sendstream"))
            .arg(kernel_stream("full.v1"))
            .output()
            .unwrap()
    };
    let closed = run(">&-");
    let said = String::from_utf8_lossy(&closed.stderr);
    assert_eq!(closed.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output is closed"), "{said}");
    assert!(run(">/dev/null").status.success());
    assert!(run(">&- -f -o /dev/null").status.success());
}

#[test]
fn what_cannot_be_expressed_comes_with_advice() {
    let two = fs::read(kernel_stream("multi.v1")).unwrap();
    let said = fails(&["rewrite", "--name", "one"], &two, 1);
    assert!(said.contains("(split the input first)"), "{said}");
}
