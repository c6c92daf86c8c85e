//! Bodies of the fuzz targets, on what is public in the libraries. Never
//! published.
//!
//! Each function takes whatever bytes a fuzzer comes up with, and panics if
//! what it is to prove does not hold. The tests of this crate run them over
//! the corpus on stable Rust.

mod codec;
mod decompress;
mod plan;
mod program;
mod transforms;
mod unpack;

pub use codec::{deframe, limits, roundtrip, split, stream};
pub use decompress::decompress;
pub use plan::plan;
pub use transforms::transforms;
pub use unpack::unpack;
