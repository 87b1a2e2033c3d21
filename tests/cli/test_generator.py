"""The generator of made-up OpenClaw stores: the same for the same seed, in the sizes that people reported."""

from __future__ import annotations

import json

import pytest

from bench import openclaw


def _size(entry: openclaw.Entry) -> int:
    return len(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize("name", openclaw.SIZE_CLASSES)
def test_entries_have_the_size_of_their_class(name: str) -> None:
    size = openclaw.SIZE_CLASSES[name]
    for seed in range(10):
        entry = openclaw.entry(name, seed)
        assert size.low <= _size(entry) <= size.high
        assert openclaw.entry(name, seed) == entry


def test_a_population_is_the_same_for_the_same_seed() -> None:
    first = openclaw.population("personal", 5)
    assert (len(first), list(first.items())) == (72, list(openclaw.population("personal", 5).items()))
    assert first != openclaw.population("personal", 6)
    assert sum(":run:" in key for key in first) == 56


def test_keys_are_all_different() -> None:
    made = list(openclaw.keys(20_000, 1))
    assert len(set(made)) == 20_000
    assert made[:50] == list(openclaw.keys(20_000, 1))[:50]
    assert all(key.startswith("agent:") for key in made)
