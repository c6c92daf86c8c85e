//! `testdata/conformance.json`.

use std::collections::BTreeSet;
use std::fs;

use btrfs_conformance::report::End;
use btrfs_conformance::set::{self, Fault};
use btrfs_conformance::value::sha256;
use btrfs_conformance::{defect, testdata};
use btrfs_testkit::corpus;
use serde_json::Value;

#[test]
fn it_is_up_to_date() {
    if std::env::var_os("UPDATE_CONFORMANCE").is_some() {
        set::renew().unwrap();
    }
    for (name, bytes) in set::valid_files() {
        let file = testdata().join("valid").join(&name);
        assert!(fs::read(&file).ok() == Some(bytes), "{name}");
    }
    let text = fs::read_to_string(testdata().join(set::FILE)).unwrap_or_default();
    let expected = set::print();
    let differs = text
        .lines()
        .zip(expected.lines())
        .find(|(now, then)| now != then);
    assert!(
        text == expected,
        "{} is out of date: {differs:#?}",
        set::FILE
    );
}

#[test]
fn it_has_every_stream() {
    let listed: BTreeSet<_> = set::load().into_iter().map(|stream| stream.file).collect();
    let mut found = BTreeSet::new();
    for directory in ["streams", "kernels", "valid", "hostile"] {
        let names = set::files_in(&testdata().join(directory)).unwrap();
        found.extend(names.iter().map(|name| format!("{directory}/{name}")));
    }
    assert_eq!(listed, found);
    assert!(listed.len() > 300, "{}", listed.len());
}

#[test]
fn checksums_are_those_of_the_files() {
    let text = fs::read(testdata().join(set::FILE)).unwrap();
    let set: Value = serde_json::from_slice(&text).unwrap();
    for entry in set["streams"].as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let bytes = fs::read(testdata().join(file)).unwrap();
        assert_eq!(entry["sha256"], sha256(&bytes), "{file}");
        assert_eq!(entry["size"], bytes.len(), "{file}");
    }
}

/// The manifest of the hostile streams is written from another source.
#[test]
fn errors_are_where_the_hostile_streams_have_them() {
    let streams = set::load();
    for case in corpus::load() {
        let file = format!("hostile/{}.stream", case.name);
        let stream = streams.iter().find(|stream| stream.file == file).unwrap();
        if case.layer.is_codec() {
            assert_eq!(stream.error_offset(), Some(case.at.offset), "{file}");
            let before = stream.report.items.iter();
            let mut before = before.map(|item| item.offset.unwrap());
            assert!(
                before.all(|offset| offset < case.at.offset || case.at.offset == 0),
                "{file}"
            );
            assert!(matches!(stream.fault, Fault::Parser { .. }), "{file}");
        } else {
            assert_eq!(stream.report.end, End::Complete, "{file}");
            assert_eq!(stream.fault, Fault::Receiver, "{file}");
        }
    }
}

/// Each class is in the documentation, in the schema, and that of some stream.
#[test]
fn every_class_occurs() {
    let read = |name: &str| fs::read_to_string(testdata().join(name)).unwrap();
    let (page, schema) = (read("README.md"), read("conformance.schema.json"));
    let used: BTreeSet<_> = set::load()
        .into_iter()
        .filter_map(|stream| match stream.report.end {
            End::Error { class, .. } => class,
            _ => None,
        })
        .collect();
    let known: BTreeSet<_> = defect::CLASSES
        .iter()
        .map(|(class, _)| (*class).to_owned())
        .collect();
    assert_eq!(used, known);
    for (class, meaning) in defect::CLASSES {
        assert!(
            page.contains(&format!("| `{class}` | {meaning} |")),
            "{class}"
        );
        assert!(schema.contains(&format!("\"{class}\"")), "{class}");
    }
}
