//! Reading the inputs, one after the other.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use btrfs_sendstream::Reader;
use btrfs_sendstream::transform::{self, Output, Transform, TransformError};
use sendstream_common::foreign::{Head, is_foreign};
use sendstream_common::report::name_of;
use sendstream_common::unpack::{Decompress, Unpacked};

use crate::Failure;

/// Takes every input through the transform to the output.
pub(crate) fn run(
    inputs: &[PathBuf],
    decompress: Decompress,
    transform: &mut dyn Transform,
    out: &mut dyn Output,
) -> Result<(), Failure> {
    let standard = [PathBuf::from("-")];
    let inputs = if inputs.is_empty() { &standard } else { inputs };
    let mut last = String::new();
    for input in inputs {
        last = named(input);
        let failed = |error| fail(&last, error);
        let mut reader = Reader::builder().build(open(input, decompress)?);
        transform::feed(&mut reader, transform, out).map_err(failed)?;
    }
    transform.end(out).map_err(|error| fail(&last, error))
}

fn open(input: &Path, decompress: Decompress) -> Result<Box<dyn Read>, Failure> {
    if input.as_os_str() == "-" {
        return Ok(Box::new(Unpacked::new(io::stdin(), decompress)));
    }
    match File::open(input) {
        Ok(file) => Ok(Box::new(Unpacked::new(file, decompress))),
        Err(error) => Err(Failure::File {
            file: named(input),
            error,
        }),
    }
}

/// What messages call an input.
fn named(input: &Path) -> String {
    name_of(Some(input).filter(|input| input.as_os_str() != "-"))
}

fn fail(input: &str, error: TransformError) -> Failure {
    Failure::Input {
        input: input.to_owned(),
        error,
    }
}

/// An input that remembers how it begins, for messages about one that is no
/// stream.
pub(crate) struct Input {
    source: Box<dyn Read>,
    name: String,
    head: Head,
}

impl Input {
    /// Opens a file, or standard input.
    pub(crate) fn open(file: Option<&Path>, decompress: Decompress) -> Result<Self, Failure> {
        let file = file.unwrap_or(Path::new("-"));
        Ok(Self {
            source: open(file, decompress)?,
            name: named(file),
            head: Head::default(),
        })
    }

    /// Takes a file that was opened.
    pub(crate) fn of(opened: File, file: &Path, decompress: Decompress) -> Self {
        Self {
            source: Box::new(Unpacked::new(opened, decompress)),
            name: named(file),
            head: Head::default(),
        }
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    /// How it begins.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// What to say of an error in it. `into` is where to put
    /// the stream if it has to be unpacked first.
    pub(crate) fn failure(self, error: btrfs_sendstream::Error, into: &str) -> Failure {
        let foreign = is_foreign(&error).then(|| self.head.foreign(into));
        Failure::Stream {
            input: self.name,
            error,
            foreign,
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.head.push(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The inputs of a command line; standard input if there are none.
pub(crate) fn each(inputs: &[PathBuf]) -> impl Iterator<Item = Option<&Path>> {
    let standard = inputs.is_empty().then_some(None);
    let files = inputs.iter().map(|input| Some(input.as_path()));
    files.chain(standard)
}
