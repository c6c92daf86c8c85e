//! Hostile and malformed streams: how each is made, and what must come of it.
//!
//! [`cases`] makes them; they lie as files under `testdata/hostile`, named
//! after their defects, with a manifest that says of each what a receiver
//! has to answer. `cargo run -p btrfs-testkit --example make-hostile` writes
//! both anew.

mod apply;
mod attributes;
mod confine;
mod encoded;
mod framing;
mod manifest;
mod sequence;
mod values;

use std::path::PathBuf;

pub use crate::raw::Place;
use crate::raw::RawStream;
pub use confine::NO_DEVICE;

/// The part of a receiver that has to notice a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// Headers, lengths, checksums.
    Frame,
    /// Attributes and values.
    Typed,
    /// The order of commands.
    Sequence,
    /// The destination: the command cannot be carried out.
    Apply,
    /// The destination: the command would leave the subvolume.
    Confine,
}

impl Layer {
    const ALL: [Self; 5] = [
        Self::Frame,
        Self::Typed,
        Self::Sequence,
        Self::Apply,
        Self::Confine,
    ];

    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Typed => "typed",
            Self::Sequence => "sequence",
            Self::Apply => "apply",
            Self::Confine => "confine",
        }
    }

    /// Whether a decoder alone notices.
    pub fn is_codec(self) -> bool {
        !matches!(self, Self::Apply | Self::Confine)
    }
}

/// A hostile stream, and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Name of the file, without `.stream`.
    pub name: String,
    /// What is wrong, in a sentence.
    pub defect: String,
    /// Who has to notice.
    pub layer: Layer,
    /// The error: the names of the variants of `ErrorKind` (codec) or of
    /// `Cause` (destination), joined by dots; system errors with the name
    /// of the [`std::io::ErrorKind`].
    pub error: String,
    /// Where the error is reported.
    pub at: Place,
    /// How many subvolumes of the input are finished, and stay so.
    pub finished: u64,
    /// Whether a subvolume is left behind: writable and not stamped.
    pub partial: bool,
    /// The stream.
    pub bytes: Vec<u8>,
}

impl Case {
    /// A case whose error is reported at the mark, with the subvolume under
    /// construction left behind.
    fn new(name: &str, layer: Layer, error: &str, defect: &str, stream: RawStream) -> Self {
        Self {
            name: name.to_owned(),
            defect: defect.to_owned(),
            layer,
            error: error.to_owned(),
            at: stream.marked(),
            finished: 0,
            partial: true,
            bytes: stream.into_bytes(),
        }
    }

    /// Nothing is left behind.
    fn nothing_left(mut self) -> Self {
        self.partial = false;
        self
    }

    /// This many subvolumes are finished before, and nothing else is left.
    fn finished(mut self, count: u64) -> Self {
        self.finished = count;
        self.nothing_left()
    }

    /// The error is reported at the start of the input.
    fn at_start(mut self) -> Self {
        self.at = Place::default();
        self.nothing_left()
    }
}

/// Every case, by layer and name.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(framing::cases());
    cases.extend(attributes::cases());
    cases.extend(values::cases());
    cases.extend(sequence::cases());
    cases.extend(apply::cases());
    cases.extend(encoded::cases());
    cases.extend(confine::cases());
    cases.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
    cases
}

/// Reads the manifest and the files it names.
///
/// # Panics
///
/// If a file is missing or the manifest is not what [`write()`] writes.
pub fn load() -> Vec<Case> {
    let text = std::fs::read_to_string(directory().join("manifest.toml"))
        .unwrap_or_else(|error| panic!("manifest.toml: {error}"));
    manifest::parse(&text)
        .into_iter()
        .map(|mut case| {
            let file = directory().join(format!("{}.stream", case.name));
            case.bytes =
                std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            case
        })
        .collect()
}

/// Writes every file anew, and removes those that no case has any more.
///
/// # Errors
///
/// Those of the filesystem.
pub fn write() -> std::io::Result<usize> {
    let directory = directory();
    std::fs::create_dir_all(&directory)?;
    for entry in std::fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|name| name == "stream") {
            std::fs::remove_file(path)?;
        }
    }
    let cases = cases();
    for case in &cases {
        let file = directory.join(format!("{}.stream", case.name));
        std::fs::write(file, &case.bytes)?;
    }
    std::fs::write(directory.join("manifest.toml"), manifest::print(&cases))?;
    Ok(cases.len())
}

/// Where the files lie.
pub fn directory() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/hostile"
    ))
}
