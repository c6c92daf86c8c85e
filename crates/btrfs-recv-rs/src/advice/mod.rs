//! Likely causes, and what to do next: for the reader of an error who did
//! not expect one.

mod failure;
mod input;

use std::borrow::Cow;

use rustix::thread::{CapabilitySet, capabilities};

pub(crate) use failure::{on_failure, on_resume};
pub(crate) use input::on_stream_error;

/// What an error does not say by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The likely cause.
    pub(crate) likely: Cow<'static, str>,
    /// What to do next.
    pub(crate) to_do: Cow<'static, str>,
}

impl Advice {
    fn new(likely: impl Into<Cow<'static, str>>, to_do: impl Into<Cow<'static, str>>) -> Self {
        Self {
            likely: likely.into(),
            to_do: to_do.into(),
        }
    }
}

/// Whether this process is known to have a capability.
pub(crate) fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}
