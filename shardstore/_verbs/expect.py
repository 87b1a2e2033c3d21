"""The check of `expect=`: it runs inside the lock, so that read, compare and swap are one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore._model import NEVER_WAS
from shardstore.errors import Conflict, SessionNotFound
from shardstore.session import Session, SessionInfo

if TYPE_CHECKING:
    from shardstore._model import State
    from shardstore.types import Expect


def version_of(expect: Expect) -> str:
    if isinstance(expect, Session):
        return expect.version if expect.exists else NEVER_WAS
    if isinstance(expect, SessionInfo):
        return expect.version
    if not isinstance(expect, str):
        raise TypeError(f"expect is a Session, a SessionInfo or a version, not {type(expect).__name__}")
    return expect


def check_version(key: str, state: State, expect: Expect) -> None:
    """Raise Conflict unless the session is at the expected version. Inside the lock: read, compare and swap are one."""
    found, wanted = state.version if state.exists else None, version_of(expect)
    if wanted != (found or NEVER_WAS):
        raise Conflict(key, wanted, found)


def check_expected(key: str, state: State, expect: Expect, *, create: bool) -> None:
    """Raise Conflict as `_check_version` does; SessionNotFound where absence was expected and nothing is to be made."""
    check_version(key, state, expect)
    if not create and not state.exists:
        raise SessionNotFound(key)
