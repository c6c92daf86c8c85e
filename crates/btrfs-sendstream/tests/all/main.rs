//! The tests of the library from outside.

mod corpus;
mod encode;
mod examples;
mod hostile;
mod kernel_streams;
mod properties;
mod strategies;
mod support;
mod threads;
mod transform;
