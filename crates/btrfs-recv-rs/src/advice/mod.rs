//! Advice: the likely cause of an error, and what to do next.

mod failure;
mod input;
mod resume;
mod source;
mod space;

use std::borrow::Cow;

use rustix::thread::{CapabilitySet, capabilities};

pub(crate) use failure::on_failure;
pub(crate) use input::on_stream_error;
pub(crate) use resume::on_resume;

/// What an error does not say by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The likely cause, unless the error states it.
    pub(crate) likely: Option<Cow<'static, str>>,
    /// What to do next.
    pub(crate) to_do: Cow<'static, str>,
}

impl Advice {
    fn new(likely: impl Into<Cow<'static, str>>, to_do: impl Into<Cow<'static, str>>) -> Self {
        Self {
            likely: Some(likely.into()),
            to_do: to_do.into(),
        }
    }

    fn to_do(to_do: impl Into<Cow<'static, str>>) -> Self {
        Self {
            likely: None,
            to_do: to_do.into(),
        }
    }
}

/// Whether this process is known to have a capability.
pub(crate) fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}
