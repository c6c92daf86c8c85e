//! The manifest of the corpus, as TOML.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::{Case, Layer, Place};

const HEAD: &str = "\
# Hostile and malformed streams, and what a receiver must answer.
# Written by: cargo run -p btrfs-testkit --example make-hostile
#
# layer     who has to notice: frame, typed, sequence (a decoder alone);
#           apply, confine (the destination)
# error     btrfs_sendstream::ErrorKind for the first three layers,
#           btrfs_receive::Cause for the others
# at        where the error is reported: number of the stream, number of the
#           command (0: a stream header), bytes of input before it
# finished  subvolumes of the input that are complete, and stay so
# partial   whether a subvolume is left: writable, without received UUID
";

/// The manifest for these cases.
pub(super) fn print(cases: &[Case]) -> String {
    let mut text = HEAD.to_owned();
    for case in cases {
        let Place {
            stream,
            command,
            offset,
        } = case.at;
        let quoted = |text: &str| Value::from(text).to_string();
        let _ = write!(
            text,
            "\n[[stream]]\nfile = {}\ndefect = {}\nlayer = {}\nerror = {}\n\
             at = {{ stream = {stream}, command = {command}, offset = {offset} }}\n\
             finished = {}\npartial = {}\n",
            quoted(&format!("{}.stream", case.name)),
            quoted(&case.defect),
            quoted(case.layer.name()),
            quoted(&case.error),
            case.finished,
            case.partial,
        );
    }
    text
}

/// The cases of a manifest, without their bytes.
pub(super) fn parse(text: &str) -> Vec<Case> {
    let table: Table = text.parse().unwrap_or_else(|error| panic!("{error}"));
    let streams = table["stream"].as_array().expect("a list of streams");
    streams.iter().map(case).collect()
}

fn case(value: &Value) -> Case {
    let text = |key: &str| value[key].as_str().expect("a string").to_owned();
    let number = |value: &Value| {
        let number = value.as_integer().expect("a number");
        u64::try_from(number).expect("not negative")
    };
    let layer = text("layer");
    let file = text("file");
    Case {
        name: file.strip_suffix(".stream").expect("a stream").to_owned(),
        defect: text("defect"),
        layer: *Layer::ALL
            .iter()
            .find(|known| known.name() == layer)
            .expect("a layer"),
        error: text("error"),
        at: Place {
            stream: number(&value["at"]["stream"]),
            command: number(&value["at"]["command"]),
            offset: number(&value["at"]["offset"]),
        },
        finished: number(&value["finished"]),
        partial: value["partial"].as_bool().expect("true or false"),
        bytes: Vec::new(),
    }
}
