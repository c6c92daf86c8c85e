//! A C interface to [`btrfs_receive`]: receives streams into a mounted btrfs.
//!
//! ```c
//! #include <btrfs-receive.h>
//! #include <stdio.h>
//!
//! int main(void)
//! {
//!     struct brecv *receiver = brecv_new();
//!     enum brecv_code code = brecv_open(receiver, "/backup");
//!     if (code == BRECV_OK)
//!         code = brecv_receive_fd(receiver, 0);
//!     if (code != BRECV_OK)
//!         fprintf(stderr, "%s\n", brecv_last_error(receiver)->message);
//!     brecv_free(receiver);
//!     return code != BRECV_OK;
//! }
//! ```
//!
//! The README of the crate lists the options, and has the rules for memory and
//! threads.
//!
//! Unsafe code is in the module `sys` alone. What it needs of the C program
//! stands with each function. A panic never crosses into C: it ends the call
//! with `BRECV_BUG`.

mod fault;
mod handle;
mod input;
mod options;
mod push;
mod receive;
mod sources;
mod sys;
mod types;

pub use handle::brecv;
pub use sys::{
    brecv_cancel, brecv_finish, brecv_free, brecv_inventory, brecv_last_error, brecv_new,
    brecv_on_event, brecv_open, brecv_open_fd, brecv_plan, brecv_receive_fd, brecv_resolve,
    brecv_result, brecv_set, brecv_version, brecv_write,
};
pub use types::{brecv_code, brecv_error};
