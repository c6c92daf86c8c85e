//! The command as its users see it.

mod command;
mod dump;
mod hostile;
mod json;
mod list;
mod verify;
