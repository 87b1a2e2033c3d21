"""The limits, with the numbers that the code has."""

from __future__ import annotations

from typing import Final

from shardstore import _codec, _draft_log, _keys, _model, _row
from shardstore._files import file, pool, transaction
from shardstore._verbs import arguments

from . import markdown

_SHOWN: Final = "`fields=` shows it"
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_YEAR_10000: Final = 253_402_300_800_000_000  # microseconds since 1970


def _bytes(number: int) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if number >= unit and number % unit == 0 and number // unit != 4:  # noqa: PLR2004  # 4,096 bytes are as short
            return f"{number // unit} {name}"
    return f"{number:,} bytes"


def table() -> str:
    """Return a row for each limit: its subject, its size, and what happens beyond it."""
    assert _model.TIME_MAX_US == _YEAR_10000, "the page says: before the year 10000"
    rows = [
        ("a key", f"1 to {_bytes(_keys.KEY_BYTES_MAX)} of UTF-8; no NUL, no lone surrogate", "`InvalidKey`"),
        ("the entry of a session", f"{_bytes(_codec.ENTRY_BYTES_MAX)} of compact JSON", "`InvalidEntry`"),
        ("the items of one `append`, together", f"{_bytes(_codec.ENTRY_BYTES_MAX)} of compact JSON", "`InvalidEntry`"),
        ("the log of a session", "no limit but the disk", ""),
        ("the id of an item", f"{_bytes(_draft_log._ID_BYTES_MAX)} of UTF-8", "`InvalidEntry`"),
        ("nesting of a value", f"{_codec.DEPTH_MAX} levels", "`InvalidEntry`"),
        ("an integer", f"{_power(_codec.INT_MIN)} to {_power(_codec.INT_MAX)}", "`InvalidEntry`"),
        ("a float", "finite: no NaN, no infinity", "`InvalidEntry`"),
        ("a field's name", "any text that UTF-8 can encode", "`InvalidEntry`"),
        ("`actor`", "1 to 256 characters", "`ValueError`"),
        ("revisions of one incarnation", _power(_model.REV_MAX), "a record with a larger number is damage"),
        ("a time", "before the year 10000, in microseconds", "a record with a later time is damage"),
        ("`indexed` fields", f"{arguments.INDEXED_MAX}", "`ValueError`"),
        ("a value that `list` shows unasked", f"{_bytes(_row.VALUE_BYTES_MAX)} of JSON", _SHOWN),
        ("all that `list` shows of a session unasked", f"{_bytes(_row.FIELDS_BYTES_MAX)} of JSON", _SHOWN),
        ("the file of a session", _bytes(file.FILE_BYTES_MAX), "`CorruptShard`"),
        ("a journal before it is rewritten",
         f"{_bytes(transaction.REWRITE_BYTES)} plus {transaction.REWRITE_FACTOR} times its entry",
         "the next commit rewrites it"),
        ("files of sessions that a process keeps open", f"{pool.SHARDS_MAX}", "the one used longest ago is closed"),
        ("memory for sessions in a process", _bytes(pool.CACHED_BYTES_MAX), "the one used longest ago goes"),
        ("sessions in a store", "no limit but the disk", ""),
    ]  # fmt: skip
    return markdown.table(("limit", "value", "beyond it"), rows)


def _power(number: int) -> str:
    sign, size = ("-" if number < 0 else ""), abs(number)
    if size & (size - 1) == 0:
        return f"{sign}2^{size.bit_length() - 1}"
    return f"{sign}2^{size.bit_length()} - 1"
