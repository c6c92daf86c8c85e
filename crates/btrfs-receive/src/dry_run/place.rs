//! The destination: which names are free, and how data would be stored.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use btrfs_sendstream::inspect::{Kernel, Needs, VerifyReport};
use btrfs_sendstream::{Compression, EnableVerity, EncodedWrite};
use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, accessat, fstatvfs, openat, statat,
};
use rustix::io::Errno;
use rustix::param::page_size;
use rustix::thread::CapabilitySet;

use super::rights::Rights;
use super::{Forecast, Space};
use crate::destination::btrfs::{Naming, or_the_same, taken};
use crate::error::{Cause, OpenError, named};
use crate::kernel::running_kernel;
use crate::plan::op::NewSubvolume;
use btrfs_ioctl as sys;

/// Longest extent that the kernel takes compressed, in bytes.
const MAX_EXTENT: u64 = 128 * 1024;

/// The destination of a dry run.
#[derive(Debug)]
pub struct Place {
    pub(super) fd: OwnedFd,
    sector_size: u32,
    pub(super) node_size: u32,
    kernel: Option<Kernel>,
    /// Whether the kernel has fs-verity on btrfs, if that can be found out.
    verity: Option<bool>,
    pub(super) rights: Rights,
    force_decompress: bool,
    naming: Naming,
}

/// Why a compressed extent would be decompressed before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DecodeReason {
    /// The options ask for it.
    Asked,
    /// The kernel is older than 5.18.
    Kernel,
    /// A capability is missing, `CAP_SYS_ADMIN` or `CAP_DAC_READ_SEARCH`.
    Capability(&'static str),
    /// It is LZO with this sector size, in bytes, which is not that of the
    /// filesystem.
    SectorSize(u32),
    /// It is not aligned to the sectors of the filesystem.
    Alignment,
    /// It is not smaller than its decoded data, not compressed, or longer than
    /// an extent can be.
    Shape,
}

impl fmt::Display for DecodeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("because of the options"),
            Self::Kernel => f.write_str("because kernels before 5.18 do not store them"),
            Self::Capability(name) => write!(f, "because {name} is missing"),
            Self::SectorSize(size) => write!(f, "because they are LZO with {size}-byte sectors"),
            Self::Alignment => {
                f.write_str("because they are not aligned to the sectors of this filesystem")
            }
            Self::Shape => f.write_str("because the kernel does not store extents of this shape"),
        }
    }
}

/// `FS_VERITY_MAX_SIGNATURE_SIZE`, the salt of `struct fsverity_descriptor`, and
/// the smallest block (`fs/verity` of the kernel).
const MAX_SIGNATURE: usize = 16_128;
const MAX_SALT: usize = 32;
const MIN_VERITY_BLOCK: usize = 1024;

impl Place {
    pub(super) fn open(
        directory: &Path,
        force_decompress: bool,
        atomic: bool,
    ) -> Result<Self, OpenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, directory, flags, Mode::empty())
            .map_err(|errno| OpenError::new("open", directory, errno))?;
        let info = sys::fs_info(&fd).map_err(|errno| match errno {
            Errno::NOTTY => OpenError::not_btrfs(directory),
            errno => OpenError::new("BTRFS_IOC_FS_INFO", directory, errno),
        })?;
        Ok(Self {
            fd,
            sector_size: info.sector_size,
            node_size: info.node_size,
            kernel: running_kernel(),
            verity: has_verity(),
            rights: Rights::of_process(),
            force_decompress,
            naming: Naming { atomic },
        })
    }

    /// Returns the sector size of the filesystem in bytes.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Returns the version of the running kernel, if it is known.
    pub fn kernel(&self) -> Option<Kernel> {
        self.kernel
    }

    /// Whether a subvolume could be given its name, if that comes last.
    pub(super) fn check_final_name(&self, new: &NewSubvolume) -> Result<(), Cause> {
        self.naming.check(&self.fd, new)
    }

    /// What a receive says if `cause` is in the way of `new`.
    pub(super) fn or_the_same(&self, new: &NewSubvolume, cause: Cause) -> Cause {
        or_the_same(&self.fd, new, cause)
    }

    /// Whether a subvolume could be created, as far as can be told without
    /// doing it.
    pub(super) fn check_creation(&self, new: &NewSubvolume) -> Result<(), Cause> {
        // The private directory comes first.
        let call = "mkdirat";
        let name = self.naming.while_built(new);
        let name = name.as_bytes();
        if statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(taken(&self.fd, name, new));
        }
        let mount = fstatvfs(&self.fd).map_err(|errno| Cause::system("fstatvfs", errno))?;
        let around = sys::subvolume_info(&self.fd).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?;
        if mount.f_flag.contains(StatVfsMountFlags::RDONLY) || around.read_only {
            return Err(Cause::system(call, Errno::ROFS));
        }
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        accessat(&self.fd, c".", wanted, AtFlags::EACCESS)
            .map_err(|errno| Cause::system(call, errno))
    }

    /// What a receive would say to a command that enables fs-verity; `None` if
    /// nothing is known to speak against it. Whether the kernel takes a
    /// signature depends on its keyring.
    pub(super) fn refuses_verity(&self, verity: &EnableVerity) -> Option<Cause> {
        let refused = |errno| Some(Cause::system("FS_IOC_ENABLE_VERITY", errno));
        if !self.verity? {
            // Since 5.15 the kernel knows the ioctl, and can be built without
            // what it does.
            return refused(match self.kernel {
                Some(kernel) if kernel < Needs::VERITY => Errno::NOTTY,
                _ => Errno::OPNOTSUPP,
            });
        }
        if verity.salt.len() > MAX_SALT || verity.signature.len() > MAX_SIGNATURE {
            return refused(Errno::MSGSIZE);
        }
        let page = page_size();
        let largest = page.min(self.sector_size as usize);
        let smallest = match self.kernel {
            Some(kernel) if kernel < Needs::SMALL_VERITY_BLOCKS => page,
            _ => MIN_VERITY_BLOCK,
        };
        let block = verity.block_size as usize;
        if !block.is_power_of_two() || !(smallest..=largest).contains(&block) {
            return refused(Errno::INVAL);
        }
        None
    }

    /// Why an encoded write would be decoded; `None` if the kernel would take
    /// it as it is.
    pub(super) fn why_decoded<B: AsRef<[u8]>>(
        &self,
        write: &EncodedWrite<B>,
    ) -> Option<DecodeReason> {
        let sector = u64::from(self.sector_size);
        let aligned = |at: u64| at.is_multiple_of(sector.max(1));
        let compression = Compression::from_number(write.compression.unwrap_or(0));
        if self.force_decompress {
            Some(DecodeReason::Asked)
        } else if self
            .kernel
            .is_some_and(|kernel| kernel < Needs::ENCODED_WRITE)
        {
            Some(DecodeReason::Kernel)
        } else if !self.rights.has_globally(CapabilitySet::SYS_ADMIN) {
            Some(DecodeReason::Capability("CAP_SYS_ADMIN"))
        } else if !self.rights.has_globally(CapabilitySet::DAC_READ_SEARCH) {
            // Without it nobody could make sure that the data reached the
            // disk.
            Some(DecodeReason::Capability("CAP_DAC_READ_SEARCH"))
        } else if let Some(Compression::Lzo { sector_size }) = compression
            && sector_size != self.sector_size
        {
            Some(DecodeReason::SectorSize(sector_size))
        } else if !aligned(write.offset) || !aligned(write.unencoded_offset) {
            Some(DecodeReason::Alignment)
        } else if matches!(compression, None | Some(Compression::None))
            || write.unencoded_len > MAX_EXTENT
            || write.data.as_ref().len() as u64 >= write.unencoded_len
        {
            Some(DecodeReason::Shape)
        } else {
            None
        }
    }

    pub(super) fn space(&self, stream: &VerifyReport, forecasts: &[Forecast]) -> Space {
        let subvolumes = stream.subvolumes.iter().zip(forecasts);
        let needed = subvolumes.map(|(subvolume, forecast)| {
            let sector = u64::from(self.sector_size);
            super::space::needed(subvolume, forecast.stored, sector)
        });
        let available = fstatvfs(&self.fd).ok();
        Space {
            needed: needed.fold(0, u64::saturating_add),
            available: available.map(|it| it.f_bavail.saturating_mul(it.f_frsize)),
        }
    }
}

/// What the kernel lists that its btrfs can do (`btrfs(5)`, since 5.5 without a
/// mount).
fn has_verity() -> Option<bool> {
    let features = Path::new("/sys/fs/btrfs/features");
    let is_listed = features.is_dir();
    is_listed.then(|| features.join("verity").exists())
}
