"""Every name on disk: the one place that makes them and the one that parses them.

    ROOT/
      shardstore.json                          format marker and shared settings, written last
      shards/3f/agent-main-42~<32 hex>.jsonl   one journal per session key
      shards/3f/agent-main-42~<32 hex>.<id>.log.jsonl   the settled part of its log, if it has one
      shards/3f/.tmp-<random>~<shard file>     a rewrite in progress
      index/                                   disposable; its names are in change_file/file.py and index/catalog.py
      archive/  quarantine/                    <shard file>.<milliseconds>-<random>: removed, damaged
      archive/  quarantine/                    <log file>: it keeps its name, which no other file ever has
      quarantine/lost-3f.<milliseconds>-<random>   a prefix directory that was gone, and was made again

A shard's file name is a readable slug and a hash of the whole key. The hash alone decides, so names are injective
and no key can leave the root; slug and hash are lower-case ASCII, so file systems that fold case or normalise
Unicode keep them apart; a name has at most 143 bytes, the shortest limit in use (eCryptfs).
"""

from __future__ import annotations

import os
import re
import time
from hashlib import blake2b
from pathlib import Path

from shardstore._keys import check_key
from shardstore.errors import InvalidKey

FORMAT = 1
MARKER = "shardstore.json"
SHARDS = "shards"
INDEX = "index"
ARCHIVE = "archive"
QUARANTINE = "quarantine"

SUFFIX = ".jsonl"
LOG_SUFFIX = ".log.jsonl"
TEMP_PREFIX = ".tmp-"
NAME_BYTES_MAX = 143
HASH_HEX = 32  # 128 bits: a 64-bit hash can be made to collide on purpose by whoever may choose a key
SLUG_MAX = 80  # leaves room for the stamp of archive/ and quarantine/ and the prefix of a temp
PREFIXES = tuple(f"{n:02x}" for n in range(256))

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
GROUP_DIRECTORY_MODE = 0o2770  # in a store that is shared by a group: what is made in it belongs to the group
GROUP_FILE_MODE = 0o660

_UNSAFE = re.compile(r"[^a-z0-9]+")
_SHARD_FILE = re.compile(rf"(?P<slug>[a-z0-9-]{{1,{SLUG_MAX}}})~(?P<hash>[0-9a-f]{{{HASH_HEX}}})\.jsonl")
_SHARD_FILES = re.compile(
    rf"(?<![^\0])[a-z0-9-]{{1,{SLUG_MAX}}}~([0-9a-f]{{2}})[0-9a-f]{{{HASH_HEX - 2}}}\.jsonl(?![^\0])"
)
_LOG_FILE = re.compile(
    rf"(?P<stem>[a-z0-9-]{{1,{SLUG_MAX}}}~[0-9a-f]{{{HASH_HEX}}})\.(?P<id>[0-9a-f]{{16}})\.log\.jsonl"
)
_STAMPED = re.compile(r"(?P<file>.+\.jsonl)\.(?P<ms>\d{13})-(?P<random>[0-9a-f]{8})")
_LOST = re.compile(r"lost-(?P<prefix>[0-9a-f]{2})\.\d{13}-[0-9a-f]{8}")
_SHORT = re.compile(rf"short-[0-9a-f]{{{HASH_HEX}}}\.\d{{13}}-[0-9a-f]{{8}}")


def shard_name(key: str) -> str:
    """Name the shard of a key, relative to ROOT/shards: `3f/slug~hash.jsonl`. Raises InvalidKey."""
    digest = blake2b(check_key(key), digest_size=HASH_HEX // 2).hexdigest()
    return f"{digest[:2]}/{_slug(key) or 'key'}~{digest}{SUFFIX}"


def _slug(text: str) -> str:
    return _UNSAFE.sub("-", text[: 2 * SLUG_MAX].lower())[:SLUG_MAX].strip("-")


def may_begin(file: str, prefix: str) -> bool:
    """Return whether a shard's file name, as far as its slug tells, allows for a key that begins with `prefix`."""
    return file.startswith(_slug(prefix))


def is_shard_of(name: str, key: str) -> bool:
    """Return whether `name` is the shard of `key`; False if `key` is no key."""
    try:
        return shard_name(key) == name
    except InvalidKey:
        return False


def is_shard_name(name: str) -> bool:
    """Return whether this is a shard's name relative to ROOT/shards, in the directory where it belongs."""
    prefix, _, file = name.partition("/")
    match = _SHARD_FILE.fullmatch(file)
    return match is not None and match["hash"].startswith(prefix) and len(prefix) == len(PREFIXES[0])


def count_shards(prefix: str, files: list[str]) -> int:
    """Return how many of a prefix's files are shards, in one pass: a store may have 100,000."""
    return _SHARD_FILES.findall("\0".join(files)).count(prefix)


def temp_name(name: str) -> str:
    """Return a unique name, beside the shard of this name, for the file that will replace it."""
    prefix, _, file = name.partition("/")
    return f"{prefix}/{TEMP_PREFIX}{os.urandom(8).hex()}~{file}"


def parse_temp(name: str) -> str | None:
    """Return the shard name that a temp belongs to, or None where `name` is not a temp's."""
    prefix, _, file = name.partition("/")
    if not file.startswith(TEMP_PREFIX):
        return None
    owner = f"{prefix}/{file.partition('~')[2]}"
    return owner if is_shard_name(owner) else None


def new_log_id() -> str:
    """Return an id for a log file that no other one has."""
    return os.urandom(8).hex()


def log_name(name: str, file_id: str) -> str:
    """Return the name of a log file with this id, beside the shard of this name."""
    return f"{name.removesuffix(SUFFIX)}.{file_id}{LOG_SUFFIX}"


def log_file(name: str, file_id: str) -> str:
    """Return the name of a shard's log file in archive/ or quarantine/: the same, without the directory."""
    return log_name(name, file_id).partition("/")[2]


def log_path(layout: Layout, name: str, file_id: str) -> str:
    """Return the path of the log file with this id beside the shard of this name."""
    return layout.shard_path(log_name(name, file_id))


def parse_log(name: str) -> tuple[str, str] | None:
    """Return (shard name, id) of a log file's name relative to ROOT/shards, or None where it is no log file's."""
    prefix, _, file = name.partition("/")
    match = _LOG_FILE.fullmatch(file)
    owner = "" if match is None else f"{prefix}/{match['stem']}{SUFFIX}"
    return (owner, match["id"]) if match is not None and is_shard_name(owner) else None


def log_owner(file: str) -> str | None:
    """Return the shard name that a log file in archive/ or quarantine/ belongs to, or None where it is none."""
    match = _LOG_FILE.fullmatch(file)
    return None if match is None else f"{match['stem'].rpartition('~')[2][:2]}/{match['stem']}{SUFFIX}"


def stamped_name(name: str, at: int | None = None) -> str:
    """Return a unique file name for a shard that moves to archive/ or quarantine/; sorts by time within a shard.

    at: when it moves, in milliseconds since the epoch, if not now.
    """
    return f"{name.partition('/')[2]}.{time.time_ns() // 1_000_000 if at is None else at:013d}-{os.urandom(4).hex()}"


def parse_stamped(file: str) -> tuple[str, int] | None:
    """Return (shard name relative to ROOT/shards, milliseconds since the epoch) of an archived file, or None."""
    match = _STAMPED.fullmatch(file)
    if match is None:
        return None
    shard = _SHARD_FILE.fullmatch(match["file"])
    if shard is None:
        return None
    return f"{shard['hash'][:2]}/{match['file']}", int(match["ms"])


def lost_name(prefix: str) -> str:
    """Return a unique name in quarantine/ for the record of a prefix directory that was lost, and made again."""
    return f"lost-{prefix}.{time.time_ns() // 1_000_000:013d}-{os.urandom(4).hex()}"


def parse_lost(file: str) -> str | None:
    """Return the prefix that a file in quarantine/ records as lost, or None where it records none."""
    match = _LOST.fullmatch(file)
    return None if match is None else match["prefix"]


def short_name(name: str) -> str:
    """Return a unique name in quarantine/ for the record of a shard that holds less than was acknowledged."""
    stem = name[-HASH_HEX - len(SUFFIX) : -len(SUFFIX)]
    return f"short-{stem}.{time.time_ns() // 1_000_000:013d}-{os.urandom(4).hex()}"


def parse_short(file: str) -> bool:
    """Return whether a file in quarantine/ has the name of such a record."""
    return _SHORT.fullmatch(file) is not None


class Layout:
    """The paths of one store."""

    __slots__ = ("archive", "index", "marker", "quarantine", "root", "shards")

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.marker = self.root / MARKER
        self.shards = self.root / SHARDS
        self.index = self.root / INDEX
        self.archive = self.root / ARCHIVE
        self.quarantine = self.root / QUARANTINE

    def shard_path(self, name: str) -> str:
        """Return the path of the shard (or temp) of this name."""
        return f"{self.shards}/{name}"
