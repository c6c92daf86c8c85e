//! The directory that holds extractions: their names in it, and the records
//! that say which of them are complete.
//!
//! An extraction is built under a name of its own, `NAME.incomplete`. When
//! everything is on disk it is renamed to `NAME`, and after that its record
//! is written to `.btrfs-extract/UUID.TRANSID`, so that whatever has a record
//! is complete, whenever the machine stops. One subvolume, which one UUID
//! names, may be extracted in several states, which the transid tells apart.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_sendstream::{Bytes, SubvolumeName, Timespec};
use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, StatxFlags, fchmod, fremovexattr, fstat, fsync,
    mkdirat, openat, renameat, renameat_with, statat, statx, syncfs, unlinkat,
};
use rustix::io::{Errno, read};
use rustix::path::Arg;
use uuid::Uuid;

use super::names::{self, lists};
use super::record::{Born, MAX_LEN, Record};
use crate::error::{Barrier, Cause, Conflict, ExtractionProblem, OpenError, named};
use crate::plan::op::{NewSubvolume, SourceId};
use crate::xattr::{ACCESS_ACL, COMPRESSION, DEFAULT_ACL};
use btrfs_ioctl as sys;

/// Where the records are, in the directory.
const RECORDS: &[u8] = b".btrfs-extract";

/// Follows the name of what is not complete.
const INCOMPLETE: &[u8] = b".incomplete";

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory to extract into.
#[derive(Debug)]
pub(super) struct Place(OwnedFd);

impl Place {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| OpenError::new("open", path, errno))?;
        Ok(Self(fd))
    }

    /// Makes the directory that `new` is built in, which only its owner can
    /// enter until the end, and if it is to get a record, the directory of those.
    pub(super) fn begin(&self, new: &NewSubvolume, has_record: bool) -> Result<OwnedFd, Cause> {
        let name = new.name.as_bytes();
        // Some filesystems do not tell apart small and capital letters.
        if name.eq_ignore_ascii_case(RECORDS) {
            let by = Conflict::Records;
            return Err(Cause::NameTaken { by });
        }
        if has_record {
            // Now, and not at the end, when hours of work could be lost.
            self.records()?;
        }
        self.check_name(new)?;
        match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {
                let by = self.conflict(new);
                return Err(Cause::NameTaken { by });
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Cause::system("fstatat", errno)),
        }
        let building = incomplete(&new.name);
        match mkdirat(&self.0, building.as_bytes(), Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let by = Conflict::IncompleteExtraction;
                return Err(Cause::NameTaken { by });
            }
            Err(errno) => return Err(Cause::system("mkdirat", errno)),
        }
        let root = openat(&self.0, building.as_bytes(), DIRECTORY, Mode::empty());
        let root = root.map_err(named("openat"))?;
        // What the directory around it has handed down.
        for name in [DEFAULT_ACL, ACCESS_ACL, COMPRESSION] {
            let _ = fremovexattr(&root, name);
        }
        fchmod(&root, Mode::RWXU).map_err(named("fchmod"))?;
        Ok(root)
    }

    /// Gives what was built its name, and its record if it gets one. Everything in it
    /// must be on disk already.
    pub(super) fn finish(
        &self,
        root: BorrowedFd<'_>,
        record: &Record,
        has_record: bool,
    ) -> Result<(), Cause> {
        let building = incomplete(&record.name);
        let name = record.name.as_bytes();
        self.check_is(root, building.as_bytes())?;
        if !has_record {
            self.forget(record)?;
        }
        rename_no_replace(&self.0, building.as_bytes(), name)?;
        let marked = self.check_is(root, name).and_then(|()| {
            flush(&self.0)?;
            if !has_record {
                return Ok(());
            }
            self.write(&Record {
                born: born(root),
                ..record.clone()
            })
        });
        if marked.is_err() {
            // Unmarked it is not complete, and should not look like it.
            let _ = rename_no_replace(&self.0, name, building.as_bytes());
        }
        marked
    }

    /// Whether the name is that of the directory with this root: another process can have
    /// renamed it, and given its name to another one.
    fn is(&self, root: impl AsFd, name: &[u8]) -> Result<bool, Cause> {
        let found = match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(Cause::system("fstatat", errno)),
        };
        let ours = fstat(root).map_err(named("fstat"))?;
        Ok((found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino))
    }

    fn check_is(&self, root: BorrowedFd<'_>, name: &[u8]) -> Result<(), Cause> {
        if self.is(root, name)? {
            return Ok(());
        }
        Err(Cause::Escape {
            path: Bytes::copy_from_slice(name),
            barrier: Barrier::Replaced,
        })
    }

    /// Removes what is not finished, given by its root and the name it was to
    /// get; not what somebody else put in its place. Says whether it is gone.
    pub(super) fn discard(&self, root: &OwnedFd, name: &SubvolumeName) -> Result<bool, Cause> {
        let name = incomplete(name);
        match statat(&self.0, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) if self.is(root, name.as_bytes())? => {}
            Ok(_) => return Ok(false),
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(Cause::system("fstatat", errno)),
        }
        // Follows no symbolic links, and goes by descriptors from there on.
        let path = Path::new("/proc/self/fd")
            .join(self.0.as_raw_fd().to_string())
            .join(OsStr::from_bytes(name.as_bytes()));
        std::fs::remove_dir_all(path).map_err(|error| Cause::system("unlinkat", error))?;
        Ok(true)
    }

    /// Finds a finished extraction, and opens it. It must be of the very state
    /// that is wanted: what a stream changes in one state makes no sense in
    /// another.
    pub(super) fn find(&self, wanted: SourceId) -> Result<(OwnedFd, Record), Cause> {
        let bad = |name: &[u8], problem| Cause::BadExtraction {
            wanted,
            name: Bytes::copy_from_slice(name),
            problem,
        };
        let mut problem = None;
        let mut other: Option<Record> = None;
        for text in self.read_all(wanted.uuid)? {
            let record = Record::decode(&text).filter(|it| it.id.uuid == wanted.uuid);
            match record {
                None => {
                    problem.get_or_insert_with(|| bad(b"", ExtractionProblem::DamagedRecord));
                }
                Some(record) if record.id != wanted => other = Some(record),
                Some(record) => match self.open_recorded(&record)? {
                    Ok(root) => return Ok((root, record)),
                    Err(found) => problem = Some(bad(record.name.as_bytes(), found)),
                },
            }
        }
        let other = other.map(|record| {
            let (found, wanted) = (record.id.ctransid, wanted.ctransid);
            bad(
                record.name.as_bytes(),
                ExtractionProblem::OtherState { found, wanted },
            )
        });
        let cause = problem.or(other);
        Err(cause.unwrap_or(Cause::NotExtracted { wanted }))
    }

    /// Opens what a record is of, if it is still there.
    fn open_recorded(&self, record: &Record) -> Result<Result<OwnedFd, ExtractionProblem>, Cause> {
        let root = match openat(&self.0, record.name.as_bytes(), DIRECTORY, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Ok(Err(ExtractionProblem::Gone));
            }
            Err(errno) => return Err(Cause::system("openat", errno)),
        };
        let same = match (&record.born, born(&root)) {
            (None, _) => true,
            (Some(recorded), Some(found)) => recorded.is_same(&found),
            (Some(_), None) => false,
        };
        Ok(if same {
            Ok(root)
        } else {
            Err(ExtractionProblem::Replaced)
        })
    }

    /// Makes sure that the filesystem stores the name as it is.
    fn check_name(&self, new: &NewSubvolume) -> Result<(), Cause> {
        if names::keeps_any(&self.0) {
            return Ok(());
        }
        let workshop = self.workshop(new.uuid)?;
        let name = new.name.as_bytes();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&workshop.fd, name, flags, Mode::RUSR).map_err(named("openat"))?;
        if lists(&workshop.fd, name)? {
            return Ok(());
        }
        Err(Cause::NameNotStored {
            path: Bytes::copy_from_slice(name),
            taken: false,
        })
    }

    /// An empty directory beside the records, for the time of one copy.
    pub(super) fn workshop(&self, uuid: Uuid) -> Result<Workshop, Cause> {
        let records = self.records()?;
        let name = format!("{uuid}.links").into_bytes();
        match mkdirat(&records, &name[..], Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Cause::system("mkdirat", errno)),
        }
        let fd = openat(&records, &name[..], DIRECTORY, Mode::empty());
        let workshop = Workshop {
            fd: fd.map_err(named("openat"))?,
            records,
            name,
        };
        workshop.clear()?;
        Ok(workshop)
    }

    fn conflict(&self, new: &NewSubvolume) -> Conflict {
        let id = SourceId {
            uuid: new.uuid,
            ctransid: new.ctransid,
        };
        match self.find(id) {
            Ok((_, record)) if record.name == new.name => Conflict::Same,
            _ => Conflict::NoSubvolume,
        }
    }

    fn records(&self) -> Result<OwnedFd, Cause> {
        match mkdirat(&self.0, RECORDS, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Cause::system("mkdirat", errno)),
        }
        openat(&self.0, RECORDS, DIRECTORY, Mode::empty()).map_err(named("openat"))
    }

    /// The records of every state of a subvolume, in the order of their names.
    fn read_all(&self, uuid: Uuid) -> Result<Vec<Vec<u8>>, Cause> {
        // Every subvolume that is none of a stream's has a nil UUID.
        if uuid.is_nil() {
            return Ok(Vec::new());
        }
        let records = match openat(&self.0, RECORDS, DIRECTORY, Mode::empty()) {
            Ok(records) => records,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(Cause::system("openat", errno)),
        };
        let uuid = uuid.to_string();
        let mut names = Vec::new();
        for entry in Dir::read_from(&records).map_err(named("getdents"))? {
            let entry = entry.map_err(named("getdents"))?;
            let name = entry.file_name();
            if is_record(name.to_bytes(), uuid.as_bytes()) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        let texts = names.iter().map(|name| read_record(&records, &**name));
        texts.filter_map(Result::transpose).collect()
    }

    /// Removes the record of an earlier extraction under the same name, which would be
    /// taken for that of a new one where the filesystem does not tell them apart.
    fn forget(&self, new: &Record) -> Result<(), Cause> {
        let records = match openat(&self.0, RECORDS, DIRECTORY, Mode::empty()) {
            Ok(records) => records,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Cause::system("openat", errno)),
        };
        let file = record_name(new.id);
        let old = read_record(&records, &*file)?.and_then(|text| Record::decode(&text));
        if old.is_some_and(|old| old.name == new.name) {
            unlinkat(&records, &*file, AtFlags::empty()).map_err(named("unlinkat"))?;
            flush(&records)?;
        }
        Ok(())
    }

    /// Writes a record in place of an older one of the same state.
    fn write(&self, record: &Record) -> Result<(), Cause> {
        let records = self.records()?;
        let name = record_name(record.id);
        let unfinished = format!("{name}.new");
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::TRUNC
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let file = openat(&records, &unfinished, flags, Mode::RUSR | Mode::WUSR);
        let mut file = std::fs::File::from(file.map_err(named("openat"))?);
        file.write_all(record.encode().as_bytes())
            .map_err(|error| Cause::system("write", error))?;
        file.sync_all()
            .map_err(|error| Cause::system("fsync", error))?;
        renameat(&records, &unfinished, &records, &name).map_err(named("renameat"))?;
        flush(&records)
    }
}

/// An empty directory that is removed in the end.
pub(super) struct Workshop {
    pub(super) fd: OwnedFd,
    records: OwnedFd,
    name: Vec<u8>,
}

impl Workshop {
    fn clear(&self) -> Result<(), Cause> {
        let entries = Dir::read_from(&self.fd).map_err(named("getdents"))?;
        for entry in entries {
            let entry = entry.map_err(named("getdents"))?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                unlinkat(&self.fd, name, AtFlags::empty()).map_err(named("unlinkat"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What stays is in nobody's way, and cleared before it is used again.
        let _ = self.clear();
        let _ = unlinkat(&self.records, &self.name[..], AtFlags::REMOVEDIR);
    }
}

/// The name under which an extraction is built: cut where it would be too
/// long for a name.
pub(super) fn incomplete(name: &SubvolumeName) -> SubvolumeName {
    let most = SubvolumeName::<Bytes>::MAX_LEN - INCOMPLETE.len();
    let bytes = name.as_bytes();
    let bytes = [bytes.get(..most).unwrap_or(bytes), INCOMPLETE].concat();
    // One component, as the name is.
    SubvolumeName::parse(Bytes::from(bytes)).unwrap_or_else(|_| name.clone())
}

fn record_name(id: SourceId) -> String {
    format!("{}.{}", id.uuid, id.ctransid)
}

/// Whether a file with this name is a record of the subvolume, and not one
/// that is being written, or something else.
fn is_record(name: &[u8], uuid: &[u8]) -> bool {
    match name.strip_prefix(uuid) {
        Some([b'.', transid @ ..]) => !transid.is_empty() && transid.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The text of a record; `None` if it is gone.
fn read_record(records: &OwnedFd, name: impl Arg) -> Result<Option<Vec<u8>>, Cause> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(records, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Cause::system("openat", errno)),
    };
    let mut text = vec![0; MAX_LEN];
    let mut len = 0;
    while let Some(room) = text.get_mut(len..).filter(|room| !room.is_empty()) {
        match read(&file, room).map_err(named("read"))? {
            0 => break,
            count => len += count,
        }
    }
    text.truncate(len);
    Ok(Some(text))
}

/// Which directory it is, if the filesystem tells.
fn born(root: impl AsFd) -> Option<Born> {
    let found = statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let known = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then(|| Born {
        time: Timespec {
            seconds: found.stx_btime.tv_sec,
            nanoseconds: found.stx_btime.tv_nsec,
        },
        handle: names::is_well_known(&root)
            .then(|| sys::file_handle(&root).ok())
            .flatten(),
    })
}

/// Some filesystems cannot do both in one step; there, a name that somebody
/// takes in between can be replaced if it is an empty directory.
fn rename_no_replace(directory: &OwnedFd, from: &[u8], to: &[u8]) -> Result<(), Cause> {
    match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {}
        result => return result.map_err(named("renameat2")),
    }
    match statat(directory, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(directory, from, directory, to).map_err(named("renameat")),
        Ok(_) => Err(Cause::system("renameat", Errno::EXIST)),
        Err(errno) => Err(Cause::system("fstatat", errno)),
    }
}

/// Makes the names in a directory durable; all of the filesystem where it
/// knows no fsync(2) for directories.
fn flush(directory: impl AsFd) -> Result<(), Cause> {
    match fsync(&directory) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            syncfs(directory).map_err(named("syncfs"))
        }
        result => result.map_err(named("fsync")),
    }
}
