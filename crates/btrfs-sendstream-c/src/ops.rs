//! The types that C programs share with this library.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};

/// A point in time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct bss_timespec {
    /// Seconds since 1970.
    pub sec: i64,
    /// Nanoseconds to be added, below 1000000000.
    pub nsec: u32,
}

/// A callback for each command; see `bss_read_send_stream`. One that is NULL
/// is not called: the command is passed over.
///
/// Each gets `user` as its last argument, and returns 0 or a negative errno.
/// Strings end with NUL; they and everything else that is pointed to are valid
/// until the callback returns. Paths are relative to the subvolume; they have
/// no component `.` or `..` and no leading slash; "" is the subvolume itself.
/// UUIDs have 16 bytes. Lengths and offsets are bytes. Pointers to data of no
/// length are not NULL, and must not be read.
///
/// Callbacks have to return: no longjmp, and no C++ exception.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct bss_send_ops {
    /// A new, empty subvolume; a full stream begins.
    pub subvol: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            uuid: *const u8,
            ctransid: u64,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// A writable snapshot of the parent; an incremental stream begins.
    pub snapshot: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            uuid: *const u8,
            ctransid: u64,
            parent_uuid: *const u8,
            parent_ctransid: u64,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// A new regular file.
    pub mkfile: Option<unsafe extern "C" fn(path: *const c_char, user: *mut c_void) -> c_int>,
    /// A new directory.
    pub mkdir: Option<unsafe extern "C" fn(path: *const c_char, user: *mut c_void) -> c_int>,
    /// A new device. `mode` has type bits; `dev` is in the kernel's 32-bit
    /// encoding.
    pub mknod: Option<
        unsafe extern "C" fn(path: *const c_char, mode: u64, dev: u64, user: *mut c_void) -> c_int,
    >,
    /// A new FIFO.
    pub mkfifo: Option<unsafe extern "C" fn(path: *const c_char, user: *mut c_void) -> c_int>,
    /// A new socket.
    pub mksock: Option<unsafe extern "C" fn(path: *const c_char, user: *mut c_void) -> c_int>,
    /// A new symbolic link that holds `target`.
    pub symlink: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            target: *const c_char,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// A new name.
    pub rename: Option<
        unsafe extern "C" fn(from: *const c_char, to: *const c_char, user: *mut c_void) -> c_int,
    >,
    /// A further name, `path`, for the file `existing`.
    pub link: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            existing: *const c_char,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// Removes a name of anything but a directory.
    pub unlink: Option<unsafe extern "C" fn(path: *const c_char, user: *mut c_void) -> c_int>,
    /// Removes an empty directory.
    pub rmdir: Option<unsafe extern "C" fn(path: *const c_char, user: *mut c_void) -> c_int>,
    /// File data.
    pub write: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            data: *const c_void,
            offset: u64,
            len: u64,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// File data by reference. If `clone_uuid` is the UUID of the stream's own
    /// subvolume, the source is there.
    pub clone: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            offset: u64,
            len: u64,
            clone_uuid: *const u8,
            clone_ctransid: u64,
            clone_path: *const c_char,
            clone_offset: u64,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// Creates or replaces an extended attribute.
    pub set_xattr: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            name: *const c_char,
            data: *const c_void,
            len: usize,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// Removes an extended attribute.
    pub remove_xattr: Option<
        unsafe extern "C" fn(path: *const c_char, name: *const c_char, user: *mut c_void) -> c_int,
    >,
    /// Sets the size of a file.
    pub truncate:
        Option<unsafe extern "C" fn(path: *const c_char, size: u64, user: *mut c_void) -> c_int>,
    /// Sets the permission bits.
    pub chmod:
        Option<unsafe extern "C" fn(path: *const c_char, mode: u64, user: *mut c_void) -> c_int>,
    /// Sets the owner.
    pub chown: Option<
        unsafe extern "C" fn(path: *const c_char, uid: u64, gid: u64, user: *mut c_void) -> c_int,
    >,
    /// Sets the times of last access and change of content; that of the last
    /// change of the inode is for information.
    pub utimes: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            atime: *const bss_timespec,
            mtime: *const bss_timespec,
            ctime: *const bss_timespec,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// A range changed, in a stream without file data.
    pub update_extent: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            offset: u64,
            len: u64,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// Version 2: file data as the sender's disk holds it.
    pub encoded_write: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            data: *const c_void,
            offset: u64,
            len: u64,
            unencoded_file_len: u64,
            unencoded_len: u64,
            unencoded_offset: u64,
            compression: u32,
            encryption: u32,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// Version 2: fallocate(2), with its mode.
    pub fallocate: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            mode: u32,
            offset: u64,
            len: u64,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// Version 2: inode flags, BTRFS_INODE_*.
    pub fileattr:
        Option<unsafe extern "C" fn(path: *const c_char, attr: u64, user: *mut c_void) -> c_int>,
    /// Version 3: turns a file into a verity file.
    pub enable_verity: Option<
        unsafe extern "C" fn(
            path: *const c_char,
            algorithm: u8,
            block_size: u32,
            salt: *const c_void,
            salt_len: usize,
            signature: *const c_void,
            signature_len: usize,
            user: *mut c_void,
        ) -> c_int,
    >,
}
