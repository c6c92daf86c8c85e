//! Hostile streams through every subcommand: an error that says where, nothing
//! written as if it were complete, little memory.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use btrfs_sendstream::{Item, Position, Reader};
use btrfs_testkit::corpus::{self, Case, Place};

/// Memory for data and stacks that no stream may make the command ask for, in
/// KiB; it aborts if there is no more (`RLIMIT_DATA`).
const MAX_MEMORY: &str = "65536";

const ANY_UUID: &str = "11111111-2222-3333-4444-555555555555";

/// Every way of transforming, with settings that let it go far.
const TRANSFORMS: &[&[&str]] = &[
    &["upgrade", "--threads", "2", "--level", "1"],
    &[
        "upgrade",
        "--threads",
        "1",
        "--compression",
        "zlib",
        "--no-holes",
    ],
    // What is malformed is not made less so by being large.
    &[
        "downgrade",
        "--drop-newer",
        "--assume-size",
        "--max-zeros",
        "1000000",
    ],
    &["downgrade", "--to", "2"],
    &[
        "rewrite",
        "--replace",
        "11111111-2222-3333-4444-555555555555=55555555-4444-3333-2222-111111111111:7",
    ],
    &["filter", "--exclude", "a", "--include", "a/b"],
    &["join"],
    &["cat"],
];

/// How a run ended.
struct Run {
    status: Option<i32>,
    said: String,
    written: Vec<u8>,
}

/// Runs the command over a stream, by way of files, so that nobody has to feed
/// and drain it.
fn run(arguments: &[&str], input: &[u8], at: &Path) -> Run {
    let files = ["in", "out", "err"].map(|name| at.join(name));
    fs::write(&files[0], input).unwrap();
    let create = |path: &Path| Stdio::from(File::create(path).unwrap());
    let status = Command::new("sh")
        .args(["-c", r#"ulimit -d "$0" && exec "$@""#, MAX_MEMORY])
        .arg(env!("CARGO_BIN_EXE_sendstream"))
        .args(arguments)
        .stdin(File::open(&files[0]).unwrap())
        .stdout(create(&files[1]))
        .stderr(create(&files[2]))
        .status()
        .unwrap();
    let said = fs::read_to_string(&files[2]).unwrap();
    assert_eq!(status.signal(), None, "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    Run {
        status: status.code(),
        said,
        written: fs::read(&files[1]).unwrap(),
    }
}

/// How many subvolumes a receiver would call complete, and whether it would
/// call the input complete.
fn complete(stream: &[u8]) -> (u64, bool) {
    let (mut reader, mut begun, mut complete) = (Reader::new(stream), false, 0);
    loop {
        match reader.next_owned() {
            Ok(Some(Item::Command(command))) => {
                use btrfs_sendstream::Command::{End, Snapshot, Subvol};
                let (begins, ends) = match command {
                    Subvol { .. } | Snapshot { .. } => (true, begun),
                    End => (false, begun),
                    _ => continue,
                };
                complete += u64::from(ends);
                begun = begins;
            }
            Ok(Some(_)) => {}
            Ok(None) => return (complete, true),
            Err(_) => return (complete, false),
        }
    }
}

/// What is wrong with how a malformed stream was answered.
fn malformed(case: &Case, arguments: &[&str], run: &Run) -> Result<(), String> {
    let Place {
        stream,
        command,
        offset,
    } = case.at;
    let at = Position {
        stream,
        command,
        offset,
    };
    let at = format!("({at})");
    let fault = |what: &str| {
        let (name, said) = (&case.name, &run.said);
        Err(format!("{name}, {arguments:?}: {what}: {said}"))
    };
    if run.status != Some(1) {
        return fault("succeeded");
    }
    if !run.said.starts_with("sendstream: standard input: ") {
        return fault("does not name the input");
    }
    // A transform may find something else wrong before.
    let refused = run.said.contains("\n(");
    if !refused && case.error != "Empty" && !run.said.contains(&at) {
        return fault(&format!("does not say {at}"));
    }
    let (subvolumes, whole) = complete(&run.written);
    if subvolumes > case.finished {
        return fault("wrote more complete subvolumes than there are");
    }
    if whole && case.finished == 0 {
        return fault("wrote something that passes for complete");
    }
    Ok(())
}

#[test]
fn malformed_streams_are_refused_where_they_are_malformed() {
    let directory = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for case in corpus::load() {
        for arguments in TRANSFORMS {
            let run = run(arguments, &case.bytes, directory.path());
            if case.layer.is_codec() {
                faults.extend(malformed(&case, arguments, &run).err());
            } else if !matches!(run.status, Some(0 | 1)) {
                faults.push(format!("{}, {arguments:?}: {:?}", case.name, run.status));
            } else if run.status == Some(0) && !complete(&run.written).1 {
                faults.push(format!("{}, {arguments:?}: not complete", case.name));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Neither under the name nor under another one, and what was there stays.
#[test]
fn no_file_is_left_of_what_fails() {
    let directory = tempfile::tempdir().unwrap();
    let outputs = directory.path().join("outputs");
    fs::create_dir(&outputs).unwrap();
    let old = outputs.join("old");
    fs::write(&old, b"the stream of yesterday").unwrap();
    for case in corpus::load() {
        if !case.layer.is_codec() {
            continue;
        }
        let new = outputs.join("new");
        for (path, force) in [(&new, None), (&old, Some("--force"))] {
            let arguments = ["cat", "--output", path.to_str().unwrap()];
            let arguments: Vec<&str> = arguments.into_iter().chain(force).collect();
            assert_eq!(
                run(&arguments, &case.bytes, directory.path()).status,
                Some(1)
            );
        }
        let left: Vec<_> = fs::read_dir(&outputs).unwrap().collect();
        assert_eq!(left.len(), 1, "{}: {left:?}", case.name);
        assert!(fs::read(&old).unwrap() == b"the stream of yesterday");
    }
}

/// Each file is complete, and there are as many as the input has complete
/// subvolumes.
#[test]
fn no_tree_is_listed_of_what_fails() {
    let directory = tempfile::tempdir().unwrap();
    for case in corpus::load() {
        let listed = run(&["list", "--long"], &case.bytes, directory.path());
        let name = &case.name;
        if !case.layer.is_codec() && listed.status == Some(0) {
            continue;
        }
        let stream = directory.path().join("stream");
        fs::write(&stream, &case.bytes).unwrap();
        let args = ["cat-file", "f", stream.to_str().unwrap()];
        let printed = run(&args, b"", directory.path());
        for run in [listed, printed] {
            assert_eq!(run.status, Some(1), "{name}: {}", run.said);
            assert!(run.written.is_empty(), "{name}");
            assert!(!run.said.is_empty(), "{name}");
        }
    }
}

#[test]
fn split_leaves_complete_files_only() {
    for case in corpus::load() {
        if !case.layer.is_codec() {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let parts = directory.path().join("parts");
        fs::create_dir(&parts).unwrap();
        let run = run(
            &["split", "-d", parts.to_str().unwrap()],
            &case.bytes,
            directory.path(),
        );
        assert_eq!(run.status, Some(1), "{}", case.name);
        let mut count = 0;
        for entry in fs::read_dir(&parts).unwrap() {
            let path = entry.unwrap().path();
            let file = fs::read(&path).unwrap();
            assert_eq!(
                complete(&file),
                (1, true),
                "{}: {}",
                case.name,
                path.display()
            );
            count += 1;
        }
        assert_eq!(count, case.finished, "{}", case.name);
    }
}

/// Much from few bytes: extents that say they are long, holes without end,
/// names that are never made final.
#[test]
fn memory_stays_small_whatever_a_stream_says() {
    let directory = tempfile::tempdir().unwrap();
    for (name, stream) in bombs() {
        for arguments in TRANSFORMS {
            let run = run(arguments, &stream, directory.path());
            println!("{name}, {arguments:?}: {:?} {}", run.status, run.said);
            assert!(matches!(run.status, Some(0 | 1)), "{name}: {}", run.said);
        }
    }
    let uuid = format!("--uuid={ANY_UUID}");
    let small = run(&["rewrite", &uuid], &bombs().remove(0).1, directory.path());
    assert_eq!(small.status, Some(0), "{}", small.said);
}

/// Streams that are small for what they ask for.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    use btrfs_sendstream::{Command, StreamPath, SubvolumeName, Uuid, Version, Writer};
    let path = |text: String| StreamPath::parse(text.into()).unwrap();
    let punch = |offset, len| Command::Fallocate {
        path: path("f".to_owned()),
        mode: 3,
        offset,
        len,
    };
    let write = |offset| Command::Write {
        path: path("f".to_owned()),
        offset,
        data: vec![0; 4096].into(),
    };
    let bombs: [(&str, Vec<Command>); 4] = [
        ("a hole", vec![punch(0, 1 << 20), write(1 << 20)]),
        (
            "holes",
            (0..20_000).map(|at| punch(at << 12, 1 << 12)).collect(),
        ),
        (
            "zeros far apart",
            (0..20_000).map(|at| write(at << 40 >> 16)).collect(),
        ),
        (
            "temporary names",
            (0..200_000_u64)
                .map(|number| Command::Mkdir {
                    path: path(format!("o{}-1-0", number + 257)),
                    ino: number + 257,
                })
                .collect(),
        ),
    ];
    let stream = |commands: Vec<Command>| {
        let mut writer = Writer::new(Vec::new());
        writer.header(Version::V2).unwrap();
        let first = Command::Subvol {
            name: SubvolumeName::parse("s".into()).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 1,
        };
        let mkfile = Command::Mkfile {
            path: path("f".to_owned()),
            ino: 256,
        };
        for command in [first, mkfile]
            .iter()
            .chain(&commands)
            .chain([&Command::End])
        {
            writer.command(command).unwrap();
        }
        writer.finish().unwrap()
    };
    bombs
        .into_iter()
        .map(|(name, commands)| (name, stream(commands)))
        .collect()
}
