//! What receives: an ordinary receiver, or one with something of its own.

use btrfs_receive::resume::ResumableReceiver;
use btrfs_receive::{Destination, ReceiveError, Receiver, Report};

use crate::input::Source;
use crate::messages::Messages;

/// What takes an input and applies it.
pub(crate) trait Receives {
    /// Applies everything that `input` holds.
    fn receive(
        &mut self,
        input: &mut dyn Source,
        messages: &mut Messages,
    ) -> Result<Report, ReceiveError>;
}

impl<D: Destination> Receives for Receiver<D> {
    fn receive(
        &mut self,
        input: &mut dyn Source,
        messages: &mut Messages,
    ) -> Result<Report, ReceiveError> {
        Receiver::receive(self, input, messages)
    }
}

impl Receives for ResumableReceiver {
    fn receive(
        &mut self,
        input: &mut dyn Source,
        messages: &mut Messages,
    ) -> Result<Report, ReceiveError> {
        // Goes back to the beginning if need be.
        self.receive_file(input, messages)
    }
}
