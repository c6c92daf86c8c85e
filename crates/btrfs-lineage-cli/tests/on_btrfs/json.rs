//! `docs/json.md` holds what `inventory` and `plan` print: each example is
//! produced here. `JSON=renew` in the environment writes what is printed now into
//! the document.

use std::fs;
use std::path::Path;

use btrfs_testkit::{LoopFilesystem, Sender, Test, subvolume, test};
use serde_json::Value;

use crate::support::{lineage, printed, receive, write_inventory};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![test!(examples_are_those_of_the_document)]
}

fn examples_are_those_of_the_document() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    fs::write(work.join("file"), b"hello").unwrap();
    let monday = subvolume::snapshot_read_only(&work, &from.path().join("monday"));
    fs::write(work.join("file"), b"more").unwrap();
    let tuesday = subvolume::snapshot_read_only(&work, &from.path().join("tuesday"));
    receive(&Sender::new(&monday).to_vec(), to.path()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let there = write_inventory(to.path(), &directory.path().join("there"));
    let mut plan = lineage(["plan", "--json", "--against"]);
    let plan = printed(plan.arg(&there).arg(&tuesday));
    let mut uuids = Vec::new();
    let cases = [
        ("inventory", fs::read_to_string(there).unwrap()),
        (
            "plan",
            plan.replace(from.path().to_str().unwrap(), "/snapshots"),
        ),
    ];
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let renew = std::env::var_os("JSON").is_some_and(|value| value == "renew");
    let mut expected = fs::read_to_string(&document).unwrap();
    let mut wrong = Vec::new();
    for (name, printed) in cases {
        serde_json::from_str::<Value>(&printed).unwrap();
        let printed = normalised(&printed, &mut uuids);
        let marker = format!("<!-- {name} -->\n\n```json\n");
        let Some(at) = expected.find(&marker) else {
            panic!("docs/json.md has no {name}");
        };
        let begin = at + marker.len();
        let end = begin + expected[begin..].find("```").unwrap();
        if expected[begin..end] != printed {
            wrong.push(format!("{name}:\n{printed}"));
            expected.replace_range(begin..end, &printed);
        }
    }
    if renew {
        fs::write(document, expected).unwrap();
    } else {
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

/// What differs from run to run is replaced: UUIDs by numbers in the order in
/// which they come, each transaction id by the next number, times by one.
fn normalised(text: &str, uuids: &mut Vec<String>) -> String {
    let mut transid = 6;
    let mut out = String::new();
    let number = |value: &str, known: &mut Vec<String>| {
        let known_at = known.iter().position(|it| it == value);
        known_at.unwrap_or_else(|| {
            known.push(value.to_owned());
            known.len() - 1
        })
    };
    // Neither names nor values have commas or colons in them, but for times.
    for part in text.split_inclusive(['{', '[', ',', ']', '}']) {
        let (key, value) = match part.split_once("\":") {
            Some((key, value)) => (key, value),
            None => ("", part),
        };
        let end = value.len() - value.trim_end_matches(['{', '[', ',', ']', '}']).len();
        let (plain, end) = value.split_at(value.len() - end);
        let quoted = plain.trim_matches('"');
        let is_uuid = quoted.len() == 36 && quoted.split('-').count() == 5;
        let is_time = quoted.len() == 30 && quoted.ends_with('Z');
        let value = if is_uuid {
            let number = number(quoted, uuids) + 1;
            format!("\"c1d2e3f4-0000-4000-8000-{number:012}\"")
        } else if is_time {
            "\"2026-11-23T12:00:00.000000001Z\"".to_owned()
        } else if key.ends_with("transid") {
            transid += 1;
            transid.to_string()
        } else {
            plain.to_owned()
        };
        if !key.is_empty() {
            out.push_str(key);
            out.push_str("\":");
        }
        out.push_str(&value);
        out.push_str(end);
    }
    out
}
