"""How values sort: one order for every engine, as bytes that a database compares without knowing what they mean.

null < false < true < numbers < texts < arrays < objects. Numbers compare exactly, texts by code point, arrays and
objects by their JSON. Bytes are equal exactly where two scalars are: 5 and 5.0 are, 1 and true are not.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from shardstore import _codec as codec

NULL, FALSE, TRUE, NUMBER, TEXT, ARRAY, OBJECT = (b"%d" % digit for digit in range(7))

_DOUBLE: Final = struct.Struct(">d")
_SIGN, _ALL = 1 << 63, 2**64 - 1
_EXACT: Final = 2**53  # from here on a float rounds an int; the difference stands behind it
_MIDDLE: Final = 2**15  # differences of 64-bit ints to their floats are far smaller, either way


def sort_key(value: Any) -> bytes:
    """Return the bytes that one JSON value sorts by."""
    kind = type(value)
    if kind is str:
        text: bytes = value.encode()
        return TEXT + text
    if kind is int or kind is float:
        return NUMBER + _number(value)
    if value is None:
        return NULL
    if kind is bool:
        return TRUE if value else FALSE
    return (ARRAY if kind is list else OBJECT) + codec.dumps(value)


def _number(value: float) -> bytes:
    near = float(value)
    bits = int.from_bytes(_DOUBLE.pack(near + 0.0))  # + 0.0: minus zero equals zero
    bits = bits ^ _ALL if bits & _SIGN else bits | _SIGN
    rest = value - int(near) if type(value) is int and abs(value) > _EXACT else 0
    return bits.to_bytes(8) + int(rest + _MIDDLE).to_bytes(2)


def type_range(key: bytes) -> tuple[bytes, bytes]:
    """Return the bounds (from, below) of all keys that have the type of this one."""
    return key[:1], bytes([key[0] + 1])
