"""Iterates over a stream of a million commands; prints nanoseconds per command."""

import io
import struct
import sys
import time

import btrfs_recv

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def command(number, *attributes):
    payload = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in attributes)
    crc = 0
    for byte in struct.pack("<IHI", len(payload), number, 0) + payload:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return struct.pack("<IHI", len(payload), number, crc) + payload


def number(value):
    return struct.pack("<Q", value)


def stream():
    """143 times the same 1000 files, each with 7 commands."""
    begin = b"btrfs-stream\0" + struct.pack("<I", 1)
    begin += command(1, (15, b"big"), (1, bytes(range(16))), (2, number(7)))
    time = struct.pack("<QL", 1_700_000_000, 5)
    files = b""
    for file in range(1000):
        new = b"o%d-7-0" % (257 + file)
        path = b"usr/share/doc/package-%d/file-%d.txt" % (file % 50, file)
        files += command(3, (15, new), (3, number(257 + file)))
        files += command(9, (15, new), (16, path))
        files += command(15, (15, path), (18, number(0)), (19, b"x" * 100))
        files += command(17, (15, path), (4, number(100)))
        files += command(19, (15, path), (6, number(0)), (7, number(0)))
        files += command(18, (15, path), (5, number(0o644)))
        files += command(20, (15, path), (11, time), (10, time), (9, time))
    return begin + files * 143 + command(21)


data = stream()
if sys.argv[1:]:
    # For other parsers.
    with open(sys.argv[1], "wb") as file:
        file.write(data)
for _ in range(5):
    begun = time.process_time()
    commands = sum(1 for _ in btrfs_recv.Reader(io.BytesIO(data)))
    print(round((time.process_time() - begun) * 1e9 / commands), "ns per command")
