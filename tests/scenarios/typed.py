"""What a typed store promises of the fields that its model does not change, does not know, or cannot read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from shardstore import InvalidEntry, NestedUpdate, Session, Store

KEY = "agent:main"


@dataclass
class Origin:
    ids: list[int] = field(default_factory=list)


@dataclass
class Chat:
    turns: int = 0
    cost: float = 0.0
    origin: Origin = field(default_factory=Origin)


class Struct(msgspec.Struct):
    turns: int = 0


def what_the_model_does_not_know_survives(root: Path) -> None:
    """A nested model is changed, and its members of a later version stay."""
    with Store(root) as store:
        store.create(KEY, {"origin": {"ids": [1], "later": True}, "later": [1]})
        store.typed(Chat).update(KEY, lambda chat: chat.origin.ids.append(2))
        assert store[KEY].data == {"origin": {"ids": [1, 2], "later": True}, "later": [1]}


def what_the_model_only_spells_otherwise_is_not_written(root: Path) -> None:
    """A default that is not stored stays so, and so does a number that the model has as a float."""
    with Store(root) as store:
        store.create(KEY, {"turns": 1, "cost": 5})
        store.typed(Chat).update(KEY, lambda chat: setattr(chat, "turns", 2))
        assert store[KEY].data == {"turns": 2, "cost": 5}
        assert type(store[KEY]["cost"]) is int


def what_is_put_back_is_what_was_checked(root: Path) -> None:
    """The session is deleted and made again, with another first revision, right after that one was read."""
    with Store(root) as store:
        store.create(KEY, {"turns": 1})
        store.patch(KEY, {"turns": 2})
        read = store.get

        def race(key: str, *, rev: int | None = None) -> Session | None:
            found = read(key, rev=rev)
            with suppress(NestedUpdate):
                store.delete(KEY)
                store.create(KEY, {"turns": "many"})
            return found

        store.get = race  # type: ignore[method-assign]
        assert store.typed(Chat).revert(KEY, 1).value.turns == 1
        assert read(KEY, rev=3) is not None


def what_could_not_be_read_again_is_not_written(root: Path) -> None:
    """An attribute of a wrong type, which the library writes without a word, is refused."""
    with Store(root) as store:
        store.create(KEY, {"turns": 1})
        try:
            store.typed(Struct).update(KEY, lambda chat: setattr(chat, "turns", "two"))
        except InvalidEntry as error:
            assert error.path == "entry['turns']"
        else:
            raise AssertionError("it was written")
        assert store[KEY].data == {"turns": 1}
