//! The manifest of the fuzz corpus: for each file that is a send stream, what
//! a decoder has to answer. `UPDATE_GENERATED=1` writes it anew;
//! `EXPORT_STREAMS=DIRECTORY` writes the streams out as other parsers read
//! them, named as in the manifest.

#[path = "../../../btrfs-sendstream/tests/all/support.rs"]
mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use btrfs_sendstream::{Decoded, Decoder, Error};

const HEADING: &str = "\
# What a decoder of send streams answers to the files of this corpus that are
# streams; made by crates/btrfs-fuzzing/tests/manifest.rs.
#
# file    TARGET/NAME; EXPORT_STREAMS (see fuzz/README.md) writes each as a
#         stream that needs no further treatment
# bytes   length of that stream
# items   headers and commands before its end, or before the error
# error   '-' if it is well-formed; else as in testdata/hostile/manifest.toml
# stream, command, offset
#         where the error is reported, counted as there
#
# file\tbytes\titems\terror\tstream\tcommand\toffset
";

/// The targets that read streams.
const TARGETS: [&str; 3] = ["deframe", "split", "roundtrip"];

fn decode(input: &[u8]) -> (usize, Result<(), Error>) {
    let mut decoder = Decoder::builder().limits(btrfs_fuzzing::limits()).build();
    let (mut rest, mut items) = (input, 0);
    loop {
        match decoder.decode(rest) {
            Ok(Decoded::Item { consumed, .. }) => rest = &rest[consumed..],
            Ok(Decoded::Need { .. }) => return (items, decoder.end_of_input(rest)),
            Err(error) => return (items, Err(error)),
        }
        items += 1;
    }
}

/// The line of a file.
fn line(file: &str, stream: &[u8]) -> String {
    let (items, result) = decode(stream);
    let (error, at) = match &result {
        Ok(()) => ("-".to_owned(), Default::default()),
        Err(error) => (support::name(error.kind()), error.position().unwrap()),
    };
    let (bytes, command, offset) = (stream.len(), at.command, at.offset);
    format!(
        "{file}\t{bytes}\t{items}\t{error}\t{}\t{command}\t{offset}",
        at.stream
    )
}

#[test]
fn the_manifest_is_current() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let export = std::env::var_os("EXPORT_STREAMS");
    let mut manifest = HEADING.to_owned();
    for target in TARGETS {
        let entries = fs::read_dir(corpus.join(target)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files {
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some(stream) = btrfs_fuzzing::stream(target, &fs::read(&path).unwrap()) else {
                continue;
            };
            writeln!(manifest, "{}", line(&format!("{target}/{name}"), &stream)).unwrap();
            if let Some(directory) = &export {
                let directory = Path::new(directory).join(target);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join(name), stream).unwrap();
            }
        }
    }
    let file = corpus.join("manifest.tsv");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&file, &manifest).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == manifest,
        "{} is not current; UPDATE_GENERATED=1 cargo test -p btrfs-fuzzing \
         --test all manifest renews it",
        file.display()
    );
}
