//! The command where no btrfs is needed.

mod command_line;
mod dump;
mod extract;
mod only;
