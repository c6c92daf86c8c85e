//! What happens to regular files once they are open: data and metadata, by
//! descriptor, in the order of the stream.
//!
//! Runs on threads of its own beside the one that changes the namespace
//! ([`lanes`](super::lanes)). They are independent: a descriptor stays on its
//! inode whatever names it gets or loses, and everything that is done to one
//! inode is done here, first come first served. A clone within the subvolume
//! reads what was written by tasks before it, for the same reason.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use btrfs_sendstream::Bytes;
use rustix::fs::{
    FallocateFlags, Gid, Mode, Uid, fallocate, fchmod, fchown, fremovexattr, fstat, ftruncate,
    futimens,
};
use rustix::io::Errno;

use super::budget::Share;
use super::space::Space;
use crate::confine::{XattrHolder, timestamps};
use crate::destination::tree::data::DataWriter;
use crate::destination::tree::encoded::Accepted;
use crate::destination::tree::flags::{self, SharedFlags};
use crate::destination::tree::open_file::OpenFile;
use crate::error::{Cause, Failure, is_errno, named};
use crate::plan::op::{Op, Step};
use crate::report::Fallbacks;
use crate::step_error::StepError;
use crate::xattr::COMPRESSION;

/// A step on a regular file that was opened for it.
pub(super) struct Task {
    pub(super) file: Arc<OpenFile>,
    /// What a clone reads.
    pub(super) source: Option<Arc<OpenFile>>,
    pub(super) step: Step,
    /// Given back once the task is done.
    pub(super) share: Share,
}

impl Task {
    /// Whether a clone reads the file that it writes, under another name: clones that
    /// were joined may overlap then, so that the first ones would read what later
    /// ones have written if they were repeated. Also if that cannot be found out.
    fn is_within_one_file(&self) -> bool {
        let source = self.source.as_ref();
        source.is_some_and(|source| match (source.inode(), self.file.inode()) {
            (Ok(source), Ok(file)) => source == file,
            _ => true,
        })
    }
}

/// Carries out [`Task`]s.
pub(super) struct ContentWriter {
    data: DataWriter,
    accepted: Accepted,
    flags: SharedFlags,
    space: Space,
    /// Without CAP_FSETID a write clears set-id bits, which the stream does
    /// not know of.
    keeps_set_id: bool,
}

impl ContentWriter {
    pub(super) fn new(
        data: DataWriter,
        accepted: Accepted,
        flags: SharedFlags,
        space: Space,
        keeps_set_id: bool,
    ) -> Self {
        Self {
            data,
            accepted,
            flags,
            space,
            keeps_set_id,
        }
    }

    /// One that does the same for other files at the same time.
    pub(super) fn another(&self) -> Self {
        Self {
            data: self.data.another(),
            accepted: self.accepted.clone(),
            flags: self.flags.clone(),
            space: self.space.clone(),
            keeps_set_id: self.keeps_set_id,
        }
    }

    /// What had to be done another way so far.
    pub(super) fn fallbacks(&mut self) -> &mut Fallbacks {
        self.data.fallbacks()
    }

    /// Carries out one task.
    pub(super) fn run(&mut self, task: &Task) -> Result<(), Failure> {
        let mut result = self.act(task);
        let forbidden = |error: &StepError| is_errno(&error.cause, Errno::PERM);
        if result.as_ref().is_err_and(forbidden) {
            // Tried again even if there is nothing to lift: another thread
            // may have lifted it since.
            result = flags::lift(&task.file.fd, &self.flags)
                .map_err(StepError::from)
                .and_then(|()| self.act(task));
        }
        result.map_err(|error| error.of(&task.step))
    }

    /// Carries out `next` ahead of `task`, which comes directly before it, if that
    /// leads to the same file and is faster. Returns whether that was done;
    /// otherwise `next` has its turn after `task`, and says there why it fails.
    ///
    /// A file that was written to is cut off faster before: btrfs writes the end
    /// of the file out before it cuts, and waits for that. All that is written
    /// stays, so the one does not change what the other does.
    pub(super) fn run_early(&mut self, next: &Task, task: &Task) -> bool {
        let Op::Truncate { size, .. } = next.step.op else {
            return false;
        };
        let end = match &task.step.op {
            Op::Write { offset, data, .. } => {
                let len: usize = data.iter().map(|piece| piece.len()).sum();
                offset.checked_add(len as u64)
            }
            Op::EncodedWrite(write) => write.offset.checked_add(write.unencoded_file_len),
            _ => None,
        };
        Arc::ptr_eq(&next.file, &task.file)
            && end.is_some_and(|end| end <= size)
            && self.run(next).is_ok()
    }

    fn act(&mut self, task: &Task) -> Result<(), StepError> {
        let Task { file, step, .. } = task;
        let special = if !self.keeps_set_id && step.op.changes_content() {
            special_bits(file)?
        } else {
            None
        };
        if let Err(error) = self.carry_out(task) {
            if error.part > 0 && task.is_within_one_file() {
                return Err(error);
            }
            let space = self.space.clone();
            space.again(error, &step.op, || self.carry_out(task))?;
        }
        if let Some(mode) = special {
            chmod(file, mode)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, task: &Task) -> Result<(), StepError> {
        let Task {
            file, source, step, ..
        } = task;
        match &step.op {
            Op::Write { offset, data, .. } => self.data.write(&file.fd, *offset, data)?,
            Op::Clone(clone) => {
                let source = source.as_ref().ok_or(Cause::Misplaced)?;
                let pieces = step.fused.len() + 1;
                // Those that overlap read what others have written, and what is
                // remembered of that.
                let (parts, joined) = if pieces > 1 && task.is_within_one_file() {
                    (pieces, 1)
                } else {
                    (1, pieces)
                };
                let len = clone.len / parts as u64;
                for part in 0..parts {
                    let skip = len * part as u64;
                    let ranges = (clone.source_offset + skip, clone.offset + skip, len);
                    let of_part = |error: StepError| StepError {
                        part: part + error.part,
                        ..error
                    };
                    self.clone(&source.fd, &file.fd, ranges, joined)
                        .map_err(of_part)?;
                }
            }
            Op::EncodedWrite(write) => self.data.encoded_write(&file.fd, write)?,
            Op::Truncate { size, .. } => {
                self.accepted.forget(&file.fd, *size, u64::MAX)?;
                ftruncate(&file.fd, *size).map_err(named("ftruncate"))?;
            }
            Op::Fallocate {
                mode, offset, len, ..
            } => {
                // An empty range is EINVAL to the kernel and nothing to do.
                if *len > 0 {
                    let mode = FallocateFlags::from_bits_retain(*mode);
                    // Setting room aside leaves data as it is; all else may
                    // make holes.
                    if !(mode - FallocateFlags::KEEP_SIZE).is_empty() {
                        self.accepted.forget(&file.fd, *offset, *len)?;
                    }
                    fallocate(&file.fd, mode, *offset, *len).map_err(named("fallocate"))?;
                }
            }
            Op::Chown { uid, gid, .. } => chown(file, *uid, *gid)?,
            Op::Chmod { mode, .. } => {
                file.touch();
                chmod(file, *mode)?;
            }
            Op::SetXattr { name, data, .. } => {
                file.touch();
                self.set_xattr(file, name, data)?;
            }
            Op::RemoveXattr { name, .. } => match fremovexattr(&file.fd, name.as_ref()) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) => return Err(Cause::system("fremovexattr", errno).into()),
            },
            Op::FileAttr { attributes, .. } => flags::apply(&file.fd, *attributes, &self.flags)?,
            Op::Utimes { atime, mtime, .. } => {
                futimens(&file.fd, &timestamps(*atime, *mtime)?).map_err(named("futimens"))?;
            }
            // Names are the namespace's, and verity wants the file closed.
            Op::Create { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Move { .. }
            | Op::Unlink { .. }
            | Op::Rmdir { .. }
            | Op::EnableVerity(_) => return Err(Cause::Misplaced.into()),
        }
        Ok(())
    }

    fn clone(
        &mut self,
        source: &OwnedFd,
        file: &OwnedFd,
        ranges: (u64, u64, u64),
        pieces: usize,
    ) -> Result<(), StepError> {
        let (_, offset, len) = ranges;
        self.accepted.forget(file, offset, len)?;
        self.data.clone_pieces(source, file, ranges, pieces)?;
        self.accepted.cloned(source, file, ranges)?;
        Ok(())
    }

    fn set_xattr(&self, file: &OpenFile, name: &[u8], data: &Bytes) -> Result<(), Cause> {
        match XattrHolder::Fd(file.fd.as_fd()).replace(name, data) {
            Err(Errno::INVAL) if name == COMPRESSION && flags::is_algorithm(data) => {
                self.flags.compression_refused(&file.fd, data);
                Ok(())
            }
            result => result,
        }
        .map_err(named("fsetxattr"))
    }
}

/// Sets the owner and nothing else. The kernel clears set-id bits along with
/// it; a sender whose mode is the same as in the parent, because they were
/// set again, sends no CHMOD.
fn chown(file: &OpenFile, uid: u32, gid: u32) -> Result<(), Cause> {
    if file.is_owned_by((uid, gid)) {
        return Ok(());
    }
    let special = match file.touch() {
        true => special_bits(file)?,
        // Created with permission bits alone.
        false => None,
    };
    fchown(&file.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(named("fchown"))?;
    match special {
        Some(mode) => chmod(file, mode),
        None => Ok(()),
    }
}

/// Sets the mode, and makes sure that set-id bits were kept: without
/// CAP_FSETID the kernel drops them and reports success.
fn chmod(file: &OpenFile, mode: u32) -> Result<(), Cause> {
    fchmod(&file.fd, Mode::from_raw_mode(mode)).map_err(named("fchmod"))?;
    if mode & 0o7000 == 0 {
        return Ok(());
    }
    let kept = fstat(&file.fd).map_err(named("fstat"))?.st_mode & 0o7777;
    if kept == mode {
        Ok(())
    } else {
        Err(Cause::ModeNotSet { wanted: mode, kept })
    }
}

/// The mode of a file that has a set-id bit.
fn special_bits(file: &OpenFile) -> Result<Option<u32>, Cause> {
    let mode = fstat(&file.fd).map_err(named("fstat"))?.st_mode & 0o7777;
    Ok((mode & 0o6000 != 0).then_some(mode))
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use btrfs_sendstream::{CloneRange, Position, StreamPath, Uuid};
    use btrfs_testkit::unit::on_btrfs;

    use super::*;
    use crate::destination::btrfs::budget::Budget;

    /// Clones of one file under two names, which were joined and overlap.
    #[test]
    fn a_clone_within_one_file_is_recognised() {
        let path = || StreamPath::parse(Bytes::from("a")).unwrap();
        let file = tempfile::tempfile().unwrap();
        let same = file.try_clone().unwrap();
        let other = tempfile::tempfile().unwrap();
        let open = |file: std::fs::File| Arc::new(OpenFile::existing(file.into(), true));
        let file = open(file);
        for (source, expected) in [
            (Some(Arc::clone(&file)), true),
            (Some(open(same)), true),
            (Some(open(other)), false),
            (None, false),
        ] {
            let task = Task {
                file: Arc::clone(&file),
                source,
                step: Step::new(Op::Unlink { path: path() }, Position::default()),
                share: Budget::default().take(0),
            };
            assert_eq!(task.is_within_one_file(), expected);
        }
    }

    /// What is lost of the first block is lost of its copies too: of the second
    /// one, which is cloned from the first one.
    #[test]
    fn lost_data_is_found_behind_clones_that_overlap() {
        on_btrfs(|fs| {
            let file = File::create_new(fs.path().join("f")).unwrap();
            file.set_len(3 * 4096).unwrap();
            let root = File::open(fs.path()).unwrap();
            let id = btrfs_ioctl::subvolume_info(&root).unwrap().id;
            let accepted = Accepted::of(&root, id).unwrap();
            accepted.note(&file, 0, 4096).unwrap();
            let mut options = File::options();
            let same = options.read(true).write(true).open(fs.path().join("f"));
            let same = same.unwrap();
            let path = || StreamPath::parse(Bytes::from("f")).unwrap();
            let mut step = Step::new(
                Op::Clone(CloneRange {
                    path: path(),
                    offset: 4096,
                    len: 2 * 4096,
                    source_uuid: Uuid::nil(),
                    source_ctransid: 0,
                    source_path: path(),
                    source_offset: 0,
                }),
                Position::default(),
            );
            step.fused.push(Position::default());
            let open = |file: File| Arc::new(OpenFile::existing(file.into(), true));
            let file = open(file);
            let task = Task {
                file: Arc::clone(&file),
                source: Some(open(same)),
                step,
                share: Budget::default().take(0),
            };
            let (data, flags) = (DataWriter::decoding(), SharedFlags::default());
            let mut writer =
                ContentWriter::new(data, accepted.clone(), flags, Space::default(), true);
            writer.run(&task).unwrap();
            // The first two are written anew, the third is not.
            accepted.forget(&file.fd, 0, 2 * 4096).unwrap();
            rustix::io::pwrite(&file.fd, &[1; 2 * 4096], 0).unwrap();
            rustix::fs::syncfs(&root).unwrap();
            let text = accepted.verify().unwrap_err().to_string();
            assert!(text.contains("offset 8192"), "{text}");
        });
    }

    #[test]
    fn what_belongs_elsewhere_is_an_error() {
        let path = |name: &'static str| StreamPath::parse(Bytes::from(name)).unwrap();
        let file = tempfile::tempfile().unwrap();
        let file = Arc::new(OpenFile::existing(file.into(), true));
        let data = DataWriter::decoding();
        let mut writer = ContentWriter::new(
            data,
            Accepted::default(),
            SharedFlags::default(),
            Space::default(),
            true,
        );
        for op in [
            Op::Unlink { path: path("a") },
            Op::Rename {
                path: path("a"),
                to: path("b"),
            },
        ] {
            let task = Task {
                file: Arc::clone(&file),
                source: None,
                step: Step::new(op, Position::default()),
                share: Budget::default().take(0),
            };
            let failure = writer.run(&task).unwrap_err();
            assert!(matches!(*failure.cause, Cause::Misplaced));
            assert_eq!(failure.path, "a");
        }
    }
}
