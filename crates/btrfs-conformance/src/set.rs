//! `testdata/conformance.json`: what a parser has to say of each stream.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use btrfs_testkit::corpus::{self, Case};
use serde_json::{Value, json};

use crate::report::{Content, End, Report};
use crate::value::sha256;
use crate::{decode, report, testdata, valid};

/// The file, in [`testdata`].
pub const FILE: &str = "conformance.json";

const ABOUT: &str = "What a parser has to say of the send streams beside this file. README.md \
                     explains it, conformance.schema.json describes its form. Written by: \
                     UPDATE_CONFORMANCE=1 cargo test -p btrfs-conformance";

/// Who has to notice that something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody: nothing is wrong.
    None,
    /// A receiver. To a parser the stream is like any other.
    Receiver,
    /// A parser.
    Parser {
        /// Whether each has to refuse the stream. If not, a parser may also leave that
        /// to its caller.
        must: bool,
    },
}

/// A stream of the set.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its file, relative to [`testdata`].
    pub file: String,
    /// The versions of its headers, as far as they are known ones.
    pub versions: Vec<u64>,
    /// Whose fault there is.
    pub fault: Fault,
    /// The report that is expected.
    pub report: Report,
    /// Classes that an error may also have.
    pub or: Vec<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads the set, and the streams.
///
/// # Panics
///
/// If a file is missing or not what [`print()`] writes.
pub fn load() -> Vec<Stream> {
    let text = read(FILE);
    let set: Value = serde_json::from_slice(&text).expect("JSON");
    let streams = set["streams"].as_array().expect("a list of streams");
    streams.iter().map(stream).collect()
}

fn stream(entry: &Value) -> Stream {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let file = text(&entry["file"]);
    let mut lines = entry["items"].as_array().expect("a list").clone();
    let mut end = entry["end"].clone();
    let end_fields = end.as_object_mut().expect("an object");
    let must = end_fields.remove("must");
    let or = end_fields.remove("or");
    lines.push(end);
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    let fault = match (entry["fault"].as_str(), must) {
        (Some("none"), None) => Fault::None,
        (Some("receiver"), None) => Fault::Receiver,
        (Some("parser"), Some(Value::Bool(must))) => Fault::Parser { must },
        other => panic!("{file}: {other:?}"),
    };
    let versions = entry["versions"].as_array().expect("a list").iter();
    let or = or.as_ref().and_then(Value::as_array).into_iter().flatten();
    Stream {
        versions: versions
            .map(|version| version.as_u64().expect("a number"))
            .collect(),
        fault,
        report: report::parse(lines.join("\n").as_bytes()),
        or: or.map(text).collect(),
        bytes: read(&file),
        file,
    }
}

fn read(file: &str) -> Vec<u8> {
    let path = testdata().join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of the file, from the streams in [`testdata`] and from what
/// `btrfs-sendstream` says of them.
pub fn print() -> String {
    let entries: Vec<_> = entries().iter().map(print_entry).collect();
    let about = Value::from(ABOUT);
    format!(
        "{{\n\"$schema\": \"./conformance.schema.json\",\n\"about\": {about},\n\
         \"format\": 1,\n\"streams\": [\n{}\n]\n}}\n",
        entries.join(",\n")
    )
}

struct Entry {
    file: String,
    about: String,
    licence: &'static str,
    origin: Value,
    fault: &'static str,
}

fn entries() -> Vec<Entry> {
    let kernel = KERNEL.iter().map(|&(file, command, about)| Entry {
        file: format!("streams/{file}.stream"),
        about: about.to_owned(),
        licence: if file.starts_with("encoded-") {
            // Quotes a header of glibc, see README.md.
            "CC0-1.0 AND LGPL-2.1-or-later"
        } else {
            "CC0-1.0"
        },
        origin: json!({ "kernel": "Linux 6.18", "command": command }),
        fault: "none",
    });
    let directory = testdata().join("kernels");
    let names = files_in(&directory).expect("the directory is there");
    let others = names.into_iter().map(|name| {
        let (version, command, about) = of_another_kernel(&name);
        let release = read(&format!("kernels/{version}.release"));
        let release = String::from_utf8_lossy(&release);
        Entry {
            file: format!("kernels/{name}"),
            about: about.to_owned(),
            licence: "CC0-1.0",
            origin: json!({
                "kernel": format!("Linux {}, of Debian", release.trim_end()),
                "command": command,
            }),
            fault: "none",
        }
    });
    let not_kernels = [
        (
            "btrfs-stream-0.13.0.v2",
            "Every command of version 2 but those that make an inode.",
            "none",
        ),
        (
            "btrfs-stream-0.13.0-without-ino.v2",
            "MKFILE without INO, as this sender writes it.",
            "parser",
        ),
    ];
    let not_kernels = not_kernels.map(|(name, about, fault)| Entry {
        file: format!("others/{name}.stream"),
        about: about.to_owned(),
        licence: "CC0-1.0",
        origin: json!({ "generator": "btrfs-stream 0.13.0 of crates.io" }),
        fault,
    });
    let own = |path: &str| json!({ "generator": path });
    let valid = valid::streams().into_iter().map(|stream| Entry {
        file: format!("valid/{}.stream", stream.name),
        about: stream.about.to_owned(),
        licence: "CC0-1.0",
        origin: own("crates/btrfs-conformance"),
        fault: "none",
    });
    let mut hostile = corpus::load();
    hostile.sort_by(|a, b| a.name.cmp(&b.name));
    let hostile = hostile.iter().map(|case: &Case| Entry {
        file: format!("hostile/{}.stream", case.name),
        about: case.defect.clone(),
        licence: "CC0-1.0",
        origin: own("crates/btrfs-testkit"),
        fault: if case.layer.is_codec() {
            "parser"
        } else {
            "receiver"
        },
    });
    kernel
        .chain(others)
        .chain(not_kernels)
        .chain(valid)
        .chain(hostile)
        .collect()
}

/// The kernel's version of a stream in `kernels`, a command that writes such a stream, and
/// what is in it, as `kernels/samples` makes it.
fn of_another_kernel(name: &str) -> (&str, &'static str, &'static str) {
    let of = |end| name.strip_suffix(end);
    if let Some(version) = of(".full.v1.stream") {
        (
            version,
            "btrfs send --proto 1 a",
            "A full send of a small snapshot.",
        )
    } else if let Some(version) = of(".encoded.v2.stream") {
        (
            version,
            "btrfs send --proto 2 --compressed-data a",
            "The same, with ENCODED_WRITE.",
        )
    } else if let Some(version) = of(".incr.v1.stream") {
        (
            version,
            "btrfs send --proto 1 -p a b",
            "The changes to the next snapshot.",
        )
    } else if let Some(version) = of(".incr.v2.stream") {
        (
            version,
            "btrfs send --proto 2 -p a b",
            "The changes to the next snapshot.",
        )
    } else {
        panic!("what is {name}?")
    }
}

/// Streams of a kernel: name, a command that writes such a stream, and what is in it.
const KERNEL: &[(&str, &str, &str)] = &[
    (
        "full.v1",
        "btrfs send --proto 1 s1",
        "A full send of the first snapshot.",
    ),
    (
        "full.v2",
        "btrfs send --proto 2 s1",
        "A full send of the first snapshot.",
    ),
    (
        "incr.v1",
        "btrfs send --proto 1 -p s1 s2",
        "The changes from the first snapshot to the second.",
    ),
    (
        "incr.v2",
        "btrfs send --proto 2 -p s1 s2",
        "The changes from the first snapshot to the second.",
    ),
    (
        "incr-nodata.v1",
        "btrfs send --proto 1 --no-data -p s1 s2",
        "The same changes without file data: UPDATE_EXTENT in place of WRITE.",
    ),
    (
        "incr-swap.v1",
        "btrfs send --proto 1 -p s2 s3",
        "Files that exchange their names, through temporary names.",
    ),
    (
        "incr-clone.v2",
        "btrfs send --proto 2 -p s1 s3",
        "CLONE from the parent and within the subvolume.",
    ),
    (
        "encoded-zlib.v2",
        "btrfs send --proto 2 --compressed-data rc_zlib",
        "ENCODED_WRITE with zlib.",
    ),
    (
        "encoded-lzo.v2",
        "btrfs send --proto 2 --compressed-data rc_lzo",
        "ENCODED_WRITE with LZO.",
    ),
    (
        "encoded-zstd.v2",
        "btrfs send --proto 2 --compressed-data rc_zstd",
        "ENCODED_WRITE with zstd.",
    ),
    (
        "multi.v1",
        "btrfs send --proto 1 s1 s2",
        "Two full sends, each with header and END.",
    ),
    (
        "multi-one-end.v1",
        "btrfs send --proto 1 -e s1 s2",
        "Two full sends with one header and one END.",
    ),
    (
        "concat-mixed",
        "cat full.v1.stream incr.v2.stream",
        "A stream of version 1 and one of version 2.",
    ),
];

fn print_entry(entry: &Entry) -> String {
    let bytes = read(&entry.file);
    let (report, defect) = decode::report(&bytes);
    let is_parsers = entry.fault == "parser";
    assert_eq!(defect.is_some(), is_parsers, "{}: {defect:?}", entry.file);
    let mut versions: Vec<u64> = Vec::new();
    for item in &report.items {
        if let Content::Header(version) = item.content
            && !versions.contains(&version)
        {
            versions.push(version);
        }
    }
    let mut end = report.end.to_line();
    if let Some(defect) = defect {
        // Inside the object.
        end.truncate(end.len() - 1);
        let _ = write!(
            end,
            ", \"or\": {}, \"must\": {}}}",
            json!(defect.or),
            defect.must
        );
    }
    // An item to a line, so that a difference can be read.
    let items: Vec<_> = report
        .items
        .iter()
        .map(|item| format!("  {}", item.to_line()))
        .collect();
    format!(
        "{{\"file\": {}, \"about\": {},\n \"fault\": {}, \"versions\": {}, \"size\": {},\n \
         \"sha256\": {},\n \"licence\": {}, \"origin\": {},\n \"items\": [\n{}\n ],\n \
         \"end\": {end}}}",
        json!(entry.file),
        json!(entry.about),
        json!(entry.fault),
        json!(versions),
        bytes.len(),
        json!(sha256(&bytes)),
        json!(entry.licence),
        entry.origin,
        items.join(",\n"),
    )
}

/// Writes the streams of `testdata/valid` anew, and the set.
///
/// # Errors
///
/// Those of the filesystem.
pub fn renew() -> io::Result<()> {
    let directory = testdata().join("valid");
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(&directory)?,
    }
    for (name, bytes) in valid_files() {
        fs::write(directory.join(name), bytes)?;
    }
    fs::write(testdata().join(FILE), print())
}

/// What the files of `testdata/valid` have to be.
pub fn valid_files() -> Vec<(String, Vec<u8>)> {
    let streams = valid::streams().into_iter();
    streams
        .map(|stream| (format!("{}.stream", stream.name), stream.bytes))
        .collect()
}

/// The streams that are in the directory, to be compared with those of the set.
///
/// # Errors
///
/// Those of the filesystem.
pub fn files_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        if name.ends_with(".stream") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl Stream {
    /// Where its defect begins, if a parser can see it.
    pub fn error_offset(&self) -> Option<u64> {
        match self.report.end {
            End::Error { offset, .. } => offset,
            End::Complete | End::Crashed(_) => None,
        }
    }
}
