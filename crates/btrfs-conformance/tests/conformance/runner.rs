//! Adapters that are right, and adapters that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use btrfs_conformance::decode;
use btrfs_conformance::judge::{Omits, Verdict, judge};
use btrfs_conformance::report::{Content, End, Report};
use btrfs_conformance::run::{Adapter, TIME};
use btrfs_conformance::score::{Score, table};
use btrfs_conformance::set::{self, Fault, Stream};
use serde_json::json;

const OURS: &str = env!("CARGO_BIN_EXE_conformance-btrfs-sendstream");
const RUNNER: &str = env!("CARGO_BIN_EXE_sendstream-conformance");

fn stream(file: &str) -> Stream {
    let mut streams = set::load().into_iter();
    streams.find(|stream| stream.file == file).unwrap()
}

fn report(file: &str) -> (Stream, Report) {
    let stream = stream(file);
    let report = decode::report(&stream.bytes).0;
    (stream, report)
}

fn omits(names: &[&str]) -> Omits {
    Omits::parse(names.iter().copied()).unwrap()
}

fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    file
}

const DESCRIPTION: &str = r#"echo '{"name":"n","version":"1","omits":[]}'"#;

#[test]
fn ours_is_right_everywhere() {
    let output = Command::new(RUNNER)
        .args(["--details", "--require", OURS])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let row = text.lines().last().unwrap();
    assert!(row.starts_with("| btrfs-sendstream "), "{text}");
    assert!(row.ends_with("| 0 | 0 |"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn differences_are_noticed() {
    let full = "valid/every-command.v3.stream";
    let (stream, right) = report(full);
    let verdict = |report: &Report| judge(&stream, &Omits::default(), report);
    assert_eq!(verdict(&right), Verdict::Right);
    let is_wrong = |change: &dyn Fn(&mut Report)| {
        let mut report = right.clone();
        change(&mut report);
        assert!(matches!(verdict(&report), Verdict::Wrong(_)), "{report:?}");
    };
    for index in 0..right.items.len() {
        is_wrong(&|report| drop(report.items.remove(index)));
        is_wrong(&|report| report.items.insert(index, report.items[index].clone()));
        is_wrong(&|report| report.items[index].offset = None);
        is_wrong(&|report| report.items[index].offset = Some(1));
        match &right.items[index].content {
            Content::Header(_) => {
                is_wrong(&|report| report.items[index].content = Content::Header(2));
            }
            Content::Command { attributes, .. } => {
                let of = |report: &mut Report, change: &dyn Fn(&mut _)| {
                    if let Content::Command { attributes, .. } = &mut report.items[index].content {
                        change(attributes);
                    }
                };
                for name in attributes.keys() {
                    is_wrong(&|report| of(report, &|attributes| drop(attributes.remove(name))));
                    is_wrong(&|report| {
                        of(report, &|attributes| {
                            drop(attributes.insert(name.clone(), json!("another")));
                        });
                    });
                }
                if !attributes.contains_key("otime") {
                    is_wrong(&|report| {
                        of(report, &|attributes| {
                            drop(attributes.insert("otime".to_owned(), json!(0)));
                        });
                    });
                }
            }
        }
    }
    is_wrong(&|report| {
        report.end = End::Error {
            offset: Some(17),
            class: Some("bad-checksum".to_owned()),
        };
    });
    let mut crashed = right.clone();
    crashed.end = End::Crashed("why".to_owned());
    assert!(matches!(verdict(&crashed), Verdict::Crashed(_)));
}

#[test]
fn a_malformed_stream_is_refused_or_not() {
    let (stream, right) = report("hostile/checksum-data-damaged.stream");
    assert_eq!(stream.fault, Fault::Parser { must: true });
    let verdict = |report: &Report| judge(&stream, &Omits::default(), report);
    assert_eq!(verdict(&right), Verdict::Right);
    let with_end = |end| Report {
        end,
        ..right.clone()
    };
    assert!(matches!(
        verdict(&with_end(End::Complete)),
        Verdict::Wrong(_)
    ));
    let (offset, class) = (stream.error_offset(), Some("bad-checksum".to_owned()));
    for (offset, class) in [
        (Some(17), class.clone()),
        (None, class),
        (offset, Some("bad-length".to_owned())),
        (offset, None),
    ] {
        let report = with_end(End::Error { offset, class });
        assert!(
            matches!(verdict(&report), Verdict::Otherwise(_)),
            "{report:?}"
        );
    }
    let mut early = right.clone();
    early.items.pop();
    assert!(matches!(verdict(&early), Verdict::Otherwise(_)));
    assert_eq!(
        judge(&stream, &omits(&["items-before-error"]), &early),
        Verdict::Partly
    );
    assert_eq!(
        judge(
            &stream,
            &omits(&["class:bad-checksum"]),
            &with_end(End::Complete)
        ),
        Verdict::NotExpressible
    );
}

#[test]
fn what_may_be_accepted_is_compared_up_to_there() {
    let (stream, right) = report("hostile/attribute-twice.stream");
    assert_eq!(stream.fault, Fault::Parser { must: false });
    let mut accepted = right;
    accepted.end = End::Complete;
    let verdict = |report: &Report| judge(&stream, &Omits::default(), report);
    assert_eq!(verdict(&accepted), Verdict::Permitted);
    let more = accepted.items.last().unwrap().clone();
    accepted.items.push(more);
    assert_eq!(verdict(&accepted), Verdict::Permitted);
    accepted.items.remove(0);
    assert!(matches!(verdict(&accepted), Verdict::Wrong(_)));
    accepted.items.clear();
    assert!(matches!(verdict(&accepted), Verdict::Wrong(_)));
}

#[test]
fn another_class_may_fit_too() {
    let (stream, mut report) = report("hostile/empty.stream");
    report.end = End::Error {
        offset: Some(0),
        class: Some("truncated".to_owned()),
    };
    assert_eq!(judge(&stream, &Omits::default(), &report), Verdict::Right);
}

#[test]
fn what_an_adapter_omits_is_not_compared() {
    let (stream, mut report) = report("valid/every-command.v2.stream");
    for item in &mut report.items {
        item.offset = None;
        if let Content::Command { attributes, .. } = &mut item.content {
            attributes.remove("ino");
            for value in attributes.values_mut() {
                if let Some(fields) = value.as_object_mut() {
                    fields.remove("sha256");
                    fields.remove("nanoseconds");
                }
            }
        }
    }
    report.items.remove(0);
    report.items.pop();
    let all = [
        "offset",
        "header",
        "command:end",
        "attribute:ino",
        "sha256",
        "nanoseconds",
    ];
    assert_eq!(judge(&stream, &omits(&all), &report), Verdict::Partly);
    for (index, name) in all.iter().enumerate() {
        let mut some = all.to_vec();
        some.remove(index);
        let verdict = judge(&stream, &omits(&some), &report);
        assert!(matches!(verdict, Verdict::Wrong(_)), "{name}: {verdict:?}");
    }
    for unknown in [
        "",
        "offsets",
        "attribute:name",
        "attribute:x.path",
        "class:bad",
        "a:b",
    ] {
        assert!(Omits::parse([unknown]).is_err(), "{unknown}");
    }
}

#[test]
fn a_parser_of_one_stream_is_compared_with_one() {
    let (stream, mut report) = report("valid/three-versions.stream");
    let one = report.items.iter().position(|item| item.is_end()).unwrap();
    report.items.truncate(one + 1);
    let only = omits(&["second-stream"]);
    assert_eq!(judge(&stream, &only, &report), Verdict::Partly);
    let behind = self::stream("hostile/junk-after-end.stream");
    report.end = End::Complete;
    assert_eq!(judge(&behind, &only, &report), Verdict::NotExpressible);
}

#[test]
fn absent_numbers_may_be_reported_as_0() {
    let (stream, mut report) = report("valid/encoded-write-without-compression.stream");
    let set = |report: &mut Report, value: u64| {
        let last = report.items.len() - 2;
        if let Content::Command { attributes, .. } = &mut report.items[last].content {
            attributes.insert("compression".to_owned(), json!(value));
        }
    };
    set(&mut report, 0);
    assert_eq!(judge(&stream, &Omits::default(), &report), Verdict::Right);
    set(&mut report, 1);
    assert!(matches!(
        judge(&stream, &Omits::default(), &report),
        Verdict::Wrong(_)
    ));
}

/// Nothing that an adapter does ends the runner.
#[test]
fn adapters_that_misbehave() {
    let directory = tempfile::tempdir().unwrap();
    let streams = [stream("valid/subvolume-empty.stream")];
    let verdict = |name: &str, text: &str, time: Duration| {
        let text = format!("if [ \"$1\" ]; then {DESCRIPTION}; exit; fi\n{text}");
        let adapter = Adapter::start(&script(directory.path(), name, &text)).unwrap();
        let score = Score::new(adapter, &streams, time);
        assert!(!score.is_full(), "{name}");
        assert!(score.details().contains("subvolume-empty"), "{name}");
        table(std::slice::from_ref(&score))
    };
    for (name, text) in [
        ("silent", "exit 0"),
        ("killed", "kill -9 $$"),
        ("failing", "exit 3"),
        ("noisy", "yes"),
        ("endless", "head -c 100000000 /dev/zero"),
        ("binary", "cat"),
        // In another process group, which must not be ended.
        (
            "moved",
            "exec python3 -c 'import os, time; os.setpgid(0, os.getpgid(os.getppid())); \
             os.close(1); time.sleep(1000)'",
        ),
        (
            "half",
            r#"cat >&-; echo '{"type":"header","offset":0,"version":1}'"#,
        ),
    ] {
        let table = verdict(name, text, TIME);
        assert!(table.contains("| 0 of 1 |"), "{name}: {table}");
        assert!(table.contains("| 1 | 0 |\n"), "{name}: {table}");
    }
    for (name, text) in [
        ("hanging", "exec sleep 1000"),
        // Its child has the pipe.
        ("waiting", "sleep 1000"),
        ("left", "sleep 1000 & exec >&-; wait"),
    ] {
        let table = verdict(name, text, Duration::from_millis(50));
        assert!(table.contains("| 1 | 0 |\n"), "{name}: {table}");
    }
}

#[test]
fn adapters_that_do_not_describe_themselves() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("silent", ""),
        ("text", "echo version 1"),
        ("nameless", r#"echo '{"version":"1","omits":[]}'"#),
        ("unversioned", r#"echo '{"name":"n","omits":[]}'"#),
        ("complete", r#"echo '{"name":"n","version":"1"}'"#),
        (
            "mistaken",
            r#"echo '{"name":"n","version":"1","omits":["ofset"]}'"#,
        ),
    ] {
        let program = script(directory.path(), name, text);
        let output = Command::new(RUNNER).arg(&program).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("ERROR: "), "{name}: {error}");
    }
    let missing = Command::new(RUNNER)
        .arg(directory.path().join("missing"))
        .output();
    assert_eq!(missing.unwrap().status.code(), Some(1));
    let none = Command::new(RUNNER).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
}
