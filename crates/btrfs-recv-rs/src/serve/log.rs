//! Who asked for what: a line for the system log, or for a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where the system log listens.
const SYSLOG: &str = "/dev/log";

/// Facility auth, severity info, as RFC 3164 encodes them.
const PRIORITY: u8 = 4 * 8 + 6;

/// The log. Opened before the sandbox, in which it cannot be opened.
pub(super) struct Log {
    to: Option<To>,
    /// Before each line.
    who: String,
}

enum To {
    System(UnixDatagram),
    File(std::fs::File),
}

impl Log {
    /// Opens `path`, a socket or a file to append to, or the system log if there
    /// is one.
    ///
    /// # Errors
    /// `path` cannot be opened.
    pub(super) fn open(path: Option<&Path>, who: &str) -> io::Result<Self> {
        let to = match path {
            None => connect(SYSLOG.as_ref()).ok(),
            Some(path) => Some(open(path)?),
        };
        let peer = std::env::var_os("SSH_CONNECTION").unwrap_or_default();
        // Address and port of the client come first.
        let peer = peer.to_string_lossy();
        let mut peer = peer.split(' ');
        let (address, port) = (peer.next().unwrap_or_default(), peer.next());
        let who = format!(
            "{} from {} port {}",
            quoted(who.as_bytes()),
            quoted(address.as_bytes()),
            quoted(port.unwrap_or_default().as_bytes())
        );
        Ok(Self { to, who })
    }

    /// Writes a line. What the other side sent is in it as `request`; it cannot
    /// make up another line.
    pub(super) fn line(&mut self, what: &str, request: &[u8]) {
        let line = format!(
            "btrfs-recv-rs[{}]: {}: {what}: {}",
            std::process::id(),
            self.who,
            quoted(request)
        );
        // Nobody is there who could be told.
        let _ = match &mut self.to {
            Some(To::System(socket)) => socket
                .send(format!("<{PRIORITY}>{line}").as_bytes())
                .map(drop),
            Some(To::File(file)) => file.write_all(format!("{line}\n").as_bytes()),
            None => Ok(()),
        };
    }
}

fn open(path: &Path) -> io::Result<To> {
    if std::fs::metadata(path).is_ok_and(|facts| facts.file_type().is_socket()) {
        return connect(path);
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    Ok(To::File(file))
}

fn connect(path: &Path) -> io::Result<To> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    // A log that does not read must not stop a receive.
    socket.set_nonblocking(true)?;
    Ok(To::System(socket))
}

/// In quotes, with everything else than plain ASCII escaped; not longer than a
/// line of the log should be.
fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 512;
    let shown = bytes.get(..LONGEST).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}
