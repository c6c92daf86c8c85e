//! Escapes and races, with both resolvers.
