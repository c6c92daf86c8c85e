//! Files with several names of which one is, or was, temporary.

use std::collections::BTreeMap;

/// On which side of the border the names of a file come to lie.
///
/// It must be one side: what a later stream changes under a name that is left
/// out would be missing under the one that is kept.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The first name of a file that was found its place, and whether it is
    /// kept.
    settled: BTreeMap<u64, (Vec<u8>, bool)>,
    len: usize,
}

/// What a place costs beside its bytes.
const COST: usize = 64;

impl Links {
    /// A name of a file has its place. Returns the name of that file on the
    /// other side, if there is one.
    pub(super) fn settle(&mut self, file: u64, place: &[u8], kept: bool) -> Option<Vec<u8>> {
        match self.settled.get(&file) {
            Some((_, side)) if *side == kept => None,
            Some((other, _)) => Some(other.clone()),
            None => {
                self.len += place.len() + COST;
                self.settled.insert(file, (place.to_vec(), kept));
                None
            }
        }
    }

    /// Bytes for all of it.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}
