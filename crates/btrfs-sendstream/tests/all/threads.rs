//! What may be handed to another thread, and what may be shared by several.
//! That it compiles is the test.

use std::fs::File;

use btrfs_sendstream::decompress::{DecodeError, Decompressor};
use btrfs_sendstream::inspect::{
    Chain, Checker, DiffError, Differ, Difference, Finding, Verifier, VerifyOptions, VerifyReport,
};
use btrfs_sendstream::transform::{
    Apart, Downgrade, Filter, Rewrite, Together, TransformError, Upgrade, UpgradeBuilder,
};
use btrfs_sendstream::{
    CommandBuf, CommandRef, Decoder, DecoderBuilder, Deframer, Encoder, Error, FinishError, Frame,
    Item, Limits, Position, RawCommand, Reader, StreamPath, SubvolumeName, Writer,
};

fn sent<T: Send>() {}
fn shared<T: Send + Sync>() {}

#[test]
fn what_a_stream_holds_is_shared() {
    shared::<CommandBuf>();
    shared::<CommandRef<'_>>();
    shared::<Item>();
    shared::<Frame>();
    shared::<RawCommand>();
    shared::<StreamPath>();
    shared::<SubvolumeName>();
    shared::<Position>();
    shared::<Limits>();
}

#[test]
fn errors_are_shared() {
    shared::<Error>();
    shared::<FinishError<File>>();
    shared::<DecodeError>();
    shared::<TransformError>();
}

#[test]
fn readers_and_writers_are_shared() {
    shared::<Decoder>();
    shared::<DecoderBuilder>();
    shared::<Deframer>();
    shared::<Encoder>();
    shared::<Reader<File>>();
    shared::<Writer<File>>();
    shared::<Decompressor>();
}

#[test]
fn transforms_are_sent() {
    sent::<Apart>();
    sent::<Downgrade>();
    sent::<Filter>();
    sent::<Rewrite>();
    sent::<Together>();
    sent::<Upgrade>();
    shared::<UpgradeBuilder>();
}

#[test]
fn what_inspects_is_sent_and_what_it_finds_is_shared() {
    sent::<Checker>();
    sent::<Differ<File>>();
    shared::<Verifier>();
    shared::<VerifyOptions>();
    shared::<VerifyReport>();
    shared::<Finding>();
    shared::<Chain>();
    shared::<Difference>();
    shared::<DiffError>();
}
