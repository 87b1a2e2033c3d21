"""Repair of a damaged shard: salvage, and moving aside files that are no shards."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from shardstore import _codec as codec
from shardstore._files.file import FILE_BYTES_MAX, read_file
from shardstore._files.layout import is_shard_of
from shardstore._files.maintenance.logs import salvaged_log, set_aside
from shardstore._journal import record, replay
from shardstore.errors import CorruptShard

if TYPE_CHECKING:
    from shardstore._files.shard import Shard
    from shardstore._files.transaction import FileTransaction


def is_sound(shard: Shard) -> bool:
    """Return whether the file is this shard's and can be read: somebody else may have mended it meanwhile."""
    try:
        journal, _ = read_file(shard.path)
    except CorruptShard:
        return False
    return journal.state.key is None or is_shard_of(shard.name, journal.state.key)


class Salvaged(NamedTuple):
    """What a repair brought back. No fields: the session is absent from now on."""

    fields: int | None
    missing: tuple[int, ...]  # revisions that could not be read
    deleted: bool = False  # the last whole record is the end of the session
    touched: tuple[str, ...] = ()  # fields that they changed, as far as their remains tell


def salvage(shard: Shard, txn: FileTransaction, keep_as: str) -> Salvaged:
    """Rewrite a damaged journal from its intact records; the original gets the name `keep_as`.

    REQUIRES: inside `txn`, a transaction on this shard that has not read it.
    """
    data = txn.read_whole() if txn.journal_size <= FILE_BYTES_MAX else b""
    state, missing = replay.salvage(data, os.urandom(12).hex())
    if state is not None and state.key is None:
        key = key_in(data, shard.name) if shard.key == shard.name else shard.key
        state = None if key is None else state._replace(key=key)
    if state is None or not state.exists:
        set_aside(shard.layout, shard.name)
        txn.move_to(keep_as, "moving a damaged shard to quarantine")
        return Salvaged(None, missing, deleted=state is not None)
    txn.keep_copy(keep_as)
    txn.rewrite(salvaged_log(shard, state))
    return Salvaged(len(state.fields or ()), missing, touched=touched_in(data))


def touched_in(data: bytes) -> tuple[str, ...]:
    """Return the fields that the damaged records changed; none for a record whose remains are no JSON."""
    names: dict[str, None] = {}
    for line in data.split(b"\n"):
        text = line.rstrip(b"\r")
        if not text or record.is_intact(text):
            continue
        try:
            given = codec.loads(text)
        except ValueError:
            continue
        if isinstance(given, dict):
            for member in ("put", "set", "unset"):
                if isinstance(found := given.get(member), dict | list):
                    names.update(dict.fromkeys(name for name in found if isinstance(name, str)))
    return tuple(names)


def key_in(data: bytes, name: str) -> str | None:
    """Find the key in the remains of a record: it is the one that this file's name was made from."""
    for found in re.finditer(rb'"key":("(?:[^"\\]|\\.)*")', data):
        try:
            key = codec.loads(found[1])
            if is_shard_of(name, key):
                return str(key)
        except ValueError:
            continue
    return None
