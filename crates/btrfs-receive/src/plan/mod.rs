//! From commands to operations.

pub(crate) mod op;
