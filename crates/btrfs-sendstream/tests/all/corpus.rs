//! The hostile streams of `testdata/hostile`, through the decoder: each
//! error of the manifest, at its place.

use btrfs_sendstream::{Decoded, Decoder, Error, Reader};
use btrfs_testkit::corpus::{self, Case, Place};

use crate::support::name;

/// How decoding ends: after so many items, with an error or without.
fn decode(mut decoder: Decoder, input: &[u8]) -> (usize, Result<(), Error>) {
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

fn read(input: &[u8], exact: bool) -> (usize, Result<(), Error>) {
    let mut reader = Reader::builder().exact(exact).build(input);
    let mut items = 0;
    loop {
        match reader.next_item() {
            Ok(Some(_)) => items += 1,
            Ok(None) => return (items, Ok(())),
            Err(error) => return (items, Err(error)),
        }
    }
}

fn place(error: &Error) -> Place {
    let position = error.position().unwrap();
    Place {
        stream: position.stream,
        command: position.command,
        offset: position.offset,
    }
}

fn check(case: &Case, result: &Result<(), Error>) -> Result<(), String> {
    match result {
        Ok(()) if !case.layer.is_codec() => Ok(()),
        Ok(()) => Err(format!("{}: decoded", case.name)),
        Err(error) if !case.layer.is_codec() => Err(format!("{}: {error}", case.name)),
        Err(error) if name(error.kind()) != case.error || place(error) != case.at => Err(format!(
            "{}: expected {} at {:?}, found {} at {:?}",
            case.name,
            case.error,
            case.at,
            name(error.kind()),
            place(error),
        )),
        Err(_) => Ok(()),
    }
}

#[test]
fn every_defect_is_found_at_its_place() {
    let wrong: Vec<_> = corpus::load()
        .iter()
        .filter_map(|case| check(case, &decode(Decoder::new(), &case.bytes).1).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn readers_say_the_same() {
    for case in corpus::load() {
        let expected = decode(Decoder::new(), &case.bytes);
        for exact in [false, true] {
            let found = read(&case.bytes, exact);
            assert_eq!(
                format!("{found:?}"),
                format!("{expected:?}"),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn what_is_allowed_to_be_unknown_hides_nothing_else() {
    for case in corpus::load() {
        let decoder = Decoder::builder().allow_unknown(true).build();
        let (_, result) = decode(decoder, &case.bytes);
        if case.layer.is_codec() && !case.error.starts_with("Unsupported.") {
            assert!(result.is_err(), "{}", case.name);
        }
    }
}
