"""What docs/format.md asks of a stream besides what a Kaitai Struct specification can
say: checksums, attributes that belong together, paths, and the order of commands."""

MAGIC = b"btrfs-stream\0"

# The attributes of each command; those that may be absent are in the second list.
ATTRIBUTES = {
    "subvol": ("path uuid ctransid", ""),
    "snapshot": ("path uuid ctransid clone_uuid clone_ctransid", ""),
    "mkfile": ("path ino", ""),
    "mkdir": ("path ino", ""),
    "mknod": ("path ino rdev mode", ""),
    "mkfifo": ("path ino rdev mode", ""),
    "mksock": ("path ino rdev mode", ""),
    "symlink": ("path ino path_link", ""),
    "rename": ("path path_to", ""),
    "link": ("path path_link", ""),
    "unlink": ("path", ""),
    "rmdir": ("path", ""),
    "set_xattr": ("path xattr_name xattr_data", ""),
    "remove_xattr": ("path xattr_name", ""),
    "write": ("path file_offset data", ""),
    "clone": (
        "file_offset clone_len path clone_uuid clone_ctransid clone_path clone_offset",
        "",
    ),
    "truncate": ("path size", ""),
    "chmod": ("path mode", ""),
    "chown": ("path uid gid", ""),
    "utimes": ("path atime mtime ctime", "otime"),
    "end": ("", ""),
    "update_extent": ("path file_offset size", ""),
    "fallocate": ("path fallocate_mode file_offset size", ""),
    "fileattr": ("path fileattr", ""),
    "encoded_write": (
        "path file_offset unencoded_file_len unencoded_len unencoded_offset data",
        "compression encryption",
    ),
    "enable_verity": (
        "path verity_algorithm verity_block_size verity_salt_data verity_sig_data",
        "",
    ),
}

# Attributes that are neither numbers nor names.
BYTES = ["xattr_data", "data", "verity_salt_data", "verity_sig_data"]

PATHS = ["path", "path_to", "clone_path"]


class Refused(Exception):
    """A stream is malformed; the text is the class of the defect."""


def crc32c_table():
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


CRC32C = crc32c_table()


def crc32c(data):
    register = 0
    for byte in data:
        register = register >> 8 ^ CRC32C[(register ^ byte) & 255]
    return register


def command_at(data, offset):
    """The bytes of the command that begins there, or None if the input ends before."""
    length = int.from_bytes(data[offset : offset + 4], "little")
    command = data[offset : offset + 10 + length]
    return command if len(command) == 10 + length else None


class Checks:
    """The checks for one input."""

    def __init__(self):
        self.version = None
        self.has_subvolume = False

    def begin(self, data):
        if not data:
            raise Refused("empty")

    def frame(self, data, offset, version):
        """Checks the command at `offset` before it is parsed."""
        if self.version is None:
            self.version = version
            self.has_subvolume = False
        if data[offset : offset + len(MAGIC)] == MAGIC:
            raise Refused("second-stream")
        command = command_at(data, offset)
        if command is not None:
            stored = int.from_bytes(command[6:10], "little")
            if crc32c(command[:6] + bytes(4) + command[10:]) != stored:
                raise Refused("bad-checksum")

    def behind_end(self, data, offset):
        """Checks what follows END."""
        self.version = None
        start = data[offset : offset + len(MAGIC)]
        if start != MAGIC[: len(start)]:
            raise Refused("trailing-data")

    def command(self, command):
        """Checks a command that was parsed."""
        name = command.number.name
        if name in ("subvol", "snapshot"):
            self.has_subvolume = True
        elif not self.has_subvolume:
            raise Refused("order")
        required, optional = (names.split() for names in ATTRIBUTES[name])
        if name == "utimes" and self.version == 1:
            optional = []
        values = {}
        for attribute in command.payload.attributes:
            if attribute.number.name in values:
                raise Refused("duplicate-attribute")
            values[attribute.number.name] = attribute
        for attribute in required:
            if attribute not in values:
                raise Refused("missing-attribute")
        for attribute in values:
            if attribute not in required + optional:
                raise Refused("unexpected-attribute")

        def value(attribute):
            return values[attribute].value.value

        for attribute in values:
            if attribute in PATHS or (attribute == "path_link" and name == "link"):
                check_path(value(attribute))
            elif attribute in ("xattr_name", "path_link") and b"\0" in value(attribute):
                raise Refused("bad-value")
        if name in ("subvol", "snapshot"):
            path = value("path")
            if not 1 <= len(path) <= 255 or b"/" in path:
                raise Refused("bad-path")
            if not any(value("uuid")):
                raise Refused("bad-value")


def check_path(path):
    if b"\0" in path:
        raise Refused("bad-path")
    for component in path.split(b"/") if path else []:
        if component in (b"", b".", b".."):
            raise Refused("bad-path")
