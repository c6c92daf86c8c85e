//! The set is up to date, and the runner notices what it has to notice.

mod runner;
mod set;
