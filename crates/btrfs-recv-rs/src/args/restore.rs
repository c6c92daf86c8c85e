//! The options that make a received subvolume usable.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use btrfs_sendstream::SubvolumeName;

use super::UsageError;
use super::id::Id;
use super::option::{Hint, Mode, Opt};

/// The modes that receive into a btrfs.
const MODES: &[Mode] = &[Mode::Receive, Mode::Chain];

/// The options, in the order of `--help`.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::new(
        Id::Writable,
        "writable",
        "when all is received, take a writable snapshot NAME of the last subvolume",
    )
    .value("NAME", Hint::Nothing)
    .modes(MODES)
    .manual(
        "When everything in the input is complete, take a writable snapshot of the last subvolume, \
         as <NAME> in <PATH>. It has no received UUID and shares all data with the received \
         subvolume, which stays read-only, so that it can be the parent of the next one. \
         <NAME> must be free; that is checked before anything is received, too. If the snapshot \
         fails, the exit status is 1, and the received subvolumes stay complete.",
    ),
    Opt::new(
        Id::Replace,
        "replace",
        "as --writable, in the place of the subvolume NAME, which becomes NAME.old",
    )
    .value("NAME", Hint::Nothing)
    .modes(MODES)
    .manual(
        "As `--writable`, but if <PATH> has a subvolume <NAME>, the snapshot takes its place: both \
         exchange their names in one rename, and the old subvolume becomes <NAME>`.old`. \
         At any moment, even after a power failure, <NAME> is the old subvolume or the complete \
         new one.\n\
         Programs that have files of the old subvolume open, or directories of it as their \
         working directory, go on using the old one, as does a mount of it: stop them before and \
         mount it again afterwards. The default subvolume of the filesystem (`btrfs subvolume \
         set-default`) stays the same. A subvolume that contains others is not replaced, nor is a \
         mount point, a file or a plain directory.\n\
         If the command is killed, a subvolume <NAME>`.restoring-` with 16 digits may be left: \
         the new one, or if <NAME> is the new one, the old one. It is reported the next time.",
    ),
    Opt::new(
        Id::KeepOld,
        "keep-old",
        "with --replace, rename the old subvolume to NAME instead of NAME.old",
    )
    .value("NAME", Hint::Nothing)
    .modes(MODES)
    .manual("With `--replace`, rename the old subvolume to <NAME>, which must be free."),
    Opt::new(
        Id::DeleteOld,
        "delete-old",
        "with --replace, delete the old subvolume when the new one has its name",
    )
    .modes(MODES)
    .manual(
        "With `--replace`, delete the old subvolume when the new one has its name on disk. \
         A read-only subvolume is not deleted, nor one that is mounted, as far as the mounts are \
         in the same mount namespace. Needs Linux 5.7, and CAP_SYS_ADMIN or the mount option \
         user_subvol_rm_allowed.",
    ),
];

/// What to make of the last subvolume that is received.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Restore {
    /// A writable snapshot with a name that has to be free.
    pub(crate) writable: Option<SubvolumeName>,
    /// A writable snapshot with a name that another subvolume may have.
    pub(crate) replace: Option<SubvolumeName>,
    /// What the other subvolume is called then.
    pub(crate) keep_old: Option<SubvolumeName>,
    /// Whether the other subvolume is deleted.
    pub(crate) delete_old: bool,
}

impl Restore {
    pub(super) fn writable(&mut self, value: OsString) -> Result<(), UsageError> {
        self.writable = Some(name("--writable", value)?);
        Ok(())
    }

    pub(super) fn replace(&mut self, value: OsString) -> Result<(), UsageError> {
        self.replace = Some(name("--replace", value)?);
        Ok(())
    }

    pub(super) fn keep_old(&mut self, value: OsString) -> Result<(), UsageError> {
        self.keep_old = Some(name("--keep-old", value)?);
        Ok(())
    }

    /// The name of the old subvolume, if another one takes its place.
    pub(crate) fn old_name(&self) -> Option<SubvolumeName> {
        let replace = self.replace.as_ref()?;
        let appended = || {
            let name = [replace.as_bytes(), b".old"].concat();
            SubvolumeName::parse(name.into()).ok()
        };
        self.keep_old.clone().or_else(appended)
    }

    /// Whether the options go together, with `--name`, too.
    pub(super) fn check(&self, received: Option<&SubvolumeName>) -> Result<(), UsageError> {
        let Self {
            writable,
            replace,
            keep_old,
            delete_old,
        } = self;
        if writable.is_some() && replace.is_some() {
            return Err(UsageError::Together("--writable", "--replace"));
        }
        if keep_old.is_some() && *delete_old {
            return Err(UsageError::Together("--keep-old", "--delete-old"));
        }
        if replace.is_none() && (keep_old.is_some() || *delete_old) {
            let option = if *delete_old {
                "--delete-old"
            } else {
                "--keep-old"
            };
            return Err(UsageError::Needs(option, "--replace"));
        }
        for (option, name) in [("--writable", writable), ("--replace", replace)] {
            if let Some(name) = name
                && received == Some(name)
            {
                let why = "--name gives this name to the received subvolume";
                return Err(unusable(option, name, why));
            }
        }
        if let Some(replace) = replace
            && !delete_old
        {
            match self.old_name() {
                None => {
                    let why = "with .old appended it is too long; use --keep-old";
                    return Err(unusable("--replace", replace, why));
                }
                Some(old) if old == *replace || received == Some(&old) => {
                    let why = "another subvolume is to have this name";
                    return Err(unusable("--keep-old", &old, why));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn name(option: &'static str, value: OsString) -> Result<SubvolumeName, UsageError> {
    SubvolumeName::parse(value.clone().into_vec().into())
        .map_err(|error| UsageError::unusable(option, value, error))
}

fn unusable(option: &'static str, name: &SubvolumeName, why: &str) -> UsageError {
    UsageError::unusable(option, OsString::from_vec(name.as_bytes().to_vec()), why)
}

#[cfg(test)]
mod tests {
    use super::super::{Request, parse};

    fn refused(line: &str) -> Option<String> {
        let line = line.split(' ').map(Into::into);
        parse(line, false).err().map(|error| error.to_string())
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        let long = "x".repeat(252);
        for (options, why) in [
            ("--writable=a --replace=b", "cannot be used together"),
            (
                "--replace=a --keep-old=b --delete-old",
                "cannot be used together",
            ),
            ("--keep-old=a", "--keep-old needs --replace"),
            ("--delete-old --writable=a", "--delete-old needs --replace"),
            ("--writable=a --name=a", "--name gives this name"),
            ("--replace=a --name=a", "--name gives this name"),
            ("--replace=a --keep-old=a", "another subvolume"),
            ("--replace=a --name=a.old", "another subvolume"),
            ("--writable=a/b", "--writable"),
            ("--replace=..", "--replace"),
            (&format!("--replace={long}"), "use --keep-old"),
            ("--dry-run --writable=a", "cannot be used with"),
            ("--extract --replace=a", "cannot be used with"),
        ] {
            let error = refused(&format!("x {options} PATH")).unwrap();
            assert!(error.contains(why), "{options}: {error}");
        }
        let deleted = format!("x --replace={long} --delete-old PATH");
        assert_eq!(refused(&deleted), None);
    }

    #[test]
    fn the_old_subvolume_has_a_name() {
        let old = |line: &str| match parse(line.split(' ').map(Into::into), false) {
            Ok(Request::Receive(receive)) => receive.restore.old_name().unwrap().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(old("x --replace=a PATH"), "a.old");
        assert_eq!(old("x --replace=a --keep-old=b PATH"), "b");
    }
}
