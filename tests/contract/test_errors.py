"""The errors: a closed tree, each also a builtin, and each the same on the other side of a process boundary."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import shardstore
from shardstore import errors

TREE: dict[str, type[BaseException]] = {
    "SessionNotFound": KeyError,
    "RevisionNotFound": KeyError,
    "SessionExists": Exception,
    "Conflict": Exception,
    "LockTimeout": TimeoutError,
    "HoldExpired": TimeoutError,
    "LogReplaced": LookupError,
    "WatchExpired": Exception,
    "NestedUpdate": RuntimeError,
    "StoreBusy": RuntimeError,
    "CorruptShard": Exception,
    "InvalidKey": ValueError,
    "InvalidEntry": ValueError,
    "InvalidQuery": ValueError,
    "StoreUnavailable": ConnectionError,
    "StoreFull": OSError,
    "StoreIOError": OSError,
    "CommitUncertain": OSError,
    "StoreClosed": Exception,
    "StoreNotFound": FileNotFoundError,
    "StoreIncomplete": FileNotFoundError,
    "UnsafeStore": PermissionError,
    "UnsupportedFormat": Exception,
    "UnsupportedFileSystem": Exception,
}

SAMPLES: list[BaseException] = [
    errors.SessionNotFound("k"),
    errors.RevisionNotFound("k", 3, 4, 9),
    errors.SessionExists("k"),
    errors.Conflict("k", "aaa.1", "aaa.2"),
    errors.Conflict("k", "aaa.1", None),
    errors.LockTimeout("k", 1.5, 4711),
    errors.HoldExpired("k", 60.0),
    errors.StoreUnavailable("postgresql://host/db", "refused"),
    errors.LogReplaced("k"),
    errors.WatchExpired(),
    errors.WatchExpired("the index was rebuilt"),
    errors.LockTimeout("k", 1.5),
    errors.NestedUpdate("k"),
    errors.StoreBusy(),
    errors.CorruptShard("/x/y.jsonl", 17, "the checksum does not match", "k"),
    errors.CorruptShard("/x/y.jsonl", 0, "not readable"),
    errors.InvalidKey("a session key may not be empty"),
    errors.InvalidEntry("entry['a'][0]", "NaN is not a JSON number"),
    errors.InvalidQuery("limit is negative"),
    errors.StoreNotFound("/nowhere"),
    errors.StoreIncomplete("/x/shards/3f"),
    errors.StoreClosed(),
    errors.StoreBusy(),
    errors.StoreBusy("a list"),
    errors.UnsafeStore("/x", "is writable by everyone"),
    errors.UnsupportedFormat("format 9"),
    errors.UnsupportedFileSystem("no locks here"),
    errors.StoreIOError(5, "Input/output error while writing", "/x/y.jsonl"),
    errors.StoreIOError(5, "Input/output error while writing"),
    errors.StoreFull(28, "No space left on device while writing", "/x/y.jsonl"),
    errors.CommitUncertain(5, "Input/output error while syncing", "/x/y.jsonl"),
]


@pytest.mark.parametrize("name", TREE)
def test_every_error_is_a_shardstore_error_and_a_builtin(name: str) -> None:
    """Code that knows nothing of shardstore catches each error by the builtin it expects."""
    kind = getattr(errors, name)
    assert issubclass(kind, errors.ShardStoreError)
    assert issubclass(kind, TREE[name])
    assert getattr(shardstore, name) is kind


def test_the_tree_is_closed() -> None:
    """No error exists that the contract does not list, and every listed one has a sample below."""
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ShardStoreError)
    }
    assert found == {"ShardStoreError", *TREE}
    assert {type(sample).__name__ for sample in SAMPLES} == set(TREE)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_errors_survive_pickling(sample: BaseException) -> None:
    """Class, message and every attribute are the same after pickle and copy."""
    for twin in (pickle.loads(pickle.dumps(sample)), copy.copy(sample), copy.deepcopy(sample)):
        assert type(twin) is type(sample)
        assert str(twin) == str(sample)
        assert _attributes(twin) == _attributes(sample)


def _attributes(error: BaseException) -> dict[str, Any]:
    names = (
        "key",
        "expected",
        "found",
        "waited",
        "pid",
        "rev",
        "first",
        "last",
        "path",
        "offset",
        "reason",
        "root",
        "errno",
        "filename",
    )
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def test_messages_say_what_to_do() -> None:
    """The messages name the key, the place and the numbers that a person needs."""
    assert "4711" in str(errors.LockTimeout("agent:k", 1.5, 4711))
    assert "agent:k" in str(errors.LockTimeout("agent:k", 1.5, 4711))
    assert "1.5" in str(errors.LockTimeout("agent:k", 1.5, 4711))
    corrupt = str(errors.CorruptShard("/x/y.jsonl", 17, "the checksum does not match", "agent:k"))
    for part in ("/x/y.jsonl", "17", "the checksum does not match", "repair"):
        assert part in corrupt
    assert str(errors.SessionNotFound("agent:k")).startswith("no session"), "KeyError would have quoted the message"
