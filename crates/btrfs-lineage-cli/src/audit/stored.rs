//! What stored streams need that is not among them.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use btrfs_lineage::Need;
use btrfs_sendstream::inspect::{Chain, Verifier, VerifyOptions, first_subvolume};
use btrfs_sendstream::{Bytes, NewSubvolume};
use sendstream_common::report::{name_of, problems};
use sendstream_common::stored::{self, cannot_open, no_stream_in};

use super::Output;
use crate::Failure;

/// Streams that were read.
pub(super) struct Stored {
    /// What none of them brings.
    pub(super) needs: Vec<Need>,
    /// How many are damaged or incomplete.
    pub(super) damaged: usize,
    /// Whether all of them could be read.
    pub(super) complete: bool,
}

impl Stored {
    /// Reads the streams that `paths` stand for: all of each, or its beginning.
    pub(super) fn read(paths: &[PathBuf], quick: bool, out: &mut Output) -> Result<Self, Failure> {
        let mut stored = Self {
            needs: Vec::new(),
            damaged: 0,
            complete: true,
        };
        let found = match stored::Stored::find(paths) {
            Ok(found) => found,
            Err(text) => {
                out.error(&text)?;
                stored.complete = false;
                return Ok(stored);
            }
        };
        for skipped in &found.skipped {
            if skipped.is_error() {
                out.error(&skipped.to_string())?;
                stored.complete = false;
            } else {
                out.warning(&skipped.to_string())?;
            }
        }
        if found.files.is_empty() {
            out.error(&no_stream_in(paths))?;
            stored.complete = false;
        }
        if quick {
            stored.beginnings(&found.files, out)?;
        } else {
            stored.whole(&found.files, out)?;
        }
        Ok(stored)
    }

    fn beginnings(&mut self, files: &[PathBuf], out: &mut Output) -> Result<(), Failure> {
        let (mut names, mut first) = (Vec::new(), Vec::new());
        for file in files {
            let Some(input) = self.open(file, out)? else {
                continue;
            };
            match first_subvolume(input) {
                Ok(subvolume) => {
                    names.push(file);
                    first.push(subvolume);
                }
                Err(error) => self.is_damaged(&format!("{}: {error}", name_of(Some(file))), out)?,
            }
        }
        let name = |input: usize, _: usize| first.get(input)?.as_ref().map(name_in);
        self.need(&Chain::of_subvolumes(&first), &names, name);
        Ok(())
    }

    fn whole(&mut self, files: &[PathBuf], out: &mut Output) -> Result<(), Failure> {
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
        let name = |input: usize, subvolume: usize| {
            let subvolume = reports.get(input)?.subvolumes.get(subvolume)?;
            Some(Bytes::copy_from_slice(subvolume.name.as_bytes()))
        };
        self.need(&Chain::of(&reports), &names, name);
        Ok(())
    }

    fn open(&mut self, file: &Path, out: &mut Output) -> Result<Option<File>, Failure> {
        match File::open(file) {
            Ok(input) => Ok(Some(input)),
            Err(error) => {
                out.error(&cannot_open(file, &error))?;
                self.complete = false;
                Ok(None)
            }
        }
    }

    fn is_damaged(&mut self, text: &str, out: &mut Output) -> Result<(), Failure> {
        self.damaged += 1;
        out.error(text)
    }

    fn need(
        &mut self,
        chain: &Chain,
        files: &[&PathBuf],
        name: impl Fn(usize, usize) -> Option<Bytes>,
    ) {
        let needs = chain.missing.iter().filter_map(|missing| {
            let member = missing.needed_by;
            let file = files.get(member.input)?.as_os_str().as_bytes();
            Some(Need {
                file: Bytes::copy_from_slice(file),
                name: name(member.input, member.subvolume)?,
                wanted: missing.wanted,
                is_parent: missing.is_parent,
            })
        });
        self.needs.extend(needs);
    }
}

fn name_in(subvolume: &NewSubvolume) -> Bytes {
    Bytes::copy_from_slice(subvolume.name.as_bytes())
}
