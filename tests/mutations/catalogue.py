"""The mutations: each takes one protection out of the store, and names the scenarios that must then fail.

A mutation patches a real function by its real name and raises TargetGone when the name is not there any more: a
protection that moved must take its mutation along.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import textwrap
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


def edit(target: str, *changes: tuple[str, str]) -> None:
    """Replace pieces of a function's source, each of which is there once. Raises TargetGone.

    For a protection that is a line of the hot path, and no function of its own.
    """

    def make(original: Any) -> Any:
        source = textwrap.dedent(inspect.getsource(original))
        for old, new in changes:
            if source.count(old) != 1:
                raise TargetGone(f"{target}: {old!r} is there {source.count(old)} times")
            source = source.replace(old, new)
        namespace: dict[str, Any] = {}
        exec("from __future__ import annotations\n" + source, original.__globals__, namespace)
        return namespace[original.__name__]

    swap(target, make)


def nothing(result: Any = None) -> Callable[[Any], Any]:
    """Return a function that does nothing and returns `result`."""
    return lambda original: lambda *args, **kwargs: result


# The lock


@mutation("the kernel's lock", "lost_updates.two_processes", "locks.a_live_holder_is_never_broken", "logs.two_writers")
def lock_removed() -> None:
    def unlocking(original: Any) -> Any:
        def init(self: Any, fd: int) -> None:
            original(self, fd)
            self.take = self.give = lambda: None

        return init

    swap("shardstore._files.locks.flock:KernelLock.__init__", unlocking)
    swap("shardstore._files.locks.flock:KernelLock.try_acquire", nothing(True))
    swap("shardstore._files.locks.flock:KernelLock.acquire", nothing(True))
    swap("shardstore._files.locks.flock:KernelLock.release", nothing())


@mutation("the mutex between threads", "lost_updates.threads_of_one_process")
def mutex_removed() -> None:
    for name in ("enter", "try_enter", "holds", "leave"):
        swap(f"shardstore._inside:FifoMutex.{name}", nothing(True))


@mutation(
    "handing the mutex over in order: a plain one, which whoever released it gets again",
    "lost_updates.threads_are_served_in_turn",
)
def mutex_unfair() -> None:
    import random
    import threading
    import time

    mutexes: dict[int, threading.Lock] = {}

    def enter(self: Any, token: Any, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        mutex = mutexes.setdefault(id(self), threading.Lock())
        while not mutex.acquire(blocking=False):
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(random.uniform(0.001, 0.02))
        self.holder[0] = token
        return True

    def leave(self: Any, token: Any) -> None:
        if self.holder.get(0) is token:
            self.holder.clear()
            mutexes[id(self)].release()

    swap("shardstore._inside:FifoMutex.enter", lambda original: enter)
    swap("shardstore._inside:FifoMutex.try_enter", lambda original: lambda self, token: enter(self, token, 0.0))
    swap("shardstore._inside:FifoMutex.leave", lambda original: leave)


@mutation("handing the mutex over to who waits longest: to the newest", "lost_updates.threads_are_served_in_turn")
def handed_to_the_newest() -> None:
    edit("shardstore._inside:FifoMutex._hand_over", ("self.queue[0]", "self.queue[-1]"))


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

    swap("shardstore._files.locks.fairness:FairLock.wait", lambda original: wait)


@mutation("looking whether somebody stands in line", "lost_updates.who_had_a_turn_lets_a_waiter_go_first")
def line_not_looked_at() -> None:
    swap("shardstore._files.locks.fairness:Queue.is_taken", nothing(False))


@mutation("standing in line", "lost_updates.who_had_a_turn_lets_a_waiter_go_first")
def line_not_stood_in() -> None:
    swap("shardstore._files.locks.fairness:Queue.enter", nothing())


@mutation(
    "comparing the locked file with the named one",
    "locks.a_file_replaced_while_waiting",
    "locks.a_file_replaced_between_updates",
    "locks.a_file_removed_while_waiting",
    "locks.a_hard_link_elsewhere_is_not_the_shard",
)
def identity_check_removed() -> None:
    believe_every_name()


def believe_every_name() -> None:
    """Have no writer and no reader see that a path names another file than the one that is open."""
    compared = ("if inode == file.inode and device == file.device and not file.failed:", "if True:")
    edit("shardstore._files.shard:Shard.lock_at_once", compared)
    edit("shardstore._files.shard:Shard.lock_in_turn", compared)
    swap("shardstore._files.file:JournalFile.is_named", nothing(True))


@mutation(
    "asking anew what the path names, however often it was asked",
    "locks.a_file_replaced_between_updates",
    "locks.a_file_replaced_after_many_updates",
)
def look_remembered() -> None:
    from shardstore._files.locks.identity import PathIdentity

    answers: dict[str, Any] = {}

    def remembering(original: Any) -> Any:
        def look(self: PathIdentity) -> Any:
            return answers.get(self.path) or answers.setdefault(self.path, original(self))

        return look

    def asking_once(original: Any) -> Any:
        def prepare(self: PathIdentity) -> None:
            original(self)
            if self._prepared:
                self.ask()
                self.ask = lambda: 0

        return prepare

    swap("shardstore._files.locks.identity:PathIdentity.current", remembering)
    swap("shardstore._files.locks.identity:PathIdentity._prepare", asking_once)


@mutation("looking at the modification time", "disks.a_changed_byte_is_refused")
def time_never_looked_at() -> None:
    edit("shardstore._files.file:JournalFile._changed", ("0 <= seen - mtime <= _WRITE_NS", "True"))


class _Altered:
    """A module with some names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@mutation("noticing a nested update", "locks.a_nested_update_raises_at_once")
def nesting_guard_removed() -> None:
    swap("shardstore._inside:FifoMutex._refuse_nesting", nothing())


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


@mutation("forgetting a store whose last Store object is gone", "dropped.a_dropped_store_gives_everything_back")
def dropped_stores_remembered() -> None:
    swap("shardstore._files.engine:_engines", lambda original: {})


@mutation("closing what a dropped store has open", "dropped.a_dropped_store_gives_everything_back")
def dropped_stores_left_open() -> None:
    swap("shardstore._files.engine:_let_go", nothing())


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
            from shardstore._files.transaction import FileTransaction

            txn = FileTransaction(self, lambda _name: None)
            txn.timeout = 0.5
            with txn:
                return original(self)

        return read

    swap("shardstore._files.shard:Shard.read", locked)


@mutation("sparing descriptors in use when others are closed", "lost_updates.descriptors_in_use_are_not_evicted")
def eviction_of_busy_shards() -> None:
    def close(self: Any) -> bool:
        self.drop_file()
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
            return self.known.journal if self.known.mtime >= 0 else original(self, *args, **kwargs)

        return remembered

    swap("shardstore._files.file:JournalFile.refresh", refresh)


@mutation(
    "comparing the expected version",
    "lost_updates.stale_replace_is_refused",
    "lost_updates.versions_never_match_across_incarnations",
)
def expectation_ignored() -> None:
    for module in ("shardstore._verbs.expect", "shardstore.store"):
        swap(f"{module}:check_version", nothing())


@mutation(
    "naming contents apart: random ids of incarnations, and tags of records",
    "lost_updates.versions_never_match_across_incarnations",
)
def contents_not_named_apart() -> None:
    swap("shardstore._journal.record:os", lambda original: _Altered(original, urandom=lambda count: bytes(count)))
    tags_left_out()


@mutation("the tag in a version", "lost_updates.versions_never_match_after_a_backup_was_put_back")
def tags_left_out() -> None:
    untagged = property(lambda state: f"{state.incarnation}.{state.rev}" if state.rev else "absent")
    swap("shardstore._model:State.version", lambda original: untagged)


@mutation("carrying the tag through a rewrite", "lost_updates.a_rewrite_and_the_archive_keep_the_version")
def tag_lost_by_a_rewrite() -> None:
    edit(
        "shardstore._files.locked:whole_record",
        (',"tag":"%b"', ""),
        ("state.tag.encode(), ", ""),
    )


@mutation("checking the crc of a line", "disks.a_changed_byte_is_refused")
def crc_unchecked() -> None:
    swap(
        "shardstore._journal.record:is_intact",
        lambda original: lambda text: text.startswith(b'{"crc":"') and text.endswith(b"}"),
    )
    edit(
        "shardstore._journal.record:load", ('if text[:BODY] != b\'{"crc":"%08x",\' % crc32(text[BODY:]):', "if False:")
    )


@mutation("checking whose file it is", "disks.a_file_of_another_key_is_refused")
def key_unchecked() -> None:
    swap("shardstore._files.shard:Shard.check_key", lambda original: lambda self, journal: journal)


@mutation(
    "telling damage from emptiness: what cannot be read is absent",
    "disks.noise_is_not_an_empty_session",
    "disks.a_changed_byte_is_refused",
)
def damage_taken_for_emptiness() -> None:
    def swallow(original: Any) -> Any:
        def refresh(self: Any, *args: Any, **kwargs: Any) -> Any:
            from shardstore._files.file import Known
            from shardstore._journal.replay import EMPTY
            from shardstore.errors import CorruptShard

            try:
                return original(self, *args, **kwargs)
            except CorruptShard:
                self.known = Known()
                return EMPTY

        return refresh

    swap("shardstore._files.file:JournalFile.refresh", swallow)


@mutation(
    "telling damage from a torn tail: everything unreadable is cut off",
    "disks.a_changed_byte_is_refused",
    "disks.noise_is_not_an_empty_session",
)
def damage_taken_for_a_tear() -> None:
    swap("shardstore._journal.torn:classify_tail", nothing())


@mutation("stepping over a torn tail: it is damage", "disks.a_torn_tail_is_stepped_over")
def tear_taken_for_damage() -> None:
    swap("shardstore._journal.torn:classify_tail", nothing(""))


@mutation("keeping a torn tail in quarantine", "disks.a_torn_tail_is_stepped_over")
def torn_tail_thrown_away() -> None:
    def forget(self: Any, *args: Any) -> None:
        import os

        os.ftruncate(self.fd, self.journal.end)
        self.size, self.known = self.journal.end, self.known._replace(torn=b"")

    swap("shardstore._files.file:JournalFile.repair_tail", lambda original: forget)


@mutation("refusing symbolic links", "disks.a_symlinked_shard_is_refused")
def links_followed() -> None:
    import os

    for name in ("READ", "WRITE", "CREATE", "CREATE_NEW"):
        swap(f"shardstore._files.disk:{name}", lambda flags: flags & ~os.O_NOFOLLOW)
    believe_every_name()


# What is written


@mutation("writing nothing when nothing changed", "lost_updates.no_change_writes_nothing")
def no_op_written() -> None:
    def always(original: Any) -> Any:
        def change(self: Any) -> Any:
            from shardstore import _codec as codec
            from shardstore._model import Change

            return original(self) or Change(codec.encode_entry(self.copy()), [], True)

        return change

    swap("shardstore.draft:Draft.change", always)


@mutation("writing the changed fields alone", "lost_updates.a_patch_appends_itself_alone")
def whole_entry_written() -> None:
    def whole(original: Any) -> Any:
        def change(self: Any) -> Any:
            from shardstore import _codec as codec
            from shardstore._model import Change

            found = original(self)
            return found if found is None or found.whole else Change(codec.encode_entry(self.copy()), [], True)

        return change

    swap("shardstore.draft:Draft.change", whole)


@mutation("decoding a copy for every reader", "lost_updates.a_returned_object_cannot_change_the_store")
def decoded_values_shared() -> None:
    decoded: dict[bytes, Any] = {}

    def shared(original: Any) -> Any:
        def loads(raw: bytes) -> Any:
            is_value = raw[:1] in b"[{" and not raw.startswith(b'{"crc"')  # a record's own members may change
            return decoded.setdefault(bytes(raw), original(raw)) if is_value else original(raw)

        return loads

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


@mutation(
    "syncing a batch before it is counted",
    "disks.a_batch_is_synced_before_it_is_counted",
    "disks.a_failed_sync_of_a_batch_is_uncertain",
    "disks.many_directories_are_synced_by_one_call",
)
def batch_acknowledged_early() -> None:
    swap("shardstore._files.syncs:Syncs.sync", lambda original: lambda self: self._drop())


@mutation("syncing the directories of a batch", "disks.a_batch_is_synced_before_it_is_counted")
def batch_names_not_synced() -> None:
    swap("shardstore._files.syncs:Syncs.add_names", nothing())


@mutation("syncing what an earlier batch left", "disks.a_batch_is_synced_before_it_is_counted")
def batch_covers_nothing() -> None:
    swap("shardstore._files.locked:LockedFiles.cover", nothing())


@mutation("reporting a failed sync", "disks.a_failed_sync_is_uncertain_and_never_retried")
def failed_sync_ignored() -> None:
    swap("shardstore._files.synced:SyncedFile._uncertain", nothing())


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

    swap("shardstore._files.transaction:next_record", believing)


@mutation("private modes", "disks.modes_are_private_from_the_first_write")
def modes_open() -> None:
    swap("shardstore._files.disk:FILE_MODE", lambda mode: 0o666)


@mutation("syncing outside of what readers need", "populations.a_slow_sync_of_one_session_does_not_stop_others")
def sync_where_readers_wait() -> None:
    def locked(original: Any) -> Any:
        def commit(self: Any, *args: Any, **kwargs: Any) -> None:
            with self._shard._reading:
                original(self, *args, **kwargs)

        return commit

    swap("shardstore._files.transaction:FileTransaction.commit", locked)


@mutation("syncing what stands before a durable record", "disks.a_durable_record_follows_synced_bytes")
def sync_before_removed() -> None:
    edit("shardstore._files.transaction:FileTransaction._sync_before", ("file.sync_before(end)", "pass"))


@mutation("syncing a durable record", "disks.a_durable_commit_is_synced_before_it_returns")
def sync_after_removed() -> None:
    edit("shardstore._files.transaction:FileTransaction._sync", ("file.sync(end)", "pass"))


@mutation(
    "reading the end of the journal again, whatever its times say",
    "lost_updates.every_writer_works_on_what_is_on_disk",
    "lost_updates.two_processes",
)
def tail_check_removed() -> None:
    edit(
        "shardstore._files.file:JournalFile.refresh",
        ("os.pread(self.fd, len(check), journal.end + 1 - len(check))", "check"),
    )


@mutation("recording that a directory was lost", "disks.a_lost_directory_is_named_until_it_is_repaired")
def lost_directory_not_recorded() -> None:
    swap("shardstore._files.missing:_record", nothing())


# The index, and what prune removes


@mutation("telling the index of a change", "populations.list_knows_a_commit_whose_writer_died")
def index_not_told() -> None:
    edit(
        "shardstore._files.transaction:FileTransaction.commit",
        ("self._mark_changed(shard.name, shard.key, journal.state)", "pass"),
    )


@mutation("telling the index before the commit, not after it", "populations.list_knows_a_commit_whose_writer_died")
def index_told_after_the_commit() -> None:
    edit(
        "shardstore._files.transaction:FileTransaction.commit",
        ("self._mark_changed(shard.name, shard.key, journal.state)", "pass"),
        ("self.journal, self.state = after, state", "self._mark_changed(shard.name, shard.key, journal.state)"),
    )


# Watching


@mutation(
    "looking again at a session whose writer had marked it and not committed",
    "watching.a_commit_that_was_only_marked_is_seen_later",
)
def marked_taken_for_committed() -> None:
    swap("shardstore._files.watch.changes:FileChanges._is_inside", nothing(False))


@mutation(
    "a watcher's mark, which has every later commit marked again",
    "watching.a_session_that_changes_again_is_seen_again",
)
def watcher_without_mark() -> None:
    edit("shardstore._files.watch.changes:FileChanges._read", ("length = file.write(MARK)", "length = 0"))


@mutation("what was deleted, for a watcher", "watching.a_session_made_and_deleted_between_two_looks_is_seen")
def deletion_forgotten() -> None:
    def forgetting(original: Any) -> Any:
        return lambda known, now, inside: original(known, now, inside=inside) if getattr(now, "exists", False) else None

    swap("shardstore._files.watch.changes:_seen", forgetting)


@mutation(
    "the line of a session that is removed whole", "watching.a_session_removed_whole_is_seen_while_it_is_made_anew"
)
def removal_without_a_line() -> None:
    edit("shardstore._files.change_file.tracker:ChangeTracker.mark_changed", ("if again:", "if False:"))


@mutation(
    "that a session was there between two looks", "watching.a_session_removed_whole_is_seen_while_it_is_made_anew"
)
def brief_session_forgotten() -> None:
    edit("shardstore._files.watch.changes:_note", ('before == NEVER_WAS and "." in seen', "False"))


@mutation("noticing that the index was rebuilt", "watching.an_index_made_anew_ends_a_watch")
def rebuilt_index_not_noticed() -> None:
    edit("shardstore._files.watch.changes:FileChanges._lines", ("file.is_named()", "True"))
    edit(
        "shardstore._files.watch.changes:FileChanges.may_have_news",
        ("(status.st_ino, status.st_dev) != file.identity or", ""),
    )


@mutation(
    "the beginning of a change file that goes on from another one", "watching.a_change_file_that_goes_on_is_followed"
)
def new_change_file_read_from_its_end() -> None:
    edit("shardstore._files.watch.changes:FileChanges._lines", ("place = file.start", "place = file.size()"))


@mutation("what a look found, until it is kept", "watching.an_interrupted_look_loses_nothing")
def advanced_before_it_is_kept() -> None:
    edit(
        "shardstore.watch:Watch.look",
        (
            "seen = self._changes.look()",
            "seen = self._changes.look(); ahead = self._changes.ahead; self._changes.advance()",
        ),
        ("[self._changes.ahead]", "[ahead]"),
    )


@mutation("archiving what prune removes", "populations.growth_is_bounded")
def removed_without_archive() -> None:
    swap("shardstore._files.locked:LockedFiles.archive", lambda original: lambda self: self.remove())


@mutation(
    "telling the index of an archived session before its file moves",
    "maintenance.list_knows_an_archived_session_whose_archiver_died",
)
def archived_before_it_is_told() -> None:
    edit(
        "shardstore._files.locked:LockedFiles.move_to",
        ("self.mark_changed(removes=True)", "pass"),
        ("self._is_gone()", "self.mark_changed(); self._is_gone()"),
    )


@mutation(
    "looking whose file it is before an aborted creation removes it",
    "maintenance.an_aborted_creation_removes_its_own_file_alone",
)
def aborted_creation_removes_any_file() -> None:
    edit(
        "shardstore._files.shard:Shard.remove_if_empty",
        ("if empty and file is not None and file.is_named(self.named.current()):", "if empty:"),
    )


@mutation(
    "copying a file that has a second name before it is deleted",
    "maintenance.a_backup_by_hard_link_is_never_written_through",
)
def deleted_through_a_second_name() -> None:
    edit(
        "shardstore._files.transaction:FileTransaction._commit_otherwise",
        ("if file.links > 1 and not state.exists:", "if False:"),
    )


@mutation("closing a lock that cannot be given back", "maintenance.a_lock_that_cannot_be_given_back_is_closed")
def failed_unlock_left_alone() -> None:
    edit(
        "shardstore._files.transaction:FileTransaction.__exit__",
        ("for certain.\n        shard.drop_file()", "for certain.\n        pass"),
    )


@mutation("seeing a torn tail behind new records", "maintenance.a_torn_tail_behind_new_records_is_kept")
def torn_tail_behind_records_unseen() -> None:
    edit("shardstore._files.file:JournalFile._read_on", ("if why or after is journal:", "if after is journal:"))


@mutation(
    "knowing a sector that was never written",
    "maintenance.appends_that_reached_the_disk_out_of_order_are_a_tear",
)
def missing_sectors_unseen() -> None:
    swap("shardstore._journal.torn:_sector_missing", nothing(False))


@mutation("knowing a first commit that ends with a sector", "maintenance.a_first_commit_cut_at_a_sector_is_a_tear")
def sector_ends_unseen() -> None:
    swap("shardstore._journal.torn:SECTOR", lambda original: 1 << 20)


@mutation(
    "locking an archived file before it is brought back", "maintenance.restore_waits_for_whoever_has_the_archived_file"
)
def restored_without_its_lock() -> None:
    edit(
        "shardstore._files.maintenance.archive:_lock_archived",
        ("if not fresh.lock.acquire(time.monotonic() + _WAIT_S):", "if False:"),
    )


@mutation(
    "deciding again inside the lock what prune removes",
    "populations.what_changed_since_it_was_chosen_stays",
    "maintenance.compact_spares_what_changed_since_it_was_chosen",
)
def chosen_is_removed() -> None:
    edit("shardstore._prune:_Run.remove", ("if txn.state.version != removal.info.version:", "if False:"))


# Exceptions from outside, and handlers that use the store


@mutation("unlocking a session whose transaction is dropped", "interrupts.an_exception_unlocks_an_edit")
def dropped_transactions_stay() -> None:
    swap("shardstore._files.transaction:FileTransaction.__del__", nothing())


@mutation("unlocking while the exception is kept", "interrupts.an_exception_unlocks_while_its_traceback_is_kept")
def finalizers_alone_unlock() -> None:
    swap("shardstore._files.transaction:FileTransaction.abandon", nothing())


@mutation("giving back whatever was taken", "interrupts.an_exception_unlocks_what_was_just_entered")
def interrupted_transactions_stay() -> None:
    swap("shardstore._files.transaction:FileTransaction._abort", nothing())


@mutation("forgetting tokens that were left behind", "interrupts.tokens_left_behind_are_forgotten")
def tokens_kept() -> None:
    edit("shardstore._inside:FifoMutex.enter", ("outer = tuple([o for o in outer if o[1].holds(o)])", "pass"))


# The log


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


@mutation("looking what stands behind the end of a log's file", "logs.an_older_journal_put_back_alone")
def written_over_newer_items() -> None:
    swap("shardstore._files.logfile:_is_free", nothing(True))


@mutation("checking the crc of a log's line", "logs.a_changed_item_is_refused")
def log_line_unchecked() -> None:
    swap("shardstore._journal.log_lines:is_intact", nothing(True))
    swap("shardstore._journal.log_lines:are_intact", nothing(True))


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


@mutation(
    "waiting for the shared sync",
    "groups.each_is_acknowledged_after_its_sync",
    "groups.a_failed_sync_fails_all_that_share_it",
)
def shared_sync_not_waited_for() -> None:
    swap("shardstore._files.synced:Waiting.wait", nothing())


@mutation(
    "counting what was written before a sync began, and nothing later",
    "groups.a_record_written_during_a_sync_waits_for_the_next",
)
def sync_covers_what_came_later() -> None:
    edit("shardstore._files.synced:SyncedFile._sync", ("self.synced = reach", "self.synced = max(reach, self.reach)"))


@mutation("sharing a sync", "groups.commits_that_wait_share_a_sync")
def nobody_shares_a_sync() -> None:
    swap("shardstore._files.synced:SyncedFile.share", nothing(None))


@mutation("an end to the wait for those behind", "groups.a_slow_mutator_delays_nobody_before_it")
def waits_for_the_slow() -> None:
    edit("shardstore._files.synced:Waiting.wait", ("timeout=WAIT_S", "timeout=-1"))


@mutation("failing all that a failed sync was for", "groups.a_failed_sync_fails_all_that_share_it")
def failed_sync_forgotten() -> None:
    edit("shardstore._files.synced:SyncedFile._sync", ("self.failed = True", "self.synced = reach"))


@mutation("the order of waiting threads", "groups.commits_that_wait_share_a_sync")
def newest_thread_first() -> None:
    edit("shardstore._inside:FifoMutex._hand_over", ("self.queue[0]", "self.queue[-1]"))


@mutation(
    "saying only of a record behind synced bytes that it is durable",
    "groups.only_the_first_of_a_group_follows_synced_bytes",
)
def whole_group_says_durable() -> None:
    edit(
        "shardstore._files.transaction:FileTransaction.commit",
        ("proves = durable and not file.synced < end <= file.reach", "proves = durable"),
    )


@mutation("waiting for the end of a call that began", "awaited.a_call_that_began_is_waited_for")
def begun_call_left_alone() -> None:
    edit("shardstore._aio.lanes:Lanes._end_of", ("if not call.withdraw():", "if call.withdraw() is None:"))


@mutation(
    "taking back a call that no thread took yet",
    "awaited.a_call_that_no_thread_took_is_cancelled_whole",
    "awaited.a_call_that_waits_for_a_lock_is_cancelled_at_once",
)
def cancelled_call_begins() -> None:
    swap("shardstore._aio.calls:Place.withdraw", nothing(True))


@mutation(
    "passing on a turn that came with the cancellation", "awaited.a_turn_that_comes_with_the_cancellation_is_passed_on"
)
def turn_lost() -> None:
    edit("shardstore._aio.lanes:Lanes.enter", ("self.leave(key)", "pass"))


@mutation("the order of a session's lane", "awaited.calls_on_one_key_commit_in_their_order")
def newest_call_first() -> None:
    edit(
        "shardstore._aio.lanes:Lanes.add",
        ("refuse_inside(lane.inside, key)\n        lane.calls.append(", "lane.calls.appendleft("),
    )
    edit("shardstore._aio.caller:Caller._at_once", ("if not self._relaxed", "if True"))


@mutation("standing behind the calls made before, also on the loop", "awaited.a_relaxed_call_stands_behind_the_others")
def lane_passed_by() -> None:
    edit("shardstore._aio.caller:Caller._at_once", ("key in self._home.lanes().by_key", "False"))


@mutation("one thread for the calls on a session", "awaited.calls_that_wait_for_one_key_take_one_thread")
def lane_not_stood_in() -> None:
    edit("shardstore._aio.lanes:Lanes.add", ("self.by_key.get(key)", "None"))
    edit("shardstore._aio.lanes:Lanes._go_on", ("del self.by_key[lane.key]", "self.by_key.pop(lane.key, None)"))


@mutation("threads of their own for waiting", "awaited.keys_held_elsewhere_starve_no_other")
def waits_where_others_work() -> None:
    edit(
        "shardstore._aio.lanes:Lanes._go_on",
        ("waits = busy or place.alone", "waits = True"),
        ("(self._waiting if waits else self._working).run(", "self._working.run("),
    )
    swap("shardstore._aio.lanes:_WAIT_S", lambda _seconds: 60.0)


@mutation("syncing a visit before its calls return", "awaited.calls_of_one_visit_share_a_sync")
def visit_not_synced() -> None:
    edit("shardstore._aio.lanes:Service._visit", ("visit.sync()", "pass"))


@mutation("failing every call of a visit whose sync fails", "awaited.a_failed_sync_fails_every_call_of_the_visit")
def visit_acknowledged_in_spite() -> None:
    edit("shardstore._aio.lanes:Service._visit", ("call.error or copy.copy(lost)", "call.error"))


@mutation("leaving a rewrite to a thread", "awaited.a_rewrite_is_left_to_a_thread")
def rewrites_on_the_loop() -> None:
    edit("shardstore._files.pool:Pool.at_hand", ("txn.append_only = True", "pass"))


@mutation("letting other tasks go on", "awaited.calls_on_the_loop_let_other_tasks_go_on")
def never_turns() -> None:
    swap("shardstore._aio.caller:Caller._breathe", _does_not_wait)


def _does_not_wait(_original: Any) -> Any:
    async def nothing_at_all(_self: Any) -> None:
        """Return at once."""

    return nothing_at_all


@mutation("merging a changed model into what is stored", "typed.what_the_model_does_not_know_survives")
def stored_members_overwritten() -> None:
    swap("shardstore._typed.draft:merged", lambda _: lambda _stored, _before, after: after)


@mutation("comparing with the model as it was", "typed.what_the_model_only_spells_otherwise_is_not_written")
def whole_model_written() -> None:
    swap("shardstore._typed.draft:same", nothing(False))


@mutation("reading a changed model again before it is committed", "typed.what_could_not_be_read_again_is_not_written")
def changed_model_trusted() -> None:
    edit("shardstore._typed.draft:TypedDraft._write", ("if not form.is_strict and (changed or removed):", "if False:"))


@mutation("checking, inside the lock, the revision that is put back", "typed.what_is_put_back_is_what_was_checked")
def revision_checked_before_the_lock() -> None:
    def unchecked(_original: Any) -> Any:
        return lambda self, key, rev: (self.get(key, rev=rev), self._typed(self.store.revert(key, rev)))[1]

    swap("shardstore.typed:TypedStore.revert", unchecked)


@mutation("comparing the token of a lease", "examples.a_lease_has_one_owner_at_a_time")
def any_token_writes() -> None:
    swap("examples.lease:_check", nothing(None))


@mutation("counting the calls of other processes", "examples.a_rate_limit_is_never_exceeded")
def limit_ignored() -> None:
    edit("examples.rate_limit:take", ("len(calls) >= limit and", "False and"))
