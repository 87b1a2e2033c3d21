"""Every changed byte and every length of both files of a session with a log: an older truth or an error, never another log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, LogReplaced, Store
from tests.support import disk, settling

KEY = "agent:chat"
COUNT = 14  # items: some are settled, some are not
pytestmark = pytest.mark.damages("one of the two files")


def message(number: int) -> dict[str, Any]:
    return {"n": number, "content": f"{number:03}" * 20}


class Pair:
    """The two files of one session, as they were written, and what may be read of them."""

    def __init__(self, root: Path) -> None:
        with Store(root) as store:
            for number in range(COUNT):
                store.append(KEY, [message(number)], {"n": number}, ids=[f"id{number}"])
            self.states = [(session.data, len(session.log)) for session in store.history(KEY)]
            self.settled = store.engine.read(KEY).log.kept
        self.root = root
        self.journal = disk.shard(root, KEY)
        [self.log] = root.glob("shards/*/*.log.jsonl")
        self.whole = {path: path.read_bytes() for path in (self.journal, self.log)}

    def judge(self, path: Path, data: bytes, where: str) -> None:
        """Have other bytes in a file, and read all of the session in parts: what comes back once stood there.

        No damage of the journal leaves its newest record, and none of the log the items of its file.
        """
        path.write_bytes(data)
        with Store(self.root, read_only=True) as store:
            if path == self.log and data != self.whole[path][:-1]:  # no item goes with the last newline
                with pytest.raises(CorruptShard):
                    store.log(KEY, 0, self.settled)
            try:
                session = store[KEY]
            except (CorruptShard, KeyError):
                return
            assert (session.data, len(session.log)) in self.states[: None if path == self.log else -1], where
            for start, stop in ((0, self.settled), (self.settled, COUNT), (0, COUNT), (5, 6)):
                wanted = [message(number) for number in range(COUNT)][: len(session.log)][start:stop]
                try:
                    assert session.log[start:stop] == wanted, where
                    assert session.log.ids(start, stop) == [f"id{one['n']}" for one in wanted], where
                except (CorruptShard, LogReplaced):
                    continue
            try:
                assert session.log.find("id5") in (5, None), where
            except (CorruptShard, LogReplaced):
                return

    def goes_on(self, where: str) -> None:
        """Where the fields can be read they can be written, and items can be added, past the damage."""
        with Store(self.root) as store:
            try:
                length = len(store[KEY].log)
            except (CorruptShard, KeyError):
                return
            for number in range(6):  # also past the limit at which items are settled
                store.append(KEY, [message(900 + number)], {"still": number})
            assert len(store[KEY].log) == length + 6, where
            assert store.log(KEY, -6) == [message(900 + number) for number in range(6)], where


@pytest.fixture
def pair(root: Path) -> Iterator[Pair]:
    settling.settle_at(700)
    made = Pair(root)
    assert 5 < made.settled < COUNT - 1
    yield made
    for path, data in made.whole.items():
        path.write_bytes(data)


def flip(pair: Pair, path: Path, positions: range, bits: range) -> None:
    data = pair.whole[path]
    for position in positions:
        for bit in bits:
            changed = bytearray(data)
            changed[position] ^= 1 << (bit if len(bits) > 1 else position % 8)
            pair.judge(path, bytes(changed), f"bit {bit} of byte {position} of {path.name}")


def cut(pair: Pair, path: Path, lengths: range) -> None:
    for length in lengths:
        pair.judge(path, pair.whole[path][:length], f"{path.name} cut at {length}")


@pytest.mark.sampled
@pytest.mark.parametrize("which", ["log", "journal"])
def test_changed_bytes_and_lengths(pair: Pair, which: str) -> None:
    path: Path = getattr(pair, which)
    end = disk.end(pair.whole[path])
    flip(pair, path, range(0, end, 23), range(1))
    cut(pair, path, range(0, end, 31))


@pytest.mark.sampled
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_appends_go_on_past_a_log_that_was_cut(pair: Pair, share: float) -> None:
    os.truncate(pair.log, int(len(pair.whole[pair.log]) * share))
    pair.goes_on(f"cut at {share}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("which", ["log", "journal"])
def test_every_bit_of_every_byte(pair: Pair, which: str) -> None:
    path: Path = getattr(pair, which)
    flip(pair, path, range(disk.end(pair.whole[path])), range(8))


@pytest.mark.exhaustive
@pytest.mark.parametrize("which", ["log", "journal"])
def test_every_length(pair: Pair, which: str) -> None:
    path: Path = getattr(pair, which)
    cut(pair, path, range(disk.end(pair.whole[path])))


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_appends_go_on_beside_every_damage_of_the_log(pair: Pair, how: str) -> None:
    """A session of which one file is damaged is put back for each try."""
    data = pair.whole[pair.log]
    for position in range(0, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        for path, content in pair.whole.items():
            path.write_bytes(content)
        for other in pair.root.glob("shards/*/*.log.jsonl"):
            if other != pair.log:
                other.unlink()
        pair.log.write_bytes(bytes(changed) if how == "flipped" else data[:position])
        pair.goes_on(f"{how} at {position}")
