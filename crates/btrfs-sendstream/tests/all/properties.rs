//! What holds for every stream.

use btrfs_sendstream::{
    Decoded, Decoder, Encoder, Error, Framer, Item, RawCommand, Reader, Version,
};
use proptest::prelude::*;

use crate::strategies;

/// Everything in `input`, through the sans-IO decoder.
fn decode(input: &[u8]) -> Result<Vec<Item>, Error> {
    let (mut decoder, mut rest, mut items) = (Decoder::new(), input, Vec::new());
    loop {
        match decoder.decode(rest)? {
            Decoded::Item { item, consumed } => {
                items.push(item.to_owned());
                rest = &rest[consumed..];
            }
            Decoded::Need { total } => {
                assert!(total > rest.len(), "asks for what it has");
                decoder.end_of_input(rest)?;
                return Ok(items);
            }
        }
    }
}

/// A source that gives its bytes in pieces of these lengths, over and over.
struct Pieces<'a> {
    rest: &'a [u8],
    lengths: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl<'a> Pieces<'a> {
    fn new(rest: &'a [u8], lengths: &'a [usize]) -> Self {
        let lengths = lengths.iter().cycle();
        Self { rest, lengths }
    }
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = match self.lengths.next() {
            Some(0) => return Err(std::io::ErrorKind::Interrupted.into()),
            Some(len) => *len,
            None => usize::MAX,
        };
        let len = len.min(buffer.len());
        self.rest.read(&mut buffer[..len])
    }
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0..4_usize, 1..2000_usize], 1..8).prop_map(|mut lengths| {
        lengths.push(1);
        lengths
    })
}

proptest! {
    #[test]
    fn encoding_then_decoding_is_the_identity((version, commands, bytes) in strategies::stream()) {
        let mut expected = vec![Item::Header(version)];
        expected.extend(commands.into_iter().map(Item::Command));
        prop_assert_eq!(decode(&bytes).unwrap(), expected);
    }

    #[test]
    fn decoding_then_encoding_is_the_identity((_, _, bytes) in strategies::stream()) {
        let (mut encoder, mut out) = (Encoder::new(), Vec::new());
        for item in decode(&bytes).unwrap() {
            encoder.item(&item, &mut out).unwrap();
        }
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn splitting_the_input_changes_nothing(
        (_, _, first) in strategies::stream(),
        (_, _, second) in strategies::stream(),
        lengths in pieces(),
        exact: bool,
        owned in prop::collection::vec(any::<bool>(), 1..5),
    ) {
        let input = [first, second].concat();
        let expected = decode(&input).unwrap();
        let mut reader = Reader::builder().exact(exact).build(Pieces::new(&input, &lengths));
        let mut items = Vec::new();
        let mut owned = owned.iter().cycle();
        loop {
            let item = if *owned.next().unwrap() {
                reader.next_owned().unwrap()
            } else {
                reader.next_item().unwrap().map(|item| item.to_owned())
            };
            match item {
                Some(item) => items.push(item),
                None => break,
            }
        }
        prop_assert_eq!(items, expected);
    }

    #[test]
    fn every_cut_is_noticed((_, _, bytes) in strategies::stream(), at: prop::sample::Index) {
        let cut = at.index(bytes.len());
        prop_assert!(decode(&bytes[..cut]).is_err());
    }

    #[test]
    fn every_changed_byte_is_noticed(
        (_, _, mut bytes) in strategies::stream(),
        at: prop::sample::Index,
        change in 1..=u8::MAX,
    ) {
        let at = at.index(bytes.len());
        // The version is the only thing that no checksum covers.
        prop_assume!(!(13..17).contains(&at));
        bytes[at] ^= change;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(decode(&bytes).is_err());
        let stream = [b"btrfs-stream\0\x02\0\0\0", &bytes[..]].concat();
        prop_assert!(decode(&stream).is_err());
    }

    /// With right checksums, so that the attributes are reached.
    #[test]
    fn arbitrary_payloads_do_no_harm(
        version in prop::sample::select(Version::ALL.to_vec()),
        commands in prop::collection::vec((0..30_u16, payload()), 1..10),
        allow in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        Framer::header(version, &mut bytes);
        for (number, payload) in commands {
            if number > 0 {
                Framer::command(&RawCommand { number, payload }, &mut bytes).unwrap();
            }
        }
        let mut decoder = Decoder::builder().allow_unknown(allow).build();
        let mut rest = &bytes[..];
        while let Ok(Decoded::Item { consumed, item }) = decoder.decode(rest) {
            // Whatever is decoded can be encoded.
            if let Item::Command(command) = item {
                let (mut encoder, mut out) = (Encoder::new(), Vec::new());
                encoder.header(version, &mut out).unwrap();
                if let Err(error) = encoder.command(&command, &mut out) {
                    let sequence = format!("{error:?}").contains("Sequence");
                    prop_assert!(sequence, "{error:?}");
                }
            }
            rest = &rest[consumed..];
        }
    }
}

/// Attributes with numbers and lengths that are often right.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 8),
        prop::collection::vec(any::<u8>(), 0..20),
        Just(b"a/b".to_vec()),
        prop::collection::vec(any::<u8>(), 16),
    ];
    let attribute = (0..38_u16, value).prop_map(|(number, value)| {
        let len = u16::try_from(value.len()).unwrap();
        [&number.to_le_bytes()[..], &len.to_le_bytes(), &value].concat()
    });
    prop::collection::vec(attribute, 0..6).prop_map(|attributes| attributes.concat())
}
