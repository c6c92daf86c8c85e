//! Bodies of the fuzz targets (feature `fuzzing`), so that stable tests can
//! run them over the corpus. Not part of the public interface: anything here
//! may change in any release.
//!
//! Each function takes whatever bytes a fuzzer comes up with and panics if
//! what it is to prove does not hold.

mod codec;
mod decompress;

pub use codec::{deframe, limits, roundtrip, split, stream};
pub use decompress::decompress;
