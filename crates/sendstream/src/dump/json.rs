//! Headers and commands as JSON, an object to a line, with every field that
//! the stream has. Of file data there is the length.

use std::io::{IsTerminal, Read, Write};

use btrfs_sendstream::{CommandBuf, Item, Position, Reader, Version};
use sendstream_common::dump::{self, DumpError};
use sendstream_common::json;
use serde::Serialize;

pub(super) fn run(
    input: impl Read,
    output: &mut (impl Write + IsTerminal),
) -> Result<(), DumpError> {
    let mut reader = Reader::new(input);
    dump::lines(output, |out| {
        let start = reader.consumed();
        let Some(item) = reader.next_owned()? else {
            return Ok(false);
        };
        out.extend(json::line(&Line {
            at: reader.position(),
            total: reader.consumed() - start,
            content: Content::of(&item),
        }));
        Ok(true)
    })
}

/// An item that takes `total` bytes of the stream.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    at: Position,
    total: u64,
    #[serde(flatten)]
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Command(&'a CommandBuf),
    Header {
        #[serde(rename = "type")]
        kind: &'static str,
        version: Version,
    },
    Other {
        #[serde(rename = "type")]
        kind: &'static str,
    },
}

impl<'a> Content<'a> {
    fn of(item: &'a Item) -> Self {
        match item {
            Item::Command(command) => Self::Command(command),
            Item::Header(version) => Self::Header {
                kind: "header",
                version: *version,
            },
            // Unknown commands are refused.
            _ => Self::Other { kind: "unknown" },
        }
    }
}
