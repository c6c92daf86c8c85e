//! The commands of a stream as `-v` and `-vv` show them.

use btrfs_sendstream::{Command, CommandBuf};

use super::line::Line;

/// Verbosity from which file data is shown.
const DATA: u8 = 2;
/// Verbosity from which everything else is.
const CHANGES: u8 = 3;

/// Appends the line for a command; returns whether it has one at this
/// verbosity.
pub(super) fn push_command(line: &mut Line, command: &CommandBuf, verbosity: u8) -> bool {
    let is_data = matches!(command, Command::Write { .. } | Command::Clone(_));
    if verbosity < if is_data { DATA } else { CHANGES } {
        return false;
    }
    match command {
        Command::Write { path, offset, data } => line
            .text("write ")
            .name(path.as_bytes())
            .format(format_args!(" - offset={offset} length={}", data.len())),
        Command::Clone(clone) => line
            .text("clone ")
            .name(clone.path.as_bytes())
            .text(" - source=")
            .name(clone.source_path.as_bytes())
            .format(format_args!(
                " source offset={} offset={} length={}",
                clone.source_offset, clone.offset, clone.len
            )),
        Command::Mkfile { path, .. } => line.text("mkfile ").name(path.as_bytes()),
        Command::Mkdir { path, .. } => line.text("mkdir ").name(path.as_bytes()),
        Command::Mkfifo { path, .. } => line.text("mkfifo ").name(path.as_bytes()),
        Command::Mksock { path, .. } => line.text("mksock ").name(path.as_bytes()),
        Command::Unlink { path } => line.text("unlink ").name(path.as_bytes()),
        Command::Rmdir { path } => line.text("rmdir ").name(path.as_bytes()),
        Command::Utimes { path, .. } => line.text("utimes ").name(path.as_bytes()),
        Command::Mknod {
            path, rdev, mode, ..
        } => line
            .text("mknod ")
            .name(path.as_bytes())
            .format(format_args!(" mode={mode}, dev={rdev}")),
        Command::Symlink { path, target, .. } => line
            .text("symlink ")
            .name(path.as_bytes())
            .text(" -> ")
            .name(target),
        Command::Rename { path, to } => line
            .text("rename ")
            .name(path.as_bytes())
            .text(" -> ")
            .name(to.as_bytes()),
        Command::Link { path, existing } => line
            .text("link ")
            .name(path.as_bytes())
            .text(" -> ")
            .name(existing.as_bytes()),
        Command::SetXattr { path, name, data } => line
            .text("set_xattr ")
            .name(path.as_bytes())
            .text(" - name=")
            .name(name)
            .format(format_args!(" data_len={} data=", data.len()))
            .name(data),
        Command::RemoveXattr { path, name } => line
            .text("remove_xattr ")
            .name(path.as_bytes())
            .text(" - name=")
            .name(name),
        Command::Chmod { path, mode } => line
            .text("chmod ")
            .name(path.as_bytes())
            .format(format_args!(" - mode=0{mode:o}")),
        Command::Chown { path, uid, gid } => line
            .text("chown ")
            .name(path.as_bytes())
            .format(format_args!(" - uid={uid}, gid={gid}")),
        Command::Truncate { path, size } => line
            .text("truncate ")
            .name(path.as_bytes())
            .format(format_args!(" size={size}")),
        Command::UpdateExtent { path, offset, len } => line
            .text("update_extent ")
            .name(path.as_bytes())
            .format(format_args!(": offset={offset}, len={len}")),
        Command::Fallocate {
            path,
            mode,
            offset,
            len,
        } => line
            .text("fallocate ")
            .name(path.as_bytes())
            .format(format_args!(" - offset={offset}, len={len}, mode={mode}")),
        Command::EncodedWrite(write) => line
            .text("encoded_write ")
            .name(write.path.as_bytes())
            .format(format_args!(
                " - offset={}, len={}, unencoded_offset={}, unencoded_file_len={}, \
                 unencoded_len={}, compression={}, encryption={}",
                write.offset,
                write.data.len(),
                write.unencoded_offset,
                write.unencoded_file_len,
                write.unencoded_len,
                write.compression.unwrap_or(0),
                write.encryption.unwrap_or(0)
            )),
        // SUBVOL and SNAPSHOT are told as a subvolume begins. The reference says
        // nothing for the others.
        Command::Subvol { .. }
        | Command::Snapshot { .. }
        | Command::FileAttr { .. }
        | Command::EnableVerity(_)
        | Command::End => return false,
    };
    true
}
