//! A drop-in for `btrfs receive`.
fn main() {}
