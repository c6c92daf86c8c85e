//! What `plan` says on standard error.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use btrfs_lineage::{Doubt, Inventory, Plan, PlanCandidate, PlanVerdict, Scope};
use sendstream_common::text::escaped;

use crate::{inventory, say};

/// Most of a kind that are named, unless everything is to be explained.
const MAX_SHOWN: usize = 5;

/// A plan, and what it was made of.
pub(crate) struct Explanation<'a> {
    pub(crate) here: &'a Inventory,
    pub(crate) there: &'a Inventory,
    pub(crate) plan: &'a Plan,
    /// Paths of what was chosen, by their ids.
    pub(crate) paths: &'a BTreeMap<u64, PathBuf>,
}

impl Explanation<'_> {
    /// Says what was chosen, and what may be wrong with it; for every candidate
    /// if `all`.
    pub(crate) fn say(&self, all: bool) {
        self.say_what_is_there();
        if all {
            for candidate in &self.plan.candidates {
                self.say_reason(candidate);
            }
            self.say_what_is_writable();
        }
        match self.plan.parent.and_then(|id| self.plan.candidate(id)) {
            _ if !self.plan.already_there.is_empty() => {}
            Some(parent) => self.say_parent(parent, all),
            None => self.say_none(all),
        }
        self.say_what_was_not_seen();
    }

    /// What the receiver has of the snapshot itself.
    fn say_what_is_there(&self) {
        for id in self.plan.already_there.iter().take(MAX_SHOWN) {
            say(&format!(
                "the receiver has the snapshot already, nothing has to be sent: {}",
                self.name_there(*id)
            ));
        }
        for id in self.plan.other_states_there.iter().take(MAX_SHOWN) {
            say(&format!(
                "warning: the snapshot will have the same received UUID as {} on the receiver, \
                 which may hold other data: a later receive may use the wrong one as its parent",
                self.name_there(*id)
            ));
        }
    }

    fn say_parent(&self, parent: &PlanCandidate, all: bool) {
        if !all {
            say(&format!(
                "parent: {}, {}",
                self.name(parent),
                self.where_there(parent)
            ));
        }
        if parent.steps.is_none() {
            say(
                "note: the parent and the snapshot have no known common history: the \
                 stream may be as large as a full one",
            );
        }
    }

    fn say_none(&self, all: bool) {
        let is_doubtful = |candidate: &&PlanCandidate| {
            matches!(
                candidate.verdict,
                PlanVerdict::Doubtful(_) | PlanVerdict::NotMounted | PlanVerdict::SameUuid
            )
        };
        let doubtful = self.plan.candidates.iter().filter(is_doubtful);
        let doubtful: Vec<_> = doubtful.collect();
        if !all {
            for candidate in doubtful.iter().take(MAX_SHOWN) {
                self.say_reason(candidate);
            }
            if let Some(more @ 1..) = doubtful.len().checked_sub(MAX_SHOWN) {
                say(&format!("and {more} more; --explain lists them"));
            }
        }
        let others = self.here.subvolumes.iter();
        let others = others.filter(|it| it.state.read_only && it.id != self.plan.snapshot);
        let why = match (others.count(), doubtful.len()) {
            (0, _) => "there is no other read-only subvolume here".to_owned(),
            (1, 0) => "the receiver does not have the other read-only subvolume".to_owned(),
            (count, 0) => {
                format!("the receiver has none of the {count} other read-only subvolumes")
            }
            (_, 1) => "the only one that the receiver has cannot be used".to_owned(),
            (_, _) => "none of the receiver's subvolumes can be used".to_owned(),
        };
        say(&format!(
            "no parent: {why}. Send all of the snapshot, without -p"
        ));
        let is_relayed = |candidate: &&PlanCandidate| {
            matches!(candidate.verdict, PlanVerdict::Doubtful(Doubt::Relayed(_)))
        };
        if doubtful.iter().any(is_relayed) {
            say(
                "If you know that no host in between changed its copy, use --trust-relayed to send \
                 only the changes",
            );
        }
    }

    /// Writable subvolumes are candidates only if the receiver has them.
    fn say_what_is_writable(&self) {
        let writable = self.here.subvolumes.iter();
        let writable =
            writable.filter(|it| !it.state.read_only && self.plan.candidate(it.id).is_none());
        match writable.count() {
            0 => {}
            1 => say("1 writable subvolume is no candidate: only read-only ones can be parents"),
            count => say(&format!(
                "{count} writable subvolumes are no candidates: only read-only ones can be parents"
            )),
        }
    }

    fn say_what_was_not_seen(&self) {
        for (side, inventory) in [("sender", self.here), ("receiver", self.there)] {
            if inventory.is_exhaustive() {
                continue;
            }
            say(&format!(
                "warning: the {side} may have more subvolumes than were seen"
            ));
            for text in inventory::unseen(inventory) {
                say(&format!("  {text}"));
            }
        }
    }

    fn say_reason(&self, candidate: &PlanCandidate) {
        let reason = match candidate.verdict {
            PlanVerdict::Parent | PlanVerdict::CloneSource => format!(
                "{}, {}; {}",
                candidate.verdict,
                self.where_there(candidate),
                match candidate.steps {
                    Some(1) => "1 step from the snapshot".to_owned(),
                    Some(steps) => format!("{steps} steps from the snapshot"),
                    None => "no known common history".to_owned(),
                }
            ),
            verdict => verdict.to_string(),
        };
        say(&format!("{}: {reason}", self.name(candidate)));
    }

    /// What messages call a candidate: by a path that can be used, if there is
    /// one, else by that from the top of the filesystem.
    fn name(&self, candidate: &PlanCandidate) -> String {
        match (self.paths.get(&candidate.id), &candidate.path) {
            (Some(path), _) => shown(path),
            (None, Some(path)) if path.is_empty() => "/".to_owned(),
            (None, Some(path)) => escaped(path),
            (None, None) => format!("subvolume {}", candidate.id),
        }
    }

    /// Where the receiver has a candidate.
    fn where_there(&self, candidate: &PlanCandidate) -> String {
        let place = match self.there.searched {
            Scope::Streams => "stored in",
            _ => "on the receiver",
        };
        let first = candidate.there.first();
        first.map_or_else(
            || "not on the receiver".to_owned(),
            |id| format!("{place} {}", self.name_there(*id)),
        )
    }

    /// What messages call a subvolume of the receiver.
    fn name_there(&self, id: u64) -> String {
        match self.there.get(id).and_then(|it| it.path.as_deref()) {
            Some(b"") => "the top level".to_owned(),
            Some(path) => escaped(path),
            None => format!("subvolume {id}"),
        }
    }
}

/// A path, in a message.
pub(crate) fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}
