"""What a process has open of an index: connections lent to one user at a time, and nothing followed or waited for."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from shardstore._files.change_file.file import Unusable
from shardstore._files.marker import read_settings, write_settings
from tests.index.actors import Actor, change_file, nobody_waits_at

Make = Callable[..., Actor]


def test_a_connection_is_lent_to_one_at_a_time(pair: tuple[Actor, Actor]) -> None:
    """And lent again when it is given back; one to be read is not one to be written."""
    _, lister = pair
    place = lister.place
    place.close_idle()
    first, second = place.take(write=False), place.take(write=False)
    assert first is not second
    place.give_back(first)
    writing = place.take(write=True)
    assert writing is not first
    assert place.take(write=False) is first
    for one in (first, second, writing):
        one.close()


def test_who_may_only_read_keeps_one_connection(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A list asks for one to write through, and gets one to read through: that is lent again too."""
    _, lister = pair
    lister.place.close_idle()
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    for _ in range(5):
        assert lister.list()
    assert [len(idle) for idle in lister.place._idle] == [1, 0]


def test_what_is_no_file_is_not_opened(pair: tuple[Actor, Actor]) -> None:
    """A FIFO would make SQLite wait for ever."""
    writer, lister = pair
    lister.place.close_idle()
    path = writer.root / "index" / "catalog"
    path.unlink()
    with pytest.raises(Unusable, match="there is no index"):
        lister.place.take(write=False)
    os.mkfifo(path)
    with nobody_waits_at(path), pytest.raises(Unusable, match="not a regular file"):
        lister.place.take(write=False)
    path.unlink()


def test_other_settings_drop_the_connections(pair: tuple[Actor, Actor]) -> None:
    """Rows of other fields are not to be asked for by these."""
    _, lister = pair
    place = lister.place
    old = place.take(write=False)
    write_settings(place.layout, read_settings(place.layout)._replace(indexed=("n",)))
    place.reread_settings()
    assert place.indexed == ("n",)
    place.give_back(old)
    assert place._idle == ([], [])


def test_the_change_file_stays_open_until_another_has_its_part(pair: tuple[Actor, Actor]) -> None:
    writer, lister = pair
    name = change_file(writer.root).name
    opened = lister.place.change_file(name)
    assert lister.place.change_file(name) is opened
    opened.close()
    assert lister.place.change_file(name) is not opened


def test_a_forked_child_keeps_its_hands_off_its_parents_connections(pair: tuple[Actor, Actor]) -> None:
    """Closing one would drop the parent's locks; it opens its own."""
    _, lister = pair
    place = lister.place
    lent = place.take(write=False)
    place.give_back(lent)
    place.after_fork()
    own = place.take(write=False)
    assert own is not lent
    assert lent.begin() == own.begin(), "the inherited one was closed"
    lent.end()
    own.end()
    lent.close()
    own.close()
