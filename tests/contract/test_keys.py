"""Keys: any text up to 4,096 bytes is a session of its own; everything else is an InvalidKey."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from shardstore import InvalidKey, Store
from tests.contract.backend import Backend

NASTY = [
    "agent:main:whatsapp:direct:+491701234567@s.whatsapp.net",
    "agent:main:signal:group:ygQcK9o75QuJ04+kAEkkBIuPOI1/b6Yrc=",
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "/etc/passwd",
    "C:\\Windows",
    "CON",
    "con",
    "NUL.txt",
    "~",
    "-rf",
    "a",
    "A",
    "a.",
    "a ",
    " a",
    " ",
    "\t",
    "\n",
    "\x01",
    "\x7f",
    "%2e%2e%2f",
    "a/b",
    "a\\b",
    "a:b",
    "a*b?",
    "(multiple)",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "ß",
    "SS",
    "ss",
    "ı",
    "i",
    "İ",
    "🙂",
    "👩‍👩‍👧",
    "\u202eabc",
    "\ufeffabc",
    "abc",
    "日本語",
    "a" * 2_200,
    "a" * 2_201,
    "A" * 2_200,
    "a" * 4_096,
    "é" * 2_048,
    "🙂" * 1_024,
    ".tmp-0000~a",
    "shardstore.json",
]


def test_every_key_is_a_session_of_its_own(store: Store, store_factory) -> None:
    """Keys that differ in case, normalisation, a trailing dot or one character never share a session."""
    for number, key in enumerate(NASTY):
        assert store.create(key, {"n": number}).key == key
    store.close()
    again = store_factory()  # which remembers nothing
    for number, key in enumerate(NASTY):
        assert again[key]["n"] == number
        assert again.patch(key, {"m": number}).rev == 2
    assert sorted(again) == sorted(NASTY)
    assert sorted(info.key for info in again.list(limit=1_000)) == sorted(NASTY)
    assert len(again) == len(NASTY)
    for key in NASTY:
        assert again.delete(key)
    assert list(again) == []


BAD: list[Any] = [
    "",
    "\0",
    "a\0b",
    "\ud800",
    "a\udfffb",
    "a" * 4_097,
    "é" * 2_049,
    "🙂" * 1_025,
    None,
    1,
    1.5,
    b"a",
    ("a",),
    ["a"],
]


@pytest.mark.parametrize("key", BAD, ids=lambda key: ascii(key)[:20])
def test_anything_else_is_an_invalid_key(store: Store, backend: Backend, key: Any) -> None:
    """Every verb that takes a key refuses what cannot be one, before it touches anything."""
    before = backend.written()
    for attempt in (
        lambda: store.create(key, {}),
        lambda: store.get(key),
        lambda: store[key],
        lambda: store.update(key, lambda draft: pytest.fail("called")),
        lambda: store.patch(key, {}),
        lambda: store.edit(key).__enter__(),
        lambda: store.get_or_create(key, {}),
        lambda: store.replace(key, {}),
        lambda: store.delete(key),
        lambda: store.history(key),
    ):
        with pytest.raises(InvalidKey) as caught:
            attempt()
        assert isinstance(caught.value, ValueError)
    assert backend.written() == before


def test_the_message_for_a_bad_key_is_short(store: Store) -> None:
    """A key of a megabyte is not repeated in the error."""
    with pytest.raises(InvalidKey) as caught:
        store.get("x" * 1_000_000)
    assert len(str(caught.value)) < 500
