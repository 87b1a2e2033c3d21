"""Values for the server and from it: binary values, answers, and the two ways in which a statement fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

Value = int | bool | str | bytes | None | Sequence[bytes | None]

_BYTEA_OID: Final = 17
_NULL: Final = b"\xff\xff\xff\xff"


class Refused(Exception):
    """The server said no: the statement, and the transaction around it, are undone. `.state` is the SQLSTATE."""

    def __init__(self, state: str, message: str) -> None:
        self.state, self.message = state, message
        super().__init__(f"{message} (SQLSTATE {state})")


class Lost(Exception):
    """The connection broke or could not be made; the statement under way may have been done or not.

    `.state` is the SQLSTATE of the server's last words, where it said any; libpq keeps none of a failed connect.
    """

    def __init__(self, message: str, state: str = "", *, password: str = "") -> None:
        self.state = state
        self.password = password  # advice, where the server asked for one and did not let us in
        super().__init__(message)


class Answer(NamedTuple):
    """What a statement returned."""

    rows: list[tuple[bytes | None, ...]]  # in binary, of a script in text
    tag: str  # "UPDATE 1"

    @property
    def touched(self) -> int:
        """How many rows a statement changed or returned."""
        return int(self.tag.rpartition(" ")[2])


def binary(value: Value) -> bytes | None:
    if value is None or type(value) is bytes:
        return value
    if type(value) is int:
        return value.to_bytes(8, signed=True)
    if type(value) is str:
        return value.encode()
    if type(value) is bool:
        return b"\1" if value else b"\0"
    return _array(value)  # type: ignore[arg-type]


def _array(values: Sequence[bytes | None]) -> bytes:
    """Return a bytea[] in binary: dimensions, nulls or not, the type; the length, the lower bound; values."""
    head = [1, int(None in values), _BYTEA_OID, len(values), 1] if values else [0, 0, _BYTEA_OID]
    parts = [word.to_bytes(4) for word in head]
    parts += [_NULL if value is None else len(value).to_bytes(4) + value for value in values]
    return b"".join(parts)


def number(value: bytes | None) -> int:
    """Return a bigint that came in binary; 0 for NULL."""
    return 0 if value is None else int.from_bytes(value, signed=True)
