//! The document that carries a digest from one host to another.

use std::fmt;
use std::io::{self, BufRead};

use btrfs_sendstream::SourceId;
use btrfs_sendstream::serial::{Text, permissions};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

use super::sha::Sha;

/// The version of the serialisation, which the digest depends on.
pub const FORMAT: u32 = 1;

/// A digest, and which subvolume it is of. In JSON, `docs/json.md` of the
/// repository describes the keys.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct DigestDocument {
    /// The version of the serialisation: [`FORMAT`].
    pub format: u32,
    /// The digest.
    pub sha256: Sha,
    /// The subvolume's UUID.
    pub uuid: Uuid,
    /// Its received UUID, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_uuid: Option<Uuid>,
    /// Transaction of its last change, on its filesystem.
    pub ctransid: u64,
    /// If it has a received UUID: ctransid on the filesystem it was received
    /// from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stransid: Option<u64>,
    /// Whether it was read-only when it was read.
    pub read_only: bool,
    /// What send writes into a stream of it, and so what a copy has to be
    /// marked as received with to be a parent: the received UUID if it has one,
    /// else its UUID; and its ctransid.
    pub sent_as: SentAs,
    /// Names in it, hard links among them.
    pub names: u64,
    /// Subvolumes in it. They are not sent and not part of the digest.
    pub nested_subvolumes: u64,
    /// Everything in it, each directory directly before what it holds, and
    /// names in the order of their bytes; with [`DigestOptions::tree`](super::DigestOptions::tree).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Vec<TreeEntry>>,
}

/// How a stream names a subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SentAs {
    /// The UUID.
    pub uuid: Uuid,
    /// The transaction id beside it.
    pub ctransid: u64,
}

impl From<SourceId> for SentAs {
    fn from(id: SourceId) -> Self {
        Self {
            uuid: id.uuid,
            ctransid: id.ctransid,
        }
    }
}

/// A file, directory or other inode by one of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct TreeEntry {
    /// Relative to the root of the subvolume; empty for the root.
    pub path: Name,
    /// What it is.
    pub kind: Kind,
    /// The digest of the inode; of a directory, with everything in it.
    pub sha256: Sha,
    /// Permission bits with set-id and sticky bits; 0 for symbolic links.
    #[serde(serialize_with = "permissions", deserialize_with = "octal")]
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Names of the inode; 1 for directories.
    pub links: u64,
    /// The first path of the same inode, if this is not it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<Name>,
    /// Size of a file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The digest of the content of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Sha>,
    /// Target of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// Number of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Extended attributes, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<Attribute>,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attribute {
    /// Its name.
    pub name: Name,
    /// The digest of its value.
    pub sha256: Sha,
}

/// The number of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// The driver's part.
    pub major: u32,
    /// The driver's own number.
    pub minor: u32,
}

/// The kinds of inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
        })
    }
}

/// A time: seconds since 1970, rounded down, and nanoseconds after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanoseconds)
    }
}

/// Bytes that are text as a rule: in JSON a string if they are UTF-8, else an
/// object with the hexadecimal digits, `{"hex": "636166e9"}`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl std::ops::Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Hex { hex: String },
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => Ok(text.into_bytes().into()),
            Either::Hex { hex } => {
                let bytes = bytes_of(&hex).ok_or_else(|| D::Error::custom("not hexadecimal"))?;
                Ok(bytes.into())
            }
        }
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let bytes = bytes_of(&digits).and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| D::Error::custom("not 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |&[high, low]: &[u8; 2]| u8::try_from(digit(high)? * 16 + digit(low)?).ok();
    pairs.iter().map(byte).collect()
}

/// Permission bits as octal digits.
fn octal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let digits = String::deserialize(deserializer)?;
    u32::from_str_radix(&digits, 8).map_err(D::Error::custom)
}

/// A document that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line is no document.
    #[error("line {line}: {error}")]
    Malformed {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A document has another version of the serialisation.
    #[error("line {line}: the digest has format {format}, and only {FORMAT} is known")]
    OtherFormat {
        /// The number of the line, from 1.
        line: usize,
        /// The version.
        format: u32,
    },
    /// There is no document.
    #[error("there is no digest in it")]
    Empty,
}

impl DigestDocument {
    /// The document as one line of JSON, without the end of the line.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: impl io::Write) -> io::Result<()> {
        serde_json::to_writer(out, self).map_err(Into::into)
    }
}

/// Reads documents, one from each line; empty lines are skipped. Takes as much
/// memory as the documents, and once more as the longest line.
///
/// # Errors
/// See [`DocumentError`].
pub fn read_documents(mut input: impl BufRead) -> Result<Vec<DigestDocument>, DocumentError> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let mut documents = Vec::new();
    let mut text = Vec::new();
    let mut line = 0;
    loop {
        text.clear();
        if input.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        line += 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let malformed = |error: serde_json::Error| DocumentError::Malformed {
            line,
            error: error.into(),
        };
        // What another version means is not known.
        let Version { format } = serde_json::from_slice(&text).map_err(malformed)?;
        if format != FORMAT {
            return Err(DocumentError::OtherFormat { line, format });
        }
        documents.push(serde_json::from_slice(&text).map_err(malformed)?);
    }
    if documents.is_empty() {
        return Err(DocumentError::Empty);
    }
    Ok(documents)
}
