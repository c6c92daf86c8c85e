//! What `--json` prints: `docs/json.md` holds examples, and each is produced
//! here. `JSON=renew` in the environment writes what is printed now into the
//! document.

use std::fs;
use std::path::Path;
use std::process::Output;

use btrfs_sendstream::{Command, CommandRef, StreamPath, SubvolumeName, Uuid, Version};
use btrfs_testkit::{LoopFilesystem, Test, test};
use serde_json::Value;

use crate::support::{Sent, command, encode, receive, run_with_input, text};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(examples_are_those_of_the_document),
        test!(every_line_is_json_and_the_last_says_how_it_ended),
        test!(a_set_is_told_file_by_file),
        test!(what_was_complete_before_is_told_apart),
        test!(progress_is_told),
        test!(nobody_needs_to_read_it),
    ]
}

/// A case's name in the document, and how to come by it.
type Case = (&'static str, fn(&Path) -> Output);

const CASES: &[Case] = &[
    ("receive", |to| {
        receive(&full(), &["--json"], to);
        receive(&incremental(&[]), &["--json"], to)
    }),
    ("failed", |to| {
        receive(&full(), &["--json"], to);
        let unlink = Command::Unlink { path: path("gone") };
        receive(&incremental(&[unlink]), &["--json"], to)
    }),
    ("cut", |to| {
        let stream = full();
        receive(&stream[..stream.len() - 15], &["--json"], to)
    }),
    ("dry-run", |to| {
        let mut command = command(&["--dry-run", "--json"]);
        run_with_input(command.arg(to), &incremental(&[]))
    }),
];

const FIRST: Uuid = Uuid::from_u128(0x1111);
const SECOND: Uuid = Uuid::from_u128(0x2222);

fn path(path: &'static str) -> StreamPath<&'static [u8]> {
    StreamPath::parse(path.as_bytes()).unwrap()
}

/// A subvolume `monday` with a file whose name is not UTF-8.
fn full() -> Vec<u8> {
    let file = || StreamPath::parse(&b"caf\xe9"[..]).unwrap();
    let commands = [
        Command::Subvol {
            name: SubvolumeName::parse(&b"monday"[..]).unwrap(),
            uuid: FIRST,
            ctransid: 7,
        },
        Command::Mkfile {
            path: file(),
            ino: 257,
        },
        Command::Write {
            path: file(),
            offset: 0,
            data: &b"content"[..],
        },
        Command::End,
    ];
    encode(Version::V2, &commands)
}

/// `tuesday`, which differs from `monday` by these commands.
fn incremental(commands: &[CommandRef<'static>]) -> Vec<u8> {
    let snapshot = Command::Snapshot {
        name: SubvolumeName::parse(&b"tuesday"[..]).unwrap(),
        uuid: SECOND,
        ctransid: 9,
        parent_uuid: FIRST,
        parent_ctransid: 7,
    };
    encode(
        Version::V2,
        &[&[snapshot], commands, &[Command::End]].concat(),
    )
}

/// What differs from run to run is taken out.
fn normalised(output: &Output, destination: &Path) -> String {
    let mut printed = text(output)
        .0
        .replace(destination.to_str().unwrap(), "/backup");
    for (key, end, instead) in [
        ("\"available\":", "}", "1073741824"),
        ("\"destination\":{\"kernel\":\"", "\"", "6.18"),
    ] {
        if let Some(at) = printed.find(key) {
            let at = at + key.len();
            let len = printed[at..].find(end).unwrap();
            printed.replace_range(at..at + len, instead);
        }
    }
    // How long it took.
    let mut parts = printed.split("_ms\":");
    let mut timeless = parts.next().unwrap().to_owned();
    for part in parts {
        timeless += "_ms\":0";
        timeless += part.trim_start_matches(|letter: char| letter.is_ascii_digit());
    }
    let printed = timeless;
    // UUIDs that the filesystem made.
    let parts: Vec<_> = printed.split("\"uuid\":\"").collect();
    let known = |uuid: &str| uuid.starts_with("00000000-");
    let parts = parts
        .iter()
        .enumerate()
        .map(|(index, part)| match index > 0 && !known(part) {
            true => format!("c1d2e3f4-0000-4000-8000-000000000001{}", &part[36..]),
            false => (*part).to_owned(),
        });
    parts.collect::<Vec<_>>().join("\"uuid\":\"")
}

fn examples_are_those_of_the_document() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let renew = std::env::var_os("JSON").is_some_and(|value| value == "renew");
    let mut expected = fs::read_to_string(&document).unwrap();
    let mut wrong = Vec::new();
    for (name, run) in CASES {
        let filesystem = LoopFilesystem::new();
        let output = run(filesystem.path());
        let printed = normalised(&output, filesystem.path());
        for line in printed.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        let marker = format!("<!-- {name} -->\n\n```json\n");
        let Some(at) = expected.find(&marker) else {
            panic!("docs/json.md has no {name}");
        };
        let begin = at + marker.len();
        let end = begin + expected[begin..].find("```").unwrap();
        if expected[begin..end] != printed {
            wrong.push(format!("{name}:\n{printed}{}", text(&output).1));
            expected.replace_range(begin..end, &printed);
        }
    }
    if renew {
        fs::write(document, expected).unwrap();
    } else {
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

/// The lines, parsed.
fn lines(output: &Output) -> Vec<Value> {
    // Standard error may hold names that are no text.
    let lines: Vec<Value> = std::str::from_utf8(&output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "end", "{last}");
    assert_eq!(last["success"], output.status.success(), "{last}");
    lines
}

fn every_line_is_json_and_the_last_says_how_it_ended() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let output = receive(&sent.full, &["--json", "-vv"], to.path());
    let full = lines(&output);
    assert_eq!(full[0]["event"], "subvolume_begins");
    let report = &full[full.len() - 2];
    assert_eq!(report["event"], "report");
    assert_eq!(report["finished"], 1);
    assert_eq!(report["subvolumes"][0]["outcome"], "finished");
    // Standard error has what it has without, and what else was on standard
    // output.
    let output = receive(&sent.incremental, &["--json"], to.path());
    let incremental = lines(&output);
    assert_eq!(text(&output).1, "At snapshot second\n");
    let created = incremental
        .iter()
        .find(|it| it["event"] == "subvolume_created");
    assert_eq!(created.unwrap()["parent"]["path"], "first");
    // What is refused from the beginning is told as well.
    for (options, stream) in [
        (&["--json"][..], &sent.full[..]),
        (&["--json"], b""),
        (&["--json", "--dry-run"], &sent.full),
        (&["--json", "-f", "/no/such/file"], b""),
        (&["--json", "--extract"], &sent.incremental[..100]),
    ] {
        let output = receive(stream, options, to.path());
        assert!(!output.status.success(), "{options:?}");
        lines(&output);
    }
    let output = receive(&sent.full, &["--json"], &to.path().join("missing"));
    let refused = lines(&output);
    assert_eq!(refused[0]["event"], "error");
    assert!(refused[0]["to_do"].is_string(), "{}", refused[0]);
    // A directory of any filesystem.
    let plain = tempfile::tempdir().unwrap();
    let output = receive(&sent.full, &["--json", "--extract"], plain.path());
    assert!(output.status.success(), "{output:?}");
    lines(&output);
}

fn a_set_is_told_file_by_file() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), &sent.incremental).unwrap();
    fs::write(directory.path().join("b"), &sent.full).unwrap();
    let mut set = command(&["--json"]);
    let set = set.arg("--chain").arg(directory.path()).arg(to.path());
    let output = set.output().unwrap();
    let told = lines(&output);
    let of = |event: &str| -> Vec<&Value> {
        let told = told.iter().filter(|it| it["event"] == event);
        told.collect()
    };
    assert_eq!(of("verified").len(), 2);
    assert_eq!(of("chain")[0]["order"], serde_json::json!([1, 0]));
    let files: Vec<_> = of("input").iter().map(|it| it["file"].clone()).collect();
    let name = |name: &str| directory.path().join(name).display().to_string();
    assert_eq!(files, [name("b"), name("a")]);
    let reports = of("report");
    assert!(reports.len() == 2 && reports.iter().all(|it| it["success"] == true));
}

fn what_was_complete_before_is_told_apart() {
    let to = LoopFilesystem::new();
    assert!(receive(&full(), &[], to.path()).status.success());
    for (options, success) in [(&["--json"][..], false), (&["--json", "--resumable"], true)] {
        let output = receive(&full(), options, to.path());
        assert_eq!(output.status.success(), success, "{options:?}");
        let told = lines(&output);
        let count = |event: &str| told.iter().filter(|it| it["event"] == event).count();
        assert_eq!(count("subvolume_present"), 1, "{told:?}");
        assert_eq!(count("subvolume_abandoned"), 0, "{told:?}");
        let report = told.iter().find(|it| it["event"] == "report").unwrap();
        assert_eq!(report["already_complete"], 1, "{report}");
        assert_eq!(
            (&report["abandoned"], &report["finished"]),
            (&0.into(), &0.into())
        );
        assert_eq!(report["subvolumes"][0]["outcome"], "already_complete");
    }
}

fn progress_is_told() {
    let to = LoopFilesystem::new();
    let data = vec![7; 128 << 10];
    let mut commands = vec![
        Command::Subvol {
            name: SubvolumeName::parse(&b"monday"[..]).unwrap(),
            uuid: FIRST,
            ctransid: 1,
        },
        Command::Mkfile {
            path: path("file"),
            ino: 257,
        },
    ];
    commands.extend((0..24).map(|index| Command::Write {
        path: path("file"),
        offset: index << 17,
        data: &data[..],
    }));
    commands.push(Command::End);
    let stream = encode(Version::V2, &commands);
    let output = receive(&stream, &["--json", "--size=4M"], to.path());
    let told = lines(&output);
    let progress: Vec<_> = told.iter().filter(|it| it["event"] == "progress").collect();
    assert!(!progress.is_empty());
    assert_eq!(progress[0]["size"], 4 << 20);
    assert_eq!(progress[0]["files"], 1);
    assert!(progress[0]["byte"].as_u64().unwrap() >= 1 << 20);
}

fn nobody_needs_to_read_it() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let mut command = command(&["--json"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.arg(to.path()).stdout(writer);
    let output = run_with_input(&mut command, &sent.full);
    assert!(output.status.success(), "{output:?}");
}
