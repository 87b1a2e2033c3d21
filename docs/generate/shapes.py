"""The JSON that each command prints, as a shape: the names of its members, with the type of each value.

The commands run on a small store made here, so a shape is that of real output.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from shardstore_cli import app, exits

from shardstore import Store

CHAT: Final = "agent:chat"
BEGINNING: Final = "BEGINNING"  # in a call: the store's token before it was filled
# How each command is called for its shape, in this order: later ones meet what earlier ones did.
CALLS: Final[dict[str, tuple[str, ...]]] = {
    "get": (CHAT,),
    "get-many": (CHAT,),
    "set": ("agent:new", '{"status": "new"}'),
    "create-many": ("rows.jsonl",),
    "patch": ("agent:new", "status=done"),
    "revert": ("agent:new", "1"),
    "append": ("agent:new", '{"role": "user"}'),
    "log": (CHAT, "-n", "1"),
    "watch": ("--since", BEGINNING, "--timeout", "0"),
    "copy": (CHAT, "agent:branch"),
    "rename": ("agent:branch", "agent:kept"),
    "delete": ("agent:kept",),
    "list": ("--prefix", CHAT),
    "list --count": ("--count",),
    "list --group-by FIELD": ("--group-by", "status"),
    "history": ("agent:new",),
    "inspect": (),
    "inspect KEY": (CHAT,),
    "stats": (),
    "prune": ("--where", "status=old"),
    "archive list": (),
    "restore": ("agent:old",),
    "restore --prefix": ("--prefix", "agent:older"),
    "archive purge": ("--all",),
    "compact": (),
    "verify": (),
    "import openclaw": ("sessions.json",),
    "reindex": ("status",),
    "copy-store": ("sessions", "copy"),
    "doctor": (),
}
# These print the entries of another program and have no members of their own.
WITHOUT: Final = frozenset({"export openclaw"})
_OWN: Final = frozenset({"data", "fields", "value"})  # members that hold a user's values
_MAY_BE_TEXT: Final = frozenset({"index_unusable", "key", "refused", "skipped_file"})  # and are null here


def of(*words: str) -> str:
    """Return the shape of what a command prints with --json; several, where it has several."""
    name = " ".join(words)
    shapes = {call: shape for call, shape in _all().items() if call == name or call in _ways(name)}
    if not shapes:
        raise KeyError(f"no call of {name} in CALLS")
    parts = []
    for call, shape in shapes.items():
        intro = f"`shardstore {call} --json` prints:" if len(shapes) > 1 else "With `--json` it prints:"
        parts.append(f"{intro}\n\n```text\n{shape}\n```")
    return "\n\n".join(parts)


def _ways(name: str) -> list[str]:
    """Return the calls of a command whose output has another shape than its plain call."""
    return [call for call in CALLS if call == f"{name} KEY" or call.startswith(f"{name} --")]


@cache
def _all() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        token = _prepare(Path(place))
        calls = {call: [token if one == BEGINNING else one for one in words] for call, words in CALLS.items()}
        return {call: _text(_shape(_run(call, arguments))) for call, arguments in calls.items()}


def _prepare(place: Path) -> str:
    """Create a store in which each command finds something to print; one session is damaged. Return a token."""
    with Store(place / "sessions", actor="agent:main") as store:
        token = store.token()
        store.append(CHAT, [{"role": "user", "content": "hi"}], {"status": "running"}, ids=["m1"])
        store.create("agent:old", {"status": "old"})
        store.create("agent:older", {"status": "old"})
        store.create("agent:gone", {"status": "old"})
        for number in range(40):  # a journal that compact rewrites
            store.patch("agent:grown", {"text": f"{number}" * 1500})
        store.create("agent:broken", {"status": "broken"})
        store.patch("agent:broken", {"n": 1})  # damage in front of a durable record is no torn tail
        broken = Path(store.engine.place("agent:broken") or "")
    broken.write_bytes(broken.read_bytes().replace(b"broken", b"BROKEN", 1))
    (place / "sessions" / "foreign.txt").write_text("not the store's\n")
    entry = {"sessionId": "s-1", "updatedAt": 1_760_000_000_000}
    (place / "sessions.json").write_text(json.dumps({"agent:imported": entry}))
    (place / "rows.jsonl").write_text('{"key": "agent:many", "data": {}}\n')
    return token


def _run(call: str, arguments: list[str]) -> Any:
    """Run a command in this process, in a tenth of the time of a new one; return the first object of its output."""
    words = [word for word in call.split() if word.islower() and not word.startswith("-")]
    store = [] if call == "copy-store" else ["--store", "sessions"]
    old, sys.argv = sys.argv, ["shardstore", *words, *arguments, "--json", *store]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app.run()
    finally:
        sys.argv = old
    if code not in (exits.OK, exits.ERROR if call in ("compact", "copy-store") else exits.CORRUPT):
        raise RuntimeError(f"shardstore {call}: exit code {code}: {_text_of(err)}")
    return json.JSONDecoder().raw_decode(_text_of(out))[0]


def _text_of(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def _shape(value: Any, name: str = "") -> Any:
    """Return a value with the names of types in place of values."""
    if isinstance(value, dict):
        return "<any JSON>" if name in _OWN else {key: _shape(child, key) for key, child in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    if value is None:
        return "<text or null>" if name in _MAY_BE_TEXT else "<null>"
    return {bool: "<true or false>", int: "<number>", float: "<number>", str: "<text>"}[type(value)]


def _text(shape: Any) -> str:
    return re.sub(r'"<([\w ]+)>"', r"\1", json.dumps(shape, indent=2, ensure_ascii=False))
