//! Checks whether a stored stream can be received, without a filesystem.
//!
//! A [`Verifier`] reads a stream to its end, and checks everything that does not
//! need a destination: framing and checksums, the order of commands, attributes and
//! values, that END is present, that every encoded extent can be decoded, and that
//! names are created before they are used. The parent of an incremental stream is not
//! known: only contradictions about it are found.

mod check;
mod finding;
#[cfg(test)]
mod tests;

use std::io::Read;

use super::SubvolumeSummary;
use crate::{Limits, Reader};

pub use check::Checker;
pub use finding::{Finding, Problem};

/// Options of a [`Verifier`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Whether to track which names exist. This needs memory for each name; see
    /// [`Verifier`]. Default `true`.
    pub names: bool,
    /// Limit on the memory for names in bytes. A stream that needs more is reported
    /// as a problem: it could not be checked. Default 4 GiB, enough for about twenty
    /// million names.
    pub max_name_memory: u64,
    /// Whether to decode encoded extents. Default `true`.
    pub decode: bool,
    /// Whether to accept a stream without file data (`btrfs send --no-data`), which
    /// cannot be received. Default `false`.
    pub allow_no_data: bool,
    /// Whether to skip unknown commands and attributes; see
    /// [`ReaderBuilder::allow_unknown`](crate::ReaderBuilder::allow_unknown).
    /// Default `false`.
    pub allow_unknown: bool,
    /// Limits on the memory that a stream may make the decoder allocate.
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
    /// Creates a reader of `input` with these limits.
    pub fn reader<R: Read>(&self, input: R) -> Reader<R> {
        Reader::builder()
            .limits(self.limits)
            .allow_unknown(self.allow_unknown)
            .build(input)
    }
}

/// The result of verifying one input.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The subvolumes, complete or not, in the order of the input: the first
    /// [`VerifyReport::MAX_SUBVOLUMES`].
    pub subvolumes: Vec<SubvolumeSummary>,
    /// Number of subvolumes that are not listed.
    pub more_subvolumes: u64,
    /// The problems, in the order of the input: the first
    /// [`VerifyReport::MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Number of problems that are not listed.
    pub more_findings: u64,
    /// Number of stream headers read.
    pub streams: u64,
    /// Number of commands decoded, including END.
    pub commands: u64,
    /// Bytes of input decoded.
    pub bytes: u64,
}

impl VerifyReport {
    /// The largest number of subvolumes in the list.
    pub const MAX_SUBVOLUMES: usize = 4096;
    /// The largest number of problems in the list.
    pub const MAX_FINDINGS: usize = 1024;

    /// Returns whether no problem was found.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns the error at which reading the input ended, if there was one.
    pub fn stream_error(&self) -> Option<&crate::Error> {
        self.findings.iter().find_map(|it| match &it.problem {
            Problem::Stream(error) => Some(error),
            _ => None,
        })
    }

    /// Like [`VerifyReport::stream_error`], by value.
    pub fn into_stream_error(self) -> Option<crate::Error> {
        self.findings.into_iter().find_map(|it| match it.problem {
            Problem::Stream(error) => Some(error),
            _ => None,
        })
    }
}

/// Verifies streams.
///
/// Memory: the reader's buffer, 2 MiB to decode extents, and the report. If names are
/// tracked, also the bytes of the names, less than 512 bytes for each name, and 1 KiB
/// for each directory: for all names of the subvolume in a full stream, and for the
/// names that the stream uses in an incremental one. This memory is freed at the end
/// of a subvolume. [`VerifyOptions::max_name_memory`] limits it.
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
    /// Creates a verifier with these options.
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
