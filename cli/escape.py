"""Escape characters that are invisible or steer a terminal, in text and in JSON.

Keys, fields, actors and paths are other people's text. A control sequence in one rewrites the screen, a bidi override
shows it backwards, an invisible character makes two keys look alike.
"""

from __future__ import annotations

import json
import re

_BMP_MAX = 0xFFFF
# Python calls these printable, but nobody sees them: joiners, fillers, the blank Braille cell, variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def text(raw: str) -> str:
    r"""Return `raw` with every unseen character as Python writes it: `\n`, `\x9b`, `\u202e`."""
    return raw if _is_plain(raw) else "".join(c if _is_plain(c) else ascii(c)[1:-1] for c in raw)


def lines(raw: str) -> str:
    """Return text of several lines with everything escaped but the ends of its lines."""
    return "\n".join(map(text, raw.split("\n")))


def json_bytes(raw: bytes) -> bytes:
    r"""Return JSON with every unseen character in its strings as `\uXXXX`; it reads back equal.

    `raw` is the output of a JSON writer, which escapes control characters up to U+001F itself.
    """
    return raw if raw.isascii() and b"\x7f" not in raw else json_text(raw.decode()).encode()


def json_text(raw: str) -> str:
    """Return JSON text as `json_bytes` does; half a surrogate pair, which no encoding takes, is escaped too."""
    unseen = {ord(c): _json_escape(c) for c in set(raw) if c != "\n" and not _is_plain(c)}
    return raw.translate(unseen) if unseen else raw


def _is_plain(raw: str) -> bool:
    return raw.isprintable() and (raw.isascii() or _INVISIBLE.search(raw) is None)


def _json_escape(character: str) -> str:
    """Return the escape of one character; json.dumps leaves U+007F as it is."""
    return f"\\u{ord(character):04x}" if ord(character) <= _BMP_MAX else json.dumps(character)[1:-1]
