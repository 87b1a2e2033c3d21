"""A web host for chats: several uvicorn workers on one directory of sessions.

    pip install fastapi uvicorn shardstore
    SESSIONS=./sessions uvicorn examples.fastapi_host:app --workers 3

Every worker opens the same directory. Two requests that touch one chat at the same time, in one worker or in two, are
put in an order by its lock. None is lost, and no event loop stops while it waits.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from shardstore import Draft, LockTimeout, SessionNotFound
from shardstore.aio import AsyncStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the store before the first request, and close it after the last one."""
    async with AsyncStore(os.environ.get("SESSIONS", "sessions"), lock_timeout=5.0) as store:
        app.state.sessions = store
        yield


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    """What a client posts."""

    role: str = "user"
    content: str
    id: str | None = None  # a client that repeats a request gives the same id, and the message is added once


def sessions() -> AsyncStore:
    """Return the store of this worker."""
    store: AsyncStore = app.state.sessions
    return store


def count_a_turn(draft: Draft) -> None:
    """Change fields beside the message: both are one commit."""
    draft["turns"] = draft.get("turns", 0) + 1


@app.post("/chats/{chat}/messages")
async def post(chat: str, message: Message) -> dict[str, Any]:
    """Add a message. 200 means that it survives a power cut."""
    item = {"role": message.role, "content": message.content}
    try:
        session = await sessions().append(f"chat:{chat}", [item], count_a_turn, ids=[message.id])
    except LockTimeout as error:
        raise HTTPException(503, str(error)) from error
    return {"turns": session["turns"], "messages": len(session.log)}


@app.get("/chats/{chat}/messages")
async def newest(chat: str, count: int = 20) -> list[Any]:
    """Return the newest messages."""
    try:
        return await sessions().log(f"chat:{chat}", -count)
    except SessionNotFound as error:
        raise HTTPException(404, f"no chat {chat!r}") from error


@app.get("/chats")
async def chats(limit: int = 50) -> list[dict[str, Any]]:
    """List the chats that changed last."""
    found = await sessions().list("chat:", limit=limit)
    return [{"chat": info.key.removeprefix("chat:"), "messages": info.log_length, **info.fields} for info in found]
