"""The digest of a subvolume, written from docs/digest.md alone.

Reads one file at a time and all names at once: it is for comparison, not for
use. Prints the digest, and with --tree that of each inode, name by name.
"""

import errno
import os
import stat
import sys
from hashlib import sha256

CHUNK = 1 << 20
KINDS = {
    stat.S_IFREG: b"f",
    stat.S_IFDIR: b"d",
    stat.S_IFLNK: b"l",
    stat.S_IFIFO: b"p",
    stat.S_IFSOCK: b"s",
    stat.S_IFCHR: b"c",
    stat.S_IFBLK: b"b",
}


def number(value):
    return (value % 2**64).to_bytes(8, "little")


def string(value):
    return number(len(value)) + value


def content(path, size):
    digest = sha256()
    file = os.open(path, os.O_RDONLY)
    position = 0
    while position < size:
        try:
            # A file of terabytes may be nothing but holes.
            data = os.lseek(file, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        chunk = data // CHUNK
        piece = os.pread(file, CHUNK, chunk * CHUNK)
        if piece.strip(b"\0"):
            digest.update(number(chunk) + sha256(piece).digest())
        position = (chunk + 1) * CHUNK
    os.close(file)
    return digest.digest()


def xattrs(path):
    names = [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)]
    full = b"security.capability"
    names = sorted(name for name in names if name == full or not full.startswith(name))
    record = number(len(names))
    for name in names:
        record += string(name)
        record += string(os.getxattr(path, name, follow_symlinks=False))
    return record


def inode(path, links, lines):
    info = os.lstat(path)
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    seconds, nanoseconds = divmod(info.st_mtime_ns, 10**9)
    record = kind
    record += number(0 if kind == b"l" else stat.S_IMODE(info.st_mode))
    record += number(info.st_uid) + number(info.st_gid)
    record += number(seconds) + number(nanoseconds)
    record += number(1 if kind == b"d" else info.st_nlink)
    record += xattrs(path)
    place = len(lines)
    lines.append(None)
    if kind == b"f":
        record += number(info.st_size) + content(path, info.st_size)
    elif kind == b"l":
        record += string(os.readlink(path))
    elif kind in b"cb":
        record += number(os.major(info.st_rdev)) + number(os.minor(info.st_rdev))
    elif kind == b"d":
        children = b""
        count = 0
        for child in sorted(os.listdir(path)):
            below = os.path.join(path, child)
            if os.path.isdir(below) and not os.path.islink(below):
                if os.lstat(below).st_ino in (2, 256):
                    continue
            count += 1
            children += string(child)
            children += inode(below, links, lines)
        record += number(count) + children
    if kind != b"d" and info.st_nlink > 1:
        links.append(info.st_ino)
    digest = sha256(record).digest()
    lines[place] = digest.hex()
    return digest


def main():
    arguments = sys.argv[1:]
    links, lines = [], []
    root = inode(os.fsencode(arguments[-1]), links, lines)
    first = {}
    numbers = b""
    for position, number_of_inode in enumerate(links):
        numbers += number(first.setdefault(number_of_inode, position))
    whole = b"btrfs-lineage digest 1\n" + root + sha256(numbers).digest()
    print(sha256(whole).hexdigest(), flush=True)
    if "--tree" in arguments:
        print("\n".join(lines))


main()
