//! Sets of stored streams: which needs which, what is missing, and in which
//! order to receive them.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use btrfs_sendstream::SubvolumeName;
use uuid::Uuid;

use crate::plan::op::SourceId;
use crate::verify::{SubvolumeSummary, VerifyReport};

/// A subvolume of a set: which input, and which of the subvolumes in its
/// report, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Member {
    /// Index of the input.
    pub input: usize,
    /// Index in [`VerifyReport::subvolumes`].
    pub subvolume: usize,
}

/// How inputs depend on one another.
///
/// A subvolume is known by the UUID that its stream gives it, by which a
/// later stream names it as parent or clone source. Transaction ids are not
/// compared: they differ between hosts for the same content.
///
/// Memory: a few hundred bytes for each subvolume of the reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Chain {
    /// The inputs in an order in which each comes after what it needs; as
    /// far as that leaves a choice, in the order given. Those of
    /// [`Chain::circular`] are not in it.
    pub order: Vec<usize>,
    /// Parents and clone sources that no input brings, or only one in which
    /// they are damaged or cut.
    pub missing: Vec<Missing>,
    /// Inputs that wait for one another; nothing can begin with them.
    pub circular: Vec<usize>,
    /// Subvolumes that are there more than once: the second and later ones,
    /// each with the first.
    pub repeated: Vec<(Member, Member)>,
    /// Different subvolumes of one name, which cannot be received into one
    /// directory: the second and later ones, each with the first.
    pub same_name: Vec<(Member, Member)>,
}

/// A subvolume that a set lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Missing {
    /// Who needs it.
    pub needed_by: Member,
    /// What is needed.
    pub wanted: SourceId,
    /// Whether it is the parent; else a clone source.
    pub is_parent: bool,
}

impl Chain {
    /// Looks at the inputs that were verified. What is listed in no report,
    /// after its first 4096 subvolumes, is not seen.
    pub fn of<'a>(inputs: impl IntoIterator<Item = &'a VerifyReport>) -> Self {
        let inputs: &[&VerifyReport] = &inputs.into_iter().collect::<Vec<_>>();
        let mut chain = Self::default();
        let providers = chain.providers(inputs);
        let needs = chain.needs(inputs, &providers);
        chain.sort(inputs, &needs);
        chain
    }

    /// Whether every input can be received after those before it in
    /// [`Chain::order`], into one empty directory.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.circular.is_empty() && self.same_name.is_empty()
    }

    /// The inputs that bring each UUID; notes what is there twice.
    fn providers(&mut self, inputs: &[&VerifyReport]) -> HashMap<Uuid, Vec<Member>> {
        let mut providers: HashMap<Uuid, Vec<Member>> = HashMap::new();
        let mut names: HashMap<&SubvolumeName, (Member, Uuid)> = HashMap::new();
        // What is damaged or cut brings nothing.
        for (member, subvolume) in members(inputs).filter(|(_, it)| it.good) {
            let same = providers.entry(subvolume.uuid).or_default();
            if let Some(&first) = same.first() {
                self.repeated.push((member, first));
            }
            same.push(member);
            let (first, uuid) = *names
                .entry(&subvolume.name)
                .or_insert((member, subvolume.uuid));
            if uuid != subvolume.uuid {
                self.same_name.push((member, first));
            }
        }
        providers
    }

    /// What each input needs of others; notes what nobody brings.
    fn needs(
        &mut self,
        inputs: &[&VerifyReport],
        providers: &HashMap<Uuid, Vec<Member>>,
    ) -> Vec<HashSet<Uuid>> {
        let mut needs = vec![HashSet::new(); inputs.len()];
        for (member, subvolume) in members(inputs) {
            for wanted in subvolume.sources() {
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
                        is_parent: subvolume.parent == Some(wanted),
                    });
                } else if let Some(needs) = needs.get_mut(member.input) {
                    needs.insert(wanted.uuid);
                }
            }
        }
        needs
    }

    /// Takes inputs as soon as all they need was taken before.
    fn sort(&mut self, inputs: &[&VerifyReport], needs: &[HashSet<Uuid>]) {
        let mut there: HashSet<Uuid> = HashSet::new();
        let mut waiting: Vec<usize> = (0..inputs.len()).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|&input| {
                let ready = needs.get(input).is_none_or(|needs| needs.is_subset(&there));
                if ready {
                    self.order.push(input);
                    let subvolumes = inputs.get(input).map_or(&[][..], |it| &it.subvolumes);
                    let good = subvolumes.iter().filter(|it| it.good);
                    there.extend(good.map(|it| it.uuid));
                }
                !ready
            });
            if waiting.len() == before {
                break;
            }
        }
        self.circular = waiting;
    }
}

/// Every subvolume of the inputs.
fn members<'a>(
    inputs: &[&'a VerifyReport],
) -> impl Iterator<Item = (Member, &'a SubvolumeSummary)> {
    inputs.iter().enumerate().flat_map(|(input, report)| {
        let subvolumes = report.subvolumes.iter().enumerate();
        subvolumes.map(move |(subvolume, it)| (Member { input, subvolume }, it))
    })
}
