//! Reading the inputs, one after the other.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use btrfs_sendstream::Reader;
use btrfs_sendstream::transform::{self, Output, Transform, TransformError};

use crate::Failure;

/// Takes every input through the transform to the output.
pub(crate) fn run(
    inputs: &[PathBuf],
    transform: &mut dyn Transform,
    out: &mut dyn Output,
) -> Result<(), Failure> {
    let standard = [PathBuf::from("-")];
    let inputs = if inputs.is_empty() { &standard } else { inputs };
    let mut last = String::new();
    for input in inputs {
        last = named(input);
        let failed = |error| fail(&last, error);
        let mut reader = Reader::builder().build(open(input)?);
        transform::feed(&mut reader, transform, out).map_err(failed)?;
    }
    transform.end(out).map_err(|error| fail(&last, error))
}

fn open(input: &Path) -> Result<Box<dyn Read>, Failure> {
    if input.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    match File::open(input) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::File {
            file: named(input),
            error,
        }),
    }
}

fn named(input: &Path) -> String {
    match input.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => input.display().to_string(),
    }
}

fn fail(input: &str, error: TransformError) -> Failure {
    Failure::Input {
        input: input.to_owned(),
        error,
    }
}
