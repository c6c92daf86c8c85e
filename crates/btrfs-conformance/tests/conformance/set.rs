//! `testdata/conformance.json`.

use std::collections::BTreeSet;
use std::fs;

use btrfs_conformance::report::{Content, End};
use btrfs_conformance::set::{self, Fault};
use btrfs_conformance::value::sha256;
use btrfs_conformance::{defect, testdata};
use btrfs_sendstream::{Attribute, CommandKind, Version};
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
    for directory in ["streams", "kernels", "others", "valid", "hostile"] {
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

/// The Kaitai Struct specification and the schema have all commands and attributes.
#[test]
fn no_number_is_missing() {
    let read = |name: &str| fs::read_to_string(testdata().join(name)).unwrap();
    let specification = read("btrfs_send_stream.ksy");
    let listed = |name: &str| -> Vec<(u16, String)> {
        let start = format!("\n  {name}:\n");
        let (_, list) = specification.split_once(&start).unwrap();
        let entries = list.lines().map_while(|line| line.strip_prefix("    "));
        let entries = entries.map(|entry| entry.split_once(": ").unwrap());
        entries
            .map(|(number, name)| (number.parse().unwrap(), name.to_owned()))
            .collect()
    };
    let commands = CommandKind::ALL.iter();
    let commands: Vec<_> = commands
        .map(|kind| (kind.number(), kind.name().to_owned()))
        .collect();
    assert_eq!(listed("command_number"), commands);
    let attributes = Attribute::ALL.iter();
    let attributes: Vec<_> = attributes
        .map(|attribute| (attribute.number(), attribute.name().to_owned()))
        .collect();
    assert_eq!(listed("attribute_number"), attributes);
    let schema: Value = serde_json::from_str(&read("conformance.schema.json")).unwrap();
    let described = schema["$defs"]["attributes"]["properties"]
        .as_object()
        .unwrap();
    let described: BTreeSet<_> = described.keys().cloned().collect();
    let names = attributes.into_iter().map(|(_, name)| name);
    assert_eq!(described, names.collect());
}

/// Each command of each version is in some stream that every parser accepts.
#[test]
fn every_command_occurs() {
    let mut found = BTreeSet::new();
    for stream in set::load() {
        let mut version = 0;
        for item in stream.report.items {
            match item.content {
                Content::Header(header) => version = header,
                Content::Command { number, .. } if stream.fault == Fault::None => {
                    found.insert((version, number));
                }
                Content::Command { .. } => {}
            }
        }
    }
    for version in Version::ALL {
        for kind in CommandKind::ALL {
            let there = found.contains(&(u64::from(version.number()), kind.number()));
            assert_eq!(there, kind.since() <= *version, "{kind} of {version}");
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
