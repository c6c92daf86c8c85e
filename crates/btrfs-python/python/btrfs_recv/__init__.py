"""Reads, checks, rewrites and receives btrfs send streams."""

from ._native import (
    Command,
    Error,
    Reader,
    ReceiveError,
    StreamError,
    Timespec,
    diff,
    inventory,
    plan,
    receive,
    rewrite,
    verify,
)

__all__ = [
    "Command",
    "Error",
    "Reader",
    "ReceiveError",
    "StreamError",
    "Timespec",
    "diff",
    "inventory",
    "plan",
    "receive",
    "rewrite",
    "verify",
]
