#!/usr/bin/env python3
"""The adapter for the parser that the Kaitai Struct compiler makes of
btrfs_send_stream.ksy: a stream on standard input, a report on standard output.

With --checks first on the command line, the stream is also checked as checks.py does it.
The parser is where adapters/build puts it, or on PYTHONPATH.
"""

import hashlib
import io
import json
import pathlib
import sys
import uuid

import kaitaistruct
from kaitaistruct import KaitaiStream

import checks

sys.path.append(str(pathlib.Path(__file__).parents[3] / "target/adapters/kaitai"))
from btrfs_send_stream import BtrfsSendStream

# What a failed validation means, by its place in the specification.
CLASSES = {
    "/types/header/seq/0": "bad-magic",
    "/types/header/seq/1": "unsupported-version",
    "/types/command/seq/0": "too-long",
    "/types/command/seq/1": "unknown-command",
    "/types/attribute/seq/0": "unknown-attribute",
    "/types/time/seq/1": "bad-value",
}

# What the parser alone does not find.
NOT_FOUND = [
    "bad-checksum",
    "unexpected-attribute",
    "duplicate-attribute",
    "missing-attribute",
    "bad-path",
    "order",
]


def of_bytes(value):
    return {"length": len(value), "sha256": hashlib.sha256(value).hexdigest()}


def value(attribute):
    """The value of an attribute as reports have it."""
    if not attribute.has_len_value:
        return of_bytes(attribute.rest)
    parsed = attribute.value
    match parsed:
        case BtrfsSendStream.Uuid():
            return str(uuid.UUID(bytes=parsed.value))
        case BtrfsSendStream.Time():
            return {"seconds": parsed.seconds, "nanoseconds": parsed.nanoseconds}
        case BtrfsSendStream.Bytes() if attribute.number.name in checks.BYTES:
            return of_bytes(parsed.value)
        case BtrfsSendStream.Bytes():
            try:
                return parsed.value.decode("utf-8")
            except UnicodeDecodeError:
                return {"hex": parsed.value.hex()}
        case _:
            return parsed.value


def read(kind, data, offset, *parameters):
    """Parses a header or command; returns it and the offset behind it."""
    stream = KaitaiStream(io.BytesIO(data))
    stream.seek(offset)
    try:
        return kind(*parameters, stream), stream.pos()
    except kaitaistruct.ValidationFailedError as error:
        raise checks.Refused(CLASSES.get(error.src_path, "bad-length")) from error
    except EOFError as error:
        # Of the input, or of an attribute in a command that is there?
        is_there = kind is BtrfsSendStream.Command and checks.command_at(data, offset)
        raise checks.Refused("bad-length" if is_there else "truncated") from error


def items(data, check, at):
    """Yields the lines of a report. at[0] is the offset that is being parsed."""
    if check:
        check.begin(data)
    while True:
        header, end = read(BtrfsSendStream.Header, data, at[0])
        yield {"type": "header", "offset": at[0], "version": header.version}
        at[0] = end
        while True:
            if check:
                check.frame(data, at[0], header.version)
            command, end = read(BtrfsSendStream.Command, data, at[0], header.version)
            attributes = command.payload.attributes
            if check:
                check.command(command)
            yield {
                "type": "command",
                "offset": at[0],
                "number": command.number.value,
                "name": command.number.name,
                "attributes": {each.number.name: value(each) for each in attributes},
            }
            at[0] = end
            if command.number == BtrfsSendStream.CommandNumber.end:
                break
        if at[0] == len(data):
            break
        if check:
            check.behind_end(data, at[0])
    # The specification as a whole says the same.
    whole = BtrfsSendStream.from_bytes(data)
    assert whole._io.is_eof()
    yield {"type": "complete"}


def main(arguments):
    check = None
    if arguments and arguments[0] == "--checks":
        check = checks.Checks()
        arguments.pop(0)
    if arguments:
        described = {
            "name": "Kaitai Struct and checks.py" if check else "Kaitai Struct alone",
            "version": kaitaistruct.__version__,
            "omits": [] if check else ["class:" + name for name in NOT_FOUND],
        }
        print(json.dumps(described))
        return
    data = sys.stdin.buffer.read()
    at = [0]
    try:
        for item in items(data, check, at):
            print(json.dumps(item))
    except checks.Refused as refused:
        print(json.dumps({"type": "error", "offset": at[0], "class": str(refused)}))


main(sys.argv[1:])
