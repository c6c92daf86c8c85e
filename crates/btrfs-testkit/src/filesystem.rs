//! Btrfs filesystems in image files, mounted through loop devices.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use tempfile::TempDir;

use crate::namespace::scratch_dir;
use crate::tool;

/// A btrfs of its own: image file, loop device and a mount of its top level.
///
/// Dropping it unmounts it and removes the image; further [`Mount`]s of it
/// keep image and device until they are dropped too.
#[derive(Debug)]
pub struct LoopFilesystem {
    // Dropped before the image that lies below it.
    top: Mount,
    image: Arc<Image>,
    device: PathBuf,
}

/// How a [`LoopFilesystem`] is to be made.
#[derive(Clone, Debug)]
pub struct Builder {
    size: u64,
    block_group_tree: bool,
    mkfs: Vec<OsString>,
    mount_options: Vec<String>,
    directory: Option<PathBuf>,
    image: Option<PathBuf>,
    second: Option<Second>,
    direct_io: bool,
}

/// What a second device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    Mirror,
    Sprout,
}

/// Something mounted at a temporary directory, until dropped.
#[derive(Debug)]
pub struct Mount {
    point: Option<TempDir>,
    _image: Option<Arc<Image>>,
}

/// The image file, and the directory it is removed with.
#[derive(Debug)]
struct Image {
    path: PathBuf,
    second: Option<LoopDevice>,
    _directory: Option<TempDir>,
}

/// Detached when dropped, as soon as nothing uses it.
#[derive(Debug)]
struct LoopDevice(String);

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = tool::run("losetup", ["--detach", &self.0]);
    }
}

impl LoopFilesystem {
    /// A filesystem with the defaults of `mkfs.btrfs`, 1 GiB (sparse).
    #[expect(clippy::new_without_default, reason = "it makes a filesystem")]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts a choice of options.
    pub fn builder() -> Builder {
        Builder {
            size: 1 << 30,
            block_group_tree: false,
            mkfs: Vec::new(),
            mount_options: Vec::new(),
            directory: None,
            image: None,
            second: None,
            direct_io: false,
        }
    }

    /// Where the top level (subvolume 5) is mounted.
    pub fn path(&self) -> &Path {
        self.top.path()
    }

    /// The loop device, such as `/dev/loop0`.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The image file. `cp --reflink` of it is the disk at that instant.
    pub fn image(&self) -> &Path {
        &self.image.path
    }

    /// Mounts the filesystem once more, with options such as `subvol=a,ro`.
    pub fn mount(&self, options: &str) -> Mount {
        let attempt = Mount::at_new_point(Some(self.image.clone()), |point| {
            let arguments: [OsString; 7] = [
                "-n".into(),
                "-t".into(),
                "btrfs".into(),
                "-o".into(),
                if options.is_empty() { "rw" } else { options }.into(),
                self.device.clone().into(),
                point.into(),
            ];
            tool::run("mount", arguments).map(drop)
        });
        attempt.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Binds a directory of the filesystem to a mount point of its own.
    pub fn bind(&self, directory: &Path) -> Mount {
        Mount::bind(directory)
    }

    /// Writes everything out, as `btrfs filesystem sync` does.
    pub fn sync(&self) {
        tool::run(
            "btrfs",
            ["filesystem".as_ref(), "sync".as_ref(), self.path()],
        )
        .unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Builder {
    /// Sets the size of the image in bytes; btrfs wants about 110 MiB or more.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Sets the size of metadata nodes in bytes.
    pub fn nodesize(self, bytes: u32) -> Self {
        self.mkfs(["--nodesize", &bytes.to_string()])
    }

    /// Sets the size of sectors in bytes.
    pub fn sectorsize(self, bytes: u32) -> Self {
        self.mkfs(["--sectorsize", &bytes.to_string()])
    }

    /// Chooses features by the names `mkfs.btrfs -O` knows, `^` before those to leave out.
    pub fn features(self, features: &str) -> Self {
        self.mkfs(["--features", features])
    }

    /// Makes a block group tree, with the first `mkfs.btrfs` on the path that can.
    pub fn block_group_tree(mut self) -> Self {
        self.block_group_tree = true;
        self.features("block-group-tree")
    }

    /// Passes further arguments to `mkfs.btrfs`.
    pub fn mkfs<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.mkfs.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds mount options, such as `compress-force=zstd`.
    pub fn mount_options(mut self, options: &str) -> Self {
        self.mount_options.push(options.to_owned());
        self
    }

    /// Mirrors everything on a second device (RAID1).
    pub fn mirrored(mut self) -> Self {
        self.second = Some(Second::Mirror);
        self
    }

    /// Makes it a seed device, and adds a second device that takes what is
    /// written.
    pub fn sprouted(mut self) -> Self {
        self.second = Some(Second::Sprout);
        self
    }

    /// Puts the image into this directory instead of [`scratch_dir`], in a
    /// subdirectory that is removed with it.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Mounts an image that exists, such as a copy of another; nothing is
    /// formatted, and the file stays afterwards.
    pub fn existing_image(mut self, image: &Path) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    /// Has the loop device read and write the image without the page cache,
    /// many requests at once. The filesystem of the image must allow it.
    pub fn direct_io(mut self) -> Self {
        self.direct_io = true;
        self
    }

    /// Makes the filesystem.
    ///
    /// # Panics
    ///
    /// If it cannot be made or mounted.
    pub fn build(self) -> LoopFilesystem {
        self.try_build().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes the filesystem.
    ///
    /// # Errors
    ///
    /// What the failing program said.
    pub fn try_build(self) -> Result<LoopFilesystem, String> {
        let image = Arc::new(match &self.image {
            Some(path) => Image {
                path: path.clone(),
                second: None,
                _directory: None,
            },
            None => self.format()?,
        });
        let mut options = Vec::new();
        let mut what = image.path.clone().into_os_string();
        // The device goes with the mount, which is made before this is dropped.
        let mut _device = None;
        if self.direct_io {
            let arguments = ["--find", "--show", "--direct-io=on"].map(OsString::from);
            let device = attach(arguments, &image.path)?;
            what = (&device.0).into();
            _device = Some(device);
        } else {
            options.push("loop".to_owned());
        }
        options.extend(self.mount_options);
        if let (Some(Second::Mirror), Some(device)) = (self.second, &image.second) {
            options.push(format!("device={}", device.0));
        }
        let top = Mount::at_new_point(Some(image.clone()), |point| {
            let arguments: [OsString; 7] = [
                "-n".into(),
                "-t".into(),
                "btrfs".into(),
                "-o".into(),
                if options.is_empty() {
                    "rw".to_owned()
                } else {
                    options.join(",")
                }
                .into(),
                what.clone(),
                point.into(),
            ];
            // Before Linux 6.7, no copy of a filesystem is mounted while the filesystem
            // is, and a program that is just starting may have a descriptor of it.
            tool::run_past("File exists", "mount", &arguments)
        })?;
        if let (Some(Second::Sprout), Some(device)) = (self.second, &image.second) {
            let point = top.path().as_os_str();
            let add = ["device", "add", &device.0].map(OsString::from);
            tool::run("btrfs", add.into_iter().chain([point.to_owned()]))?;
            let remount = ["-o", "remount,rw"].map(OsString::from);
            tool::run("mount", remount.into_iter().chain([point.to_owned()]))?;
        }
        let device = device_of(top.path())?;
        Ok(LoopFilesystem { top, image, device })
    }

    /// Makes the image file.
    fn format(&self) -> Result<Image, String> {
        let parent = self.directory.as_deref().unwrap_or(scratch_dir());
        let directory = temporary_directory(parent, "image-")?;
        let file = |name| {
            let path = directory.path().join(name);
            std::fs::File::create_new(&path)
                .and_then(|file| file.set_len(self.size))
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        let path = file("image")?;
        let mut arguments: Vec<OsString> = vec!["--quiet".into()];
        arguments.extend(self.mkfs.iter().cloned());
        arguments.push(path.clone().into());
        let mut second = None;
        if let Some(purpose) = self.second {
            let device = attach(["--find", "--show"].map(OsString::from), &file("second")?)?;
            if purpose == Second::Mirror {
                arguments.push((&device.0).into());
                arguments.extend(["--data", "raid1", "--metadata", "raid1"].map(Into::into));
            }
            second = Some(device);
        }
        let mkfs = if self.block_group_tree {
            mkfs_with_block_group_tree()?
        } else {
            "mkfs.btrfs".into()
        };
        // mkfs.btrfs looks at every loop device, and one may be detached meanwhile.
        tool::run_past("cannot check mount status", mkfs, &arguments)?;
        if self.second == Some(Second::Sprout) {
            tool::run(
                "btrfstune",
                ["-S".into(), "1".into(), path.clone().into_os_string()],
            )?;
        }
        Ok(Image {
            path,
            second,
            _directory: Some(directory),
        })
    }
}

impl Mount {
    /// Binds `directory` to a mount point of its own.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn bind(directory: &Path) -> Self {
        let attempt = Self::at_new_point(None, |point| {
            mount_bind(directory, point).map_err(|error| error.to_string())
        });
        attempt.unwrap_or_else(|error| panic!("bind {}: {error}", directory.display()))
    }

    /// Mounts a tmpfs of `bytes` bytes, to have a filesystem that fills up.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn tmpfs(bytes: u64) -> Self {
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no NUL");
        let attempt = Self::at_new_point(None, |point| {
            mount(
                "tmpfs",
                point,
                "tmpfs",
                MountFlags::empty(),
                options.as_c_str(),
            )
            .map_err(|error| error.to_string())
        });
        attempt.unwrap_or_else(|error| panic!("tmpfs: {error}"))
    }

    /// Mounts an overlay: `lower`, and over that what is written, in `upper`. If these
    /// are on different filesystems, files have another `st_dev` than directories.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn overlay(lower: &Path, upper: &Path) -> Self {
        let [files, work] = ["files", "work"].map(|name| upper.join(name));
        for directory in [&files, &work] {
            std::fs::create_dir_all(directory).unwrap_or_else(|error| panic!("overlay: {error}"));
        }
        let [lower, files, work] = [lower, &files, &work].map(Path::display);
        let options = format!("lowerdir={lower},upperdir={files},workdir={work}");
        let options = std::ffi::CString::new(options).expect("no NUL");
        let attempt = Self::at_new_point(None, |point| {
            let flags = MountFlags::empty();
            mount("overlay", point, "overlay", flags, options.as_c_str())
                .map_err(|error| error.to_string())
        });
        attempt.unwrap_or_else(|error| panic!("overlay: {error}"))
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        self.point.as_ref().expect("set until dropped").path()
    }

    fn at_new_point(
        image: Option<Arc<Image>>,
        attach: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<Self, String> {
        let point = temporary_directory(scratch_dir(), "mount-")?;
        attach(point.path())?;
        Ok(Self {
            point: Some(point),
            _image: image,
        })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let Some(point) = self.point.take() else {
            return;
        };
        // A program started by another test may hold our descriptors between
        // its fork and exec; then the mount goes as soon as that is over.
        let gone = unmount(point.path(), UnmountFlags::NOFOLLOW)
            .or_else(|_| unmount(point.path(), UnmountFlags::DETACH));
        if gone.is_err() {
            // Removing the directory now would empty the filesystem.
            let _ = point.keep();
        }
    }
}

/// Attaches a file to a loop device.
fn attach<const N: usize>(options: [OsString; N], file: &Path) -> Result<LoopDevice, String> {
    let output = tool::run("losetup", options.into_iter().chain([file.into()]))?;
    let device = String::from_utf8_lossy(&output).trim().to_owned();
    Ok(LoopDevice(device))
}

/// The first `mkfs.btrfs` on the path that can make a block group tree; the
/// one that makes everything else may be older.
pub(crate) fn mkfs_with_block_group_tree() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|it| it.join("mkfs.btrfs"));
    let can = |program: &PathBuf| {
        let mut list = std::process::Command::new(program);
        // The list is on standard error.
        let output = list.args(["-O", "list-all"]).output();
        output.is_ok_and(|it| String::from_utf8_lossy(&it.stderr).contains("block-group-tree"))
    };
    programs
        .find(can)
        .ok_or_else(|| "no mkfs.btrfs on the path makes a block group tree".to_owned())
}

/// The device a mount point's filesystem lies on, from mountinfo.
fn device_of(point: &Path) -> Result<PathBuf, String> {
    let table =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let wanted = point.to_str().ok_or("mount point is not UTF-8")?;
    // The last mount on a point covers earlier ones.
    for line in table.lines().rev() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        if left.split(' ').nth(4) == Some(wanted) {
            let device = right.split(' ').nth(1);
            return device.map(PathBuf::from).ok_or_else(|| line.to_owned());
        }
    }
    Err(format!("{wanted} is not in mountinfo"))
}

fn temporary_directory(parent: &Path, prefix: &str) -> Result<TempDir, String> {
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
    made.map_err(|error| format!("{}: {error}", parent.display()))
}
