//! What stored streams need that is not among them.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use btrfs_lineage::{Finding, Need, Resolver};
use btrfs_sendstream::inspect::{
    Chain, Member, SubvolumeSummary, Verifier, VerifyOptions, VerifyReport, first_subvolume,
};
use btrfs_sendstream::{Bytes, NewSubvolume, SourceId, Uuid};
use sendstream_common::output::Output;
use sendstream_common::report::{name_of, problems};
use sendstream_common::stored::cannot_open;
use sendstream_common::unpack::{Decompress, Unpacked};

use crate::Failure;

/// Streams that were read.
pub(super) struct Stored {
    /// What none of them brings.
    pub(super) needs: Vec<Need>,
    /// Those that wait for one another.
    pub(super) circular: Vec<Waiting>,
    /// How many are damaged or incomplete.
    pub(super) damaged: usize,
    /// Whether all of them could be read.
    pub(super) complete: bool,
}

/// A stream that is in no order with the others.
pub(super) struct Waiting {
    /// The UUIDs of its subvolumes.
    brings: Vec<Uuid>,
    /// What it needs of others that wait, or of the filesystem.
    needs: Vec<Need>,
}

/// A subvolume in a stream.
struct Inside {
    name: Bytes,
    uuid: Uuid,
    parent: Option<SourceId>,
    sources: Vec<SourceId>,
}

/// Returns what streams that wait for one another need to be received, if the
/// filesystem does not have it.
pub(super) fn stuck(mut waiting: Vec<Waiting>, resolver: &mut Resolver) -> Vec<Finding> {
    let needs = waiting.iter().flat_map(|it| it.needs.iter().cloned());
    let mut gone = resolver.audit_needs(needs);
    // One whose source is on the filesystem can be received, and then those that
    // wait for it.
    loop {
        let is_gone = |needed: &Need| {
            let is =
                |it: &Finding| matches!(it, Finding::SourceGone { need, .. } if need == needed);
            gone.iter().any(is)
        };
        let ready = waiting.iter().position(|it| !it.needs.iter().any(is_gone));
        let Some(ready) = ready else {
            return gone;
        };
        let brings = waiting.swap_remove(ready).brings;
        gone.retain(|it| {
            !matches!(it, Finding::SourceGone { need, .. } if brings.contains(&need.wanted.uuid))
        });
    }
}

impl Stored {
    /// Reads the streams that `paths` stand for: all of each, or its beginning.
    pub(super) fn read(
        paths: &[PathBuf],
        quick: bool,
        out: &mut Output<impl Write>,
    ) -> Result<Self, Failure> {
        let (files, complete) = out.stored(paths, Decompress::Auto)?;
        let mut stored = Self {
            needs: Vec::new(),
            circular: Vec::new(),
            damaged: 0,
            complete,
        };
        if quick {
            stored.beginnings(&files, out)?;
        } else {
            stored.whole(&files, out)?;
        }
        Ok(stored)
    }

    fn beginnings(
        &mut self,
        files: &[PathBuf],
        out: &mut Output<impl Write>,
    ) -> Result<(), Failure> {
        let (mut names, mut first, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for file in files {
            let Some(input) = self.open(file, out)? else {
                continue;
            };
            match first_subvolume(input) {
                Ok(subvolume) => {
                    names.push(file);
                    inputs.push(subvolume.iter().map(Inside::announced).collect());
                    first.push(subvolume);
                }
                Err(error) => self.is_damaged(&format!("{}: {error}", name_of(Some(file))), out)?,
            }
        }
        self.need(&Chain::of_subvolumes(&first), &names, &inputs);
        Ok(())
    }

    fn whole(&mut self, files: &[PathBuf], out: &mut Output<impl Write>) -> Result<(), Failure> {
        let mut how = VerifyOptions::default();
        // Only what decides whether there is a source.
        how.names = false;
        how.decode = false;
        how.allow_no_data = true;
        how.allow_unknown = true;
        let verifier = Verifier::new(how);
        let (mut names, mut reports) = (Vec::new(), Vec::new());
        for file in files {
            let Some(input) = self.open(file, out)? else {
                continue;
            };
            let report = verifier.verify(input);
            if !report.is_good() {
                let lines = problems(Some(file), &report);
                self.is_damaged(&lines.join("\n"), out)?;
            }
            names.push(file);
            reports.push(report);
        }
        let inside = |it: &VerifyReport| it.subvolumes.iter().map(Inside::verified).collect();
        let inputs: Vec<_> = reports.iter().map(inside).collect();
        self.need(&Chain::of(&reports), &names, &inputs);
        Ok(())
    }

    fn open(
        &mut self,
        file: &Path,
        out: &mut Output<impl Write>,
    ) -> Result<Option<Unpacked<File>>, Failure> {
        match File::open(file) {
            Ok(input) => Ok(Some(Unpacked::new(input, Decompress::Auto))),
            Err(error) => {
                out.error(&cannot_open(file, &error))?;
                self.complete = false;
                Ok(None)
            }
        }
    }

    fn is_damaged(&mut self, text: &str, out: &mut Output<impl Write>) -> Result<(), Failure> {
        self.damaged += 1;
        Ok(out.error(text)?)
    }

    fn need(&mut self, chain: &Chain, files: &[&PathBuf], inputs: &[Vec<Inside>]) {
        let need = |input: usize, inside: &Inside, wanted: SourceId| {
            let file = files.get(input)?.as_os_str().as_bytes();
            Some(Need {
                file: Bytes::copy_from_slice(file),
                name: inside.name.clone(),
                wanted,
                is_parent: inside.parent == Some(wanted),
            })
        };
        self.needs
            .extend(chain.missing.iter().filter_map(|missing| {
                let Member { input, subvolume } = missing.needed_by;
                need(input, inputs.get(input)?.get(subvolume)?, missing.wanted)
            }));
        let ordered = chain.order.iter().filter_map(|&input| inputs.get(input));
        let brought: HashSet<Uuid> = ordered.flatten().map(|it| it.uuid).collect();
        for &input in &chain.circular {
            let subvolumes = inputs.get(input).map_or(&[][..], Vec::as_slice);
            let brings: Vec<_> = subvolumes.iter().map(|it| it.uuid).collect();
            let needs = subvolumes.iter().flat_map(|inside| {
                let wanted = inside
                    .sources
                    .iter()
                    .filter(|it| !brought.contains(&it.uuid) && !brings.contains(&it.uuid));
                wanted.filter_map(move |wanted| need(input, inside, *wanted))
            });
            let needs = needs.collect();
            self.circular.push(Waiting { brings, needs });
        }
    }
}

impl Inside {
    fn announced(new: &NewSubvolume) -> Self {
        Self {
            name: Bytes::copy_from_slice(new.name.as_bytes()),
            uuid: new.uuid,
            parent: new.parent,
            sources: new.parent.into_iter().collect(),
        }
    }

    fn verified(summary: &SubvolumeSummary) -> Self {
        Self {
            name: Bytes::copy_from_slice(summary.name.as_bytes()),
            uuid: summary.uuid,
            parent: summary.parent,
            sources: summary.sources().collect(),
        }
    }
}
