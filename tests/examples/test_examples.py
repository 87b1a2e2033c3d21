"""Each example does what its page claims, while several processes are at it."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples import backup, branches, lease, supervisor
from shardstore import Store
from tests.examples import workers
from tests.scenarios import examples as scenarios
from tests.support.peer import REPOSITORY, Peers, environment, one_peer

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
GUIDE = REPOSITORY / "docs" / "guide"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_each_example_has_a_page_that_shows_it(path: Path) -> None:
    """The page's block is the file, and so runs with the guide's other blocks (tests/docs)."""
    page = (GUIDE / f"{path.stem.replace('_', '-')}.md").read_text(encoding="utf-8")
    assert f"```python\n{path.read_text(encoding='utf-8')}```" in page
    assert f"examples/{path.name}" in page
    assert f"]({path.stem.replace('_', '-')}.md)" in (GUIDE / "README.md").read_text(encoding="utf-8")


def test_a_lease_has_one_owner_at_a_time(root: Path) -> None:
    """Four processes own by turns; some sleep for longer than their lease. No older owner writes behind a newer one."""
    scenarios.a_lease_has_one_owner_at_a_time(root)


def test_a_dead_owner_loses_its_lease(root: Path) -> None:
    """Whoever waits gets the session when the lease has run out, and not before."""
    with Store(root) as store, one_peer() as dying:
        dying.start(workers.own_and_hang, root)
        token, claimed = dying.heard()
        assert token == 1
        assert lease.claim(store, workers.KEY, "heir", seconds=5) is None
        dying.kill()
        while (token := lease.claim(store, workers.KEY, "heir", seconds=5)) is None:
            assert time.monotonic() - claimed < 60
            time.sleep(0.01)
        assert time.monotonic() - claimed > 2.9
        assert token == 2
        with pytest.raises(lease.LeaseLost):
            lease.write(store, workers.KEY, 1, lambda draft: draft.update(by="the dead"))
        lease.write(store, workers.KEY, 2, lambda draft: draft.update(by="heir"))
        lease.give_back(store, workers.KEY, 2)
        with pytest.raises(lease.LeaseLost):
            lease.write(store, workers.KEY, 2, lambda draft: None)
        assert lease.claim(store, workers.KEY, "third", seconds=5) == 3


def test_a_rate_limit_is_never_exceeded(root: Path) -> None:
    """Three processes call as often as they may: never more than 20 calls in any 0.3 seconds."""
    scenarios.a_rate_limit_is_never_exceeded(root)


def test_branches_of_a_chat_lose_nothing(root: Path, crew: Callable[[int], Peers]) -> None:
    """Three processes talk in one chat and branch it: each branch has the chat's beginning, and its own end."""
    crew(3).each(workers.talk_and_branch, [(root, name, 8) for name in "abc"])
    with Store(root) as store:
        chat = store.log("chat")
        assert sorted(message["content"] for message in chat) == sorted(
            f"{name} {n}" for name in "abc" for n in range(8)
        )
        found = branches.alternatives(store, "chat")
        assert len(found) == 24
        for key in found:
            session = store[key]
            at = session["at"]
            assert session.log[:at] == chat[:at]
            assert [message["content"] for message in session.log[at:]] == ["aside"]
        assert len(list(branches.tree(store, "chat"))) == 25


def test_a_cleanup_runs_alone_and_touches_nothing_that_runs(root: Path, crew: Callable[[int], Peers]) -> None:
    """Two jobs and two writers: what is done goes to the archive, what runs stays, and one job runs at a time."""
    group = crew(4)
    for name, peer in zip("ab", group[:2], strict=True):
        peer.start(workers.keep_busy, root, name, 1.2)
    for peer in group[2:]:
        peer.start(workers.clean_again, root, 1.2)
    done = [peer.result() for peer in group[:2]]
    outcomes = [one for peer in group[2:] for one in peer.result()]
    assert "another cleanup is running" in outcomes
    assert any("archived" in one and "verify ok: True" in one for one in outcomes)
    with Store(root) as store:
        archived = [one.key for one in store.archive.list()]
        assert len(archived) == len(set(archived))
        left = [info.key for info in store.list(where={"status": "done"})]
        assert len(archived) + len(left) == sum(done)
        assert all(int(str(key).rpartition(":")[2]) % 2 for key in archived)
        running = store.count(where={"status": "running"})
        assert running + sum(done) >= 2 * sum(done) - 2


def test_a_backup_has_each_session_as_one_commit_left_it(root: Path, crew: Callable[[int], Peers]) -> None:
    """Fields and logs fit together in each copy while writers go on; the last copy is the store."""
    group = crew(2)
    place = root.with_name("backup")
    with Store(root) as store, Store(place, durability="relaxed") as copy:
        for name, peer in zip("ab", group, strict=True):
            peer.start(workers.write_pairs, root, name, 1.2)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            backup.back_up(store, copy)
            for session in copy.sessions():
                if session.key != backup.STATE:
                    assert session["length"] == len(session.log)
        for peer in group:
            peer.result()
        backup.back_up(store, copy)
        assert backup.back_up(store, copy) == 0
        assert {*copy} - {backup.STATE} == {*store}
        for session in store.sessions():
            assert copy[session.key].data == session.data
            assert copy[session.key].log == session.log[:]


def test_jobs_of_dead_workers_are_done_by_others(root: Path) -> None:
    """Every third worker dies at its job: each job is done once, and some were tried twice."""
    code = (
        "import os, sys, time\nfrom examples import supervisor\nfrom shardstore import Store\n"
        "name = sys.argv[-1]\n"
        "def do(key):\n"
        "    if int(name.rpartition('-')[2]) % 3 == 1:\n"
        f"        open({str(root.with_name('died'))!r}, 'w').close()\n"
        "        os.kill(os.getpid(), 9)\n"
        f"    while not os.path.exists({str(root.with_name('died'))!r}):\n        time.sleep(0.01)\n"
        "    return name\n"
        f"with Store({str(root)!r}, durability='relaxed') as store:\n    supervisor.work(store, name, do)\n"
    )
    with Store(root, durability="relaxed") as store:
        store.create_many({f"job:{n:02}": {"status": "queued"} for n in range(12)})
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment().items():
                patch.setenv(name, value)
            supervisor.supervise(store, [sys.executable, "-c", code], workers=2)
        jobs = list(store.sessions("job:"))
        assert {job["status"] for job in jobs} == {"done"}
        tries = {job["tries"] for job in jobs}
        assert min(tries) == 1
        assert max(tries) > 1  # or 3: two workers may die at one job
        for job in jobs:
            assert job["result"] == job["worker"]
            assert [one["status"] for one in store.history(job.key)].count("done") == 1
            assert not supervisor.finish(store, job.key, "somebody else", "late")


def test_the_examples_run_as_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader starts them: in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for path in EXAMPLES:
        if path.stem != "supervisor":  # which starts itself
            runpy.run_path(str(path), run_name="__main__")
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "supervisor.py")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "4 jobs done\n", done.stderr
