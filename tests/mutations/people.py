"""The mutations of what protects a store from what people do to it."""

from __future__ import annotations

import contextlib
import errno
import functools
import threading
import time
from typing import Any

from tests.mutations.catalogue import edit, mutation, nothing, swap

# Copies that are not whole, or not the same


@mutation("recording that a directory was lost", "people.a_directory_made_again_is_named_until_repair")
def lost_directory_unrecorded() -> None:
    swap("shardstore._files.missing:_record", nothing())


@mutation("telling a lost directory from an absent session", "people.readers_of_a_lost_directory_do_not_answer_absent")
def lost_directory_is_absent() -> None:
    def absent(original: Any) -> Any:
        from shardstore._journal.replay import EMPTY

        return lambda self: EMPTY

    swap("shardstore._files.shard:Shard._absent", absent)


@mutation("reading lines that end in CR LF", "people.a_converted_file_is_read_named_and_normalised")
def carriage_returns_kept() -> None:
    swap("shardstore._journal.record:is_intact", lambda original: lambda text: text.endswith(b"\r") or original(text))


@mutation("looking whether the open file is the one that the path names", "people.what_was_put_back_is_read_at_once")
def replaced_file_unseen() -> None:
    swap("shardstore._files.file:JournalFile.is_named", nothing(True))


@mutation("the checksum in the tail check", "people.a_backup_of_equal_length_is_seen_at_once")
def tail_check_without_checksum() -> None:
    swap("shardstore._files.file:_CHECK_BYTES", lambda original: 24)


@mutation("looking for a time that was set back", "people.a_backup_of_equal_length_is_seen_by_its_time")
def times_only_go_forward() -> None:
    swap("shardstore._files.file:_WRITE_NS", lambda original: 1 << 62)


@mutation("looking for what was changed by hand", "operators.lists_show_what_was_put_back")
def changes_by_hand_unseen() -> None:
    swap("shardstore._files.index.directories:Directories.check", nothing())


@mutation("waiting for a thread that compares the files", "operators.lists_of_two_threads_show_what_was_put_back")
def comparisons_are_not_waited_for() -> None:
    def check(original: Any) -> Any:
        def without_waiting(self: Any, *args: Any) -> None:
            if self._mutex.acquire(blocking=False):
                try:
                    original(self, *args)
                finally:
                    self._mutex.release()

        return without_waiting

    swap("shardstore._files.index.directories:Directories.check", check)


@mutation(
    "knowing a directory that is gone from one that cannot be listed",
    "operators.lists_show_what_was_put_back_while_no_descriptor_was_free",
)
def whatever_cannot_be_listed_is_gone() -> None:
    swap("shardstore._files.index.directories:_NO_DIRECTORY", lambda original: original | {errno.EMFILE})


@mutation("knowing a file that was replaced from the one that was read", "operators.lists_show_what_was_put_back")
def inodes_not_compared() -> None:
    swap("shardstore._files.index.directories:Directories._compare", lambda _: lambda *_args: 1)


@mutation("looking at every file in turn", "operators.lists_show_what_was_put_back")
def changes_in_place_unseen() -> None:
    swap("shardstore._files.index.directories:Directories._walk", nothing())


@mutation("the comparison of every file by compact", "operators.compact_finds_what_was_changed_in_place")
def compact_compares_nothing() -> None:
    swap("shardstore._files.index.directories:Directories.compare_all", nothing())


@mutation("having the next list read what verify found wrong", "operators.verify_has_the_next_list_read_what_it_found")
def wrong_rows_stay() -> None:
    swap("shardstore._files.maintenance.verify:_Verification._have_read", nothing())


# What is gone


@mutation("holding the shards against what the lists know", "people.lost_revisions_are_named")
def lost_revisions_unseen() -> None:
    swap("shardstore._files.maintenance.verify:find_short", nothing(()))


@mutation("keeping the journal of a log that is repaired", "repairs.a_log_that_comes_back_late_is_put_together_again")
def repaired_journal_not_kept() -> None:
    swap("shardstore._files.maintenance.logs:keep_journal", nothing("quarantine/nothing"))


@mutation(
    "keeping a log file that a journal in quarantine/ names", "repairs.a_log_that_comes_back_late_is_put_together_again"
)
def quarantined_journal_names_no_log() -> None:
    swap("shardstore._files.maintenance.logs:_named_in_quarantine", nothing(""))


@mutation("looking whose file has a session's place", "repairs.a_session_under_anothers_file_is_named")
def overwritten_session_unseen() -> None:
    swap("shardstore._files.maintenance.acknowledged:_is_of_another", nothing(False))


@mutation("looking whether a file has a session's place", "repairs.something_else_in_a_sessions_place_is_named")
def replaced_session_unseen() -> None:
    edit(
        "shardstore._files.maintenance.acknowledged:_compare",
        ("_salvageable(path, row, short) if disk.is_regular(path) else short", "None"),
    )


@mutation("naming what a damaged file lacks at its end", "repairs.what_a_salvaged_session_lacks_at_its_end_is_named")
def end_of_damaged_file_unseen() -> None:
    swap("shardstore._files.maintenance.acknowledged:_salvageable", nothing())


@mutation("naming lost revisions until a repair", "people.lost_revisions_are_named")
def lost_revisions_named_once() -> None:
    swap("shardstore._files.maintenance.verify:recorded", nothing(()))


@mutation("seeing that a lost file was put back", "people.lost_revisions_are_named")
def file_put_back_unseen() -> None:
    swap("shardstore._files.maintenance.verify:is_back", nothing(False))


@mutation("what lists knew of a session that changed since", "people.a_marked_session_that_was_cut_back_is_named")
def marked_sessions_not_compared() -> None:
    def unmarked(original: Any) -> Any:
        return lambda lister: {name: row for name, row in original(lister).items() if not row.marked}

    swap("shardstore._files.maintenance.acknowledged:believed", unmarked)


@mutation("knowing lost revisions by their versions", "people.lost_revisions_are_not_back_by_their_numbers")
def lost_revisions_back_by_number() -> None:
    def by_number(_original: Any) -> Any:
        from shardstore._files.file import read_file

        return lambda layout, short: read_file(layout.shard_path(short.shard))[0].state.rev >= short.known

    swap("shardstore._files.maintenance.verify:is_back", by_number)


@mutation("telling a lost directory from absent sessions, in lists", "people.a_lost_directory_is_no_reason_to_forget")
def lists_forget_a_lost_directory() -> None:
    edit("shardstore._files.direct.shards:ShardReader._read", ("if not os.path.isdir(", "if os.path.isfile("))


@mutation("naming what a reader stepped over", "people.a_changed_byte_in_the_newest_record_is_named")
def torn_tail_unnamed() -> None:
    swap("shardstore._files.maintenance.remarks:_stays", nothing(False))


@mutation("bounds of the numbers in a record", "people.numbers_out_of_bounds_are_one_sessions_damage")
def numbers_without_bounds() -> None:
    for module in ("replay", "record"):
        swap(f"shardstore._journal.{module}:TIME_MAX_US", lambda original: 1 << 200)
        swap(f"shardstore._journal.{module}:REV_MAX", lambda original: 1 << 200)


# Callers


@mutation("refusing a nested update", "people.a_handler_inside_an_update_of_the_same_session_is_refused")
def nesting_unseen() -> None:
    swap("shardstore._inside:FifoMutex._refuse_nesting", nothing())


@mutation("mutexes that a signal handler may take again", "people.a_signal_handler_gets_an_answer_or_a_typed_error")
def mutexes_not_reentrant() -> None:
    class Plain:
        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            self._lock.acquire()
            time.sleep(0.002)  # else a handler hardly ever comes while it is held, on a busy machine

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    def plain(original: Any) -> Any:
        def init(self: Any, *args: Any) -> None:
            original(self, *args)
            self._reading = Plain()

        return init

    swap("shardstore._files.shard:Shard.__init__", plain)


@mutation(
    "giving everything back after an exception from outside", "people.an_exception_from_outside_leaves_nothing_locked"
)
def interrupted_transaction_kept() -> None:
    swap("shardstore._files.transaction:FileTransaction._abort", nothing())


@mutation("an edit's transaction that the block alone owns", "interrupts.an_exception_unlocks_an_edit")
def edit_keeps_its_transaction() -> None:
    def owning(_original: Any) -> Any:
        return lambda self: functools.partial(type(self).leave, self)

    swap("shardstore._verbs.edit:Edit.end_of_block", owning)


@mutation("late imports that a fork waits for", "people.a_child_forked_during_a_late_import_works")
def fork_during_imports() -> None:
    swap("shardstore._files.engine:late_imports", lambda original: contextlib.nullcontext())


# Clocks


@mutation("coming back from a time far ahead", "people.one_write_under_a_wrong_clock_does_not_stay")
def future_kept() -> None:
    swap("shardstore._model:_after", lambda original: lambda earlier, now: max(earlier + 1, now))


@mutation("refusing a purge that a wrong clock may have asked for", "people.a_purge_of_everything_is_refused")
def clock_trusted() -> None:
    swap("shardstore._prune:_clock_jumped", nothing())


# Owners


@mutation("keeping the access rights of a rewritten file", "people.a_rewrite_keeps_the_mode")
def access_not_copied() -> None:
    swap("shardstore._files.disk:copy_access", nothing())


@mutation("looking at a directory before anything is made in it", "people.a_refused_directory_is_left_untouched")
def owner_checked_late() -> None:
    def late(original: Any) -> Any:
        def make(layout: Any, settings: Any, *, allow_shared: bool = False) -> None:
            original(layout, settings, allow_shared=True)

        return make

    swap("shardstore._files.engine:make_store", late)


# Ends of resources


@mutation("appending where a rewrite finds no inode", "people.no_inode_at_a_rewrite_is_no_failed_update")
def rewrites_must_work() -> None:
    swap("shardstore._files.transaction:_APPEND_INSTEAD", lambda original: frozenset())


@mutation("closing idle shards where no descriptor is left", "people.idle_descriptors_are_given_up_first")
def idle_descriptors_kept() -> None:
    swap("shardstore._files.pool:Pool.close_idle", nothing(0))


@mutation("a timeout where inode numbers are not stable", "people.unstable_inode_numbers_end_at_the_timeout")
def inode_numbers_trusted() -> None:
    swap("shardstore._files.shard:_REPLACED_OFTEN", lambda original: 1 << 60)


@mutation("polling where no thread can be started", "people.a_wait_without_threads_keeps_the_timeout")
def threads_needed() -> None:
    class Bare(RuntimeError):
        pass

    swap("shardstore._files.locks.waiter:NoThread", lambda original: Bare)


@mutation("naming what was found on a full disk", "operators.a_full_disk_is_no_reason_to_name_nothing")
def evidence_must_be_kept() -> None:
    def strict(_original: Any) -> Any:
        def call(action: Any) -> str:
            action()
            return ""

        return staticmethod(call)

    swap("shardstore._files.maintenance.verify:_Verification._try", strict)


@mutation("descriptors above stderr's", "operators.what_a_daemon_prints_goes_into_no_file_of_the_store")
def low_descriptors_used() -> None:
    swap("shardstore._files.disk:_STDERR", lambda original: -1)


# Strangers


@mutation("knowing a copy by its name", "people.copies_are_no_sessions")
def copies_counted() -> None:
    def by_suffix(original: Any) -> Any:
        return lambda prefix, files: sum(file.endswith(".jsonl") for file in files)

    swap("shardstore._files.maintenance.stats:count_shards", by_suffix)
