//! Whether this process has more rights than the one that started it: then
//! the environment and the command line are not to be trusted alike.

use rustix::process::{getegid, geteuid, getgid, getuid};
use rustix::thread::{capabilities, capability_is_in_ambient_set};

/// `AT_SECURE` (`linux/auxvec.h`).
const AT_SECURE: usize = 23;

/// Whether the program file gave the process rights: by a set-user-ID or
/// set-group-ID bit, by file capabilities, or by a rule of a security module.
/// In doubt it did.
pub(crate) fn is_raised() -> bool {
    if getuid() != geteuid() || getgid() != getegid() {
        return true;
    }
    match std::fs::read("/proc/self/auxv") {
        Ok(vector) => is_secure(&vector).unwrap_or_else(has_file_capabilities),
        // A process that was given rights may not read what belongs to it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => true,
        // No /proc.
        Err(_) => has_file_capabilities(),
    }
}

/// What the kernel says in an auxiliary vector.
fn is_secure(vector: &[u8]) -> Option<bool> {
    const SIZE: usize = size_of::<usize>();
    let (words, _) = vector.as_chunks::<SIZE>();
    let mut pairs = words.chunks_exact(2);
    pairs.find_map(|pair| match pair {
        [key, value] if usize::from_ne_bytes(*key) == AT_SECURE => {
            Some(usize::from_ne_bytes(*value) != 0)
        }
        _ => None,
    })
}

/// A user other than root has capabilities by inheriting them in the ambient
/// set, or from the program file.
fn has_file_capabilities() -> bool {
    if getuid().is_root() {
        return false;
    }
    let Ok(sets) = capabilities(None) else {
        return true;
    };
    let is_inherited = |one| capability_is_in_ambient_set(one).unwrap_or(false);
    !sets.permitted.iter().all(is_inherited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auxiliary_vector_is_read() {
        let vector = |pairs: &[usize]| -> Vec<u8> {
            pairs.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        assert_eq!(is_secure(&vector(&[6, 23, 23, 1, 0, 0])), Some(true));
        assert_eq!(is_secure(&vector(&[6, 4096, 23, 0, 0, 0])), Some(false));
        assert_eq!(is_secure(&vector(&[6, 23, 0])), None);
        assert_eq!(is_secure(b"cut"), None);
    }
}
