"""From the start of a process to its first get and first update, and whole commands at a shell.

The programs are short and written out, one for each store: importing the benchmark itself would be most of the time.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import outside
from bench.measure import NS_PER_S, Summary
from bench.peers import SPECS
from bench.plan import Case, Metrics, Stage, opened
from bench.sizes import HOT, entries
from bench.workloads.population import store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NAME = "cold"
ABOUT = "process start to first get and first update; `shardstore get` and `inspect` as whole processes"
PYTHON = "python alone"
IMPORTS = "python importing typer, rich, orjson, sqlite3"
GET = "shardstore get"
INSPECT = "shardstore inspect"
SESSIONS = 50
ENOUGH = 50  # starts in one round
SHARDSTORE = "from shardstore import Store\nstore = Store(f'{root}/store', durability='relaxed')\n"
SQLITE = (
    "import sqlite3, orjson\ndb = sqlite3.connect(f'{root}/sessions.db', isolation_level=None, timeout=60)\n"
    "db.execute('PRAGMA synchronous=NORMAL')\nread = lambda: orjson.loads(db.execute("
    "'SELECT data FROM sessions WHERE key = ?', (key,)).fetchone()[0])\n"
)
LMDB = (
    "import lmdb, orjson\nenv = lmdb.open(f'{root}/lmdb', map_size=4 << 30, sync=False, metasync=False)\n"
    "txn = env.begin(write=WRITE)\nentry = orjson.loads(txn.get(key.encode()))\n"
)
DISKCACHE = "import diskcache, orjson\ncache = diskcache.Cache(f'{root}/cache')\n"
PERFILE = (
    "import orjson, os\nfrom hashlib import blake2b\n"
    "path = f'{root}/{blake2b(key.encode(), digest_size=16).hexdigest()}.json'\n"
)
PROGRAMS = {
    PYTHON: ("", ""),
    "shardstore": (
        SHARDSTORE + "store[key]['totalTokens']",
        SHARDSTORE + "def bump(draft): draft['totalTokens'] += 1\nstore.update(key, bump)",
    ),
    "sqlite": (
        SQLITE + "read()['totalTokens']",
        SQLITE + "db.execute('BEGIN IMMEDIATE')\nentry = read()\nentry['totalTokens'] += 1\n"
        "db.execute('UPDATE sessions SET data = ? WHERE key = ?', (orjson.dumps(entry), key))\ndb.execute('COMMIT')",
    ),
    "lmdb-nosync": (
        LMDB.replace("WRITE", "False") + "entry['totalTokens']",
        LMDB.replace("WRITE", "True") + "entry['totalTokens'] += 1\n"
        "txn.put(key.encode(), orjson.dumps(entry))\ntxn.commit()",
    ),
    "diskcache": (
        DISKCACHE + "orjson.loads(cache[key])['totalTokens']",
        DISKCACHE + "with cache.transact():\n    entry = orjson.loads(cache[key])\n    entry['totalTokens'] += 1\n"
        "    cache[key] = orjson.dumps(entry)",
    ),
    "perfile": (
        PERFILE + "orjson.loads(open(path, 'rb').read())['totalTokens']",
        "from filelock import FileLock\n" + PERFILE + "with FileLock(path + '.lock'):\n"
        "    entry = orjson.loads(open(path, 'rb').read())\n    entry['totalTokens'] += 1\n"
        "    open(path + '.tmp', 'wb').write(orjson.dumps(entry))\n    os.replace(path + '.tmp', path)",
    ),
}  # fmt: skip


def cases(stage: Stage) -> Iterator[Case]:
    """Yield first get, first update, and the commands."""
    outside.compile_library()
    for place, what in enumerate(("first get", "first update")):
        yield Case(NAME, what, tuple(PROGRAMS), partial(_program, place), stage.plan.seconds * 2)
    size = stage.plan.list_sizes[-1]
    yield Case(
        NAME,
        f"command line, {size:,} sessions",
        (IMPORTS, GET, INSPECT),
        partial(_command, size),
        stage.plan.seconds * 3,
    )


@contextmanager
def _program(place: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    code = f"import sys\nroot, key = sys.argv[1:]\n{PROGRAMS[store][place]}\nimport time\nprint(time.monotonic_ns())\n"
    with stage.fresh() as root:
        if store in SPECS:
            with opened(store, root) as peer:
                peer.fill(entries("1 KB", SESSIONS))
        yield partial(_repeat, outside.python(code, root, HOT), until_it_says=True)


@contextmanager
def _command(size: int, stage: Stage, store: str) -> Iterator[Callable[[float], Metrics]]:
    if store == IMPORTS:
        yield partial(_repeat, outside.python("import typer, rich, orjson, sqlite3"))
        return
    root = store_of(stage, size)
    with opened("shardstore", root) as peer:
        key = peer.newest(1)[0].key
    command = [*outside.shardstore(), store.split()[1], "--store", str(root / "store")]
    yield partial(_repeat, [*command, *([key] if store == GET else [])])


def _repeat(command: Sequence[str], seconds: float, *, until_it_says: bool = False) -> Metrics:
    """Start the command again and again; Summary of the time until it ends, or until the moment it prints."""
    taken: list[int] = []
    end = time.monotonic_ns() + int(seconds * NS_PER_S)
    while not taken or (time.monotonic_ns() < end and len(taken) < ENOUGH):
        begun = time.monotonic_ns()
        told = outside.run(command)
        ended = time.monotonic_ns()
        taken.append((int(told.split()[-1]) if until_it_says else ended) - begun)
    return Summary.of(taken).metrics()
