/*
 * Reads btrfs send streams, with a callback for each command.
 *
 * Made by cbindgen from the sources of btrfs-sendstream-c; a test compares.
 * MIT or Apache-2.0, as you like.
 */

#ifndef BTRFS_SENDSTREAM_H
#define BTRFS_SENDSTREAM_H

#include <stddef.h>
#include <stdint.h>

// A point in time.
struct bss_timespec {
  // Seconds since 1970.
  int64_t sec;
  // Nanoseconds to be added, below 1000000000.
  uint32_t nsec;
};

// A callback for each command; see `bss_read_send_stream`. One that is NULL
// is not called: the command is passed over.
//
// Each gets `user` as its last argument, and returns 0 or a negative errno.
// Strings end with NUL; they and everything else that is pointed to are valid
// until the callback returns. Paths are relative to the subvolume; they have
// no component `.` or `..` and no leading slash; "" is the subvolume itself.
// UUIDs have 16 bytes. Lengths and offsets are bytes. Pointers to data of no
// length are not NULL, and must not be read.
//
// Callbacks have to return: no longjmp, and no C++ exception.
struct bss_send_ops {
  // A new, empty subvolume; a full stream begins.
  int (*subvol)(const char *path, const uint8_t *uuid, uint64_t ctransid, void *user);
  // A writable snapshot of the parent; an incremental stream begins.
  int (*snapshot)(const char *path,
                  const uint8_t *uuid,
                  uint64_t ctransid,
                  const uint8_t *parent_uuid,
                  uint64_t parent_ctransid,
                  void *user);
  // A new regular file.
  int (*mkfile)(const char *path, void *user);
  // A new directory.
  int (*mkdir)(const char *path, void *user);
  // A new device. `mode` has type bits; `dev` is in the kernel's 32-bit
  // encoding.
  int (*mknod)(const char *path, uint64_t mode, uint64_t dev, void *user);
  // A new FIFO.
  int (*mkfifo)(const char *path, void *user);
  // A new socket.
  int (*mksock)(const char *path, void *user);
  // A new symbolic link that holds `target`.
  int (*symlink)(const char *path, const char *target, void *user);
  // A new name.
  int (*rename)(const char *from, const char *to, void *user);
  // A further name, `path`, for the file `existing`.
  int (*link)(const char *path, const char *existing, void *user);
  // Removes a name of anything but a directory.
  int (*unlink)(const char *path, void *user);
  // Removes an empty directory.
  int (*rmdir)(const char *path, void *user);
  // File data.
  int (*write)(const char *path, const void *data, uint64_t offset, uint64_t len, void *user);
  // File data by reference. If `clone_uuid` is the UUID of the stream's own
  // subvolume, the source is there.
  int (*clone)(const char *path,
               uint64_t offset,
               uint64_t len,
               const uint8_t *clone_uuid,
               uint64_t clone_ctransid,
               const char *clone_path,
               uint64_t clone_offset,
               void *user);
  // Creates or replaces an extended attribute.
  int (*set_xattr)(const char *path, const char *name, const void *data, size_t len, void *user);
  // Removes an extended attribute.
  int (*remove_xattr)(const char *path, const char *name, void *user);
  // Sets the size of a file.
  int (*truncate)(const char *path, uint64_t size, void *user);
  // Sets the permission bits.
  int (*chmod)(const char *path, uint64_t mode, void *user);
  // Sets the owner.
  int (*chown)(const char *path, uint64_t uid, uint64_t gid, void *user);
  // Sets the times of last access and change of content; that of the last
  // change of the inode is for information.
  int (*utimes)(const char *path,
                const struct bss_timespec *atime,
                const struct bss_timespec *mtime,
                const struct bss_timespec *ctime,
                void *user);
  // A range changed, in a stream without file data.
  int (*update_extent)(const char *path, uint64_t offset, uint64_t len, void *user);
  // Version 2: file data as the sender's disk holds it.
  int (*encoded_write)(const char *path,
                       const void *data,
                       uint64_t offset,
                       uint64_t len,
                       uint64_t unencoded_file_len,
                       uint64_t unencoded_len,
                       uint64_t unencoded_offset,
                       uint32_t compression,
                       uint32_t encryption,
                       void *user);
  // Version 2: fallocate(2), with its mode.
  int (*fallocate)(const char *path, uint32_t mode, uint64_t offset, uint64_t len, void *user);
  // Version 2: inode flags, BTRFS_INODE_*.
  int (*fileattr)(const char *path, uint64_t attr, void *user);
  // Version 3: turns a file into a verity file.
  int (*enable_verity)(const char *path,
                       uint8_t algorithm,
                       uint32_t block_size,
                       const void *salt,
                       size_t salt_len,
                       const void *signature,
                       size_t signature_len,
                       void *user);
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Reads a send stream from `fd` and calls back for each command.
//
// With `honor_end_cmd` not 0, reading stops right behind the first END, and
// the next call goes on with the stream that follows. Otherwise everything to
// the end of the input is read.
//
// A callback that returns anything but 0 has failed. After `max_errors`
// failures reading stops; 0 means never.
//
// Returns 0 if everything was read and no callback failed; 1 if the input was
// at its end before a stream began; else a negative errno: the first that a
// callback returned (a positive one counts as its negative), that of a failed
// read, -EOPNOTSUPP for a version or command that is not known, -EMSGSIZE for
// a command that is too long, -EINVAL for a stream that is damaged, was cut,
// or is none. Damage ends the call whatever `max_errors` is.
//
// The stream is checked as it is read; a callback may have been called for
// what comes before damage. A stream is whole only if 0 is returned.
//
// Memory: one command, of at most 16 MiB, and half a MiB. Threads may call
// this at the same time, with descriptors of their own.
//
// A mistake in the library itself ends the call with -EIO.
//
// # Safety
// `ops` is NULL, or points to callbacks with the types of the header, which
// are not changed while this runs. `fd` stays open, or was never open.
int bss_read_send_stream(int fd,
                         const struct bss_send_ops *ops,
                         void *user,
                         int honor_end_cmd,
                         uint64_t max_errors);

// Says in words what the last call on this thread that did not return 0 met:
// stream, command and byte, and what is wrong there. Never NULL; valid until
// the next call on this thread.
const char *bss_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BTRFS_SENDSTREAM_H */
