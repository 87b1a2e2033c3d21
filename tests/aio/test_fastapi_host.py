"""The example of a web host: three uvicorn workers under load lose nothing, and none of them stalls."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from tests.scenarios.awaited import held_by_a_thread, run
from tests.support.peer import REPOSITORY, environment

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

WORKERS, CHATS, MESSAGES = 3, 4, 15
STARTS_S = 60.0  # seconds for three processes to start on a busy machine


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Run the example on a socket of its own; yield the socket's path."""
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/socket"
        command = [sys.executable, "-m", "uvicorn", "examples.fastapi_host:app", "--uds", socket]
        server = subprocess.Popen(
            [*command, "--workers", str(WORKERS), "--log-level", "warning"],
            cwd=REPOSITORY,
            env=environment(SESSIONS=str(root)),
            start_new_session=True,
        )
        try:
            yield socket
            server.send_signal(signal.SIGTERM)
            assert server.wait(STARTS_S) in (0, -signal.SIGTERM)
        finally:
            with_children(server)


def with_children(server: subprocess.Popen[bytes]) -> None:
    """End the server's session, which this test has started, with whatever is left of it."""
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    server.wait(STARTS_S)


async def until_it_answers(client: Any) -> None:
    """Wait for the first worker."""
    deadline = time.monotonic() + STARTS_S
    while True:
        try:
            await client.get("/chats")
        except httpx.TransportError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return


async def load(client: Any) -> None:
    """Post many messages to a few chats at once, each twice with one id, as a client that repeats would."""

    async def post(chat: int, number: int) -> None:
        body = {"content": f"{number}", "id": f"m{number}"}
        for _ in range(2):
            answer = await client.post(f"/chats/{chat}/messages", json=body)
            assert answer.status_code == 200, answer.text

    await asyncio.gather(*[post(chat, number) for number in range(MESSAGES) for chat in range(CHATS)])
    for chat in range(CHATS):
        newest = (await client.get(f"/chats/{chat}/messages", params={"count": 100})).json()
        assert sorted(int(item["content"]) for item in newest) == list(range(MESSAGES))
    assert (await client.get("/chats/none/messages")).status_code == 404
    assert len((await client.get("/chats")).json()) == CHATS


async def beside_a_held_chat(root: Path, client: Any) -> None:
    """While somebody holds one chat, every worker answers for others, and then for that one."""
    async with held_by_a_thread(root, ["chat:0"]):
        body = {"content": "late"}
        waiting = [asyncio.create_task(client.post("/chats/0/messages", json=body)) for _ in range(2 * WORKERS)]
        await asyncio.sleep(0.1)
        for number in range(10):
            answers = await asyncio.gather(
                *[client.post("/chats/1/messages", json={"content": f"beside {number}"}) for _ in range(WORKERS)]
            )
            assert [answer.status_code for answer in answers] == [200] * WORKERS
        early = [task for task in waiting if task.done()]
    answers = await asyncio.gather(*waiting)
    assert not early
    assert [answer.status_code for answer in answers] == [200] * (2 * WORKERS)


def test_three_workers_under_load(root: Path) -> None:
    """Nothing that was answered with 200 is missing, nothing is there twice, and a held chat stops no worker."""

    async def main(socket: str) -> None:
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=httpx.Limits(max_connections=30))
        async with httpx.AsyncClient(transport=transport, base_url="http://host", timeout=30.0) as client:
            await until_it_answers(client)
            await load(client)
            await beside_a_held_chat(root, client)

    with serving(root) as socket:
        run(main(socket))
    with Store(root) as store:
        assert len(store["chat:0"].log) == MESSAGES + 2 * WORKERS
        assert store["chat:1"]["turns"] == MESSAGES + 10 * WORKERS
        assert store.verify().ok
