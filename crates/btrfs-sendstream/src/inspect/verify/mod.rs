//! Stored streams: whether they can be received, found out without a
//! filesystem.
//!
//! A [`Verifier`] reads a stream to its end and looks at everything that does
//! not take a destination: framing and checksums, the order of commands,
//! attributes and values, that END is there, that every encoded extent can be
//! decoded, and that names are made before they are used. What it cannot know
//! is the parent of an incremental stream: of it, only contradictions are
//! found.

mod check;
mod finding;
#[cfg(test)]
mod tests;

use std::io::Read;

use super::SubvolumeSummary;
use crate::{Limits, Reader};

pub use check::Checker;
pub use finding::{Finding, Problem};

/// What to look at.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Whether to follow which names exist. Takes memory for each name; see
    /// [`Verifier`]. Default `true`.
    pub names: bool,
    /// Bytes of memory that names may take. A stream with more is not found
    /// good: it could not be checked. Default 4 GiB, which does for about
    /// twenty million names.
    pub max_name_memory: u64,
    /// Whether to decode encoded extents. Default `true`.
    pub decode: bool,
    /// Whether a stream without file data (`btrfs send --no-data`) is as good
    /// as another. It cannot be received. Default `false`.
    pub allow_no_data: bool,
    /// Whether unknown commands and attributes are passed over, as
    /// [`ReaderBuilder::allow_unknown`](crate::ReaderBuilder::allow_unknown)
    /// has it. Default `false`.
    pub allow_unknown: bool,
    /// Bounds on what a stream may make the decoder allocate.
    pub limits: Limits,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            names: true,
            max_name_memory: 4 << 30,
            decode: true,
            allow_no_data: false,
            allow_unknown: false,
            limits: Limits::default(),
        }
    }
}

impl VerifyOptions {
    /// A reader of `input` with these bounds.
    pub fn reader<R: Read>(&self, input: R) -> Reader<R> {
        Reader::builder()
            .limits(self.limits)
            .allow_unknown(self.allow_unknown)
            .build(input)
    }
}

/// What was found in one input.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The subvolumes in their order, complete or not; the first
    /// [`VerifyReport::MAX_SUBVOLUMES`].
    pub subvolumes: Vec<SubvolumeSummary>,
    /// How many subvolumes there are beyond those listed.
    pub more_subvolumes: u64,
    /// What is wrong, in the order of the input; the first
    /// [`VerifyReport::MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many findings there are beyond those listed.
    pub more_findings: u64,
    /// Stream headers read.
    pub streams: u64,
    /// Commands decoded, END included.
    pub commands: u64,
    /// Bytes of input decoded.
    pub bytes: u64,
}

impl VerifyReport {
    /// How many subvolumes are listed at most; this bounds memory.
    pub const MAX_SUBVOLUMES: usize = 4096;
    /// How many findings are listed at most; this bounds memory.
    pub const MAX_FINDINGS: usize = 1024;

    /// Returns whether no problem was found.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    /// The error that ended the reading of the input, if one did.
    pub fn stream_error(&self) -> Option<&crate::Error> {
        self.findings.iter().find_map(|it| match &it.problem {
            Problem::Stream(error) => Some(error),
            _ => None,
        })
    }

    /// Like [`VerifyReport::stream_error`], to keep.
    pub fn into_stream_error(self) -> Option<crate::Error> {
        self.findings.into_iter().find_map(|it| match it.problem {
            Problem::Stream(error) => Some(error),
            _ => None,
        })
    }
}

/// Verifies inputs, one after the other.
///
/// Memory: the reader's buffer, 2 MiB to decode extents, and the report. On
/// top of that, while names are followed, less than 512 bytes for each name
/// that exists, 1 KiB for each directory, and the bytes of the names: of a
/// full stream for all names of the subvolume, of an incremental one for
/// those that the stream uses. It is given back at the end of a subvolume.
/// [`VerifyOptions::max_name_memory`] bounds it.
///
/// ```
/// use btrfs_sendstream::inspect::Verifier;
///
/// let report = Verifier::default().verify(&b"btrfs-stream\0\x01\0\0\0"[..]);
/// assert!(!report.is_good(), "END is missing");
/// ```
#[derive(Debug, Default)]
pub struct Verifier {
    options: VerifyOptions,
}

impl Verifier {
    /// A verifier with these options.
    pub fn new(options: VerifyOptions) -> Self {
        Self { options }
    }

    /// Reads `input` to its end, or as far as it can be decoded.
    pub fn verify(&self, input: impl Read) -> VerifyReport {
        let mut reader = self.options.reader(input);
        let mut checker = Checker::new(self.options);
        let mut end = 0;
        loop {
            match reader.next_owned() {
                Ok(Some(item)) => {
                    let start = std::mem::replace(&mut end, reader.consumed());
                    checker.item(&item, reader.position(), end - start);
                }
                Ok(None) => return checker.finish(),
                Err(error) => {
                    checker.stream_error(error);
                    return checker.finish();
                }
            }
        }
    }
}

/// `good`, and the fields of the structure.
#[cfg(feature = "serde")]
impl serde::Serialize for VerifyReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            good: bool,
            streams: u64,
            commands: u64,
            bytes: u64,
            subvolumes: &'a [SubvolumeSummary],
            more_subvolumes: u64,
            findings: &'a [Finding],
            more_findings: u64,
        }
        let fields = Fields {
            good: self.is_good(),
            streams: self.streams,
            commands: self.commands,
            bytes: self.bytes,
            subvolumes: &self.subvolumes,
            more_subvolumes: self.more_subvolumes,
            findings: &self.findings,
            more_findings: self.more_findings,
        };
        fields.serialize(serializer)
    }
}
