"""The operations that are interrupted, each with the store it begins with.

What may be found after an interruption is measured, not written down here: the truth before, and the truth
after the same operation on a copy when nobody interrupts it.  `proof` says in a line what the two must be.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardstore import CorruptShard, Session, SessionNotFound, ShardStoreError, Store

Truth = dict[str, Any]
"""Every session that any test of an operation speaks of: its entry, None when absent, DAMAGED when unreadable."""
DAMAGED = "CorruptShard"
BLOB = "x" * 900
MAIN = "agent:main:main"
SESSIONS = (MAIN, "agent:main:telegram:direct:4711", *(f"agent:main:cron:job:run:{n:04d}" for n in range(2, 8)))
KEYS = (*SESSIONS, "new", "gone")


@dataclass(frozen=True)
class Operation:
    """One thing a program does to a store.

    `prepare(root)` makes the template, `warm(store)` is done before an interruption can begin, `run(store,
    root)` is what is interrupted; with `cold` it gets no store and opens one itself.  `single` names the key
    when only one session is concerned: a plain error then means that nothing changed.
    """

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Store, Path], Any]
    proof: Callable[[Truth, Truth], bool]
    single: str | None = None
    warm: Callable[[Store], Any] | None = None
    durability: str = "commit"
    cold: bool = False
    invariant: Callable[[Truth], bool] = lambda truth: True  # of what may be found, whatever happened


def entry(n: int) -> dict[str, Any]:
    """Return a small entry of a session."""
    return {"n": n, "model": "m1", "status": "running" if n % 2 else "done", "blob": BLOB, "nested": {"a": [1, n]}}


def read_truth(store: Store) -> Truth:
    """Ask for every session one by one; the index is not consulted."""
    truth: Truth = {}
    for key in KEYS:
        try:
            session = store.get(key)
            truth[key] = None if session is None else signed(session)
        except CorruptShard:
            truth[key] = DAMAGED
    return truth


def signed(session: Session) -> dict[str, Any]:
    """Return the fields of a session whose log is the one they were committed with; else what is there instead."""
    data = session.data
    if "log" not in data and not session.log:
        return data
    found = signature(session.log[:])
    return (
        data if data.get("log") == found else {**data, "log": f"SPLIT: the fields say {data.get('log')}, it is {found}"}
    )


def signature(items: list[Any]) -> list[int]:
    """Return what tells one log from every other: its length and a checksum of its items."""
    return [len(items), zlib.crc32(json.dumps(items).encode())]


def sign(draft: Any) -> None:
    """Write into the fields which log they are committed with."""
    draft["log"] = signature(draft.log[:])


def shard_of(root: Path, key: str) -> Path:
    """Find the shard of a key by reading, as a person with grep would."""
    wanted = b'"key":' + json.dumps(key).encode()
    return next(p for p in sorted(root.glob("shards/*/*.jsonl")) if wanted in p.read_bytes())


def populate(root: Path, count: int) -> None:
    """Create a store with `count` sessions and a current index."""
    with Store(root) as store:
        for n in range(count):
            store.update(SESSIONS[n], lambda d, n=n: d.update(entry(n)))
        store.list()


def nothing(root: Path) -> None:
    """Leave no store there at all."""


def three(root: Path) -> None:
    """Create three sessions, listed once."""
    populate(root, 3)


def almost_rewritten(root: Path) -> None:
    """Create three; the next patch of MAIN finds a journal so long that it is rewritten."""
    three(root)
    with Store(root) as store:
        for i in range(200):
            shard = shard_of(root, MAIN)
            kept = shard.read_bytes()
            store.patch(MAIN, {"filler": f"{i:04d}" * 500})
            if len(shard_of(root, MAIN).read_bytes().rstrip()) < len(kept.rstrip()):
                shard_of(root, MAIN).write_bytes(kept)
                return
    raise AssertionError("200 patches of 2 KB and the journal was never rewritten")


def almost_grown(root: Path) -> None:
    """Create three; the next record of MAIN does not fit into the preallocated space."""
    three(root)
    shard = shard_of(root, MAIN)
    with Store(root) as store:
        for i in range(1000):
            if shard.stat().st_size - len(shard.read_bytes().rstrip()) < 400:
                return
            store.patch(MAIN, {"tick": i})
    raise AssertionError("1,000 patches and the preallocated space is not used up")


def torn(root: Path) -> None:
    """Create three, with the first half of a record at the end of MAIN's journal."""
    three(root)
    shard = shard_of(root, MAIN)
    data = shard.read_bytes()
    end = len(data.rstrip()) + 1
    half = b'{"crc":"00000000","rev":2,"at":1763800000456,"by":"dead","set":{"n":66'
    shard.write_bytes(data[:end] + half + data[end + len(half) :])


def deleted(root: Path) -> None:
    """Create three and delete MAIN."""
    three(root)
    with Store(root) as store:
        assert store.delete(MAIN)


def eight(root: Path) -> None:
    """Create eight, of which the odd ones changed after the last list, and one more that was deleted."""
    populate(root, 8)
    with Store(root) as store:
        store.update("gone", lambda d: d.update(x=1))
        store.delete("gone")
        for key in SESSIONS[1::2]:
            store.patch(key, {"touched": True})


def noted(root: Path) -> None:
    """Create eight, one of them changed by another process too."""
    eight(root)
    pid = os.fork()
    if pid == 0:
        with Store(root) as store:
            store.patch(SESSIONS[2], {"touched": True})
        os._exit(0)
    os.waitpid(pid, 0)


def without_index(root: Path) -> None:
    """Create eight; somebody removed the index."""
    eight(root)
    shutil.rmtree(root / "index")


def damaged(root: Path) -> None:
    """Create three; the third of MAIN's five records is damaged, whole durable ones are behind it."""
    three(root)
    with Store(root) as store:
        for n in range(1, 5):
            store.patch(MAIN, {"n": n})
    shard = shard_of(root, MAIN)
    lines = shard.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b'"n":2', b'"n":7')
    shard.write_bytes(b"\n".join(lines))


def archived(root: Path) -> None:
    """Create eight and archive four of them."""
    eight(root)
    with Store(root) as store:
        _compact(store, root)


def export(root: Path) -> None:
    """Create an empty store and, beside it, the sessions.json of another host with three entries."""
    Store(root).close()
    source = root.parent / "openclaw"
    source.mkdir(exist_ok=True)
    rows = {k: {"sessionId": f"s{n}", "updatedAt": 1763800000000 + n, **entry(n)} for n, k in enumerate(SESSIONS[:3])}
    (source / "sessions.json").write_text(json.dumps(rows, indent=2))


def _create(store: Store, _root: Path) -> None:
    store.update("new", lambda d: d.update(a=1))


def _patch(store: Store, _root: Path) -> None:
    store.patch(MAIN, {"n": 99}, unset=["model"])


def _filler(store: Store, _root: Path) -> None:
    store.update(MAIN, lambda d: d.update(n=99, filler="y" * 1500))


def _replace(store: Store, _root: Path) -> None:
    store.replace(MAIN, {"whole": BLOB})


def _delete(store: Store, _root: Path) -> None:
    assert store.delete(MAIN)


def _again(store: Store, _root: Path) -> None:
    store.create(MAIN, {"again": True})


class NotAllDone(ShardStoreError):
    """The report says that something could not be done: no acknowledgement of the whole."""


# The log of a session. Items of 40 KB: seven of them in a journal are more than it keeps.


def item(number: int) -> dict[str, Any]:
    """Return an item of about 40 KB."""
    return {"n": number, "text": f"{number:04d}" * 10_000}


def _fill(root: Path, count: int) -> None:
    three(root)
    with Store(root, durability="relaxed") as store:
        for number in range(count):
            store.append(MAIN, [item(number)], sign, ids=[f"id{number}"])


def short_log(root: Path) -> None:
    """Create three; MAIN has three items, all in its journal."""
    _fill(root, 3)


def almost_settled(root: Path) -> None:
    """Create three; the next item of MAIN settles its log for the first time."""
    _fill(root, 6)


def long_log(root: Path) -> None:
    """Create three; MAIN has a settled file and six items in its journal: the next one is settled too."""
    _fill(root, 13)


def _cut_log(root: Path) -> None:
    """Create three; MAIN's settled items were cut, so that the next item settles into a new file."""
    long_log(root)
    with Store(root) as store, store.edit(MAIN) as draft:
        del draft.log[3:]
        draft.log.extend([item(number) for number in range(100, 106)])
        sign(draft)


def dropped_log(root: Path) -> None:
    """Create three; most of MAIN's settled file is dropped items."""
    long_log(root)
    with Store(root) as store, store.edit(MAIN) as draft:
        del draft.log[:5]
        sign(draft)


def damaged_log(root: Path) -> None:
    """Create three; one byte of MAIN's fourth item is changed, and its fields are those of the log without it."""
    long_log(root)
    with Store(root) as store:
        items = store.log(MAIN)
        store.patch(MAIN, {"log": signature([*items[:3], *items[4:]])})
    [path] = root.glob("shards/*/*.log.jsonl")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"0003", b"0009", 1))


def archived_log(root: Path) -> None:
    """Create three; MAIN, with its settled log, is archived."""
    long_log(root)
    with Store(root) as store:
        _archive(store, root)


def _append(store: Store, _root: Path) -> None:
    store.append(MAIN, [item(99)], sign, ids=["id99"])


def _edited(change: Callable[[Any], Any]) -> Callable[[Store, Path], None]:
    def run(store: Store, _root: Path) -> None:
        with store.edit(MAIN) as draft:
            change(draft.log)
            sign(draft)

    return run


def _rewind(log: Any) -> None:
    log.pop()
    del log[4:]


def _replace_all(log: Any) -> None:
    log[:] = ["summary", *log[-2:], *[item(number) for number in range(200, 207)]]


def _set_settled(log: Any) -> None:
    log[2] = "redacted"


def _copy_log(store: Store, _root: Path) -> None:
    store.copy(MAIN, "new")


def _rename(store: Store, _root: Path) -> None:
    try:
        store.rename(MAIN, "new")
    except SessionNotFound:  # an interrupted one, which the test repeats, was complete
        if not store.exists("new"):
            raise


def _archive(store: Store, _root: Path) -> None:
    report = store.prune(where={"n": 0})
    if not report.ok:
        raise NotAllDone(str(report.skipped))


def _restore_main(store: Store, _root: Path) -> None:
    store.archive.restore(MAIN)


def _compact_log(store: Store, _root: Path) -> None:
    report = store.compact()
    if not report.ok:
        raise NotAllDone(str(report.skipped))


def _erase(store: Store, _root: Path) -> None:
    store.erase_history(MAIN)


def _logs(before: int, after: int) -> Callable[[Truth, Truth], bool]:
    """Prove that MAIN's log had, and has, so many items, and that no other session changed."""

    def proof(old: Truth, new: Truth) -> bool:
        others = all(old[key] == new[key] for key in KEYS if key != MAIN)
        return others and old[MAIN]["log"][0] == before and new[MAIN]["log"][0] == after

    return proof


def _still_somewhere(truth: Truth) -> bool:
    return truth[MAIN] is not None or truth["new"] is not None


def _compact(store: Store, _root: Path, *, purge: bool = False) -> None:
    report = store.prune(max_entries=4, keep=(MAIN,), purge=purge)
    if not report.ok:
        raise NotAllDone(str(report.skipped))


def _purge(store: Store, root: Path) -> None:
    _compact(store, root, purge=True)


def _restore(store: Store, _root: Path) -> None:
    store.archive.restore(SESSIONS[2])


def _restore_all(store: Store, _root: Path) -> None:
    report = store.archive.restore_many()
    if not report.ok:
        raise NotAllDone(str(report.skipped))


def _create_many(store: Store, _root: Path) -> None:
    store.create_many([(key, entry(n)) for n, key in enumerate(KEYS)], on_exists="skip")


def _delete_all(store: Store, _root: Path) -> None:
    store.delete_all("agent:main:cron:")


def _repair(store: Store, _root: Path) -> None:
    report = store.verify(repair=True)
    if not report.ok:
        raise NotAllDone(str(report.problems))


def _list(store: Store, _root: Path) -> None:
    assert len(store.list()) == 8


def _import(_store: Store, root: Path) -> None:
    from shardstore_cli.main import main  # the library's operations must not need the commands

    sys.argv = [
        "shardstore",
        "--store",
        str(root),
        "import",
        "openclaw",
        str(root.parent / "openclaw" / "sessions.json"),
    ]
    try:
        main()
    except SystemExit as error:
        if error.code:
            raise


def _open(_store: Store, root: Path) -> None:
    Store(root).close()


def _touch(store: Store) -> None:
    """Open MAIN's shard and note it, so that what follows is the path of a hot key."""
    store.patch(MAIN, {"warm": True})


def _read(store: Store) -> None:
    """Have MAIN's shard open, with nothing noted and nothing written."""
    assert store[MAIN]["n"] != 99


def _backed_up(store: Store) -> None:
    """Link MAIN's file to a second name, as a backup of hard links does: the next change writes a new file."""
    _touch(store)
    os.link(shard_of(store.root, MAIN), store.root.parent / "backup")


def _became(**fields: Any) -> Callable[[Truth, Truth], bool]:
    def proof(before: Truth, after: Truth) -> bool:
        others = all(before[k] == after[k] for k in KEYS if k != MAIN)
        return others and fields.items() <= after[MAIN].items() and not fields.items() <= (before[MAIN] or {}).items()

    return proof


def _halved(before: Truth, after: Truth) -> bool:
    left = [k for k in KEYS if after[k] is not None]
    return sum(v is not None for v in before.values()) == 8 and len(left) == 4 and MAIN in left


def _same(before: Truth, after: Truth) -> bool:
    return before == after and sum(v is not None for v in after.values()) == 8


OPERATIONS = {
    op.name: op
    for op in (
        Operation("open", nothing, _open, lambda b, a: b == a == dict.fromkeys(KEYS), cold=True),
        Operation("create", three, _create, lambda b, a: b["new"] is None and a["new"] == {"a": 1}, "new"),
        Operation("patch", three, _patch, _became(n=99), MAIN),
        Operation("patch-hot", three, _patch, _became(n=99), MAIN, _touch),
        Operation("patch-relaxed", three, _patch, _became(n=99), MAIN, _touch, durability="relaxed"),
        Operation("patch-grown", almost_grown, _filler, _became(n=99), MAIN),
        Operation("patch-torn", torn, _patch, _became(n=99), MAIN),
        Operation("rewrite", almost_rewritten, _filler, _became(n=99), MAIN),
        Operation("rewrite-relaxed", almost_rewritten, _filler, _became(n=99), MAIN, durability="relaxed"),
        Operation("rewrite-hot", almost_rewritten, _filler, _became(n=99), MAIN, _read),
        Operation("rewrite-linked", three, _patch, _became(n=99), MAIN, _backed_up),
        Operation("replace", three, _replace, _became(whole=BLOB), MAIN),
        Operation("delete", three, _delete, lambda b, a: b[MAIN] is not None and a[MAIN] is None, MAIN),
        Operation("create-again", deleted, _again, _became(again=True), MAIN),
        Operation("compact", eight, _compact, _halved),
        Operation("compact-purge", eight, _purge, _halved),
        Operation("restore", archived, _restore, lambda b, a: b[SESSIONS[2]] is None and a[SESSIONS[2]] is not None),
        Operation("restore-many", archived, _restore_all, lambda b, a: None in b.values() and _same(a, a)),
        Operation("create-many", three, _create_many, lambda b, a: b["new"] is None and None not in a.values()),
        Operation(
            "delete-all",
            eight,
            _delete_all,
            lambda b, a: [a[k] for k in SESSIONS[2:]] == [None] * 6 and a[MAIN] == b[MAIN],
        ),
        Operation("repair", damaged, _repair, lambda b, a: b[MAIN] == DAMAGED and isinstance(a[MAIN], dict)),
        Operation("list-refresh", noted, _list, _same),
        Operation("list-rebuild", without_index, _list, _same),
        Operation("append", short_log, _append, _logs(3, 4), MAIN),
        Operation("append-relaxed", short_log, _append, _logs(3, 4), MAIN, durability="relaxed"),
        Operation("append-settle", almost_settled, _append, _logs(6, 7), MAIN),
        Operation("append-settle-again", long_log, _append, _logs(13, 14), MAIN),
        Operation("append-settle-anew", _cut_log, _append, _logs(9, 10), MAIN),
        Operation("log-pop", long_log, _edited(lambda log: log.pop()), _logs(13, 12), MAIN),
        Operation("log-cut", long_log, _edited(_rewind), _logs(13, 4), MAIN),
        Operation("log-set", long_log, _edited(_set_settled), _logs(13, 13), MAIN),
        Operation("log-replace", long_log, _edited(_replace_all), _logs(13, 10), MAIN),
        Operation("log-delete", long_log, _delete, lambda b, a: b[MAIN] is not None and a[MAIN] is None, MAIN),
        Operation("log-compact", dropped_log, _compact_log, _logs(8, 8)),
        Operation("copy", long_log, _copy_log, lambda b, a: b[MAIN] == a[MAIN] == a["new"] and b["new"] is None),
        Operation(
            "rename",
            long_log,
            _rename,
            lambda b, a: b[MAIN] == a["new"] and a[MAIN] is None,
            invariant=_still_somewhere,
        ),
        Operation("log-archive", long_log, _archive, lambda b, a: b[MAIN] is not None and a[MAIN] is None),
        Operation("log-restore", archived_log, _restore_main, lambda b, a: b[MAIN] is None and a[MAIN] is not None),
        Operation("log-erase", dropped_log, _erase, _logs(8, 8), MAIN),
        Operation("log-repair", damaged_log, _repair, lambda b, a: b[MAIN] == DAMAGED and a[MAIN]["log"][0] == 12),
        Operation("import", export, _import, lambda b, a: b[MAIN] is None and a[MAIN]["n"] == 0, cold=True),
    )
}
