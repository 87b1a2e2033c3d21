"""On a full disk updates fail clearly, and reading and deleting still work; what was acknowledged stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import CommitUncertain, ShardStoreError, Store, StoreFull

from . import logdisk
from .harness import report


@pytest.fixture
def small(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield a small real file system."""
    kind, size, options = request.param
    reason = logdisk.why_not(kind)
    if reason is not None and "fuse" not in reason.lower():
        pytest.skip(f"{kind}: {reason}")
    base = Path(tempfile.mkdtemp(prefix="full-"))
    image, where = base / "image", base / "mnt"
    with image.open("wb") as file:
        file.truncate(size)
    tool, usual, _ = logdisk.FILE_SYSTEMS[kind]
    if kind == "ext4":
        usual = ["-q", "-F", *options]
    subprocess.run([tool, *usual, str(image)], check=True, capture_output=True)
    try:
        with logdisk.mounted(kind, image, where):
            yield where
    except OSError as error:
        pytest.skip(f"{kind} cannot be mounted here: {error}")
    finally:
        shutil.rmtree(base, ignore_errors=True)


# Not btrfs: once full it may not give space back to a file that is to be made, however much was removed.
SPACE = [
    pytest.param(("ext4", 8 << 20, ["-b", "1024", "-N", "1200", "-m", "0"]), id="ext4"),
    pytest.param(("xfs", 320 << 20, []), id="xfs"),
]
INODES = [pytest.param(("ext4", 16 << 20, ["-b", "1024", "-N", "400", "-m", "0"]), id="ext4")]


def truth_of(store: Store, keys: list[str]) -> dict[str, dict | None]:
    """Read all sessions one by one."""
    return {k: None if (s := store.get(k)) is None else s.data for k in keys}


def fill(where: Path, leave: int = 0) -> Path:
    """Use up all space; give the file that does it."""
    filler = where / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 65536, 4096, 512):
            with contextlib.suppress(OSError):
                while file.write(b"f" * size) == size:
                    pass
        if leave:
            file.truncate(max(0, file.tell() - leave))
    os.sync()
    return filler


def exercise_when_full(store: Store, truth: dict[str, dict | None]) -> dict[str, int]:
    """Try to write everywhere; whatever happens is typed, and the sessions are exactly what was acknowledged."""
    counts = {"stored": 0, "full": 0}
    for n in range(40):
        for key in [*truth, f"new{n}"]:
            data = {"n": n, "filler": "y" * (n * 97 % 3000)}
            try:
                truth[key] = store.patch(key, data).data
                counts["stored"] += 1
            except CommitUncertain:
                session = store.get(key)
                found = None if session is None else session.data
                assert found in (truth.get(key), {**(truth.get(key) or {}), **data})
                truth[key] = found
            except StoreFull:
                counts["full"] += 1
                truth.setdefault(key, None)
            if counts["full"] > 60 and n > 3:
                break
    assert truth_of(store, list(truth)) == truth
    return counts


@pytest.mark.parametrize("small", SPACE, indirect=True)
@pytest.mark.parametrize("durability", ["commit", "relaxed"])
def test_no_space(small: Path, durability: str) -> None:
    """StoreFull, nothing half written, reads and delete work, and all works again when there is space."""
    root = small / "store"
    with Store(root, durability=durability) as store:
        truth: dict[str, dict | None] = {}
        for n in range(12):
            truth[f"s{n}"] = store.patch(f"s{n}", {"n": n, "filler": "x" * 700 * (n % 3)}).data
        store.list()
        filler = fill(small)
        counts = exercise_when_full(store, truth)
        assert counts["full"] > 0, "the disk was never full"
        with contextlib.suppress(ShardStoreError):
            store.compact()
        with contextlib.suppress(ShardStoreError):
            store.verify()
        assert truth_of(store, list(truth)) == truth
        rows = {i.key for i in store.list()}
        assert rows == {k for k, v in truth.items() if v is not None}
        for key in ("s3", "s4"):
            assert store.delete(key)
            truth[key] = None
        assert truth_of(store, list(truth)) == truth
    with Store(root, durability=durability) as store:
        assert truth_of(store, list(truth)) == truth, "another process sees something else"
        filler.unlink()
        os.sync()
        for key in list(truth):
            assert store.patch(key, {"last": 1}).data == {**(truth[key] or {}), "last": 1}
        assert {i.key for i in store.list()} == set(truth)
        assert store.verify().ok
    report("full-disk", {"durability": durability, **counts})


@pytest.mark.parametrize("small", INODES, indirect=True)
def test_no_inode(small: Path) -> None:
    """Sessions that exist go on, new ones fail clearly, delete works, and new ones work again afterwards."""
    root = small / "store"
    with Store(root) as store:
        for n in range(5):
            store.create(f"s{n}", {"n": n})
        store.list()
        (small / "files").mkdir()
        made = 0
        with contextlib.suppress(OSError):
            while True:
                (small / "files" / str(made)).touch()
                made += 1
        assert made > 3
        with pytest.raises(StoreFull):
            store.create("new", {"n": 1})
        assert "new" not in store
        for n in range(5):
            assert store.patch(f"s{n}", {"again": n})["again"] == n
        for n in range(60):  # grows until it would be rewritten, for which there is no inode
            store.patch("s0", {"filler": f"{n}" * 3000})
        assert store["s0"]["filler"] == "59" * 3000
        assert {i.key for i in store.list()} == {f"s{n}" for n in range(5)}
        assert store.delete("s1")
        assert "s1" not in store
        shutil.rmtree(small / "files")
        store.create("new", {"n": 1})
        store.patch("s0", {"filler": "z"})
        assert {i.key for i in store.list()} == {"s0", "s2", "s3", "s4", "new"}
        assert store.verify().ok
    report("no-inode", {"files": made})


@pytest.mark.parametrize("small", [SPACE[0]], indirect=True)
def test_a_store_is_made_whole_or_not_at_all_on_a_full_disk(small: Path) -> None:
    """Making a store where there is no space says so; with space again it is made."""
    filler = fill(small)
    with pytest.raises(StoreFull):
        Store(small / "store")
    filler.unlink()
    with Store(small / "store") as store:
        store.create("a", {})
        assert store.verify().ok
