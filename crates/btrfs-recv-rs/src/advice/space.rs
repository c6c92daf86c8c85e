//! A filesystem without space.

use std::fs::File;
use std::path::Path;

use btrfs_receive::{AllocatedSpace, Allocation, QgroupLimit};
use sendstream_common::text::bytes;

use super::Advice;

/// Less than this is no room for another block group, in bytes.
const BLOCK_GROUP: u64 = 32 << 20;

/// Qgroups that are named.
const MAX_QGROUPS: usize = 4;

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// Block groups for data, and there is no room for others.
    Data,
    /// The same for metadata, while there is room for data.
    MetadataOnly,
    /// Nothing, by now.
    Unclear,
}

/// Returns the advice for a directory on a filesystem that is full. `to_come` is how
/// many bytes of the input remain, if that is known.
pub(super) fn no_space(directory: &Path, to_come: Option<u64>) -> Advice {
    let allocation = File::open(directory).and_then(Allocation::of);
    let (mut likely, full) = match &allocation {
        Ok(allocation) => describe(allocation),
        // A plain directory on another filesystem.
        Err(_) => (free(directory), None),
    };
    if let Some(left) = to_come {
        likely += &format!("; {} of the input remained", bytes(left));
    }
    let to_do = match full {
        Some(Full::MetadataOnly) => {
            "give back block groups of data that are nearly empty (btrfs balance start -dusage=10 \
             PATH, then 30 and 50), or add a device; delete the incomplete subvolume, then receive \
             again"
        }
        Some(Full::Data) => {
            "delete snapshots and wait for that (btrfs subvolume sync PATH), or add a device; \
             delete the incomplete subvolume, then receive again"
        }
        Some(Full::Unclear) => {
            "look at btrfs filesystem usage; delete snapshots or add a device, delete the \
             incomplete subvolume, then receive again"
        }
        None => "delete files, then receive again",
    };
    Advice::new(likely, to_do)
}

/// Returns the advice for a directory in which the limit of a qgroup is reached.
pub(super) fn over_quota(directory: &Path) -> Advice {
    let open = File::open(directory);
    let reached = open.and_then(|directory| {
        // What is used is known when it is on disk.
        let _ = rustix::fs::syncfs(&directory);
        QgroupLimit::reached(directory)
    });
    let reached = reached.unwrap_or_default();
    let shown = reached.iter().take(MAX_QGROUPS).map(|it| {
        let kind = if it.exclusive {
            "exclusive"
        } else {
            "referenced"
        };
        let (used, limit) = (bytes(it.used), bytes(it.limit));
        format!("{it} has {used} of {limit} {kind}")
    });
    let shown: Vec<_> = shown.collect();
    let likely = if shown.is_empty() {
        "the limit of a qgroup is reached".to_owned()
    } else {
        format!("the limit of a qgroup is reached: {}", shown.join(", "))
    };
    Advice::new(
        likely,
        "raise the limit (btrfs qgroup limit; btrfs qgroup show -pre PATH shows all), or delete \
         subvolumes of the qgroup; delete the incomplete subvolume, then receive again",
    )
}

fn describe(allocation: &Allocation) -> (String, Option<Full>) {
    let is_full = is_full(allocation);
    let mut text = match is_full {
        Full::Data => "the filesystem is full: ",
        Full::Unclear => "the kernel found no space, although not everything is used: ",
        Full::MetadataOnly => "the filesystem has no room for metadata: ",
    }
    .to_owned();
    let groups = |what: &'static str, spaces: &[AllocatedSpace]| -> Vec<String> {
        let one = |it: &AllocatedSpace| {
            let (used, total) = (bytes(it.used), bytes(it.total));
            format!("{what} {used} of {total} used ({})", it.profile)
        };
        spaces.iter().map(one).collect()
    };
    let mut parts = groups("data", &allocation.data);
    parts.extend(groups("metadata", &allocation.metadata));
    parts.push(match allocation.unallocated {
        Some(free) => format!("{} unallocated", bytes(free)),
        None => "unallocated space not known".to_owned(),
    });
    text += &parts.join(", ");
    (text, Some(is_full))
}

fn is_full(allocation: &Allocation) -> Full {
    let total = |spaces: &[AllocatedSpace]| spaces.iter().map(|it| it.total).sum::<u64>();
    if allocation
        .unallocated
        .is_some_and(|free| free >= BLOCK_GROUP)
    {
        return Full::Unclear;
    }
    if allocation.free_data() < (total(&allocation.data) / 20).min(16 << 20) {
        Full::Data
    } else if allocation.free_metadata() < (total(&allocation.metadata) / 8).max(16 << 20) {
        // A transaction reserves much more than it takes.
        Full::MetadataOnly
    } else {
        Full::Unclear
    }
}

fn free(directory: &Path) -> String {
    let facts = rustix::fs::statvfs(directory);
    let free = facts.map(|facts| facts.f_bavail.saturating_mul(facts.f_frsize));
    match free {
        Ok(free) => format!("the filesystem is full, with {} free", bytes(free)),
        Err(_) => "the filesystem is full".to_owned(),
    }
}
