"""What a session key may be, for every engine."""

from __future__ import annotations

from typing import Final

from shardstore.errors import InvalidKey

KEY_BYTES_MAX: Final = 4096


def check_key(key: str) -> bytes:
    """Return the key's UTF-8 bytes; raise InvalidKey unless it can name a session."""
    if type(key) is not str:
        raise InvalidKey(f"a session key is a str, not {type(key).__name__}")
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raise InvalidKey(f"session key {key!r} holds a lone surrogate, which UTF-8 cannot encode") from None
    if not raw:
        raise InvalidKey("a session key may not be empty")
    if len(raw) > KEY_BYTES_MAX:
        raise InvalidKey(f"session key of {len(raw)} bytes; at most {KEY_BYTES_MAX} are allowed")
    if 0 in raw:
        raise InvalidKey(f"session key {key!r} holds a NUL character")
    return raw
