//! What a process that has a file open can do to it once its subvolume is read-only:
//! the limit of the promise, which `docs/threats.md` describes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use btrfs_receive::btrfs_lineage::{SinceReceived, since_received};
use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::{Sender, Test, subvolume, test};

use crate::support::Pair;

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(what_root_has_open_can_be_written_to).needs("python3")]
}

/// Opens and maps a file, waits for a line, and says what it can do then. Each goes to
/// a place of its own.
const PROGRAM: &str = r#"
import ctypes, errno, fcntl, mmap, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
path, other = sys.argv[1:3]
fd = os.open(path, os.O_RDWR | os.O_NOATIME)
mapped = mmap.mmap(fd, 65536, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
source = os.open(other, os.O_RDONLY | os.O_NOATIME)
# The same as it was, but a page that has to be written to disk.
mapped[49152] = 65
print("ready", flush=True)
sys.stdin.readline()

def attempt(what, call):
    try:
        call()
        print(what, "done")
    except OSError as error:
        print(what, errno.errorcode[error.errno])

def fallocate(mode):
    offset, len = ctypes.c_long(0), ctypes.c_long(4096)
    if libc.fallocate(fd, mode, offset, len) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")

def store():
    child = os.fork()
    if child == 0:
        mapped[40960] = 69
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGBUS
        raise OSError(errno.EFAULT, "SIGBUS")

mapped[49153] = 69
# In the tick of the clock in which the file was changed, its times are as they are to
# be, and what would have to set them, and be refused, is not.
CLOCK_REALTIME_COARSE = 5
while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= os.fstat(fd).st_mtime_ns:
    pass
attempt("store", store)
attempt("truncate", lambda: os.ftruncate(fd, 10))
attempt("room", lambda: fallocate(0))
attempt("hole", lambda: fallocate(3))
attempt("clone", lambda: fcntl.ioctl(fd, 0x40049409, source))
attempt("mode", lambda: os.fchmod(fd, 0o777))
attempt("owner", lambda: os.fchown(fd, 1, 1))
attempt("attribute", lambda: os.setxattr(fd, "user.x", b"1"))
attempt("times", lambda: os.utime(fd, (1, 1)))
attempt("open", lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
attempt("write", lambda: os.pwrite(fd, b"EVIL", 0))
attempt("append", lambda: os.pwrite(fd, b"EVIL", 65536))
attempt("copy", lambda: os.copy_file_range(source, fd, 4, 0, 8192))
"#;

fn start(path: PathBuf, other: PathBuf) -> Child {
    let mut child = Command::new("python3")
        .args(["-c", PROGRAM])
        .args([path, other])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // One byte at a time, so that nothing of what follows is taken.
    let mut output = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Root may enter the subvolume at any time. What it opened before the end is not
/// looked for, and data is all that can be changed by it; what was changed is found
/// later.
fn what_root_has_open_can_be_written_to() {
    let pair = Pair::new();
    let work = pair.work();
    fs::write(work.join("file"), vec![b'A'; 65536]).unwrap();
    fs::write(work.join("other"), vec![b'B'; 65536]).unwrap();
    let sent = pair.snapshot("s");
    let stream = Sender::new(&sent).to_vec();
    let received = pair.received("s");
    let holder = Arc::new(Mutex::new(None));
    let (of_check, built) = (Arc::clone(&holder), received.clone());
    let destination = BtrfsDestination::builder()
        .check_before_seal(move |_| {
            let child = start(built.join("file"), built.join("other"));
            *of_check.lock().unwrap() = Some(child);
            Ok(())
        })
        .open(pair.to.path())
        .unwrap();
    let report = Receiver::new(destination).receive(&stream[..], &mut ());
    assert_eq!(report.unwrap().finished, 1);
    let mut child = holder.lock().unwrap().take().unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = said.lines().collect();
    let expected = [
        "store EFAULT",
        "truncate EROFS",
        "room EROFS",
        "hole EROFS",
        "clone EROFS",
        "mode EROFS",
        "owner EROFS",
        "attribute EROFS",
        "times EROFS",
        "open EROFS",
        "write done",
        "append done",
        "copy done",
    ];
    assert_eq!(said, expected);
    let content = fs::read(received.join("file")).unwrap();
    assert_eq!(content.len(), 65540);
    assert_eq!(
        (&content[..5], &content[8192..8197]),
        (&b"EVILA"[..], &b"BBBBA"[..])
    );
    assert_eq!(content[40960], b'A');
    assert_eq!(content[49152..49155], *b"AEA");
    // What nobody has open is what was sent.
    assert!(fs::read(received.join("other")).unwrap() == vec![b'B'; 65536]);
    let facts = subvolume::facts(&received);
    assert!(facts.read_only && facts.received_uuid.is_some());
    pair.to.sync();
    let since = since_received(File::open(&received).unwrap()).unwrap();
    assert!(matches!(since, SinceReceived::Changed { .. }));
}
