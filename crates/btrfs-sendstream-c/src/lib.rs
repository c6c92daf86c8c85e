//! A C interface to [`btrfs_sendstream`]: a callback for each command of a
//! btrfs send stream.
//!
//! ```c
//! #include <btrfs-sendstream.h>
//! #include <stdio.h>
//!
//! static int on_write(const char *path, const void *data, uint64_t offset,
//!                     uint64_t len, void *user)
//! {
//!     printf("%s: %llu bytes\n", path, (unsigned long long)len);
//!     return 0;
//! }
//!
//! int main(void)
//! {
//!     struct bss_send_ops ops = { .write = on_write };
//!     int ret = bss_read_send_stream(0, &ops, NULL, 0, 1);
//!     if (ret < 0)
//!         fprintf(stderr, "%s\n", bss_last_error());
//!     return ret != 0;
//! }
//! ```
//!
//! The README of the crate has the table for programs that come from libbtrfs.
//!
//! Unsafe code is in the module `sys` alone. What it needs of the C program
//! stands with each function: a table of callbacks with the types of the
//! header, and callbacks that return in the ordinary way. A panic never
//! crosses into C: it ends the call with `-EIO`.

mod errno;
mod input;
mod ops;
mod sys;

pub use ops::{bss_send_ops, bss_timespec};
pub use sys::{bss_last_error, bss_read_send_stream};
