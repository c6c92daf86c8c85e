//! The command as its users see it.

mod cat_file;
mod command;
mod dump;
mod hostile;
mod index;
mod json;
mod list;
mod streams;
mod verify;
