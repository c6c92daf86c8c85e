//! Streams that a kernel wrote: decoded, encoded again, the same bytes.

use std::fs;
use std::path::Path;

use btrfs_sendstream::{
    Decoded, Decoder, Deframed, Deframer, Encoder, Framer, Item, Reader, Version, Writer,
};
use btrfs_testkit::documented;
use bytes::Bytes;

/// Every stream of testdata/streams and testdata/kernels with its name.
fn streams() -> Vec<(String, Vec<u8>)> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let mut streams: Vec<_> = ["streams", "kernels"]
        .iter()
        .flat_map(|directory| fs::read_dir(testdata.join(directory)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "stream")
        })
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    streams.sort();
    assert_eq!(streams.len(), 13 + 14);
    streams
}

#[test]
fn typed_round_trip() {
    for (name, stream) in streams() {
        let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new());
        let (mut rest, mut out) = (&stream[..], Vec::new());
        while !rest.is_empty() {
            match decoder.decode(rest).unwrap() {
                Decoded::Item { item, consumed } => {
                    encoder.item(&item, &mut out).unwrap();
                    rest = &rest[consumed..];
                }
                Decoded::Need { total } => panic!("{name}: needs {total}"),
            }
        }
        decoder.end_of_input(rest).unwrap();
        assert!(out == stream, "{name}");
        assert_eq!(encoder.written().offset, stream.len() as u64);
        assert!(encoder.is_complete());
    }
}

#[test]
fn frame_round_trip() {
    for (name, stream) in streams() {
        let mut deframer = Deframer::default();
        let (mut rest, mut out) = (Bytes::from(stream.clone()), Vec::new());
        while !rest.is_empty() {
            match deframer.deframe_bytes(&rest).unwrap() {
                Deframed::Frame { frame, consumed } => {
                    Framer::frame(&frame, &mut out).unwrap();
                    rest = rest.slice(consumed..);
                }
                Deframed::Need { total } => panic!("{name}: needs {total}"),
            }
        }
        deframer.end_of_input(&rest).unwrap();
        assert!(out == stream, "{name}");
    }
}

#[test]
fn reader_to_writer() {
    for (name, stream) in streams() {
        for exact in [false, true] {
            let mut reader = Reader::builder().exact(exact).build(&stream[..]);
            let mut writer = Writer::new(Vec::new());
            while let Some(item) = reader.next_item().unwrap() {
                writer.item(&item).unwrap();
            }
            assert!(writer.finish().unwrap() == stream, "{name}");
        }
    }
}

#[test]
fn owned_items_outlive_the_reader() {
    for (name, stream) in streams() {
        let mut reader = Reader::new(&stream[..]);
        let mut items = Vec::new();
        while let Some(item) = reader.next_owned().unwrap() {
            items.push(item);
        }
        drop(reader);
        let mut writer = Writer::new(Vec::new());
        for item in std::thread::spawn(|| items).join().unwrap() {
            writer.item(&item).unwrap();
        }
        assert!(writer.finish().unwrap() == stream, "{name}");
    }
}

#[test]
fn exact_reader_stops_at_each_end() {
    for (name, stream) in streams() {
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let mut reader = Reader::builder().exact(true).build(&mut rest);
            loop {
                match reader.next_item().unwrap() {
                    Some(Item::Command(btrfs_sendstream::Command::End)) => break,
                    Some(_) => {}
                    None => panic!("{name}: no end"),
                }
            }
            drop(reader);
            assert!(
                rest.is_empty() || rest.starts_with(b"btrfs-stream\0"),
                "{name}: {} bytes left",
                rest.len()
            );
        }
    }
}

/// The commands beside which the description of the format has checksums.
#[test]
fn the_documented_checksums() {
    let rows = documented::checksums();
    assert_eq!(rows.len(), 4);
    for (name, command) in rows {
        let version = if name.contains("versions 2") {
            Version::V2
        } else {
            Version::V1
        };
        let mut stream = Vec::new();
        Framer::header(version, &mut stream);
        let header = stream.len();
        stream.extend(command);
        let mut deframer = Deframer::default();
        deframer.deframe(&stream).unwrap();
        match deframer.deframe(&stream[header..]).unwrap() {
            Deframed::Frame { consumed, .. } => assert_eq!(header + consumed, stream.len()),
            Deframed::Need { .. } => panic!("{name} is too short"),
        }
    }
}

/// The stream in the description of the format is one.
#[test]
fn the_documented_stream() {
    let stream = documented::stream();
    let (mut reader, mut writer) = (Reader::new(&stream[..]), Writer::new(Vec::new()));
    let mut names = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        writer.item(&item).unwrap();
        if let Item::Command(command) = item {
            names.push(command.kind().name());
        }
    }
    assert_eq!(names, ["subvol", "mkfile", "rename", "write", "end"]);
    assert_eq!(writer.finish().unwrap(), stream);
}
