"""Every name inside ROOT/index: the one place that makes them and the one that parses them.

    index/
      generation                         which generation it is, by its size; whether the catalogue may be believed
      notes.<epoch>.<number>.a  (.b)     the shards that changed in generation <number>, twice
      catalogue.<epoch>.sqlite           one row a session
      .tmp-<random>                      a generation file that is being made

An epoch is one life of the generation file, 16 random hex digits. Catalogue and notes carry it in their names, so what
belongs to a generation file that was deleted can never be taken for what belongs to its successor.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

GENERATION: Final = "generation"
COPIES: Final = ("a", "b")

_NOTES = re.compile(r"notes\.(?P<epoch>[0-9a-f]{16})\.(?P<number>0|[1-9][0-9]{0,18})\.(?P<copy>[ab])")
_CATALOGUE = re.compile(r"catalogue\.(?P<epoch>[0-9a-f]{16})\.sqlite(-journal)?")
_TEMP = re.compile(r"\.tmp-[0-9a-f]{16}")


class Name(NamedTuple):
    """What a file's name says. `kind` is "generation", "notes", "catalogue" or "temp"."""

    kind: str
    epoch: str = ""
    number: int = 0
    copy: str = ""


def new_epoch() -> str:
    """Make the name of a new life of the generation file."""
    return os.urandom(8).hex()


def notes_name(epoch: str, number: int, copy: str) -> str:
    """Name one of the two note files of a generation."""
    return f"notes.{epoch}.{number}.{copy}"


def catalogue_name(epoch: str) -> str:
    """Name the catalogue of an epoch."""
    return f"catalogue.{epoch}.sqlite"


def temp_name() -> str:
    """Make a unique name for a generation file before it has its own."""
    return f".tmp-{os.urandom(8).hex()}"


def parse(file: str) -> Name | None:
    """Say what a file in ROOT/index is; None for one that is not ours."""
    if file == GENERATION:
        return Name("generation")
    match = _NOTES.fullmatch(file)
    if match is not None:
        return Name("notes", match["epoch"], int(match["number"]), match["copy"])
    match = _CATALOGUE.fullmatch(file)
    if match is not None:
        return Name("catalogue", match["epoch"])
    return Name("temp") if _TEMP.fullmatch(file) else None
