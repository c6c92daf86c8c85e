//! Finds the order in which to receive a set of stored streams, and which sources are
//! missing.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io::Read;

use uuid::Uuid;

use super::{SubvolumeSummary, VerifyReport};
use crate::{Error, Item, NewSubvolume, Reader, SourceId, SubvolumeName};

/// A subvolume of a set. Both indices begin with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Member {
    /// Index of the input.
    pub input: usize,
    /// Index in [`VerifyReport::subvolumes`], or in the subvolumes passed.
    pub subvolume: usize,
}

/// How inputs depend on one another.
///
/// A subvolume is identified by its UUID in the stream, by which later streams name
/// it as parent or clone source. Transaction ids are not compared: they differ between
/// hosts for the same content.
///
/// Memory: a few hundred bytes for each subvolume.
///
/// With only the first command of each stream, so that large streams need not be
/// read:
///
/// ```
/// use btrfs_sendstream::inspect::{Chain, first_subvolume};
/// # use btrfs_sendstream::{Command, SubvolumeName, Uuid, Version, Writer};
/// # let name = SubvolumeName::parse(&b"s"[..])?;
/// # let (uuid, parent_uuid) = (Uuid::from_u128(2), Uuid::from_u128(1));
/// # let stream = |first: Command<&'static [u8]>| {
/// #     let mut writer = Writer::new(Vec::new());
/// #     writer.header(Version::V1).unwrap();
/// #     writer.command(&first).unwrap();
/// #     writer.command(&Command::<&[u8]>::End).unwrap();
/// #     writer.finish().unwrap()
/// # };
/// # let tuesday = stream(Command::Snapshot { name, uuid, ctransid: 9, parent_uuid, parent_ctransid: 7 });
/// # let name = SubvolumeName::parse(&b"r"[..])?;
/// # let monday = stream(Command::Subvol { name, uuid: parent_uuid, ctransid: 7 });
///
/// let mut inputs = Vec::new();
/// for stream in [&tuesday, &monday] {
///     inputs.push(first_subvolume(&stream[..])?);
/// }
/// let chain = Chain::of_subvolumes(&inputs);
/// assert_eq!(chain.order, [1, 0]);
/// assert!(chain.is_whole());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Chain {
    /// The inputs in an order in which each comes after its sources, without those
    /// in [`Chain::circular`]. Otherwise, the given order is preserved.
    pub order: Vec<usize>,
    /// Parents and clone sources that are in no input, or only damaged or truncated.
    pub missing: Vec<Missing>,
    /// Inputs that need one another, or an input that does: none can come first.
    pub circular: Vec<usize>,
    /// Subvolumes that occur more than once: each further one, with the first.
    pub repeated: Vec<(Member, Member)>,
    /// Different subvolumes with the same name, which cannot be received into one
    /// directory: each further one, with the first.
    pub same_name: Vec<(Member, Member)>,
    /// For each input the others that it needs.
    #[cfg_attr(feature = "serde", serde(skip))]
    sources: Vec<Vec<usize>>,
}

/// A subvolume that is missing from a set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Missing {
    /// The subvolume that needs it.
    pub needed_by: Member,
    /// The missing subvolume.
    pub wanted: SourceId,
    /// Whether it is the parent; otherwise it is a clone source.
    pub is_parent: bool,
}

/// What a subvolume of an input is called and needs.
struct Entry<'a> {
    member: Member,
    name: &'a SubvolumeName,
    uuid: Uuid,
    parent: Option<SourceId>,
    sources: Vec<SourceId>,
    /// Whether it is there to the end and nothing is wrong with it.
    good: bool,
}

impl<'a> Entry<'a> {
    fn verified(member: Member, summary: &'a SubvolumeSummary) -> Self {
        Self {
            member,
            name: &summary.name,
            uuid: summary.uuid,
            parent: summary.parent,
            sources: summary.sources().collect(),
            good: summary.good,
        }
    }

    fn announced(member: Member, new: &'a NewSubvolume) -> Self {
        Self {
            member,
            name: &new.name,
            uuid: new.uuid,
            parent: new.parent,
            sources: new.parent.into_iter().collect(),
            good: true,
        }
    }
}

impl Chain {
    /// Orders inputs that were verified. Only subvolumes that are listed in a report
    /// are considered: the first 4096.
    pub fn of<'a>(inputs: impl IntoIterator<Item = &'a VerifyReport>) -> Self {
        let mut entries = Vec::new();
        let mut count = 0;
        for (input, report) in inputs.into_iter().enumerate() {
            count += 1;
            let subvolumes = report.subvolumes.iter().enumerate();
            entries.extend(
                subvolumes.map(|(subvolume, summary)| {
                    Entry::verified(Member { input, subvolume }, summary)
                }),
            );
        }
        Self::of_entries(count, &entries)
    }

    /// Orders inputs by their SUBVOL and SNAPSHOT commands: pass the subvolumes of
    /// each input, such as the one that [`first_subvolume`] reads. Each is assumed to
    /// be complete.
    ///
    /// Only parents are considered, because clone sources are in the commands that
    /// follow: a stream that clones from a subvolume of another (`btrfs send -c`) may
    /// come before it. [`Chain::of`] considers clone sources too.
    pub fn of_subvolumes<'a, I>(inputs: impl IntoIterator<Item = I>) -> Self
    where
        I: IntoIterator<Item = &'a NewSubvolume>,
    {
        let mut entries = Vec::new();
        let mut count = 0;
        for (input, subvolumes) in inputs.into_iter().enumerate() {
            count += 1;
            let subvolumes = subvolumes.into_iter().enumerate();
            entries.extend(
                subvolumes
                    .map(|(subvolume, new)| Entry::announced(Member { input, subvolume }, new)),
            );
        }
        Self::of_entries(count, &entries)
    }

    /// Returns whether all inputs can be received in [`Chain::order`] into one empty
    /// directory.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.circular.is_empty() && self.same_name.is_empty()
    }

    /// The inputs to receive in order to have the subvolumes of `input`: those that it
    /// depends on, each after its own sources, and `input` itself as the last. `None`
    /// if it is in [`Chain::circular`], or there is no such input.
    ///
    /// Sources that are in no input are not among them: see [`Chain::missing`].
    pub fn needed_for(&self, input: usize) -> Option<Vec<usize>> {
        let end = self.order.iter().position(|it| *it == input)?;
        let mut needed = HashSet::from([input]);
        let mut order = Vec::new();
        for &earlier in self.order.iter().take(end + 1).rev() {
            if needed.contains(&earlier) {
                needed.extend(self.sources.get(earlier).into_iter().flatten());
                order.push(earlier);
            }
        }
        order.reverse();
        Some(order)
    }

    fn of_entries(inputs: usize, entries: &[Entry<'_>]) -> Self {
        let mut chain = Self::default();
        let providers = chain.providers(entries);
        let needs = chain.needs(inputs, entries, &providers);
        chain.sort(entries, &needs);
        chain
    }

    /// The inputs that bring each UUID; notes what is there twice.
    fn providers(&mut self, entries: &[Entry<'_>]) -> HashMap<Uuid, Vec<Member>> {
        let mut providers: HashMap<Uuid, Vec<Member>> = HashMap::new();
        let mut names: HashMap<&SubvolumeName, (Member, Uuid)> = HashMap::new();
        // What is damaged or cut brings nothing.
        for entry in entries.iter().filter(|entry| entry.good) {
            let same = providers.entry(entry.uuid).or_default();
            if let Some(&first) = same.first() {
                self.repeated.push((entry.member, first));
            }
            same.push(entry.member);
            let (first, uuid) = *names
                .entry(entry.name)
                .or_insert((entry.member, entry.uuid));
            if uuid != entry.uuid {
                self.same_name.push((entry.member, first));
            }
        }
        providers
    }

    /// What each input needs of others; notes what nobody brings.
    fn needs(
        &mut self,
        inputs: usize,
        entries: &[Entry<'_>],
        providers: &HashMap<Uuid, Vec<Member>>,
    ) -> Vec<HashSet<Uuid>> {
        let mut needs = vec![HashSet::new(); inputs];
        for entry in entries {
            let member = entry.member;
            for &wanted in &entry.sources {
                let providers = providers.get(&wanted.uuid).map_or(&[][..], Vec::as_slice);
                let before = |it: &Member| it.input == member.input && *it < member;
                if providers.iter().any(before) {
                    continue;
                }
                let elsewhere = |it: &Member| it.input != member.input;
                if !providers.iter().any(elsewhere) {
                    self.missing.push(Missing {
                        needed_by: member,
                        wanted,
                        is_parent: entry.parent == Some(wanted),
                    });
                } else if let Some(needs) = needs.get_mut(member.input) {
                    needs.insert(wanted.uuid);
                }
            }
        }
        needs
    }

    /// Takes inputs as soon as all they need was taken before.
    fn sort(&mut self, entries: &[Entry<'_>], needs: &[HashSet<Uuid>]) {
        let mut brought: Vec<Vec<Uuid>> = vec![Vec::new(); needs.len()];
        for entry in entries.iter().filter(|entry| entry.good) {
            if let Some(brought) = brought.get_mut(entry.member.input) {
                brought.push(entry.uuid);
            }
        }
        // Of inputs that bring the same subvolume, the first is the source.
        let mut there: HashMap<Uuid, usize> = HashMap::new();
        self.sources = vec![Vec::new(); needs.len()];
        let mut waiting: Vec<usize> = (0..needs.len()).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|&input| {
                let needs = needs.get(input).into_iter().flatten();
                let sources: Option<Vec<usize>> =
                    needs.map(|uuid| there.get(uuid).copied()).collect();
                let Some(sources) = sources else {
                    return true;
                };
                if let Some(of_input) = self.sources.get_mut(input) {
                    *of_input = sources;
                }
                self.order.push(input);
                for &uuid in brought.get(input).into_iter().flatten() {
                    there.entry(uuid).or_insert(input);
                }
                false
            });
            if waiting.len() == before {
                break;
            }
        }
        self.circular = waiting;
    }
}

/// Reads the beginning of an input, and returns the subvolume of its first SUBVOL or
/// SNAPSHOT command, or `None` if the first stream has none.
///
/// Reads more of `input` than this command.
///
/// # Errors
/// The beginning is damaged, is not a send stream, or could not be read.
pub fn first_subvolume(input: impl Read) -> Result<Option<NewSubvolume>, Error> {
    let mut reader = Reader::new(input);
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Header(_) | Item::Unknown(_) => {}
            // The first command of a stream is one of the two.
            Item::Command(command) => return Ok(NewSubvolume::copied(&command)),
        }
    }
    Ok(None)
}
