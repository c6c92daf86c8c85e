//! The bodies of the fuzz targets, on their corpus and on random inputs.

mod corpus;
mod manifest;
mod plan_equivalence;
mod transform_equivalence;
