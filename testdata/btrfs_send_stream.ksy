# Kaitai Struct specification of the btrfs send stream, versions 1 to 3.
#
# To the extent possible under law, the authors have waived all copyright and related
# rights to this file (CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/).
meta:
  id: btrfs_send_stream
  title: btrfs send stream, versions 1 to 3
  license: CC0-1.0
  ks-version: "0.11"
  endian: le
doc: |
  What `btrfs send` writes: the commands that recreate a read-only snapshot, or the
  difference between two snapshots, on another btrfs.

  `docs/format.md` of btrfs-recv-rs describes the format. A generated parser checks the
  framing, the numbers and the lengths. It does not check the checksums, whether an
  attribute is missing, repeated or unexpected, whether a path leads out of the
  subvolume, and whether a stream begins with SUBVOL or SNAPSHOT:
  `testdata/adapters/kaitai/checks.py` has these checks in Python.

  A stream may be larger than memory. To read it command by command, construct `header`
  and then `command`, up to the command END, instead of the whole input.
doc-ref: https://btrfs.readthedocs.io/en/latest/dev/dev-send-stream.html
seq:
  - id: streams
    type: stream
    repeat: until
    repeat-until: _io.eof
types:
  stream:
    seq:
      - id: header
        type: header
      - id: commands
        type: command(header.version)
        repeat: until
        repeat-until: _.number == command_number::end
  header:
    seq:
      - id: magic
        contents: ["btrfs-stream", 0]
      - id: version
        type: u4
        valid:
          any-of: [1, 2, 3]
  command:
    params:
      - id: version
        type: u4
        doc: The version of the stream.
    seq:
      - id: len_payload
        type: u4
        valid:
          expr: "_ <= 65526 or (version != 1 and _ <= 16777216)"
        doc: |
          Without the ten bytes of the command's header. The bound is the format's in
          version 1. Later versions have none; 16 MiB are more than any kernel writes.
      - id: number
        type: u2
        enum: command_number
        valid:
          expr: |
            _.to_i >= 1 and (_.to_i <= 22 or (version >= 2 and _.to_i <= 25)
              or (version >= 3 and _.to_i <= 26))
      - id: checksum
        type: u4
        doc: |
          CRC-32C with a register that starts at zero and is not inverted at the end, of
          the ten bytes of the header with zeros in place of this field, and the payload.
      - id: payload
        size: len_payload
        type: payload(version)
  payload:
    params:
      - id: version
        type: u4
    seq:
      - id: attributes
        type: attribute(version)
        repeat: eos
        doc: In any order. Kernels write them in the order of docs/format.md.
  attribute:
    params:
      - id: version
        type: u4
    seq:
      - id: number
        type: u2
        enum: attribute_number
        valid:
          expr: |
            _.to_i >= 1 and (_.to_i <= 24 or (version >= 2 and _.to_i <= 31)
              or (version >= 3 and _.to_i <= 35))
      - id: len_value
        type: u2
        if: has_len_value
      - id: value
        size: len_value
        if: has_len_value
        type:
          switch-on: number
          cases:
            attribute_number::uuid: uuid
            attribute_number::ctransid: integer8
            attribute_number::ino: integer8
            attribute_number::size: integer8
            attribute_number::mode: integer8
            attribute_number::uid: integer8
            attribute_number::gid: integer8
            attribute_number::rdev: integer8
            attribute_number::ctime: time
            attribute_number::mtime: time
            attribute_number::atime: time
            attribute_number::otime: time
            attribute_number::file_offset: integer8
            attribute_number::clone_uuid: uuid
            attribute_number::clone_ctransid: integer8
            attribute_number::clone_offset: integer8
            attribute_number::clone_len: integer8
            attribute_number::fallocate_mode: integer4
            attribute_number::fileattr: integer8
            attribute_number::unencoded_file_len: integer8
            attribute_number::unencoded_len: integer8
            attribute_number::unencoded_offset: integer8
            attribute_number::compression: integer4
            attribute_number::encryption: integer4
            attribute_number::verity_algorithm: integer1
            attribute_number::verity_block_size: integer4
            _: bytes
        doc: Names and paths are bytes, which need not be UTF-8.
      - id: rest
        size-eos: true
        if: not has_len_value
        doc: The value of data from version 2 on, up to the end of the payload.
    instances:
      has_len_value:
        value: "version == 1 or number != attribute_number::data"
        doc: From version 2 on, data has no length.
  # A value that is longer than its type is refused by the last field.
  integer1:
    seq:
      - id: value
        type: u1
      - id: rest
        size-eos: true
        valid:
          expr: _.length == 0
  integer4:
    seq:
      - id: value
        type: u4
      - id: rest
        size-eos: true
        valid:
          expr: _.length == 0
  integer8:
    seq:
      - id: value
        type: u8
      - id: rest
        size-eos: true
        valid:
          expr: _.length == 0
  uuid:
    seq:
      - id: value
        size: 16
        doc: The bytes in the order in which they are printed.
      - id: rest
        size-eos: true
        valid:
          expr: _.length == 0
  time:
    seq:
      - id: seconds
        type: s8
        doc: Since 1970.
      - id: nanoseconds
        type: u4
        valid:
          max: 999999999
        doc: Added to the seconds, even if these are negative.
      - id: rest
        size-eos: true
        valid:
          expr: _.length == 0
  bytes:
    seq:
      - id: value
        size-eos: true
enums:
  command_number:
    1: subvol
    2: snapshot
    3: mkfile
    4: mkdir
    5: mknod
    6: mkfifo
    7: mksock
    8: symlink
    9: rename
    10: link
    11: unlink
    12: rmdir
    13: set_xattr
    14: remove_xattr
    15: write
    16: clone
    17: truncate
    18: chmod
    19: chown
    20: utimes
    21: end
    22: update_extent
    23: fallocate
    24: fileattr
    25: encoded_write
    26: enable_verity
  attribute_number:
    1: uuid
    2: ctransid
    3: ino
    4: size
    5: mode
    6: uid
    7: gid
    8: rdev
    9: ctime
    10: mtime
    11: atime
    12: otime
    13: xattr_name
    14: xattr_data
    15: path
    16: path_to
    17: path_link
    18: file_offset
    19: data
    20: clone_uuid
    21: clone_ctransid
    22: clone_path
    23: clone_offset
    24: clone_len
    25: fallocate_mode
    26: fileattr
    27: unencoded_file_len
    28: unencoded_len
    29: unencoded_offset
    30: compression
    31: encryption
    32: verity_algorithm
    33: verity_block_size
    34: verity_salt_data
    35: verity_sig_data
