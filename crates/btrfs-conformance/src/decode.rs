//! The report of `btrfs-sendstream` on a stream.

use btrfs_sendstream::{Attribute, Decoded, Decoder, Deframed, Deframer, Error, Frame, Version};

use crate::defect::{self, Defect};
use crate::report::{Content, End, Item, Report};
use crate::value;

/// Decodes an input. The values are those of its frames: that decoding them and
/// encoding the result gives the same bytes is for the tests of that crate.
///
/// # Panics
///
/// If the decoder and the deframer disagree.
pub fn report(input: &[u8]) -> (Report, Option<Defect>) {
    let (mut decoder, mut deframer) = (Decoder::new(), Deframer::default());
    let (mut rest, mut items, mut version) = (input, Vec::new(), Version::V1);
    let error = loop {
        match decoder.decode(rest) {
            Ok(Decoded::Item { consumed, .. }) => {
                let offset = deframer.consumed();
                let frame = match deframer.deframe(rest) {
                    Ok(Deframed::Frame { frame, .. }) => frame,
                    other => panic!("at byte {offset}: {other:?}"),
                };
                if let Frame::Header(header) = frame {
                    version = header;
                }
                let content = content(&frame, version);
                items.push(Item {
                    offset: Some(offset),
                    content,
                });
                rest = rest.get(consumed..).unwrap_or_default();
            }
            Ok(Decoded::Need { .. }) => break decoder.end_of_input(rest).err(),
            Err(error) => break Some(error),
        }
    };
    let defect = error.as_ref().map(expect_defect);
    let end = match (&error, defect) {
        (Some(error), Some(defect)) => End::Error {
            offset: error.position().map(|position| position.offset),
            class: Some(defect.class.to_owned()),
        },
        _ => End::Complete,
    };
    (Report { items, end }, defect)
}

fn expect_defect(error: &Error) -> Defect {
    defect::of(error.kind()).unwrap_or_else(|| panic!("an error of no class: {error}"))
}

fn content(frame: &Frame<&[u8]>, version: Version) -> Content {
    match frame {
        Frame::Header(version) => Content::Header(u64::from(version.number())),
        Frame::Command(command) => {
            let attributes = command.attributes(version).map(|raw| {
                let raw = raw.expect("decoded before");
                let attribute = Attribute::from_number(raw.number).expect("decoded before");
                let value = value::encode(attribute, raw.value).expect("decoded before");
                (attribute.name().to_owned(), value)
            });
            Content::Command {
                number: command.number,
                attributes: attributes.collect(),
            }
        }
        _ => panic!("{frame:?}"),
    }
}
