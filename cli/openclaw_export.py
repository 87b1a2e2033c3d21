"""Write sessions as OpenClaw's sessions.json: one JSON object, session key -> entry, indented by two spaces."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from . import escape
from .exits import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


def write(entries: Iterable[tuple[str, Mapping[str, Any]]], out: BinaryIO) -> int:
    """Write a sessions.json, entry by entry; return how many."""
    count = 0
    for key, entry in entries:
        text = json.dumps(entry, ensure_ascii=False, indent=2).replace("\n", "\n  ")
        out.write(b"{\n  " if count == 0 else b",\n  ")
        out.write(escape.json_bytes(f"{json.dumps(key, ensure_ascii=False)}: {text}".encode()))
        count += 1
    out.write(b"\n}\n" if count else b"{}\n")
    return count


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file (0600) that takes the place of `path` once it is whole. Raises CommandError if `path` is there."""
    if not force and os.path.lexists(path):
        raise CommandError(f"{escape.text(str(path))} exists already", "--force replaces it")
    if not path.parent.is_dir():
        raise CommandError(f"no directory {escape.text(str(path.parent))}", "make it first, or name another file")
    # Made with mode 0600.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temp:
        try:
            yield temp  # type: ignore[misc]
            temp.flush()
            os.fsync(temp.fileno())
            _move(Path(temp.name), path, force=force)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temp.name)
            raise


def take_away(path: Path, *, force: bool) -> None:
    """Remove a file of an earlier export that has no successor. Raises CommandError without `force`, if it is there."""
    if not os.path.lexists(path):
        return
    if not force:
        raise CommandError(f"{escape.text(str(path))} exists already", "--force removes it")
    path.unlink()


def _move(temp: Path, path: Path, *, force: bool) -> None:
    """Put the finished file in place; without `force`, link refuses a file that has appeared meanwhile."""
    if force:
        temp.replace(path)
        return
    try:
        path.hardlink_to(temp)
    except FileExistsError:
        raise CommandError(f"{escape.text(str(path))} exists already", "--force replaces it") from None
    temp.unlink()


def keep_lines(store: Path, lines: Sequence[str]) -> Path:
    """Write lines to a new file (0600), synced; return its path.

    It is STORE.skipped-TIME.jsonl, or of that name in the working directory where nothing may be made beside the store.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    path = store.absolute().with_name(f"{store.absolute().name}.skipped-{stamp}.jsonl")
    if not os.access(path.parent, os.W_OK):
        path = Path.cwd() / path.name
    with replacing(path, force=False) as out:
        out.writelines(f"{line}\n".encode() for line in lines)
    return path
