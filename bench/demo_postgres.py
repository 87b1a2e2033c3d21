"""The main job over a network: agents of three hosts update the same sessions in one database; count what is lost.

Each "host" is two processes here. One of them is killed in the middle, and the server's connections are cut once.

usage: python -m bench.demo_postgres [URL] [--seconds S]

Without a URL it starts a server of its own, as the tests do. The exit code is 0 only if what it claims was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import secrets
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from shardstore import CommitUncertain, Store, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = ("host-a", "host-b", "host-c")
EACH = 2  # processes of a host
KEYS = tuple(f"agent:main:{name}" for name in ("inbox", "planner", "coder", "reviewer"))


def agent(url: str, actor: str, seconds: float, results: Any) -> None:
    """Be one agent: count turns of sessions that all hosts share, and tell each that was acknowledged."""
    rng = random.Random(actor)
    end = time.monotonic() + seconds
    with Store(url, actor=actor, lock_timeout=30.0) as store:
        while time.monotonic() < end:
            key = rng.choice(KEYS)
            try:
                store.append(key, [{"by": actor}], lambda draft: draft.update(turns=draft.get("turns", 0) + 1))
                results.send((actor, key, "done"))
            except CommitUncertain:
                results.send((actor, key, "uncertain"))
            except StoreUnavailable:
                continue  # nothing was changed


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield the URL of a database."""
    if url is not None:
        yield url
        return
    from tests.support.postgres import own_cluster

    with own_cluster("fsync=on") as cluster:
        yield cluster.url


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Agents of three hosts on one database.")
    parser.add_argument("url", nargs="?", default=os.environ.get("SHARDSTORE_TEST_POSTGRES"))
    parser.add_argument("--seconds", type=float, default=8.0)
    asked = parser.parse_args()
    with server(asked.url) as url:
        place = f"{url}{'&' if '?' in url else '?'}schema=demo_{secrets.token_hex(4)}"
        failed = demo(place, url, asked.seconds)
    for claim in failed:
        print(f"NOT SEEN: {claim}")
    raise SystemExit(bool(failed))


def demo(place: str, url: str, seconds: float) -> list[str]:
    """Let the agents go; return the claims that did not hold."""
    context = multiprocessing.get_context("spawn")
    with Store(place) as store:
        print(f"1. A store in {store.location}")
        for key in KEYS:
            store.create(key, {})
        agents, ears = [], []
        for actor in (f"{host}/{n}" for host in HOSTS for n in range(EACH)):
            ear, mouth = context.Pipe(duplex=False)  # one each: whoever is killed in the middle of a word hurts nobody
            agents.append(context.Process(target=agent, args=(place, actor, seconds, mouth)))
            ears.append(ear)
        print(f"2. {len(agents)} agents of {len(HOSTS)} hosts on {len(KEYS)} sessions, for {seconds:g} s")
        for one in agents:
            one.start()
        del mouth
        told = _watch(ears, agents, url, seconds)
        sessions = {key: store[key] for key in KEYS}
        found = sum(session.get("turns", 0) for session in sessions.values())
        done = sum(word == "done" for _, _, word in told)
        print(f"3. {done:,} turns were acknowledged, {found:,} are in the database")
        print(f"   {(found / seconds):,.0f} a second; one agent was killed, and every connection was cut once")
        sound = store.verify().ok
        print(f"4. verify: {'ok' if sound else 'damage'}")
        open_ended = sum(word == "uncertain" for _, _, word in told) + 1  # what the killed agent was about to say
        claims = {
            "no acknowledged turn is lost": found >= done,
            "no turn was counted twice": found <= done + open_ended,
            "fields and log agree": all(len(one.log) == one.get("turns", 0) for one in sessions.values()),
            "the store is sound": sound,
        }
    _drop(place, url)
    return [claim for claim, held in claims.items() if not held]


def _watch(ears: list[Any], agents: list[Any], url: str, seconds: float) -> list[tuple[str, str, str]]:
    """Collect what the agents tell; kill one and cut all connections in between."""
    told: list[tuple[str, str, str]] = []
    began = time.monotonic()
    killed = cut = False
    while any(one.is_alive() for one in agents) or any(ear.poll() for ear in ears):
        for ear in wait(ears, timeout=0.05):
            try:
                told.append(ear.recv())
            except (EOFError, OSError):
                ears.remove(ear)
        passed = time.monotonic() - began
        if not killed and passed > seconds / 3:
            agents[0].kill()
            killed = True
        if not cut and passed > seconds / 2:
            _cut(url)
            cut = True
    for one in agents:
        one.join()
    return told


def _cut(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'shardstore%' AND usename = current_user"
        )


def _drop(place: str, url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET client_min_messages = warning")
        admin.execute(f"DROP SCHEMA {place.rpartition('schema=')[2]} CASCADE")


if __name__ == "__main__":
    main()
