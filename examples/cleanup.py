"""A cleanup job for cron: it runs once at a time, wherever it is started, and never touches running sessions."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from shardstore import Store

if TYPE_CHECKING:
    from shardstore import Draft

JOB = "maintenance:cleanup"
LONGEST_S = 3600.0  # a job that has not ended after this long is dead


def clean(store: Store, *, older_than: timedelta, archive_for: timedelta) -> str:
    """Archive sessions that are done and old, free space, purge old archives; return a summary as text."""
    if not _begin(store):
        return "another cleanup is running"
    try:
        pruned = store.prune(where={"status": "done"}, older_than=older_than, keep=[JOB, "pinned:*"])
        compacted = store.compact()
        purged = store.archive.purge(older_than=archive_for)
        report = store.verify()
        for problem in report.problems:
            print(f"{problem.path}: {problem.detail}", file=sys.stderr)
    finally:
        _end(store)
    freed = compacted.bytes_freed + purged.bytes_freed
    return f"{len(pruned.actions)} archived, {len(purged.removed)} purged, {freed} bytes freed, verify ok: {report.ok}"


def _begin(store: Store) -> bool:
    begun = False

    def claim(draft: Draft) -> None:
        nonlocal begun
        begun = draft.get("until", 0.0) <= time.time()
        if begun:
            draft.update(until=time.time() + LONGEST_S, pid=os.getpid())

    store.update(JOB, claim)
    return begun


def _end(store: Store) -> None:
    def give_back(draft: Draft) -> None:
        if draft["pid"] == os.getpid():  # else it took longer than LONGEST_S, and another one runs
            draft["until"] = 0.0

    store.update(JOB, give_back)


if __name__ == "__main__":
    with Store("sessions", actor="cleanup") as store:
        print(clean(store, older_than=timedelta(days=30), archive_for=timedelta(days=90)))
