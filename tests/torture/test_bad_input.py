"""No bytes on the disk make the store answer wrongly, crash untyped or hang.

Each reader gets damaged versions of the real thing and things that were never real: the journal of a session, every file
of the index, the import.  A damaged journal gives a state it really went through, or CorruptShard, and nothing else; lines
with a right checksum and a senseless record in them give CorruptShard.  Every input that once found a fault is kept in
corpus/ and tried first.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardstore import CorruptShard, ShardStoreError, Store
from shardstore._files import layout
from shardstore._files.change_file import file as changes
from shardstore._journal import replay as journal
from tests.support import disk
from tests.support.everything import ask_everything

from .arena import scratch
from .harness import exhaustive, report, sampled

CORPUS = Path(__file__).parent / "corpus"
KEY = "agent:main:fuzz"
THOROUGH = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# -- journals -----------------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["a", "b", "key", "crc", "put", "set", "ü", "", "unset", '"', "\\", "\n"])
entries = st.dictionaries(names, values, max_size=4)


@st.composite
def journals(draw: st.DrawFn) -> bytes:
    """Return a whole journal: incarnations of a session with changes in them, and preallocated space behind."""
    lines, at, rev, alive = [], 1763800000000000, 0, False
    current: dict[str, Any] = {}
    durable = draw(st.booleans())
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.sampled_from([0, 1, 1000, 10**9, -2 * disk.DAY_US]))
        record: dict[str, Any] = {"rev": 0, "at": at, "by": draw(st.sampled_from(["4711", "agent:main", "ü"]))}
        if durable or draw(st.booleans()):
            record["durable"] = True
        if not alive:
            rev, alive, current = 1, True, draw(entries)
            record |= {"rev": rev, "id": f"{len(lines):024x}", "key": KEY, "put": current}
        else:
            rev += 1
            record["rev"] = rev
            kind = draw(st.sampled_from(["set", "set", "set", "put", "unset", "both", "delete"]))
            if kind == "delete":
                record["delete"], alive = True, False
            elif kind == "put":
                record["put"] = current = draw(entries)
            else:
                if kind in ("set", "both"):
                    record["set"] = draw(entries.filter(bool))
                if kind in ("unset", "both"):
                    record["unset"] = draw(
                        st.lists(
                            names.filter(lambda n: n not in record.get("set", {})), min_size=1, max_size=2, unique=True
                        )
                    )
                current = {
                    k: v for k, v in {**current, **record.get("set", {})}.items() if k not in record.get("unset", ())
                }
        lines.append(disk.line(record))
    whole = b"".join(lines)
    return whole.ljust(draw(st.sampled_from([len(whole), len(whole), 4096, 8192])), b"\n")


def went_through(data: bytes) -> list[Any]:
    """Return every state the session was in, absent first, by the tests' own reading of the format."""
    lines = data.rstrip(b"\n").split(b"\n")
    return [None, *(disk.state(b"\n".join(lines[: n + 1]) + b"\n") for n in range(len(lines)))]


def as_json(value: Any) -> str:
    """Compare as JSON text: 1, 1.0 and True are three things, the order of fields counts."""
    return json.dumps(value)


def read(data: bytes) -> Any:
    """Read a journal with the store's own reader."""
    found = journal.replay(data)
    if found.damage is not None:
        raise CorruptShard("", found.damage.offset, found.damage.reason)
    state = found.journal.state
    return None if state.fields is None else {name: json.loads(raw) for name, raw in state.fields.items()}


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return a journal and a damaged copy of it."""
    whole = draw(journals())
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(["flip", "byte", "cut", "drop", "insert", "swap", "double", "zero", "newlines", "sector"])
        )
        size = len(data)
        if not size:
            break
        at = draw(st.integers(0, size - 1))
        length = draw(st.integers(1, 40))
        if kind == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte":
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + length]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif kind == "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif kind == "newlines":
            data[at : at + length] = b"\n" * len(data[at : at + length])
        elif kind == "sector":
            start = at - at % 512
            data[start : start + 512] = draw(st.sampled_from([b"\0", b"\n"])) * len(data[start : start + 512])
        else:
            lines = bytes(data).split(b"\n")
            i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
            if kind == "swap":
                lines[i], lines[j] = lines[j], lines[i]
            else:
                lines.insert(j, lines[i])
            data = bytearray(b"\n".join(lines))
    return whole, bytes(data)


def check_damaged(whole: bytes, data: bytes) -> None:
    """Hold what is read of the damaged copy against what the session really went through."""
    try:
        found = read(data)
    except CorruptShard:
        return
    assert as_json(found) in {as_json(s) for s in went_through(whole)}, data


@QUICK
@given(journals())
def test_a_whole_journal_is_read_as_written(whole: bytes) -> None:
    """The store's reader and the tests' own agree on every whole journal."""
    assert as_json(read(whole)) == as_json(went_through(whole)[-1])


@QUICK
@given(damaged())
def test_a_damaged_journal_gives_a_former_state_or_an_error(case: tuple[bytes, bytes]) -> None:
    """Never a mixture, never something that was not written."""
    check_damaged(*case)


@exhaustive
@THOROUGH
@given(damaged())
def test_many_damaged_journals(case: tuple[bytes, bytes]) -> None:
    """The same, thousands of times."""
    check_damaged(*case)


@exhaustive
@THOROUGH
@given(journals())
def test_many_whole_journals(whole: bytes) -> None:
    """The same, thousands of times; every prefix that ends with a line, too."""
    states = went_through(whole)
    lines = whole.rstrip(b"\n").split(b"\n")
    for n in range(len(lines) + 1):
        prefix = b"".join(line + b"\n" for line in lines[:n])
        assert as_json(read(prefix)) == as_json(states[n])


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "rev": st.integers(-1, 3) | scalars,
        "at": st.integers(-1, 2**63) | scalars,
        "by": st.text(max_size=5) | scalars,
        "durable": scalars,
        "id": st.text(max_size=5) | scalars,
        "key": st.sampled_from([KEY, "another", ""]) | scalars,
        "created": scalars,
        "put": values,
        "set": values,
        "unset": values,
        "delete": scalars,
        "future": values,
    },
)


def check_senseless(whole: bytes, record: dict[str, Any]) -> None:
    """Append a line with a right checksum; what is read is explained by the format, or refused."""
    data = whole.rstrip(b"\n") + b"\n" + disk.line(record)
    try:
        found = read(data)
    except CorruptShard:
        return
    former = went_through(whole)
    allowed = {as_json(s) for s in former}
    if isinstance(record.get("rev"), int):
        last = former[-1]
        with contextlib.suppress(AssertionError, AttributeError, TypeError, ValueError):
            allowed.add(as_json(disk.state(data)))
        if last is None and isinstance(record.get("put"), dict):
            allowed.add(as_json(record["put"]))
    assert as_json(found) in allowed, (record, found)


@QUICK
@given(journals(), FIELDS)
def test_a_senseless_record_behind_a_right_checksum(whole: bytes, record: dict[str, Any]) -> None:
    """Wrong types, wrong combinations, revisions out of order, another key: refused, or read as the format says."""
    check_senseless(whole, record)


@exhaustive
@THOROUGH
@given(journals(), FIELDS)
def test_many_senseless_records(whole: bytes, record: dict[str, Any]) -> None:
    """The same, thousands of times."""
    check_senseless(whole, record)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Yield a directory."""
    path = scratch("fuzz-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def shard_path(root: Path, key: str) -> Path:
    """Find where the shard of a key lies, by having one made."""
    with Store(root) as store:
        store.update(key, lambda d: d)
    return disk.shard(root, key)


@pytest.fixture(scope="module")
def planted(place: Path) -> tuple[Path, Path]:
    """Return a store and the path of the fuzzed session's shard."""
    root = place / "planted"
    return root, shard_path(root, KEY)


def use_planted(planted: tuple[Path, Path], data: bytes, allowed: list[Any]) -> None:
    """Plant a journal and call every verb; only typed errors, and an update goes on from what get said."""
    root, path = planted
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    allowed_text = {as_json(a) for a in allowed}
    with Store(root, lock_timeout=2.0) as store:
        ask_everything(store)
        try:
            session = store.get(KEY)
        except CorruptShard:
            for call in (lambda: store.patch(KEY, {"p": 1}), lambda: store.delete(KEY), lambda: store.history(KEY)):
                with pytest.raises(CorruptShard):
                    call()
            assert path.read_bytes() == data, "a damaged shard was written to"
            store.list()
            store.verify(repair=True)
            salvaged = store.get(KEY)
            assert salvaged is None or store.patch(KEY, {"p": 1})["p"] == 1
            return
        before = None if session is None else session.data
        assert as_json(before) in allowed_text
        assert store.patch(KEY, {"p": 1}).data == {**(before or {}), "p": 1}
        assert [s.rev for s in store.history(KEY)] == sorted(s.rev for s in store.history(KEY))
        assert [(i.key, i.rev) for i in store.list()] == [(KEY, store[KEY].rev)]
    disk.state(path.read_bytes())


@settings(QUICK, max_examples=12)
@given(case=damaged())
def test_damaged_files_in_a_store(planted: tuple[Path, Path], case: tuple[bytes, bytes]) -> None:
    """The same through the store's verbs, repair included."""
    use_planted(planted, case[1], went_through(case[0]))


@exhaustive
@settings(THOROUGH, max_examples=400)
@given(case=damaged())
def test_many_damaged_files_in_a_store(planted: tuple[Path, Path], case: tuple[bytes, bytes]) -> None:
    """The same, often."""
    use_planted(planted, case[1], went_through(case[0]))


@settings(QUICK, max_examples=12)
@given(data=st.binary(max_size=3000) | st.text(max_size=500).map(str.encode))
def test_arbitrary_bytes_in_place_of_a_shard(planted: tuple[Path, Path], data: bytes) -> None:
    """Anything at all: absent, or CorruptShard, never a session."""
    use_planted(planted, data, [None])


@pytest.mark.parametrize("name", sorted(p.name for p in (CORPUS / "shard").iterdir()))
def test_kept_journals(planted: tuple[Path, Path], name: str) -> None:
    """Journals that once mattered; NAME.expected.json beside it lists what may be read, nothing means an error."""
    path = CORPUS / "shard" / name
    if name.endswith(".expected.json"):
        return
    allowed = json.loads(path.with_name(name + ".expected.json").read_text())
    use_planted(planted, path.read_bytes(), allowed)


# -- the index ----------------------------------------------------------------------------------------------


def spoil(rng: random.Random, path: Path) -> str:
    """Damage one file somehow."""
    data = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "cut", "zero", "random", "empty", "append", "remove", "shift", "old"])
    if kind == "remove":
        path.unlink()
        return kind
    at = rng.randrange(len(data) or 1)
    if kind == "flip":
        for _ in range(rng.choice([1, 1, 3, 50])):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "zero":
        length = rng.choice([1, 100, 4096])
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == "random":
        data[at : at + 64] = rng.randbytes(64)
    elif kind == "empty":
        data.clear()
    elif kind == "append":
        data += rng.choice([b"\n", b"x", b"00000000 3f/a~00.jsonl\n", b"\0" * 512, rng.randbytes(100)])
    elif kind == "shift":
        del data[: rng.randrange(1, 20)]
    path.write_bytes(data)
    return kind


def fuzz_index(root: Path, seed: int, rounds: int) -> int:
    """Change sessions, spoil the index, list: always the truth.  Return the number of files spoilt."""
    rng = random.Random(seed)
    spoilt = 0
    for n in range(rounds):
        with Store(root) as store:
            for key in rng.sample([f"s{i}" for i in range(6)], 2):
                if rng.random() < 0.2:
                    store.delete(key)
                else:
                    store.patch(key, {"n": n})
            if rng.random() < 0.5:
                store.list()
            if rng.random() < 0.5:
                store.patch("s1", {"m": n})
        files = [p for p in sorted((root / "index").rglob("*")) if p.is_file()]
        what = []
        for path in rng.sample(files, min(len(files), rng.choice([1, 1, 2, 5]))):
            what.append(f"{spoil(rng, path)} {path.name}")
            spoilt += 1
        with Store(root) as store:
            if rng.random() < 0.3:
                store.patch("s2", {"late": n})
            rows = {i.key: (i.rev, i.version) for i in store.list()}
            truth = {k: (s.rev, s.version) for k in (f"s{i}" for i in range(6)) if (s := store.get(k)) is not None}
            assert rows == truth, f"seed {seed}, round {n}, after {what}"
            assert {i.key: i.fields.get("n") for i in store.list()} == {k: store[k].get("n") for k in truth}, what
    return spoilt


@pytest.mark.parametrize("seed", range(3))
def test_a_spoilt_index_never_answers_wrongly(place: Path, seed: int) -> None:
    """Catalog and change file cut, flipped, emptied, removed: list is the truth all the same."""
    assert fuzz_index(place / f"index{seed}", seed, 12) > 5


@exhaustive
@pytest.mark.parametrize("seed", range(100, 116))
def test_a_thoroughly_spoilt_index(place: Path, seed: int) -> None:
    """The same, hundreds of times."""
    report("index-fuzz", {"spoilt": fuzz_index(place / f"index{seed}", seed, 60)})


# -- the change file ----------------------------------------------------------------------------------------


def check_changes(place: Path, keys: list[str], cut: int, at: int, junk: bytes) -> None:
    """Spoil a change file: no other name ever comes out; all do, or Unusable, but where only whole lines are gone."""
    directory = tempfile.mkdtemp(dir=place)
    try:
        made = changes.ChangeFile.create(directory)
        names = {layout.shard_name(key) for key in keys}
        for name in sorted(names):
            made.append(name)
        assert made.read_all().names == names
        path = Path(made.path)
        data = path.read_bytes()
        at %= len(data) + 1
        spoilt = data[:at] + junk + data[at + cut :]
        path.write_bytes(spoilt)
        with contextlib.suppress(changes.Unusable):
            found = changes.ChangeFile.open(directory, made.filename, write=False).read_all().names
            assert found <= names
            assert found == names or set(spoilt.splitlines()) < set(data.splitlines())
    finally:
        shutil.rmtree(directory)


SPOILT = {
    "keys": st.lists(st.text("abc:ü", min_size=1, max_size=6), max_size=5, unique=True),
    "cut": st.integers(0, 400),
    "at": st.integers(0, 1000),
    "junk": st.binary(max_size=20) | st.sampled_from([b"\n", b"00000000 3f/a~00.jsonl\n", bytes(64)]),
}


@sampled
@QUICK
@given(**SPOILT)
def test_a_spoilt_change_file(place: Path, keys: list[str], cut: int, at: int, junk: bytes) -> None:
    """Nothing that was marked is lost without a word, but for lines that are gone whole."""
    check_changes(place, keys, cut, at, junk)


@exhaustive
@THOROUGH
@given(**SPOILT)
def test_many_spoilt_change_files(place: Path, keys: list[str], cut: int, at: int, junk: bytes) -> None:
    """The same, often."""
    check_changes(place, keys, cut, at, junk)


# -- the marker and the import ------------------------------------------------------------------------------


@QUICK
@given(
    data=st.binary(max_size=200)
    | values.map(lambda v: json.dumps(v).encode())
    | values.map(lambda v: json.dumps({"shardstore": v}).encode())
)
def test_any_marker(place: Path, data: bytes) -> None:
    """Whatever stands in shardstore.json, opening the store is a typed error or works."""
    root = place / "marker"
    (root / "shards").mkdir(parents=True, exist_ok=True, mode=0o700)
    root.chmod(0o700)
    (root / "shardstore.json").write_bytes(data)
    with contextlib.suppress(ShardStoreError):
        Store(root).close()


def run_import(root: Path, source: Path) -> tuple[int, str]:
    """Run the import command in this process; return its exit code and what it wrote to stderr."""
    from shardstore_cli.main import main

    before, sys.argv = sys.argv, ["shardstore", "--store", str(root), "import", "openclaw", str(source)]
    errors, output = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
            try:
                code = main()
            except SystemExit as error:
                code = error.code
    finally:
        sys.argv = before
    errors.flush()
    return int(code or 0), errors.buffer.getvalue().decode()


def check_import(place: Path, data: bytes) -> None:
    """Import the bytes into an empty store: everything as in the source, or nothing and an error."""
    root = Path(tempfile.mkdtemp(dir=place)) / "store"
    source = root.with_name("sessions.json")
    source.write_bytes(data)
    try:
        Store(root).close()
        code, errors = run_import(root, source)
        assert "Traceback" not in errors
        with Store(root) as store:
            found = {i.key: store[i.key].data for i in store.list()}
        if code == 0:
            assert as_json(found) == as_json(dict(sorted(found.items(), key=lambda kv: list(found).index(kv[0]))))
            wanted = json.loads(data.decode("utf-8-sig"))
            assert {k: as_json(v) for k, v in found.items()} == {k: as_json(v) for k, v in wanted.items()}
        else:
            assert found == {}, "an import that failed left a part behind"
        assert source.read_bytes() == data
    finally:
        shutil.rmtree(root.parent)


exports = st.dictionaries(st.text(min_size=1, max_size=12), entries, max_size=4)
sources = (
    st.binary(max_size=100)
    | values.map(lambda v: json.dumps(v).encode())
    | exports.map(lambda v: json.dumps(v, indent=2).encode())
    | exports.map(lambda v: json.dumps(v, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | st.tuples(exports, st.integers(0, 300)).map(lambda v: json.dumps(v[0], indent=2).encode()[: v[1]])
    | st.sampled_from(
        [
            b'{"a":{},"a":{"x":1}}',
            b'{"a":{"x":NaN}}',
            b'{"a":{"x":1e999}}',
            b'{"a":{"x":123456789012345678901234567890}}',
            b'{"\\ud800":{}}',
            b"[" * 5000,
        ]
    )
)


@settings(QUICK, max_examples=12)
@given(data=sources)
def test_any_import(place: Path, data: bytes) -> None:
    """Any sessions.json at all: wholly imported, or refused with nothing imported and no traceback."""
    pytest.importorskip("shardstore_cli", reason="the command line is not installed")
    check_import(place, data)


@exhaustive
@settings(THOROUGH, max_examples=300)
@given(data=sources)
def test_many_imports(place: Path, data: bytes) -> None:
    """The same, often."""
    pytest.importorskip("shardstore_cli", reason="the command line is not installed")
    check_import(place, data)


@pytest.mark.parametrize("name", sorted(p.name for p in (CORPUS / "import").iterdir()))
def test_kept_imports(place: Path, name: str) -> None:
    """Sources that once mattered."""
    pytest.importorskip("shardstore_cli", reason="the command line is not installed")
    check_import(place, (CORPUS / "import" / name).read_bytes())
