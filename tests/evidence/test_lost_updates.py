"""Incidents in which an update was lost (#15882, #10725, #10331, #16609, #14979, #19328, #5369, #57825, #34686 ...)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shardstore import Store
from tests.scenarios import lost_updates, populations
from tests.support import actions
from tests.support.peer import Peers, one_peer


def test_15882_nothing_computed_from_a_stale_snapshot_is_written(root: Path) -> None:
    """Two processes x 500 increments with a millisecond between read and return make 1,000."""
    lost_updates.two_processes(root)


def test_15882_threads_lose_nothing_either(root: Path) -> None:
    """Threads that share one descriptor, and so one flock, exclude each other too."""
    lost_updates.threads_of_one_process(root)


def test_15882_replace_with_an_old_version_changes_no_byte(root: Path) -> None:
    """A stale handle is a Conflict, in this process and in another, and the file stays as it is."""
    lost_updates.stale_replace_is_refused(root)


def test_10725_no_writer_trusts_a_cache(root: Path) -> None:
    """A warm cache, a foreign change with size and mtime restored: every public writer works on what is on disk."""
    lost_updates.every_writer_works_on_what_is_on_disk(root)


def test_10725_no_public_verb_is_left_out_of_that_test() -> None:
    """A verb that is added to Store must be entered as a writer above, or as one that only reads."""
    verbs = {name for name in dir(Store) if not name.startswith("_") and callable(getattr(Store, name))}
    assert verbs | {"restore"} == set(lost_updates.WRITERS) | lost_updates.READERS


def test_16609_an_earlier_computed_commit_does_not_undo_a_later_one(root: Path) -> None:
    """A is stopped before the lock, B commits, A goes on with another field: both values are there."""
    lost_updates.a_stopped_waiter_does_not_undo(root)


def test_14969_dependent_fields_change_in_one_commit(root: Path) -> None:
    """Polling readers never see a model without its context size, or an id with another's path (#20188)."""
    populations.pairs_are_never_torn(root)


def test_19328_a_patch_touches_only_the_fields_it_names(root: Path) -> None:
    """30 known and 5 unknown fields: one is patched, all others stay equal and in order, for every reader."""
    entry = {f"known{n}": [n, None, {"deep": n}] for n in range(30)} | {f"x-unknown{n}": n for n in range(5)}
    with Store(root) as store, one_peer() as other:
        store.create("k", entry)
        assert other.run(actions.get_data, root, "k") == entry
        store.patch("k", {"known7": "chosen by the user"})
        other.run(actions.call, root, "patch", "k", {"known8": "chosen elsewhere"})
        expected = entry | {"known7": "chosen by the user", "known8": "chosen elsewhere"}
        for seen in (store["k"].data, other.run(actions.get_data, root, "k")):
            assert seen == expected
            assert list(seen) == list(entry)


def test_19328_absent_null_and_deleted_are_distinct_on_disk(root: Path) -> None:
    """A field set to null, a field taken away and a field never there differ after reopening."""
    with Store(root) as store:
        store.create("k", {"null": 1, "unset": 1, "kept": 1})
        store.patch("k", {"null": None}, unset=["unset", "never"])
    with Store(root) as store:
        assert store["k"].data == {"null": None, "kept": 1}


def test_34686_one_lock_per_real_file_whatever_alias_led_there(root: Path) -> None:
    """Four processes reach one store by its path, a symbolic link, a relative path and a bind mount: no loss."""
    with Store(root) as store:
        store.create("k", {"n": 0})
    link = root.parent / "link"
    link.symlink_to(root, target_is_directory=True)
    (root.parent / "deep").mkdir()
    aliases: list[tuple[str | Path, dict[str, object]]] = [
        (root, {}),
        (link, {}),
        ("../sessions", {"cwd": root.parent / "deep"}),
    ]
    if shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0:
        mounted = root.parent / "mounted"
        mounted.mkdir()
        script = f'mount --bind "{root}" "{mounted}" && exec "$@"'
        aliases.append((mounted, {"prefix": ("unshare", "-rm", "sh", "-c", script, "sh")}))
    with contextlib.ExitStack() as stack:
        group = Peers(stack.enter_context(one_peer(**options)) for _, options in aliases)
        group.each(actions.increment, [(path, "k", 100, 0.0005) for path, _ in aliases])
    with Store(root) as store:
        assert store["k"]["n"] == 100 * len(aliases)


@pytest.mark.skipif(sys.platform != "linux", reason="bind mounts")
def test_34686_an_alias_that_goes_away_takes_no_store_with_it(root: Path) -> None:
    """A store that was first opened through a link stays usable by its path when the link is removed."""
    link = root.parent / "link"
    Store(root).close()
    link.symlink_to(root, target_is_directory=True)
    with Store(link) as through_link, Store(root) as store:
        through_link.create("k", {"n": 0})
        link.unlink()
        assert store["k"]["n"] == 0
        assert store.patch("k", {"n": 1}).rev == 2
        assert store.create("new", {}).rev == 1
        assert [info.key for info in store.list(order_by="key")] == ["k", "new"]


def test_34686_two_stores_of_one_process_and_thread(root: Path) -> None:
    """Threads with a store through a link and threads with one by the path share one gate."""
    Store(root).close()
    link = root.parent / "link"
    link.symlink_to(root, target_is_directory=True)
    relative = os.path.relpath(root)
    with Store(root) as one, Store(link) as two, Store(relative) as three:
        waits = [
            actions.in_background(lambda s=s: [s.update("k", lambda d: actions.add_one(d, 0.0005)) for _ in range(40)])
            for s in (one, two, three)
            for _ in range(2)
        ]
        for wait in waits:
            wait()
        assert one["k"]["n"] == 240


def test_21828_lines_of_concurrent_writers_stay_whole_and_in_order(root: Path) -> None:
    """Writers append while others update: every line whole, none lost, the order of each writer kept."""
    populations.lines_are_whole_and_in_order(root)


def test_a_fan_out_of_subagents_loses_nothing(root: Path) -> None:
    """A parent and its children as hosts run them: each child's 11 patches and its entry in the parent are there."""
    populations.fan_out_loses_nothing(root)


def test_12550_versions_are_random_and_never_match_again(root: Path) -> None:
    """What a deleted session's handle expects is not met by its successor, and cannot be guessed."""
    lost_updates.versions_never_match_across_incarnations(root)


def test_versions_tell_contents_apart_when_a_backup_was_put_back(root: Path) -> None:
    """The same revision with other content is another version."""
    lost_updates.versions_never_match_after_a_backup_was_put_back(root)


def test_a_rewrite_and_the_archive_keep_the_version(root: Path) -> None:
    """A version stays true for its content, wherever that is kept."""
    lost_updates.a_rewrite_and_the_archive_keep_the_version(root)
    with Store(root) as store:
        versions = {store.create(f"k{n}", {}).version for n in range(100)}
        assert len({version.split(".")[0] for version in versions}) == 100


def test_12550_a_returned_object_cannot_change_the_store(root: Path) -> None:
    """Whatever a call returned is changed at will: the next get and the file are as they were."""
    lost_updates.a_returned_object_cannot_change_the_store(root)


def test_many_more_sessions_than_descriptors(root: Path) -> None:
    """What the process closes to stay within its descriptors is never what is in use."""
    lost_updates.descriptors_in_use_are_not_evicted(root)
