//! How subvolumes descend from each other, by their parent UUIDs.

use std::cell::RefCell;
use std::collections::HashMap;

use uuid::Uuid;

use super::{Inventory, Subvolume};
use crate::SubvolumeState;

/// The ancestors of one subvolume, and how far others are from the nearest of
/// them. Ancestors that were deleted count: their UUIDs are known from those
/// that were taken of them.
pub(super) struct History {
    parents: HashMap<Uuid, Uuid>,
    /// How many steps lead from a subvolume to the nearest ancestor of the
    /// snapshot, and from there to the snapshot; `None` if no ancestor is
    /// reached.
    steps: RefCell<HashMap<Uuid, Option<usize>>>,
}

impl History {
    pub(super) fn new(inventory: &Inventory, snapshot: &Subvolume) -> Self {
        let mut parents = HashMap::new();
        for subvolume in &inventory.subvolumes {
            let state = &subvolume.state;
            if !state.uuid.is_nil() && !state.parent_uuid.is_nil() {
                parents.insert(state.uuid, state.parent_uuid);
            }
        }
        let mut steps = HashMap::new();
        let mut at = Some(snapshot.state.uuid).filter(|uuid| !uuid.is_nil());
        while let Some(uuid) = at {
            let far = steps.len();
            // An inventory could have a circle.
            if steps.contains_key(&uuid) {
                break;
            }
            steps.insert(uuid, Some(far));
            at = parents.get(&uuid).copied();
        }
        Self {
            parents,
            steps: RefCell::new(steps),
        }
    }

    /// The steps between the snapshot and `state`, up to what both descend from
    /// and down.
    pub(super) fn steps(&self, state: &SubvolumeState) -> Option<usize> {
        let mut known = self.steps.borrow_mut();
        let mut climbed = Vec::new();
        let mut at = Some(state.uuid).filter(|uuid| !uuid.is_nil());
        let mut far = None;
        while let Some(uuid) = at {
            if let Some(found) = known.get(&uuid) {
                far = *found;
                break;
            }
            // Also ends a circle.
            known.insert(uuid, None);
            climbed.push(uuid);
            at = self.parents.get(&uuid).copied();
        }
        for uuid in climbed.into_iter().rev() {
            far = far.map(|far| far + 1);
            known.insert(uuid, far);
        }
        far
    }
}
