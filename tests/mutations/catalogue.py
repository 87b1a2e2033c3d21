"""The mutations: each takes one protection out of the store, and names the scenarios that must then fail.

A mutation patches a real function by its real name and raises TargetGone when the name is not there any more: a
protection that moved must take its mutation along.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class TargetGone(Exception):
    """What a mutation patches does not exist (any more)."""


@dataclass(frozen=True)
class Mutation:
    """One protection taken out."""

    name: str
    takes_out: str
    apply: Callable[[], None]
    scenarios: tuple[str, ...]  # module:function below tests.scenarios; every one must fail


MUTATIONS: dict[str, Mutation] = {}


def mutation(takes_out: str, *scenarios: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a mutation under its function's name."""

    def register(apply: Callable[[], None]) -> Callable[[], None]:
        paths = tuple(f"tests.scenarios.{scenario.replace('.', ':')}" for scenario in scenarios)
        MUTATIONS[apply.__name__] = Mutation(apply.__name__, takes_out, apply, paths)
        return apply

    return register


def swap(target: str, make: Callable[[Any], Any]) -> None:
    """Replace `module:attribute.path` by what `make` makes of the original. Raises TargetGone."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    try:
        owner: Any = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        original = vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        raise TargetGone(target) from error
    setattr(owner, name, make(original))


def nothing(result: Any = None) -> Callable[[Any], Any]:
    """Make a function that does nothing and returns `result`."""
    return lambda original: lambda *args, **kwargs: result


# The lock


@mutation("the kernel's lock", "lost_updates.two_processes", "locks.a_live_holder_is_never_broken")
def lock_removed() -> None:
    swap("shardstore._files.locks.flock:KernelLock.try_acquire", nothing(True))
    swap("shardstore._files.locks.flock:KernelLock.acquire", nothing(True))
    swap("shardstore._files.locks.flock:KernelLock.release", nothing())


@mutation("the gate between threads", "lost_updates.threads_of_one_process")
def gate_removed() -> None:
    swap("shardstore._mutex:Gate.acquire", nothing(True))
    swap("shardstore._mutex:Gate.try_acquire", nothing(True))
    swap("shardstore._mutex:Gate.release", nothing())


@mutation(
    "handing the gate over in order: a plain mutex, which whoever released it gets again",
    "lost_updates.threads_are_served_in_turn",
)
def gate_unfair() -> None:
    import random
    import threading
    import time

    mutexes: dict[int, threading.Lock] = {}

    def acquire(self: Any, deadline: float | None) -> bool:
        mutex = mutexes.setdefault(id(self), threading.Lock())
        while not mutex.acquire(blocking=False):
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(random.uniform(0.001, 0.02))
        self.owner = threading.get_ident()
        return True

    def release(self: Any) -> None:
        self.owner = 0
        mutexes[id(self)].release()

    swap("shardstore._mutex:Gate.acquire", lambda original: acquire)
    swap("shardstore._mutex:Gate.try_acquire", lambda original: lambda self: acquire(self, 0.0))
    swap("shardstore._mutex:Gate.release", lambda original: release)


@mutation(
    "waiting in the kernel's queue: polling instead, as most lock libraries do",
    "lost_updates.processes_are_served_in_turn",
)
def waiting_by_polling() -> None:
    import time

    def wait(self: Any, lock: Any, deadline: float | None, count: int) -> bool:
        while not lock.try_acquire():
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    swap("shardstore._files.locks.fairness:Turns.wait", lambda original: wait)


@mutation("looking whether somebody stands in line", "lost_updates.who_had_a_turn_lets_a_waiter_go_first")
def line_not_looked_at() -> None:
    swap("shardstore._files.locks.fairness:Line.is_taken", nothing(False))


@mutation("standing in line", "lost_updates.who_had_a_turn_lets_a_waiter_go_first")
def line_not_stood_in() -> None:
    swap("shardstore._files.locks.fairness:Line.enter", nothing())


@mutation(
    "comparing the locked file with the named one",
    "locks.a_file_replaced_while_waiting",
    "locks.a_file_replaced_between_updates",
    "locks.a_file_removed_while_waiting",
    "locks.a_hard_link_elsewhere_is_not_the_shard",
)
def identity_check_removed() -> None:
    import os

    def lstat(path: str) -> os.stat_result:
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return os.stat(__file__)  # whatever: it passes for the file

    swap("shardstore._files.file:JournalFile.is_named", nothing(True))
    swap("shardstore._files.locks.identity:os", lambda original: _Altered(original, lstat=lstat))


@mutation(
    "asking anew what the path names, however often it was asked",
    "locks.a_file_replaced_between_updates",
    "locks.a_file_replaced_after_many_updates",
)
def look_remembered() -> None:
    from shardstore._files.locks.identity import Name

    answers: dict[str, Any] = {}

    def remembering(original: Any) -> Any:
        def look(self: Name) -> Any:
            return answers.get(self.path) or answers.setdefault(self.path, original(self))

        return look

    swap("shardstore._files.locks.identity:Name.look", remembering)


@mutation("looking at the modification time", "disks.a_changed_byte_is_refused")
def time_never_looked_at() -> None:
    import os

    def fstat(fd: int) -> Any:
        return _Altered(os.fstat(fd), st_mtime_ns=0)

    swap("shardstore._files.file:os", lambda original: _Altered(original, fstat=fstat))


class _Altered:
    """A module with some names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@mutation("noticing a nested update", "locks.a_nested_update_raises_at_once")
def nesting_guard_removed() -> None:
    swap("shardstore._files.shard:Shard._refuse_nesting", nothing())


@mutation(
    "knowing a store by its directory, not by the path it was opened with", "locks.a_nested_update_raises_at_once"
)
def engine_per_path() -> None:
    import os

    class Forgetful(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            return default

    path = _Altered(os.path, realpath=os.path.abspath)
    swap("shardstore._files.engine:os", lambda original: _Altered(original, path=path))
    swap("shardstore._files.engine:_engines", lambda original: Forgetful())


@mutation(
    "the fork hook: the child keeps and shares the parent's descriptors",
    "locks.parent_and_child_exclude_each_other",
    "locks.a_child_does_not_keep_a_dead_parents_lock",
    "locks.a_child_forked_inside_a_mutator_changes_nothing",
)
def fork_hook_removed() -> None:
    swap("shardstore._files.file:JournalFile.after_fork", nothing())
    swap("shardstore._files.shard:Shard.after_fork", nothing())


@mutation("locking a rewritten file before it gets the name", "locks.a_rewrite_lets_nobody_in")
def rewrite_unlocked() -> None:
    def fill(original: Any) -> Any:
        def filled(self: Any, *args: Any) -> None:
            original(self, *args)
            self.lock.release()

        return filled

    swap("shardstore._files.file:JournalFile.fill", fill)


@mutation("reading without the lock", "locks.readers_wait_for_nobody")
def readers_lock() -> None:
    def locked(original: Any) -> Any:
        def read(self: Any) -> Any:
            self.lock(0.5, create=True)
            try:
                return original(self)
            finally:
                self.unlock()

        return read

    swap("shardstore._files.shard:Shard.read", locked)


@mutation("sparing descriptors in use when others are closed", "lost_updates.descriptors_in_use_are_not_evicted")
def eviction_of_busy_shards() -> None:
    def close(self: Any) -> bool:
        self._drop_file()
        return True

    swap("shardstore._files.shard:Shard.close_if_idle", lambda original: close)


# What is read


@mutation(
    "re-reading inside the lock: what was remembered counts",
    "lost_updates.every_writer_works_on_what_is_on_disk",
    "lost_updates.two_processes",
    "lost_updates.a_stopped_waiter_does_not_undo",
)
def reread_removed() -> None:
    def refresh(original: Any) -> Any:
        def remembered(self: Any, *args: Any, **kwargs: Any) -> Any:
            return self.state if self._known[2] >= 0 else original(self, *args, **kwargs)

        return remembered

    swap("shardstore._files.file:JournalFile.refresh", refresh)


@mutation(
    "comparing the expected version",
    "lost_updates.stale_replace_is_refused",
    "lost_updates.versions_never_match_across_incarnations",
)
def expectation_ignored() -> None:
    swap("shardstore.store:_check_version", nothing())


@mutation("random ids of incarnations", "lost_updates.versions_never_match_across_incarnations")
def ids_constant() -> None:
    swap("shardstore._journal.replay:os", lambda original: _Altered(original, urandom=lambda count: bytes(count)))


@mutation("checking the crc of a line", "disks.a_changed_byte_is_refused")
def crc_unchecked() -> None:
    swap(
        "shardstore._journal.record:intact",
        lambda original: lambda text: text.startswith(b'{"crc":"') and text.endswith(b"}"),
    )


@mutation("checking whose file it is", "disks.a_file_of_another_key_is_refused")
def key_unchecked() -> None:
    swap("shardstore._files.shard:Shard.own", lambda original: lambda self, state: state)


@mutation(
    "telling damage from emptiness: what cannot be read is absent",
    "disks.noise_is_not_an_empty_session",
    "disks.a_changed_byte_is_refused",
)
def damage_taken_for_emptiness() -> None:
    def swallow(original: Any) -> Any:
        def refresh(self: Any, *args: Any, **kwargs: Any) -> Any:
            from shardstore._journal.replay import ABSENT
            from shardstore.errors import CorruptShard

            try:
                return original(self, *args, **kwargs)
            except CorruptShard:
                self._known = (ABSENT, b"\n", -1)
                return ABSENT

        return refresh

    swap("shardstore._files.file:JournalFile.refresh", swallow)


@mutation(
    "telling damage from a torn tail: everything unreadable is cut off",
    "disks.a_changed_byte_is_refused",
    "disks.noise_is_not_an_empty_session",
)
def damage_taken_for_a_tear() -> None:
    swap("shardstore._journal.torn:judge", nothing())


@mutation("stepping over a torn tail: it is damage", "disks.a_torn_tail_is_stepped_over")
def tear_taken_for_damage() -> None:
    swap("shardstore._journal.torn:judge", nothing(""))


@mutation("keeping a torn tail in quarantine", "disks.a_torn_tail_is_stepped_over")
def torn_tail_thrown_away() -> None:
    def forget(self: Any, *args: Any) -> None:
        import os

        os.ftruncate(self.fd, self.state.end)
        self.size, self.torn = self.state.end, b""

    swap("shardstore._files.file:JournalFile.repair_tail", lambda original: forget)


@mutation("refusing symbolic links", "disks.a_symlinked_shard_is_refused")
def links_followed() -> None:
    import os

    for name in ("READ", "WRITE", "CREATE", "CREATE_NEW"):
        swap(f"shardstore._files.disk:{name}", lambda flags: flags & ~os.O_NOFOLLOW)
    swap("shardstore._files.file:JournalFile.is_named", nothing(True))


# What is written


@mutation("writing nothing when nothing changed", "lost_updates.no_change_writes_nothing")
def no_op_written() -> None:
    def always(original: Any) -> Any:
        def change(self: Any) -> Any:
            from shardstore import _codec as codec
            from shardstore._journal.replay import Change

            return original(self) or Change(codec.encode_entry(self.copy()), [], True)

        return change

    swap("shardstore.draft:Draft.change", always)


@mutation("writing the changed fields alone", "lost_updates.a_patch_appends_itself_alone")
def whole_entry_written() -> None:
    def whole(original: Any) -> Any:
        def change(self: Any) -> Any:
            from shardstore import _codec as codec
            from shardstore._journal.replay import Change

            found = original(self)
            return found if found is None or found.whole else Change(codec.encode_entry(self.copy()), [], True)

        return change

    swap("shardstore.draft:Draft.change", whole)


@mutation("decoding a copy for every reader", "lost_updates.a_returned_object_cannot_change_the_store")
def decoded_values_shared() -> None:
    decoded: dict[bytes, Any] = {}

    def shared(original: Any) -> Any:
        return lambda raw: decoded.setdefault(bytes(raw), original(raw)) if raw[:1] in b"[{" else original(raw)

    swap("shardstore._codec:loads", shared)


@mutation("checking how much a write wrote", "disks.a_full_disk_changes_nothing")
def short_write_unchecked() -> None:
    import os

    def write_once(fd: int, data: bytes, offset: int) -> None:
        with contextlib.suppress(OSError):
            os.pwrite(fd, data, offset)

    swap("shardstore._files.disk:write_all", lambda original: write_once)


@mutation("cutting back a write that failed half way", "disks.a_full_disk_changes_nothing")
def failed_write_left_in_place() -> None:
    def believe(original: Any) -> Any:
        def cut(self: Any, end: int) -> None:
            import os

            self.size = os.fstat(self.fd).st_size
            os.pwrite(self.fd, b"x", end)

        return cut

    swap("shardstore._files.file:JournalFile._cut_back", believe)


@mutation(
    "syncing what is acknowledged",
    "disks.a_durable_commit_is_synced_before_it_returns",
    "disks.a_rewrite_is_synced_before_it_is_renamed",
)
def sync_removed() -> None:
    swap("shardstore._files.disk:sync", nothing())


@mutation(
    "syncing the directory of a new name",
    "disks.a_durable_commit_is_synced_before_it_returns",
    "disks.a_rewrite_is_synced_before_it_is_renamed",
)
def directory_sync_removed() -> None:
    swap("shardstore._files.disk:sync_directory", nothing())


@mutation("reporting a failed sync", "disks.a_failed_sync_is_uncertain_and_never_retried")
def failed_sync_ignored() -> None:
    swap("shardstore._files.file:JournalFile._uncertain", nothing())


@mutation("never syncing twice", "disks.a_failed_sync_is_uncertain_and_never_retried")
def failed_sync_retried() -> None:
    def twice(original: Any) -> Any:
        def sync(fd: int) -> None:
            try:
                original(fd)
            except OSError:
                original(fd)

        return sync

    swap("shardstore._files.disk:sync", twice)


@mutation("keeping time from going back", "disks.time_never_goes_back")
def clock_believed() -> None:
    def believing(original: Any) -> Any:
        return lambda state, *args, **kwargs: original(state._replace(updated_at=0), *args, **kwargs)

    swap("shardstore._files.shard:make_record", believing)


@mutation("private modes", "disks.modes_are_private_from_the_first_write")
def modes_open() -> None:
    swap("shardstore._files.file:FILE_MODE", lambda mode: 0o666)


@mutation("syncing outside of what readers need", "populations.a_slow_sync_of_one_session_does_not_stop_others")
def sync_under_the_mutex() -> None:
    def locked(original: Any) -> Any:
        def append(self: Any, *args: Any, **kwargs: Any) -> Any:
            real, outer = self._mutex, _Reentrant(self._mutex)
            self._mutex = outer
            try:
                with outer:
                    return original(self, *args, **kwargs)
            finally:
                self._mutex = real

        return append

    swap("shardstore._files.shard:Shard._append", locked)


class _Reentrant:
    """A lock that its holder may take again."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.depth, self.owner = lock, 0, 0

    def __enter__(self) -> None:
        import threading

        if self.owner != threading.get_ident():
            self.lock.acquire()
            self.owner = threading.get_ident()
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if not self.depth:
            self.owner = 0
            self.lock.release()


# The index, and what compact removes


@mutation("noting a change in the index", "populations.list_knows_a_commit_whose_writer_died")
def note_removed() -> None:
    swap("shardstore._files.index.noter:Noter.note", nothing())


@mutation("noting before the commit, not after it", "populations.list_knows_a_commit_whose_writer_died")
def note_after_the_commit() -> None:
    pending: list[tuple[Any, str]] = []
    notes: list[Any] = []

    def postpone(original: Any) -> Any:
        notes.append(original)
        return lambda self, name: pending.append((self, name))

    def commit_first(original: Any) -> Any:
        def commit(self: Any, *args: Any, **kwargs: Any) -> Any:
            state = original(self, *args, **kwargs)
            while pending:
                noter, name = pending.pop()
                notes[0](noter, name)
            return state

        return commit

    swap("shardstore._files.index.noter:Noter.note", postpone)
    swap("shardstore._files.shard:Shard.commit", commit_first)


@mutation("archiving what compact removes", "populations.growth_is_bounded")
def removed_without_archive() -> None:
    import os

    def remove(engine: Any, shard: Any) -> None:
        engine.index.note(shard.name)
        os.unlink(shard.path)

    swap("shardstore._files.maintenance.compact:archive", lambda original: remove)


@mutation("the sync of a log's file before the journal names it", "logs.the_log_is_synced_before_the_journal_names_it")
def log_not_synced() -> None:
    from shardstore._files import disk

    def unsynced(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            sync, disk.sync = disk.sync, lambda _fd: None
            try:
                return original(*args, **kwargs)
            finally:
                disk.sync = sync

        return call

    swap("shardstore._files.logfile:LogFiles._append", unsynced)
    swap("shardstore._files.logfile:LogFiles.write_new", unsynced)


@mutation("the committed end of a log's file", "logs.after_a_settle_that_died")
def log_without_committed_end() -> None:
    import os

    def behind_everything(original: Any) -> Any:
        def append(self: Any, name: str, key: str, log: Any) -> Any:
            size = os.stat(self.path(name, log.settled)).st_size
            return original(self, name, key, log._replace(settled=log.settled._replace(end=size)))

        return append

    swap("shardstore._files.logfile:LogFiles._append", behind_everything)


@mutation("the new name of what replaces a log's file", "logs.a_snapshot_never_reads_what_came_later")
def log_name_reused() -> None:
    import os

    from shardstore._files import logfile

    fresh = logfile.new_log_id

    def over(original: Any) -> Any:
        def write_new(self: Any, name: str, log: Any, items: Any, *, first: int) -> Any:
            items, old = list(items), log.settled.file
            if old:
                os.unlink(self.path(name, log.settled))
            logfile.new_log_id = lambda: old or fresh()
            return original(self, name, log, items, first=first)

        return write_new

    swap("shardstore._files.logfile:LogFiles.write_new", over)


@mutation("checking that an id is not known", "logs.many_writers_retry")
def ids_not_looked_up() -> None:
    swap("shardstore._draft_log:DraftLog.find", nothing(None))
